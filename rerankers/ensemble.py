"""Fuses several rerankers over the same pages, by their scores or, if those are not reliable, by their ranks.

z_scores: weighted sum of the members' z-scores. rrf: reciprocal rank fusion (Cormack et al., 2009), 1 / (60 + rank).
borda: fraction of the other pages that a page ranks before (de Borda, 1784). Equal scores share their mean rank.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from retrieval import fuse
from retrieval.errors import RerankerFailed
from retrieval.types import PageContent, Reranker
from retrieval.work_notes import WorkNotes, note

RRF = 60  # Cormack et al., section 3
Method = Literal["z_scores", "rrf", "borda"]


class EnsembleReranker:
    """Fails if one member fails: the order of the others alone must not pass for that of all.

    weights: one per member, empty for equal ones. Raises RerankerFailed if their numbers differ.
    """

    listwise = True

    def __init__(self, members: Sequence[Reranker], method: Method, weights: Sequence[float] = ()) -> None:
        if weights and len(weights) != len(members):
            raise RerankerFailed(
                f"the ensemble has {len(members)} members, but {len(weights)} weights",
                remedy="give one weight for each member",
            )
        self.name = f"{method} of " + ", ".join(member.name for member in members)
        self.notes = tuple(note for member in members for note in member.notes)
        self.batch_pages = max(member.batch_pages for member in members)
        self._members = members
        self._method = method
        self._weights = tuple(weights) or (1.0,) * len(members)

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns fused scores, comparable only within this call. Raises RerankerFailed."""
        total = np.zeros(len(pages))
        for member, weight in zip(self._members, self._weights, strict=True):
            work = WorkNotes()
            with work.collecting():
                scores = _scores(member, query, pages)
            total += weight * _evidence(self._method, np.array(scores, np.float64))
            if str(work):
                note(f"{member.name}: {work}")
        return [float(value) for value in total]


def _scores(member: Reranker, query: str, pages: Sequence[PageContent]) -> list[float]:
    if member.listwise:
        return member.score(query, pages)
    step = member.batch_pages
    return [s for at in range(0, len(pages), step) for s in member.score(query, pages[at : at + step])]


def _evidence(method: Method, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if method == "z_scores":
        return fuse.z_scores(scores)
    ranks: NDArray[np.float64] = rankdata(-scores, method="average")
    if method == "rrf":
        return 1 / (RRF + ranks)
    return (len(ranks) - ranks) / max(1, len(ranks) - 1)
