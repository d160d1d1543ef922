"""Scores a page by the fraction of the question's words that it contains: exact and fast, for tests and smoke runs."""

from collections.abc import Sequence

from retrieval.text import STOP_WORDS, stem, stems, words
from retrieval.types import PageContent


class OverlapReranker:
    """Compares word stems, without stop words."""

    name = "overlap"
    batch_pages = 4
    listwise = False
    notes: tuple[str, ...] = ()

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns a fraction from 0 to 1 for each page; 0 for all if the question has only stop words."""
        query_stems = {stem(word) for word in words(query) if word not in STOP_WORDS}
        if not query_stems:
            return [0.0 for _ in pages]
        return [len(query_stems & set(stems(page.text))) / len(query_stems) for page in pages]
