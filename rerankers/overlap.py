"""The share of the question's words that a page holds: exact, free, for tests and smoke runs."""

from collections.abc import Sequence

from retrieval.text import STOP_WORDS, stem, stems, words
from retrieval.types import PageContent


class OverlapReranker:
    name = "overlap"
    batch_pages = 4
    listwise = False
    notes: tuple[str, ...] = ()

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        asked = {stem(word) for word in words(query) if word not in STOP_WORDS}
        if not asked:
            return [0.0 for _ in pages]
        return [len(asked & set(stems(page.text))) / len(asked) for page in pages]
