"""The pages of the inverted index: it gives a shortlist, which is scored exactly from the stored vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.fuse import Scores
from retrieval.recall.ivf.inverted_index import InvertedIndex
from retrieval.recall.page_cache import PageVectorCache
from retrieval.recall.part import Mask, Pages, Positions
from retrieval.types import Document, QueryEmbedding, Vectors

SPARE, SPARE_LEAST, SPARE_PAGES, SPARE_GROWTH = 3, 100, 10_000, 0.4
"""A shortlist of 3 times the depth holds 99.7% of the exact best 100 of 10,000 pages. In a larger index more pages come
close to them: 6 times the depth holds 99.6% of the best of 50,000 pages, 19 times 98.5% of a million's
(benchmarks/recall.py, benchmarks/growth.py)."""
ALL_SCORED = 1_000
"""If a filter leaves at most this many pages, all are scored exactly: the visited lists may hold few of them."""


@dataclass(frozen=True)
class InvertedPart:
    """A `retrieval.recall.part.Part`."""

    pages: Pages
    index: InvertedIndex
    vectors: PageVectorCache

    @classmethod
    def of(
        cls, index: InvertedIndex, revisions: Mapping[str, str], vectors: PageVectorCache
    ) -> "InvertedPart":
        """revisions: of the documents as they are now, by doc_id; pages of another revision are hidden."""
        doc_ids: list[str] = []
        documents = []
        for part in index.segments:
            documents.append(part.pages["document"] + len(doc_ids))
            doc_ids += [doc_id if revisions.get(doc_id) == known else "" for doc_id, known in part.documents]

        def column(name: str) -> NDArray[Any]:
            return np.concatenate([part.pages[name] for part in index.segments])

        size = np.stack([column("width"), column("height")], axis=1)
        pages = Pages(tuple(doc_ids), np.concatenate(documents), column("number"), size, column("scanned"))
        return cls(pages, index, vectors)

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        return np.where(keep, self.index.approximate_scores(query, keep), np.float32(-np.inf))

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        count = int(np.isfinite(scores).sum())
        if count <= ALL_SCORED and count < len(self.pages):
            return fuse.best(scores, count)
        growth: float = max(1.0, len(self.pages) / SPARE_PAGES) ** SPARE_GROWTH
        return fuse.best(scores, max(SPARE_LEAST, round(SPARE * depth * growth)))

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        pages = [self.pages.page(int(position), documents) for position in at]
        of_pages = [documents[doc_id] for doc_id in {page.doc_id for page in pages}]
        exact = self.vectors.maxsim(query, pages, of_pages)
        return exact.astype(np.float64)
