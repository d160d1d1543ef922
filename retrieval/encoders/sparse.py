"""Sparse vectors: a weight for each of a few tokens, for questions and for the passages of a page.

A passage scores the sum, over the question's tokens, of the product of both weights; a page scores as its best passage.
`PassageEncoder` is BM25 (Robertson and Zaragoza, 2009) over passages; `splade.py` has a learned sparse retriever, which
also gives weight to words that are not in the text; `v_splade.py` has one that reads the page's image.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retrieval.text import STOP_WORDS, stem, words

LENGTH, OVERLAP = 150, 20
"""Words of a passage, and those that two neighbours share."""
K1, B = 1.2, 0.75


@dataclass(frozen=True, slots=True)
class SparseVector:
    """tokens (n,) uint32, different from each other, with weights (n,) float32 above 0."""

    tokens: NDArray[np.uint32]
    weights: NDArray[np.float32]


class SparseEncoder(Protocol):
    """Makes sparse vectors of questions; of pages, as SparseTextEncoder or SparseImageEncoder.

    A result does not depend on what else is in the batch.
    """

    @property
    def name(self) -> str:
        """Names the exact way of encoding: lists of another name cannot be searched."""
        ...

    @property
    def most(self) -> float:
        """The highest weight that a passage's token can have; higher ones are stored as this."""
        ...

    @property
    def by_rarity(self) -> bool:
        """Whether a question's weights are multiplied by how rare the tokens are in the index."""
        ...

    def encode_query(self, query: str) -> SparseVector: ...


@runtime_checkable
class SparseTextEncoder(SparseEncoder, Protocol):
    """Makes sparse vectors of pages from their words."""

    def encode_pages(self, pages: Sequence[Sequence[str]]) -> list[list[SparseVector]]:
        """Return a vector for each passage of each page; pages: the words of each, in reading order."""
        ...


@runtime_checkable
class SparseImageEncoder(SparseEncoder, Protocol):
    """Makes sparse vectors of pages from their images; a page is one passage."""

    def encode_images(self, images: Sequence[Callable[[], bytes]]) -> list[SparseVector]:
        """Return a vector for each page; images: read the image file of each, from several threads."""
        ...


class PassageEncoder:
    """Implements SparseTextEncoder: BM25 without its inverse document frequency, which the lists know (`by_rarity`).

    A passage's length is compared with LENGTH and not with a mean, so that its vector never depends on other pages.
    """

    name = f"passages {LENGTH}/{OVERLAP}"
    most = K1 + 1
    by_rarity = True

    def encode_pages(self, pages: Sequence[Sequence[str]]) -> list[list[SparseVector]]:
        return [[_bm25(passage) for passage in _passages(page)] for page in pages]

    def encode_query(self, query: str) -> SparseVector:
        folded = words(query)
        content = [word for word in folded if word not in STOP_WORDS] or folded
        tokens = sorted({_token(word) for word in content})
        return SparseVector(np.array(tokens, np.uint32), np.ones(len(tokens), np.float32))


def _passages(page: Sequence[str]) -> list[list[str]]:
    folded = words(" ".join(page))
    starts = range(0, max(len(folded) - OVERLAP, 1), LENGTH - OVERLAP) if folded else ()
    return [folded[start : start + LENGTH] for start in starts]


def _bm25(passage: Sequence[str]) -> SparseVector:
    counts = Counter(map(_token, passage))
    tokens = np.array(sorted(counts), np.uint32)
    frequency = np.array([counts[int(token)] for token in tokens], np.float32)
    weights = frequency * (K1 + 1) / (frequency + K1 * (1 - B + B * len(passage) / LENGTH))
    return SparseVector(tokens, weights.astype(np.float32))


def _token(word: str) -> int:
    """Returns a number for the word's stem. Two of 100,000 stems in a corpus share one by chance."""
    return zlib.crc32(stem(word).encode())
