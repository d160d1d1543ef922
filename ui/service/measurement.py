"""A data set measured through one profile: every question is searched once, with generous depth.

Stages, other settings, curves and the report are all computed from what each stage said of each candidate
(`retrieval.evaluation.replay`). Nothing in here prints: `on_progress` hears what happens.
"""

from collections.abc import Callable
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
from retrieval.evaluation.replay import FIRST, JudgedCandidates, RerankPolicy, observe, stages
from retrieval.store.store import Store
from ui import factory

SHOWN = ("nDCG@5", "nDCG@10", "RR@10", "R@10", "R@100")
LEAST = 5  # questions of a slice that is worth a line

OnProgress = Callable[[Progress | str], None]
"""Called with each event of an ingest, and with a short sentence at each step of other work."""


@dataclass(frozen=True)
class EvaluationRun:
    """A data set through one profile."""

    profile: str
    settings: configs.Settings
    dataset: Dataset
    store: Store
    reranker: str  # "" without one
    observed: tuple[JudgedCandidates, ...]
    result: Evaluation

    @property
    def spending(self) -> RerankPolicy:
        return policy_of(self.settings)


def policy_of(settings: configs.Settings) -> RerankPolicy:
    search = settings.search
    depth = 0 if isinstance(settings.reranker, configs.NoReranker) else search.rerank
    return RerankPolicy(search.text_weight, search.rerank_weight, depth, search.gate or inf)


def own_index(place: str, name: str) -> Path:
    """Return where the index of the data set at `place` is kept if none is given; `name` says for what."""
    return Path("evaluation") / f"{Path(place).resolve().name}-{Path(name).stem}.lance"


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
    """Ingest the documents that are missing, and search for every question of the data set at `place`.

    index: "" for the data set's own. read: candidates of each question that the reranker scores. settings: replace
    those of the profile.
    """
    settings = settings or configs.load_profile(profile)
    folder = Path(index) if index else own_index(place, profile)
    dataset = open_dataset(place, folder.with_suffix(".documents"))
    store, encoder = factory.create_store(str(folder), settings)
    for event in ingest([dataset.documents], store, encoder, settings.ingest):
        on_progress(event)
    evaluate.require(dataset, store)
    generous = settings.search.model_copy(
        update={"depth": 2 * FIRST, "rerank": read, "gate": None, "rules": ()}
    )
    searcher = factory.build_searcher(store, encoder, settings.model_copy(update={"search": generous}))
    total = len(dataset.questions)
    on_progress(f"asking {total} questions")
    observed = tuple(
        observe(
            dataset,
            searcher,
            within=within,
            on_progress=lambda done: on_progress(f"asked {done} of {total} questions"),
        )
    )
    result = stages(dataset, observed, policy_of(settings))
    name = searcher.reranker.name if searcher.reranker else ""
    return EvaluationRun(profile, settings, dataset, store, name, observed, result)


def summary(result: Evaluation) -> dict[str, Any]:
    """Means by stage and measure, the reranker's gain with its p, and seconds as (p50, p95) by stage."""
    means = {stage: {m: result.mean(stage, m) for m in SHOWN} for stage in result.values}
    first, whole = result.values["first stage"]["nDCG@10"], result.values["reranked"]["nDCG@10"]
    return {
        "stages": means,
        "gain": float(np.mean(whole) - np.mean(first)),
        "p": evaluate.paired_p(first, whole),
        "seconds": {
            name: (float(np.median(s)), float(np.percentile(s, 95))) for name, s in result.seconds.items()
        },
        "pages read": float(np.mean(result.read)) if result.read else 0.0,
    }


def slices(result: Evaluation) -> dict[str, dict[str, float]]:
    """nDCG@10 of the questions with each attribute value that enough of them have."""
    found: dict[str, dict[str, float]] = {}
    pairs = sorted({(k, v) for q in result.questions for k, values in q.attributes.items() for v in values})
    for kind, value in pairs:
        chosen = [q for q in result.questions if value in q.attributes.get(kind, ())]
        if len(chosen) >= LEAST:

            def keep(question: evaluate.Question, kind: str = kind, value: str = value) -> bool:
                return value in question.attributes.get(kind, ())

            found[f"{kind}: {value}"] = {
                "questions": len(chosen),
                **{stage: result.mean(stage, "nDCG@10", keep) for stage in result.values},
            }
    return found
