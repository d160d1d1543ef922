"""Measures a data set through one profile by searching for every question once, with more candidates than usual.

Stages, other settings, curves and the report are all computed from the recorded scores of the candidates
(`retrieval.evaluation.replay`). Nothing in this file prints: it reports to a progress callback.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

import configs.settings as configs
from ingest.pipeline import ingest
from ingest.progress import Progress
from retrieval.evaluation import evaluate
from retrieval.evaluation.datasets import open_dataset
from retrieval.evaluation.evaluate import Dataset, Evaluation
from retrieval.evaluation.replay import (
    FIRST,
    JudgedCandidates,
    RerankPolicy,
    evaluate_stages,
    judge_candidates,
)
from retrieval.fuse import Fusion
from retrieval.store.store import Store
from retrieval.types import Encoder
from ui import factory

SHOWN = ("nDCG@5", "nDCG@10", "RR@10", "R@10", "R@100")
LEAST = 5  # the fewest questions that a slice is reported for

OnProgress = Callable[[Progress | str], None]
"""A progress callback: it is given each event of an ingest, and a short text at each step of other work."""


@dataclass(frozen=True)
class EvaluationRun:
    """A data set measured through one profile."""

    profile: str
    settings: configs.Settings
    dataset: Dataset
    store: Store
    reranker: str  # name; "" if the profile has no reranker
    policy: RerankPolicy  # of the profile
    candidates: tuple[JudgedCandidates, ...]  # for each question
    result: Evaluation


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions with one value of one attribute."""

    attribute: str
    value: str
    questions: int
    ndcg: Mapping[str, float]  # mean nDCG@10 by stage


def policy_of(settings: configs.Settings, fusion: Fusion) -> RerankPolicy:
    """Return the rerank policy of a profile; its depth is 0 if the profile has no reranker."""
    search = settings.search
    depth = 0 if isinstance(settings.reranker, configs.NoReranker) else search.rerank
    return RerankPolicy(fusion, search.rerank_weight, depth, search.gate or inf)


def own_index(place: str, name: str) -> Path:
    """Return the folder of the index of the data set at `place`. name: a profile, or the purpose of the index."""
    return Path("evaluation") / f"{Path(place).resolve().name}-{Path(name).stem}.lance"


def open_ingested(
    place: str, folder: Path, settings: configs.Settings, on_progress: OnProgress
) -> tuple[Dataset, Store, Encoder]:
    """Open the data set at `place`, and ingest its missing documents into the index `folder`.

    Raises NotFound if a judged document is missing after that, and IndexBusy while another process writes to it.
    """
    dataset = open_dataset(place, folder.with_suffix(".documents"))
    store, encoder = factory.create_store(str(folder), settings)
    for event in ingest([dataset.documents], store, encoder, settings.ingest):
        on_progress(event)
    factory.refresh_inverted_index(store, settings.search, lambda *_: None)
    evaluate.require_judged_documents(dataset, store)
    return dataset, store, encoder


def measure_dataset(
    place: str,
    *,
    index: str,
    profile: str,
    within: bool,
    read: int,
    on_progress: OnProgress,
    settings: configs.Settings | None = None,
) -> EvaluationRun:
    """Ingest the missing documents of the data set at `place`, and search for every question.

    index: the folder of the index; "" for that of `own_index`. within: search only the document of each question.
    read: candidates of each question that the reranker scores. settings: used instead of the profile's settings.
    """
    settings = settings or configs.load_profile(profile)
    folder = Path(index) if index else own_index(place, profile)
    dataset, store, encoder = open_ingested(place, folder, settings, on_progress)
    search = settings.search.model_copy(
        update={"depth": 2 * FIRST, "rerank": read, "gate": None, "rules": ()}
    )
    searcher = factory.build_searcher(store, encoder, settings.model_copy(update={"search": search}))
    total = len(dataset.questions)
    on_progress(f"searching for {total} questions")
    candidates = tuple(
        judge_candidates(
            dataset,
            searcher,
            within=within,
            on_progress=lambda done: on_progress(f"searched for {done} of {total} questions"),
        )
    )
    policy = policy_of(settings, searcher.fusion)
    result = evaluate_stages(dataset, candidates, policy)
    name = searcher.reranker.name if searcher.reranker else ""
    return EvaluationRun(profile, settings, dataset, store, name, policy, candidates, result)


def summary(result: Evaluation) -> dict[str, Any]:
    """Return means by stage and measure, the reranker's gain in nDCG@10 with its p, and seconds by stage.

    stages: {stage: {measure: mean}}. seconds: {stage: {"p50", "p95"}}. pages_read: pages that the reranker scored for a
    question, on average.
    """
    means = {stage: {m: result.mean(stage, m) for m in SHOWN} for stage in result.values}
    first, reranked = result.values["first stage"]["nDCG@10"], result.values["reranked"]["nDCG@10"]
    return {
        "stages": means,
        "gain": float(np.mean(reranked) - np.mean(first)),
        "p": evaluate.paired_p(first, reranked),
        "seconds": {
            name: {"p50": float(np.median(seconds)), "p95": float(np.percentile(seconds, 95))}
            for name, seconds in result.seconds.items()
        },
        "pages_read": float(np.mean(result.read)) if result.read else 0.0,
    }


def slices(result: Evaluation) -> list[Slice]:
    """Return a slice for each attribute value that at least LEAST questions have, in alphabetical order."""
    rows = []
    pairs = sorted({(k, v) for q in result.questions for k, values in q.attributes.items() for v in values})
    for attribute, value in pairs:

        def is_in_slice(question: evaluate.Question, attribute: str = attribute, value: str = value) -> bool:
            return value in question.attributes.get(attribute, ())

        count = sum(map(is_in_slice, result.questions))
        if count >= LEAST:
            ndcg = {stage: result.mean(stage, "nDCG@10", is_in_slice) for stage in result.values}
            rows.append(Slice(attribute, value, count, ndcg))
    return rows
