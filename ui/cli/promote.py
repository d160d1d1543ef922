"""`folioscope train promote`: a model takes the place of the one that ships if it is measurably better."""

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
from retrieval.train.course import TrainingRefused, question_hash
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
    """Whether the candidate is better; if so, and unless `dry_run`, it now stands where the profile's model stood.

    Raises TrainingRefused where it has seen the questions.
    """
    if kind not in ("text", "words"):
        raise FolioscopeError(
            f"{kind!r} is not a model that ships: name the checkpoint in a profile, and 'folioscope evaluate --compare'"
        )
    settings = configs.load_profile(profile)
    ours = settings.encoder if kind == "words" else settings.reranker
    if not isinstance(ours, configs.Words | configs.Text):
        raise FolioscopeError(f"profile {profile} has no {kind} model that could be replaced")
    changed = ours.model_copy(update={"model": candidate})
    half = "encoder" if kind == "words" else "reranker"
    other = settings.model_copy(update={half: changed})
    folder = index or str(own_index(place, profile))
    _unseen(ModelFolder(candidate).path, kind, open_dataset(place, Path(folder).with_suffix(".documents")))
    with terminal.work(as_json) as on_progress:

        def measure(folder: str, settings: configs.Settings) -> EvaluationRun:
            return measure_dataset(
                place, index=folder, profile=profile, within=within, read=settings.search.rerank,
                on_progress=on_progress, settings=settings,
            )  # fmt: skip

        before = measure(folder, settings)
        if kind == "words":
            folder = _reembedded(before.store, other, candidate, on_progress)
        after = measure(folder, other)
    old, new = (np.array(one.result.values["reranked"]["nDCG@10"]) for one in (before, after))
    gain, p = float(new.mean() - old.mean()), evaluate.paired_p(old.tolist(), new.tolist())
    better = gain > 0 and p < LEVEL
    facts = {
        "candidate": candidate, "against": ours.model, "dataset": before.dataset.name, "questions": len(old),
        "within": within, "nDCG@10": float(old.mean()), "candidate nDCG@10": float(new.mean()), "p": p,
    }  # fmt: skip
    if better and not dry_run:
        _put(ModelFolder(candidate), ModelFolder(ours.model), kind, facts)
    if as_json:
        terminal.print_json({**facts, "better": better, "promoted": better and not dry_run})
        return better
    terminal.console.print(
        f"{before.dataset.name}, {len(old)} questions: nDCG@10 {100 * old.mean():.1f} with {ours.model}, "
        f"{100 * new.mean():.1f} with {candidate} ({100 * gain:+.1f}, p = {p:.3f})"
    )
    if not better:
        terminal.console.print(f"not promoted: a gain with p < {LEVEL:g} is asked for")
    elif dry_run:
        terminal.console.print("it would be promoted")
    else:
        terminal.console.print(f"promoted: it is {ModelFolder(ours.model).path} now")
    return better


def _unseen(candidate: Path, kind: str, dataset: Dataset) -> None:
    path = candidate / f"trained_on_{kind}.json"
    if not path.is_file():
        raise TrainingRefused(f"{candidate} does not say what it was trained on: {path.name} is missing")
    seen = set(json.loads(path.read_text(encoding="utf-8")))
    known = [q.text for q in dataset.questions if question_hash(q.text) in seen]
    if known:
        raise TrainingRefused(
            f"{candidate} was trained on {len(known)} of the {len(dataset.questions)} questions of "
            f"{dataset.name}, as on {known[0]!r}: judge it by others"
        )


def _reembedded(source: Store, settings: configs.Settings, candidate: str, on_progress: OnProgress) -> str:
    """Make an index of the same pages with the candidate's vectors, and return its folder."""
    revision = ModelFolder(candidate).revision("words.onnx", "table.bin", "tokenizer.json")
    folder = f"{source.uri.removesuffix('.lance')}-{revision}.lance"
    target, encoder = factory.create_store(folder, settings)
    on_progress("encoding the pages again")
    for document in reembed(source, target, encoder):
        on_progress(f"encoded {document.name} again")
    return folder


def _put(candidate: ModelFolder, shipped: ModelFolder, kind: str, facts: Mapping[str, Any]) -> None:
    """Copy the candidate's files over those that ship, and write down why."""
    for path in sorted(candidate.path.iterdir()):
        if path.name != "manifest.json" and path.is_file():
            part = shipped.path / f"{path.name}.part"
            shutil.copy(path, part)
            part.replace(shipped.path / path.name)
    write_manifest(shipped.path, shipped.name, candidate.facts)
    with (shipped.path / "promoted.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({"kind": kind, **facts, "candidate": Path(str(facts["candidate"])).name}) + "\n"
        )
