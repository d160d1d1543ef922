"""`folioscope evaluate`: ingest a data set if needed, ask all its questions, print every stage's measures."""

from pathlib import Path
from typing import Any

import numpy as np

import configs.settings as configs
from ingest.pipeline import ingest
from retrieval import evaluate
from retrieval.evaluate import Evaluation
from ui import assemble, show

SHOWN = ("nDCG@5", "nDCG@10", "RR@10", "R@10", "R@100")


def run(
    folder: Path, index: str, settings: configs.Settings, within: bool, budget_ms: int, as_json: bool
) -> None:
    """`budget_ms` is large by default: a measurement must not depend on how busy the machine is."""
    dataset = evaluate.read(folder)
    store, encoder = assemble.store_to_write(index, settings)
    failures = show.follow(ingest([dataset.documents], store, encoder, settings.ingest), as_json)
    if failures and not as_json:
        show.print_failures(failures)
    searcher = assemble.searcher_of(store, encoder, settings)
    with show.waiting(f"asking {len(dataset.questions)} questions") as status:

        def told(done: int) -> None:
            if status is not None:
                status.update(f"asked {done} of {len(dataset.questions)} questions")

        result = evaluate.evaluate(dataset, searcher, store, within=within, budget_ms=budget_ms, told=told)
    where = "within the question's document" if within else "over all documents"
    facts = summary(result)
    if as_json:
        show.print_json(
            {"dataset": dataset.folder.name, "within": within, "questions": len(result.questions), **facts}
        )
        return
    show.print_measures(facts["stages"], f"{len(result.questions)} questions {where} (× 100)")
    p = facts["p"]
    show.console.print(
        f"reranked against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {p:.3f} (randomization test)"
    )
    for name, (median, worst) in facts["seconds"].items():
        show.console.print(
            f"  {name:14} p50 {median * 1000:7,.0f} ms   p95 {worst * 1000:7,.0f} ms", style="dim"
        )


def summary(result: Evaluation) -> dict[str, Any]:
    """Means by stage and measure, the reranker's gain with its p, and seconds as (p50, p95) by stage."""
    stages = {stage: {m: result.mean(stage, m) for m in SHOWN} for stage in result.values}
    first, whole = result.values["first stage"]["nDCG@10"], result.values["reranked"]["nDCG@10"]
    return {
        "stages": stages,
        "gain": float(np.mean(whole) - np.mean(first)),
        "p": evaluate.paired_p(first, whole),
        "seconds": {
            name: (float(np.median(s)), float(np.percentile(s, 95))) for name, s in result.seconds.items()
        },
    }
