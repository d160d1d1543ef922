"""BM25 (Robertson and Zaragoza, 2009) over windows in memory, for hard negatives and for comparison."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_matrix

from retrieval.text import STOP_WORDS, stem, words

K1, B = 1.2, 0.75


def terms(text: str) -> list[str]:
    """Returns the stems of a text's words that are no stop words."""
    return [stem(word) for word in words(text) if word not in STOP_WORDS]


class Bm25:
    """BM25 weights of texts' terms, a sparse matrix (texts, terms)."""

    def __init__(self, texts: Sequence[Sequence[str]]) -> None:
        """texts: the terms of each text."""
        self._column: dict[str, int] = {}
        rows: list[int] = []
        columns: list[int] = []
        counts: list[int] = []
        for i, text in enumerate(texts):
            for term, count in Counter(text).items():
                rows.append(i)
                columns.append(self._column.setdefault(term, len(self._column)))
                counts.append(count)
        lengths = np.array([len(text) for text in texts], np.float32)
        frequency = np.array(counts, np.float32)
        documents = np.bincount(columns, minlength=len(self._column)).astype(np.float32)
        rarity = np.log(1 + (len(texts) - documents + 0.5) / (documents + 0.5))
        norm = K1 * (1 - B + B * lengths / max(1.0, float(lengths.mean())))[rows]
        weights = rarity[columns] * frequency * (K1 + 1) / (frequency + norm)
        shape = (len(texts), max(1, len(self._column)))
        self._matrix = csc_matrix((weights, (rows, columns)), shape=shape, dtype=np.float32)

    def scores(self, query: Sequence[str]) -> NDArray[np.float32]:
        """Returns the score of every text for a query's terms."""
        columns = sorted({self._column[term] for term in query if term in self._column})
        result: NDArray[np.float32] = np.zeros(self._matrix.shape[0], np.float32)
        matrix = self._matrix
        for column in columns:
            place = slice(matrix.indptr[column], matrix.indptr[column + 1])
            result[matrix.indices[place]] += matrix.data[place]
        return result
