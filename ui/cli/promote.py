"""Runs `folioscope train promote`: replaces a model that ships by a candidate if that is significantly better."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import configs.settings as configs
from ingest.reembed import reembed
from retrieval.errors import FolioscopeError
from retrieval.evaluation import evaluate
from retrieval.evaluation.datasets import open_dataset
from retrieval.evaluation.evaluate import Dataset
from retrieval.models.onnx import ModelFolder, write_manifest
from retrieval.store.store import Store
from retrieval.train.curriculum import TrainingRefused, question_hash
from retrieval.train.trained_on import FILE, read_trained_on
from ui import factory
from ui.cli import terminal
from ui.service.measurement import EvaluationRun, OnProgress, measure_dataset, own_index

LEVEL = 0.05
"""A model is promoted if the paired randomization test gives a smaller p."""


def run_promote(
    kind: str,
    candidate: str,
    place: str,
    *,
    index: str,
    profile: str,
    within: bool,
    dry_run: bool,
    as_json: bool,
) -> bool:
    """Return whether the candidate is better; if it is, replace the profile's model unless `dry_run` is set.

    Raises TrainingRefused if the candidate was trained on questions of the data set.
    """
    if kind not in ("text", "reader", "words"):
        raise FolioscopeError(
            f"{kind!r} is not a model that ships: name the checkpoint in a profile, and compare the profiles with "
            "'folioscope evaluate --compare'"
        )
    settings = configs.load_profile(profile)
    current = settings.encoder if kind == "words" else settings.reranker
    if not isinstance(current, configs.Words | configs.Text):
        raise FolioscopeError(f"profile {profile} has no {kind} model to replace: choose another profile")
    changed = current.model_copy(update={"model": candidate})
    part = "encoder" if kind == "words" else "reranker"
    changed_settings = settings.model_copy(update={part: changed})
    folder = index or str(own_index(place, profile))
    _check_unseen(
        ModelFolder(candidate).path, kind, open_dataset(place, Path(folder).with_suffix(".documents"))
    )
    with terminal.work(as_json) as on_progress:

        def measure(folder: str, settings: configs.Settings) -> EvaluationRun:
            return measure_dataset(
                place,
                index=folder,
                profile=profile,
                within=within,
                read=settings.search.rerank,
                on_progress=on_progress,
                settings=settings,
            )

        before = measure(folder, settings)
        if kind == "words":
            folder = _reembedded(before.store, changed_settings, candidate, on_progress)
        after = measure(folder, changed_settings)
    old, new = (np.array(run.result.values["reranked"]["nDCG@10"]) for run in (before, after))
    gain, p = float(new.mean() - old.mean()), evaluate.paired_p(old.tolist(), new.tolist())
    better = gain > 0 and p < LEVEL
    facts = {
        "candidate": candidate,
        "against": current.model,
        "dataset": before.dataset.name,
        "questions": len(old),
        "within": within,
        "ndcg": float(old.mean()),
        "candidate_ndcg": float(new.mean()),
        "p": p,
    }
    if better and not dry_run:
        _replace_model(ModelFolder(candidate), ModelFolder(current.model), kind, facts)
    if as_json:
        terminal.print_json({**facts, "better": better, "promoted": better and not dry_run})
        return better
    terminal.console.print(
        f"{before.dataset.name}, {len(old)} questions: nDCG@10 {100 * old.mean():.1f} with {current.model}, "
        f"{100 * new.mean():.1f} with {candidate} ({100 * gain:+.1f}, p = {p:.3f})"
    )
    if not better:
        terminal.console.print(f"The candidate was not promoted: that takes a gain with p < {LEVEL:g}")
    elif dry_run:
        terminal.console.print("The candidate would be promoted (dry run)")
    else:
        terminal.console.print(
            f"The candidate was promoted: its files are now in {ModelFolder(current.model).path}"
        )
    return better


def _check_unseen(candidate: Path, kind: str, dataset: Dataset) -> None:
    seen = read_trained_on(candidate).get(kind)
    if seen is None:
        raise TrainingRefused(
            f"{candidate} does not say what its {kind} was trained on: {FILE} has no such kind"
        )
    known = [q.text for q in dataset.questions if question_hash(q.text) in seen]
    if known:
        raise TrainingRefused(
            f"{candidate} was trained on {len(known)} of the {len(dataset.questions)} questions of "
            f"{dataset.name}, {known[0]!r} among them: use a data set with other questions"
        )


def _reembedded(source: Store, settings: configs.Settings, candidate: str, on_progress: OnProgress) -> str:
    """Make an index of the same pages with the candidate's vectors. Returns the folder of the new index."""
    revision = ModelFolder(candidate).revision("words.onnx", "table.bin", "tokenizer.json")
    folder = f"{source.uri.removesuffix('.lance')}-{revision}.lance"
    target, encoder = factory.create_store(folder, settings)
    on_progress("encoding the pages again")
    for document in reembed(source, target, encoder):
        on_progress(f"encoding the pages again: {document.name} is done")
    return folder


def _replace_model(candidate: ModelFolder, shipped: ModelFolder, kind: str, facts: Mapping[str, Any]) -> None:
    """Copy the candidate's files over those that ship, and append the reason to `promoted.jsonl`.

    ONNX files that the candidate does not have are the replaced model's, and are removed.
    """
    for path in sorted(candidate.path.iterdir()):
        if path.name != "manifest.json" and path.is_file():
            part = shipped.path / f"{path.name}.part"
            shutil.copy(path, part)
            part.replace(shipped.path / path.name)
    for path in shipped.path.glob("*.onnx"):
        if not (candidate.path / path.name).is_file():
            path.unlink()
    write_manifest(shipped.path, shipped.name, candidate.facts)
    with (shipped.path / "promoted.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"kind": kind, **facts, "candidate": Path(str(facts["candidate"])).name}) + "\n"
        )
