"""The pages that the inverted lists lead to; what is exact is read from the stored vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.fuse import Scores
from retrieval.recall.ivf.lists import InvertedIndex
from retrieval.recall.page_cache import PageVectorCache
from retrieval.recall.parts import Mask, Pages, Positions
from retrieval.types import Document, QueryEmbedding, Vectors

SPARE, SPARE_LEAST, SPARE_PAGES, SPARE_GROWTH = 3, 100, 10_000, 0.4
"""Three times the depth, scored exactly, hold 99.7% of the exact best 100 of 10,000 pages. The larger the index, the
more pages come near them: 6 times hold 99.6% of 50,000 pages', 19 times 98.5% of a million's (benchmarks/recall.py,
benchmarks/growth.py)."""
ALL_SCORED = 1_000
"""Pages that a filter leaves are all scored exactly, if they are no more: lists of what is asked for may have few."""


@dataclass(frozen=True)
class InvertedPart:
    """A `retrieval.recall.parts.Part`."""

    pages: Pages
    lists: InvertedIndex
    vectors: PageVectorCache

    @classmethod
    def of(
        cls, lists: InvertedIndex, revisions: Mapping[str, str], vectors: PageVectorCache
    ) -> "InvertedPart":
        """readings: of each listed document, by doc_id; pages of other readings are passed over."""
        doc_ids: list[str] = []
        documents = []
        for part in lists.segments:
            documents.append(part.pages["document"] + len(doc_ids))
            doc_ids += [doc_id if revisions.get(doc_id) == read else "" for doc_id, read in part.documents]

        def column(name: str) -> NDArray[Any]:
            return np.concatenate([part.pages[name] for part in lists.segments])

        size = np.stack([column("width"), column("height")], axis=1)
        pages = Pages(tuple(doc_ids), np.concatenate(documents), column("number"), size, column("scanned"))
        return cls(pages, lists, vectors)

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        return np.where(keep, self.lists.approximate_scores(query, keep), np.float32(-np.inf))

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        kept = int(np.isfinite(scores).sum())
        if kept <= ALL_SCORED and kept < len(self.pages):
            return fuse.best(scores, kept)
        growth: float = max(1.0, len(self.pages) / SPARE_PAGES) ** SPARE_GROWTH
        return fuse.best(scores, max(SPARE_LEAST, round(SPARE * depth * growth)))

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        pages = [self.pages.page(int(position), documents) for position in at]
        theirs = [documents[doc_id] for doc_id in {page.doc_id for page in pages}]
        exact = self.vectors.maxsim(query, pages, theirs)
        return exact.astype(np.float64)
