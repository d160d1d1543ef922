"""Keeps hashes of the questions that the models of a folder were trained on, so that nobody judges a model by them.

The models of a folder are mostly trained on the same questions, so the file names the kinds of models of each set of
hashes: `[{"kinds": ["reader", "words"], "hashes": [...]}, ...]`, gzipped.
"""

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping, Set
from pathlib import Path

FILE = "trained_on.json.gz"


def read_trained_on(folder: Path) -> dict[str, set[str]]:
    """Returns the hashes by kind of model; none for a folder without the file."""
    path = folder / FILE
    by_kind: dict[str, set[str]] = defaultdict(set)
    if path.is_file():
        for row in json.loads(gzip.decompress(path.read_bytes())):
            for kind in row["kinds"]:
                by_kind[kind].update(row["hashes"])
    return dict(by_kind)


def write_trained_on(folder: Path, by_kind: Mapping[str, Set[str]]) -> None:
    """Write the hashes, each once."""
    kinds_of: dict[str, list[str]] = defaultdict(list)
    for kind in sorted(by_kind):
        for question in by_kind[kind]:
            kinds_of[question].append(kind)
    sets: dict[tuple[str, ...], list[str]] = {(kind,): [] for kind in sorted(by_kind)}
    for question, kinds in sorted(kinds_of.items()):
        sets.setdefault(tuple(kinds), []).append(question)
    rows = [{"kinds": kinds, "hashes": hashes} for kinds, hashes in sets.items()]
    (folder / FILE).write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))
