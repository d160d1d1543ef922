"""Reads, writes and samples training groups: a question, a passage that answers it, and negatives that only seem to.

Files are gzipped JSON lines in one of two layouts:

- groups: ``{"src", "q", "pos", "negs": [...]}``; `folioscope train mine` adds ``"scores"`` and ``"pages"``
- XQuAD (Artetxe et al., 2020): ``{"lang", "id", "q", "context"}``, with the same ``id`` in every language.
  Cross-language groups are made from it: the question in one language, its paragraph in another.
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
from retrieval.train.curriculum import digest

LATIN = ("en", "de", "fr", "es")
"""The languages of XQuAD whose script MiniLM's English vocabulary can spell and that most of our users read."""


@dataclass(frozen=True, slots=True)
class Group:
    """A question, a passage that answers it, and negatives."""

    source: str
    question: str
    positive: str
    negatives: tuple[str, ...]
    scores: tuple[float, ...] = ()
    """The teacher's scores of (positive, *negatives), higher is better; empty without a teacher."""
    pages: tuple[str, ...] = ()
    """The pages of (positive, *negatives), like "report.pdf#page=12"; empty if they are passages, not pages."""

    @property
    def corpus(self) -> str:
        """The part of the source's name before its first hyphen: "squad" of "squad-dev"."""
        return self.source.split("-")[0]

    @property
    def name(self) -> str:
        """Identifies the positive: two groups with the same name are never in one batch."""
        return self.pages[0] if self.pages else self.positive


def read_groups(path: Path) -> list[Group]:
    """Returns the groups of a file. Raises NotFound if the file does not exist or holds something else."""
    if not path.is_file():
        raise NotFound(
            f"there are no training groups at {path}", remedy="make them with 'folioscope train mine'"
        )
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
            f"{path} holds no training groups ({first_line(error)})",
            remedy='give a file of gzipped JSON lines of {"src", "q", "pos", "negs"}',
        ) from error


def write_groups(path: Path, groups: Iterable[Group]) -> int:
    """Write the groups to a file, which appears only when it is complete; return their number."""
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
    """Returns cross-language and in-language groups; negatives are paragraphs in the positive's language."""
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
        for question, paragraph in rng.sample(pairs, min(4, len(pairs))):
            positive = by_language[paragraph]["context"]
            others = [text for text in rng.sample(contexts[paragraph], negatives + 1) if text != positive]
            source = f"xquad-{question}-{paragraph}"
            groups.append(Group(source, by_language[question]["q"], positive, tuple(others[:negatives])))
    return groups


def by_corpus(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Returns the groups of each corpus, in the order given."""
    corpora: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        corpora[group.corpus].append(group)
    return corpora


def hold_out(groups: Sequence[Group], each: int, seed: int = 0) -> tuple[list[Group], list[Group]]:
    """Returns the groups for training and those held out: `each` of every corpus, at most a quarter of it.

    Groups that share a question or a positive with a held-out one are in neither list.
    """
    rng = random.Random(seed)
    held_out = [
        group
        for _, same in sorted(by_corpus(groups).items())
        for group in rng.sample(same, min(each, len(same) // 4))
    ]
    held_out_texts = {group.positive for group in held_out} | {group.question for group in held_out}
    return [
        g for g in groups if g.positive not in held_out_texts and g.question not in held_out_texts
    ], held_out


def balance_sources(groups: Sequence[Group], seed: int = 0) -> list[Group]:
    """Returns about as many groups as given, shuffled, with each corpus in proportion to the square root of its size.

    So a large corpus does not dominate the others. Groups are repeated or left out as needed.
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
    """Returns 16 hex digits that identify the groups."""
    return digest([[g.source, g.question, g.positive, g.negatives, g.scores] for g in groups])


def _rows(path: Path) -> Iterator[dict]:  # type: ignore[type-arg]
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
