"""Training groups: one question, a passage that answers it, and passages that only look as if they did.

Input are gzipped JSON lines. Two layouts are read:

- groups: ``{"src", "q", "pos", "negs": [...]}``; what `mine` writes has ``"scores"`` and ``"pages"`` besides
- XQuAD (Artetxe et al., 2020): ``{"lang", "id", "q", "context"}``, the same ``id`` in every language, from
  which cross-language groups are made: the question in one language, its paragraph in another.
"""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from retrieval.errors import NotFound, first_line
from retrieval.train.course import digest

LATIN = ("en", "de", "fr", "es")
"""Languages of XQuAD whose script MiniLM's English vocabulary can spell and that most of our users read."""


@dataclass(frozen=True, slots=True)
class Group:
    source: str
    question: str
    positive: str
    negatives: tuple[str, ...]
    scores: tuple[float, ...] = ()
    """A teacher's, of (positive, *negatives), higher is better; empty where there is none."""
    pages: tuple[str, ...] = ()
    """Where (positive, *negatives) stand, as "report.pdf#page=12"; empty where they are no pages."""

    @property
    def corpus(self) -> str:
        """What the source is a part of: "squad" of "squad-dev"."""
        return self.source.split("-")[0]

    @property
    def name(self) -> str:
        """What tells positives apart: two groups with the same one must not meet in a batch."""
        return self.pages[0] if self.pages else self.positive


def read_groups(path: Path) -> list[Group]:
    """Raises NotFound for a file that is not there, and for one that holds something else."""
    if not path.is_file():
        raise NotFound(f"there are no training groups at {path}: 'folioscope train mine' makes them")
    try:
        return [
            Group(
                row["src"],
                row["q"],
                row["pos"],
                tuple(row["negs"]),
                tuple(row.get("scores", ())),
                tuple(row.get("pages", ())),
            )
            for row in _rows(path)
        ]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise NotFound(
            f"{path} holds no training groups ({first_line(error)}): it must be gzipped JSON lines of "
            '{"src", "q", "pos", "negs"}'
        ) from error


def write_groups(path: Path, groups: Iterable[Group]) -> int:
    """Whole or not at all; how many there were."""
    part, count = path.with_name(path.name + ".part"), 0
    with gzip.open(part, "wt", encoding="utf-8") as file:
        for group in groups:
            count += 1
            row: dict[str, object] = {
                "src": group.source,
                "q": group.question,
                "pos": group.positive,
                "negs": group.negatives,
            }
            row |= {"scores": [round(s, 4) for s in group.scores]} if group.scores else {}
            row |= {"pages": group.pages} if group.pages else {}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    part.replace(path)
    return count


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


def by_corpus(groups: Iterable[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        found[group.corpus].append(group)
    return found


def hold_out(groups: Sequence[Group], each: int, seed: int = 0) -> tuple[list[Group], list[Group]]:
    """(training, held out): `each` groups of every source; those that share text with them leave training."""
    rng = random.Random(seed)
    held = [
        group
        for _, same in sorted(by_corpus(groups).items())
        for group in rng.sample(same, min(each, len(same) // 4))
    ]
    seen = {group.positive for group in held} | {group.question for group in held}
    return [g for g in groups if g.positive not in seen and g.question not in seen], held


def balanced(groups: Sequence[Group], seed: int = 0) -> list[Group]:
    """As many groups as given, shuffled, each source with a share that goes by the square root of its size.

    So that a large source does not drown the others.
    """
    rng = random.Random(seed)
    corpora = by_corpus(groups)
    roots = {corpus: len(same) ** 0.5 for corpus, same in corpora.items()}
    pool: list[Group] = []
    for corpus, same in corpora.items():
        share = round(len(groups) * roots[corpus] / sum(roots.values()))
        whole, rest = divmod(share, len(same))
        pool += same * whole + rng.sample(same, rest)
    rng.shuffle(pool)
    return pool


def digest_of(groups: Sequence[Group]) -> str:
    """Names the groups: 16 hex digits."""
    return digest([[g.source, g.question, g.positive, g.negatives, g.scores] for g in groups])


def _rows(path: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
