"""Replays searches under other settings from the recorded scores of their candidates, without searching again.

A reranker's score of a page does not depend on the other pages. One pass over the data set, with more candidates than
a search takes, is therefore enough to replay any fusion weight, depth or gate exactly as the search would apply it: by
the same functions of `retrieval.fuse`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from ir_measures import nDCG
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.evaluation.evaluate import (
    STAGES,
    Dataset,
    Evaluation,
    Question,
    Run,
    as_run,
    judge,
    measure_runs,
)
from retrieval.search import Searcher
from retrieval.types import Filter, Hit, Page, SearchRequest

MEASURE = nDCG @ 10
FIRST = 100
"""Depth of the first stage in a replay: the default of `search.depth`."""


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """The first stage's candidates for one question. Each array has one value for each of `pages`, ordered by name."""

    question: Question
    pages: tuple[Page, ...]
    vectors: NDArray[np.float64]  # MaxSim
    text: NDArray[np.float64]  # BM25, 0 for a page that does not match
    place: NDArray[
        np.float64
    ]  # standard deviations that are added because the question names the page's place
    rerank: NDArray[np.float64]  # the reranker's score, NaN for a page that it did not read
    relevant: NDArray[np.bool_]  # judged relevant
    first_s: float  # seconds of the first stage
    page_s: float  # seconds of the reranker for one page
    sparse: NDArray[np.float64] | None = None  # of the sparse vectors, None if the search had none

    @property
    def has_vectors(self) -> bool:
        return bool(self.vectors.any())

    @property
    def is_read(self) -> NDArray[np.bool_]:
        """(pages,) whether the reranker read the page."""
        return ~np.isnan(self.rerank)


@dataclass(frozen=True, slots=True)
class RerankPolicy:
    """How the first stage is fused, and how many pages are reranked and when: what `folioscope tune` chooses."""

    fusion: fuse.Fusion
    rerank_weight: float
    depth: int  # candidates that the reranker reads; 0: none
    gate: float = inf  # nothing is reranked from this lead of the best page on; inf: always rerank


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The result of one policy for each question, in the order of the questions."""

    values: NDArray[np.float64]  # nDCG@10
    seconds: NDArray[np.float64]
    read: NDArray[np.int64]  # pages that the reranker read


def judge_candidates(
    dataset: Dataset,
    searcher: Searcher,
    *,
    within: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[JudgedCandidates]:
    """Search for every question, and yield its candidates with their scores and judgements.

    The searcher's `depth` and `rerank` set how many candidates are recorded and how many of them are reranked. within:
    search only the document of each question. on_progress: called with the number of questions that are done.
    """
    for done, question in enumerate(dataset.questions, start=1):
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        *_, result = searcher.steps(SearchRequest(question.text, where, budget_ms=inf))
        seconds = {stage.name: stage.seconds for stage in result.stages}
        hits = sorted(
            result.hits, key=lambda hit: (hit.page.document, hit.page.number)
        )  # the first stage breaks ties in this order
        grades = dataset.qrels[question.query_id]
        read = sum(hit.reranked for hit in hits)
        yield JudgedCandidates(
            question=question,
            pages=tuple(hit.page for hit in hits),
            vectors=np.array([hit.scores["vectors"] for hit in hits]),
            text=_without_tail(np.array([hit.scores["text"] for hit in hits])),
            place=np.array([hit.scores.get("place", 0.0) for hit in hits]),
            rerank=np.array([hit.scores.get("rerank", np.nan) for hit in hits]),
            relevant=np.array([grades.get(_name(dataset, hit.page), 0) > 0 for hit in hits], np.bool_),
            first_s=seconds["encode query"] + seconds["recall"],
            page_s=seconds.get("rerank", 0.0) / max(read, 1),
            sparse=_sparse_scores(hits),
        )
        on_progress(done)


def _sparse_scores(hits: Sequence[Hit]) -> NDArray[np.float64] | None:
    has_all = hits and all("sparse" in hit.scores for hit in hits)
    return np.array([hit.scores["sparse"] for hit in hits]) if has_all else None


def order(candidates: JudgedCandidates, policy: RerankPolicy) -> tuple[list[int], int]:
    """Return the order in which a search under `policy` ranks the pages, and how many the reranker would read.

    The order is a list of positions in `candidates.pages`. Reranking ends at the first page within the depth that has
    no recorded score.
    """
    vectors = candidates.vectors if candidates.has_vectors else None
    first, scores = fuse.first_stage(
        vectors, candidates.text, FIRST, policy.fusion, candidates.place, candidates.sparse
    )
    if policy.depth < 1 or len(first) < 2 or fuse.margin(scores) >= policy.gate:
        return first, 0
    rerank = candidates.rerank[first[: policy.depth]]
    unread = np.flatnonzero(np.isnan(rerank))
    read = int(unread[0]) if len(unread) else len(rerank)
    reranked, _ = fuse.second_stage(scores, rerank[:read], policy.rerank_weight)
    return [first[at] for at in reranked] + first[read:], read


def evaluate_stages(
    dataset: Dataset, candidates: Sequence[JudgedCandidates], policy: RerankPolicy
) -> Evaluation:
    """Judge the order of every stage under `policy`: text alone, vectors alone, both fused, and reranked."""
    runs: dict[str, dict[str, Run]] = {stage: {} for stage in STAGES}
    read: list[int] = []
    for each in candidates:
        vectors, text = fuse.each_kind(each.vectors if each.has_vectors else None, each.text, FIRST)
        first, _ = order(each, replace(policy, depth=0))
        reranked, pages = order(each, policy)
        read.append(pages)
        for stage, ranked in zip(STAGES, (text, vectors, first, reranked), strict=True):
            runs[stage][each.question.query_id] = as_run([each.pages[at] for at in ranked], dataset.unit)
    searched = replace(dataset, questions=tuple(each.question for each in candidates))
    seconds = {
        "first stage": tuple(each.first_s for each in candidates),
        "rerank": tuple(n * each.page_s for n, each in zip(read, candidates, strict=True)),
        "total": tuple(each.first_s + n * each.page_s for n, each in zip(read, candidates, strict=True)),
    }
    values = {stage: judge(searched, run) for stage, run in runs.items()}
    return Evaluation(searched.questions, values, seconds, tuple(read))


def replay(dataset: Dataset, candidates: Sequence[JudgedCandidates], policy: RerankPolicy) -> ReplayResult:
    """Return the quality and the time that `policy` would have had.

    Times are computed from recorded ones: the first stage's, and the reranker's time for a page times its pages.
    """
    run: dict[str, Run] = {}
    read = []
    for each in candidates:
        ranked, pages = order(each, policy)
        run[each.question.query_id] = as_run([each.pages[at] for at in ranked], dataset.unit)
        read.append(pages)
    qrels = {each.question.query_id: dataset.qrels[each.question.query_id] for each in candidates}
    values = np.array(measure_runs([MEASURE], qrels, run)[str(MEASURE)])
    seconds = [each.first_s + pages * each.page_s for each, pages in zip(candidates, read, strict=True)]
    return ReplayResult(values, np.array(seconds), np.array(read))


def _without_tail(text: NDArray[np.float64]) -> NDArray[np.float64]:
    """BM25 scores as a search of depth FIRST sees them: 0 for pages that are not among the FIRST best."""
    scores = np.zeros_like(text)
    best = fuse.best_first(text)[:FIRST]
    scores[best] = text[best]
    return scores


def _name(dataset: Dataset, page: Page) -> str:
    return page.name if dataset.unit == "page" else page.document
