"""Measures how many windows of a page the small reranker should read: its speed, and what the ranking loses.

The first stage's own vectors choose the windows of a page that are worth reading (`PageContent.focus`). For comparison,
the same reranker reads every window of every page. Both sides rank the same candidates in one run.

    python -m benchmarks.windows DATA_SET --index FOLDER --within
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import configs.settings as configs
import rerankers
import retrieval.encoders
from rerankers.reader import TextReader
from rerankers.text import CLS, PAIR, SEP
from retrieval.evaluation import evaluate, replay
from retrieval.search import Searcher
from retrieval.store.store import Store

RESULTS = Path(__file__).parent / "results"
EVERY = 10_000
"""The number of windows that stands for all: no page has as many."""
PAGES = 20
ROWS = 200


def windows_a_second(reranker: TextReader) -> float:
    """Returns the rows of 128 pieces that the model reads in a second, on all cores: the median of five rounds."""
    rng = np.random.default_rng(0)
    rows = [[CLS, *rng.integers(1000, 30_000, PAIR - 2).tolist(), SEP] for _ in range(ROWS)]
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        reranker.run(rows, [20] * ROWS)
        seconds.append(time.perf_counter() - began)
    return ROWS / float(np.median(seconds))


def measured(
    dataset: evaluate.Dataset, store: Store, settings: configs.Settings, windows: int, within: bool
) -> dict[str, Any]:
    reranker = TextReader(configs.Text(windows=windows))
    encoder = retrieval.encoders.load_encoder(settings.encoder)
    search = settings.search.model_copy(update={"rerank": PAGES, "depth": 2 * replay.FIRST})
    searcher = Searcher(store, encoder, reranker, search)
    policy = replay.RerankPolicy(searcher.fusion, search.rerank_weight, PAGES)
    judged = list(replay.judge_candidates(dataset, searcher, within=within))
    replayed = replay.replay(dataset, judged, policy)
    alone = replay.replay(dataset, judged, replay.RerankPolicy(searcher.fusion, 100.0, PAGES))
    seconds = [candidates.page_s * pages for candidates, pages in zip(judged, replayed.read, strict=True)]
    return {
        "nDCG@10": replayed.values,
        "alone": float(alone.values.mean()),
        "p50 ms": 1000 * float(np.median(seconds)),
        "p95 ms": 1000 * float(np.percentile(seconds, 95)),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument("--within", action="store_true")
    parser.add_argument("--name", default="windows")
    options = parser.parse_args(arguments)
    settings = configs.load_profile("cpu")
    assert isinstance(settings.reranker, configs.Text)
    dataset, store = evaluate.read_dataset(options.dataset), Store.open(options.index)
    reranker = rerankers.load_reranker(settings.reranker)
    assert isinstance(reranker, TextReader)
    results: dict[str, Any] = {"windows of 128 pieces a second": round(windows_a_second(reranker), 1)}
    print(f"{results['windows of 128 pieces a second']} windows of 128 pieces a second")
    sides = {"every": EVERY, "1": 1, "2": 2, "3": 3}
    values: dict[str, Any] = {}
    for name, windows in sides.items():
        row = measured(dataset, store, settings, windows, options.within)
        values[name] = row.pop("nDCG@10")
        p = evaluate.paired_p(values["every"].tolist(), values[name].tolist())
        results[name] = {
            "nDCG@10": round(100 * float(values[name].mean()), 2),
            "reranker alone": round(100 * row["alone"], 2),
            "p against every": round(p, 3),
            "top 20, ms p50": round(row["p50 ms"]),
            "top 20, ms p95": round(row["p95 ms"]),
        }
        print(f"{name:>6} windows a page: {results[name]}", flush=True)
    (RESULTS / f"{options.name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
