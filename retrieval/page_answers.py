"""Lets a reader say where pages answer a question, and remembers it, as lists, viewers and exports ask again."""

from collections.abc import Sequence

import numpy as np

from retrieval.answers import AnswerWeights, Located, locate
from retrieval.confidence import Calibration
from retrieval.lru import LRU
from retrieval.types import PageContent, PageReader

KEPT = 1024  # pages with their questions

Key = tuple[str, str, int]


class PageAnswers:
    """Safe to call from several threads."""

    def __init__(
        self, reader: PageReader, calibration: Calibration, weights: AnswerWeights, least: float
    ) -> None:
        """calibration: of the reader's scores. weights: of the answers.

        least: the probability from which an answer is sure.
        """
        self._reader = reader
        self._calibration = calibration
        self._weights = weights
        self._least = least
        self._whole: LRU[Key, tuple[Located | None]] = LRU(KEPT)
        self._part: LRU[Key, tuple[Located | None]] = LRU(KEPT)

    def locate(self, query: str, pages: Sequence[PageContent], *, whole: bool) -> list[Located | None]:
        """Return what answers on each page, in the order given; None if the reader found nothing there.

        whole: read pages as a whole. Otherwise only what the reranker reads of them, unless they were read as a whole
        before.
        """
        keys = [_key(query, page) for page in pages]
        known = {key: found for key in keys if (found := self._known(key, whole)) is not None}
        absent = list({key: page for key, page in zip(keys, pages, strict=True) if key not in known}.items())
        readings = self._reader.read(query, [page for _, page in absent], whole=whole)
        scores = np.array([reading.score for reading in readings])
        for (key, page), reading, sure in zip(
            absent, readings, self._calibration.probability(scores), strict=True
        ):
            known[key] = (locate(query, page, reading, float(sure), self._weights, self._least),)
            (self._whole if whole else self._part).put(key, known[key])
        return [known[key][0] for key in keys]

    def _known(self, key: Key, whole: bool) -> tuple[Located | None] | None:
        found = self._whole.get(key)
        return found if found is not None or whole else self._part.get(key)


def _key(query: str, page: PageContent) -> Key:
    """Return a key that changes with the page's words, and with where the first stage found the question."""
    return query, page.page.page_id, hash((page.title, page.words, page.focus))
