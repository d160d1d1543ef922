"""What each stage said of each candidate, kept, so that other settings are tried without asking again.

A reranker's score of a page does not depend on the other pages, so one pass over the data set, with generous depth,
is enough to replay any fusion weight, depth or gate exactly as the search would: by the same functions of
`retrieval.fuse`.
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
from retrieval.types import Filter, Page, SearchRequest

MEASURE = nDCG @ 10
FIRST = 100
"""Depth of the first stage while settings are tried: the search's own default."""


@dataclass(frozen=True, slots=True)
class JudgedCandidates:
    """One question. Arrays have one value for each of `pages`, the first stage's candidates by name."""

    question: Question
    pages: tuple[Page, ...]
    vectors: NDArray[np.float64]  # MaxSim
    text: NDArray[np.float64]  # BM25, 0 where a page does not match
    place: NDArray[
        np.float64
    ]  # by how much the question's naming its place lifts a page, in standard deviations
    rerank: NDArray[np.float64]  # the reranker's own score, NaN where it did not read the page
    relevant: NDArray[np.bool_]  # judged relevant
    first_s: float  # seconds of the first stage
    page_s: float  # seconds of the reranker for a page

    @property
    def has_vectors(self) -> bool:
        return bool(self.vectors.any())


@dataclass(frozen=True, slots=True)
class RerankPolicy:
    """How the pipeline spends: what `folioscope tune` chooses. gate inf: always rerank."""

    text_weight: float
    rerank_weight: float
    depth: int  # candidates that the reranker reads; 0: none
    gate: float = inf


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """Of each question, in the order given: nDCG@10, seconds, pages that the reranker read."""

    values: NDArray[np.float64]
    seconds: NDArray[np.float64]
    read: NDArray[np.int64]


def observe(
    dataset: Dataset,
    searcher: Searcher,
    *,
    within: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[JudgedCandidates]:
    """Ask every question. The searcher's `depth` and `rerank` say how many candidates are kept, and read."""
    for done, question in enumerate(dataset.questions, start=1):
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        *_, result = searcher.steps(SearchRequest(question.text, where, budget_ms=inf))
        seconds = {stage.name: stage.seconds for stage in result.stages}
        hits = sorted(
            result.hits, key=lambda hit: (hit.page.document, hit.page.number)
        )  # as recall breaks ties
        grades = dataset.qrels[question.query_id]
        read = sum(hit.reranked for hit in hits)
        yield JudgedCandidates(
            question,
            tuple(hit.page for hit in hits),
            np.array([hit.scores["vectors"] for hit in hits]),
            _kept(np.array([hit.scores["text"] for hit in hits])),
            np.array([hit.scores.get("place", 0.0) for hit in hits]),
            np.array([hit.scores.get("rerank", np.nan) for hit in hits]),
            np.array([grades.get(_name(dataset, hit.page), 0) > 0 for hit in hits], np.bool_),
            seconds["encode query"] + seconds["recall"],
            seconds.get("rerank", 0.0) / max(read, 1),
        )
        on_progress(done)


def order(observed: JudgedCandidates, spending: RerankPolicy) -> tuple[list[int], int]:
    """Positions in `observed.pages` as the search would rank them, and how many pages the reranker would read.

    A page within the depth that was not read while observing ends the reading there.
    """
    vectors = observed.vectors if observed.has_vectors else None
    first, scores = fuse.first_stage(vectors, observed.text, FIRST, spending.text_weight, observed.place)
    if spending.depth < 1 or len(first) < 2 or fuse.margin(scores) >= spending.gate:
        return first, 0
    rerank = observed.rerank[first[: spending.depth]]
    unread = np.flatnonzero(np.isnan(rerank))
    read = int(unread[0]) if len(unread) else len(rerank)
    best, _ = fuse.second_stage(scores, rerank[:read], spending.rerank_weight)
    return [first[at] for at in best] + first[read:], read


def stages(dataset: Dataset, observed: Sequence[JudgedCandidates], spending: RerankPolicy) -> Evaluation:
    """Every stage's order under these settings, judged: text and vectors alone, both fused, and reranked."""
    runs: dict[str, dict[str, Run]] = {stage: {} for stage in STAGES}
    read: list[int] = []
    for one in observed:
        vectors, text = fuse.each_kind(one.vectors if one.has_vectors else None, one.text, FIRST)
        first, _ = order(one, replace(spending, depth=0))
        whole, pages = order(one, spending)
        read.append(pages)
        for stage, ranked in zip(STAGES, (text, vectors, first, whole), strict=True):
            runs[stage][one.question.query_id] = as_run([one.pages[at] for at in ranked], dataset.unit)
    asked = replace(dataset, questions=tuple(one.question for one in observed))
    seconds = {
        "first stage": tuple(one.first_s for one in observed),
        "rerank": tuple(n * one.page_s for n, one in zip(read, observed, strict=True)),
        "whole": tuple(one.first_s + n * one.page_s for n, one in zip(read, observed, strict=True)),
    }
    values = {stage: judge(asked, run) for stage, run in runs.items()}
    return Evaluation(asked.questions, values, seconds, tuple(read))


def replay(dataset: Dataset, observed: Sequence[JudgedCandidates], spending: RerankPolicy) -> ReplayResult:
    """What these settings would have given. Seconds are those observed: the first stage's, and so much a page read."""
    run: dict[str, Run] = {}
    read = []
    for one in observed:
        ranked, pages = order(one, spending)
        run[one.question.query_id] = as_run([one.pages[at] for at in ranked], dataset.unit)
        read.append(pages)
    qrels = {one.question.query_id: dataset.qrels[one.question.query_id] for one in observed}
    values = np.array(measure_runs([MEASURE], qrels, run)[str(MEASURE)])
    seconds = [one.first_s + pages * one.page_s for one, pages in zip(observed, read, strict=True)]
    return ReplayResult(values, np.array(seconds), np.array(read))


def _kept(text: NDArray[np.float64]) -> NDArray[np.float64]:
    """BM25 as a search of depth FIRST knows it: 0 past its own FIRST best."""
    kept = np.zeros_like(text)
    best = fuse.best_first(text)[:FIRST]
    kept[best] = text[best]
    return kept


def _name(dataset: Dataset, page: Page) -> str:
    return page.name if dataset.unit == "page" else page.document
