"""Fits the first stage's coefficients for MaxSim and BM25, and compares them with z-scores of a fixed weight.

The comparison is by cross-validation over documents, within each question's document and over all of them.

    python -m benchmarks.fusion DATA_SET --index INDEX [--also DATA_SET INDEX]... [--sparse KIND]
        [--write MODEL_FOLDER]

DATA_SET has pdfs/, queries.jsonl, qrels.txt; INDEX is made of its pdfs/ with the default profile. --also: further data
sets, which are judged with the coefficients that were fitted on the first. --sparse: with sparse vectors of this kind
as well, whose lists are made in the index; they are compared with z-scores of vectors and BM25 alone. --write: put the
coefficients into the manifest of this folder.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

import configs.settings as configs
import retrieval.encoders
from retrieval.evaluation import evaluate, replay
from retrieval.evaluation.evaluate import Dataset
from retrieval.evaluation.fit_fusion import cross_validate, fit_log_odds
from retrieval.fuse import Fusion, LogOdds, ZScores
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Encoder
from ui import factory

SCOPES = ("within", "all")
SPARSE: TypeAdapter[configs.SparseSettings] = TypeAdapter(configs.SparseSettings)
Judged = dict[str, list[replay.JudgedCandidates]]  # by scope


def judged_candidates(
    dataset: Dataset, index: str, encoder: Encoder, sparse: configs.SparseSettings
) -> Judged:
    search = configs.Search(depth=2 * replay.FIRST, sparse=sparse, reference_weight=1.0)
    store = Store.open(index, encoder.fingerprint)
    factory.refresh_inverted_index(store, search, lambda *_: None)
    searcher = Searcher(store, encoder, None, search)
    return {
        scope: list(replay.judge_candidates(dataset, searcher, within=scope == "within")) for scope in SCOPES
    }


def first_stage(
    dataset: Dataset, judged: list[replay.JudgedCandidates], fusion: Fusion
) -> dict[str, tuple[float, ...]]:
    """Return each measure's value for each question."""
    policy = replay.RerankPolicy(fusion, 0.0, 0)
    return dict(replay.evaluate_stages(dataset, judged, policy).values["first stage"])


def with_bonus(judged: Judged, weight: float) -> Judged:
    """Return the candidates with the bonus of a search with this `search.reference_weight`."""
    return {
        scope: [replace(each, place=weight * each.place) for each in candidates]
        for scope, candidates in judged.items()
    }


def compare(name: str, before: Sequence[float], after: Sequence[float]) -> None:
    p = evaluate.paired_p(before, after)
    print(f"{name}: {100 * np.mean(before):.2f} -> {100 * np.mean(after):.2f} (p = {p:.4f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_set", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("DATA_SET", "INDEX"))
    parser.add_argument("--sparse", choices=["none", "passages", "splade"], default="none")
    parser.add_argument("--splade", help="the model folder for --sparse splade")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    encoder = retrieval.encoders.load_encoder(configs.load_profile("cpu").encoder)
    weighted, z_reference = ZScores(configs.Search().text_weight), configs.Search().reference_weight
    reference = configs.load_profile("cpu").search.reference_weight
    dataset = evaluate.read_dataset(arguments.data_set)
    sparse = SPARSE.validate_python(
        {"kind": arguments.sparse} | ({"model": arguments.splade} if arguments.sparse == "splade" else {})
    )
    judged = judged_candidates(dataset, arguments.index, encoder, sparse)
    old, new = (with_bonus(judged, weight) for weight in (z_reference, reference))
    for scope, other in zip(SCOPES, reversed(SCOPES), strict=True):
        fixed = first_stage(dataset, old[scope], weighted)[str(replay.MEASURE)]
        unseen = cross_validate(dataset, new[scope], new[other])
        compare(f"{dataset.name}, {scope}, nDCG@10 by cross-validation", fixed, unseen.tolist())
    fitted = fit_log_odds([each for candidates in new.values() for each in candidates])
    fitted = LogOdds(round(fitted.vectors, 2), round(fitted.text, 4), round(fitted.sparse, 4))
    print(f"fitted: {asdict(fitted)}", flush=True)
    for folder, index in [(arguments.data_set, arguments.index), *arguments.also]:
        dataset = evaluate.read_dataset(Path(folder))
        judged = judged_candidates(dataset, index, encoder, sparse)
        old, new = (with_bonus(judged, weight) for weight in (z_reference, reference))
        for scope in SCOPES:
            before = first_stage(dataset, old[scope], weighted)
            after = first_stage(dataset, new[scope], fitted)
            for measure in (str(replay.MEASURE), "R@100"):
                compare(f"{dataset.name}, {scope}, {measure}", before[measure], after[measure])
    if arguments.write:
        path = arguments.write / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest["facts"].setdefault("fusions", {})[arguments.sparse] = asdict(fitted)
        path.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
