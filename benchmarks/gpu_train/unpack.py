"""Joins what came back from the GPU into the folders that `retrieval.train` and `rerankers.train` load.

The word table is MiniLM's own: it was frozen in training, where its rows were rounded.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.gpu_train.carry import TABLE, WORDS
from retrieval.train.small import WEIGHTS

REPORTS = ("train.json", "log.txt", "teacher_scores.npz")


def unpack(source: Path, out: Path, minilm: Path, trained_on: Path) -> list[Path]:
    """Write `out/reader` and `out/words`, each if both of its parts came back; return the folders.

    trained_on: the file of the questions' hashes, so that nobody judges the models by them. Raises FileNotFoundError
    without it or without train.json.
    """
    if not trained_on.is_file():
        raise FileNotFoundError(trained_on)
    results: dict[str, Any] = json.loads((source / "train.json").read_text(encoding="utf-8"))
    table = load_file(minilm / WEIGHTS)[WORDS]
    written: list[Path] = []
    for name, kind in (("reader", "reader"), ("encoder", "words")):
        parts = [source / f"{name}-{number}.safetensors" for number in (1, 2)]
        if not all(part.is_file() for part in parts):
            continue
        folder = out / kind
        folder.mkdir(parents=True, exist_ok=True)
        weights = _joined(parts, table)
        save_file(weights, folder / WEIGHTS)
        options = {"dim": len(weights["project.weight"]), "markers": True} if kind == "words" else {}
        record = {"kind": kind, "options": options, "figures": results.get(name, {})}
        (folder / "run.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        shutil.copy(trained_on, folder / "trained_on.json")
        written.append(folder)
    for report in REPORTS:
        if (source / report).is_file():
            shutil.copy(source / report, out / report)
    return written


def _joined(parts: Sequence[Path], table: Tensor) -> dict[str, Tensor]:
    weights = {name: value.float() for part in parts for name, value in load_file(part).items()}
    return weights | {TABLE: table.float().clone()}
