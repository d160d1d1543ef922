"""Training groups: one question, a passage that answers it, and passages that only look as if they did.

Input are gzipped JSON lines. Two layouts are read:

- groups: ``{"src", "q", "pos", "negs": [...]}``
- XQuAD (Artetxe et al., 2020): ``{"lang", "id", "q", "context"}``, the same ``id`` in every language, from
  which cross-language groups are made: the question in one language, its paragraph in another.
"""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

LATIN = ("en", "de", "fr", "es")
"""Languages of XQuAD whose script MiniLM's English vocabulary can spell and that most of our users read."""


@dataclass(frozen=True, slots=True)
class Group:
    source: str
    question: str
    positive: str
    negatives: tuple[str, ...]


def read_groups(path: Path) -> list[Group]:
    return [Group(row["src"], row["q"], row["pos"], tuple(row["negs"])) for row in _rows(path)]


def read_xquad(path: Path, negatives: int = 6, seed: int = 0) -> list[Group]:
    """Cross-language and in-language groups; negatives are paragraphs in the same language as the positive."""
    rng = random.Random(seed)
    rows: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    contexts: dict[str, list[str]] = defaultdict(list)
    for row in _rows(path):
        if row["lang"] not in LATIN:
            continue
        rows[row["id"]][row["lang"]] = row
        if row["context"] not in contexts[row["lang"]][-1:]:
            contexts[row["lang"]].append(row["context"])
    groups = []
    for by_language in rows.values():
        pairs = [
            *permutations(by_language, 2),
            *((language, language) for language in by_language if language != "en"),
        ]
        for asked, written in rng.sample(pairs, min(4, len(pairs))):
            positive = by_language[written]["context"]
            others = [text for text in rng.sample(contexts[written], negatives + 1) if text != positive]
            groups.append(
                Group(
                    f"xquad-{asked}-{written}", by_language[asked]["q"], positive, tuple(others[:negatives])
                )
            )
    return groups


def hold_out(groups: Sequence[Group], each: int, seed: int = 0) -> tuple[list[Group], list[Group]]:
    """(training, held out): `each` groups of every source; those that share text with them leave training."""
    rng = random.Random(seed)
    by_source: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_source[group.source.split("-")[0]].append(group)
    held = [
        group
        for _, same in sorted(by_source.items())
        for group in rng.sample(same, min(each, len(same) // 4))
    ]
    seen = {group.positive for group in held} | {group.question for group in held}
    return [g for g in groups if g.positive not in seen and g.question not in seen], held


def batches(groups: Sequence[Group], size: int, negatives: int, seed: int = 0) -> Iterator[list[Group]]:
    """Endless shuffled batches, each group with exactly `negatives` hard negatives; no positive twice in a batch.

    Sources take part by the square root of their size, so that a large one does not drown the others.
    """
    rng = random.Random(seed)
    while True:
        pool = balanced(groups, rng)
        batch: list[Group] = []
        taken: set[str] = set()
        for group in pool:
            if group.positive in taken or len(group.negatives) < negatives:
                continue
            taken.add(group.positive)
            chosen = tuple(rng.sample(group.negatives, negatives))
            batch.append(Group(group.source, group.question, group.positive, chosen))
            if len(batch) == size:
                yield batch
                batch, taken = [], set()


def balanced(groups: Sequence[Group], rng: random.Random) -> list[Group]:
    """As many groups as given, shuffled, each source with a share that goes by the square root of its size."""
    by_source: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_source[group.source.split("-")[0]].append(group)
    roots = {source: len(same) ** 0.5 for source, same in by_source.items()}
    pool: list[Group] = []
    for source, same in by_source.items():
        share = round(len(groups) * roots[source] / sum(roots.values()))
        whole, rest = divmod(share, len(same))
        pool += same * whole + rng.sample(same, rest)
    rng.shuffle(pool)
    return pool


def _rows(path: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
