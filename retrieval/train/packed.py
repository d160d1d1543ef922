"""The file of a training set in word pieces, small enough to carry to a GPU and to hold there as a whole.

Every text (a page, a passage, a title, a heading, a question) is stored once, as uint16 ids of BERT's uncased word
pieces. A window is a part of a text, so overlapping windows of a page cost nothing. A group is a question with windows
and what is known of each: whether it answers, and where.
"""

import io
import json
import lzma
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SETS = ("train", "contrast", "passages", "held", "held contrast", "unanswerable")
"""What a group is for. Those from "held" on are for choosing only, never fitted."""
NOWHERE = -1
"""Stands for no text and for no span."""
EXTRA = -1.0
"""The BM25 score of a held-out window that does not count for the ranking of its page."""

EDGES = frozenset({1000, 1005, 1006, 1007, 1010, 1012, 1024, 1025, 1031, 1033, 1523, 1524, 1525})
"""Pieces of punctuation that are no part of an answer at its ends: , . : ; ( ) [ ] and quotation marks."""

Ints = NDArray[np.integer]


def trimmed(pieces: Sequence[int] | Ints, first: int, last: int) -> tuple[int, int]:
    """Returns the first and last piece of a span without punctuation at its ends."""
    while first < last and int(pieces[first]) in EDGES:
        first += 1
    while first < last and int(pieces[last]) in EDGES:
        last -= 1
    return first, last


class Role(IntEnum):
    """What is known of a window in a group."""

    NEGATIVE = 0
    POSITIVE = 1  # it answers
    SAME_PAGE = 2  # it is on a page that answers, and is not known to answer itself: never a negative
    NEAR_MISS = 3  # it looks like an answer and is not, as a person judged
    OTHER_DOCUMENT = 4  # a negative


@dataclass(frozen=True, slots=True)
class Packed:
    """A training set. t: pieces, n: texts, w: windows, q: questions, g: groups, m: items of all groups."""

    tokens: Ints  # (t,) uint16
    text_starts: Ints  # (n + 1,) text i is tokens[text_starts[i] : text_starts[i + 1]]
    text_document: Ints  # (n,) index into `documents`; NOWHERE for texts that are no page
    window_text: Ints  # (w,)
    window_start: Ints  # (w,) first piece, from 0
    window_length: Ints  # (w,) pieces
    window_title: Ints  # (w,) text, or NOWHERE
    window_heading: Ints  # (w,) text of the nearest heading above, or NOWHERE
    question_text: Ints  # (q,)
    question_kind: Ints  # (q,) index into `kinds`
    question_source: Ints  # (q,) index into `sources`
    question_report: Ints  # (q,) 1 if its document is report-like
    question_answers: Ints  # (q, a) texts of the pages that answer, the gold page first, then NOWHERE
    group_question: Ints  # (g,)
    group_set: Ints  # (g,) index into SETS
    group_starts: Ints  # (g + 1,) group i has items group_starts[i] : group_starts[i + 1]
    item_window: Ints  # (m,)
    item_role: Ints  # (m,) Role
    item_first: Ints  # (m,) first piece of the short answer in the window, from 0; NOWHERE if unknown
    item_last: Ints  # (m,) its last piece
    item_lexical: NDArray[np.float16]  # (m,) BM25
    evidence_item: Ints  # (e,) the item of each run of pieces that are evidence, ascending
    evidence_first: Ints  # (e,) the run's first piece in the window, from 0
    evidence_last: Ints  # (e,)
    documents: tuple[str, ...]
    kinds: tuple[str, ...]
    sources: tuple[str, ...]

    def pieces(self, text: int) -> Ints:
        """Returns the word pieces of a text."""
        return self.tokens[self.text_starts[text] : self.text_starts[text + 1]]

    def window(self, window: int) -> Ints:
        """Returns the word pieces of a window, without title and heading."""
        start = self.text_starts[self.window_text[window]] + self.window_start[window]
        return self.tokens[start : start + self.window_length[window]]

    def items(self, group: int) -> range:
        return range(int(self.group_starts[group]), int(self.group_starts[group + 1]))


NAMES = ("documents", "kinds", "sources")
ARRAYS = tuple(f.name for f in fields(Packed) if f.name not in NAMES)


def write_packed(path: Path, packed: Packed) -> None:
    """Write the set to a file, compressed by LZMA."""
    buffer = io.BytesIO()
    names = json.dumps({name: getattr(packed, name) for name in NAMES}).encode()
    arrays = {name: getattr(packed, name) for name in ARRAYS}
    np.savez(buffer, names=np.frombuffer(names, np.uint8), **arrays)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "lc": 1, "lp": 1, "pb": 1, "dict_size": 1 << 25}]
    path.write_bytes(lzma.compress(buffer.getvalue(), lzma.FORMAT_XZ, filters=filters))


def read_packed(path: Path) -> Packed:
    """Returns the set in a file."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
        names = json.loads(arrays["names"].tobytes())
        values: dict[str, Any] = {name: arrays[name] for name in ARRAYS}
        return Packed(**values | {name: tuple(names[name]) for name in NAMES})


@dataclass(frozen=True, slots=True)
class Item:
    """A window of a group, as in Packed."""

    window: int
    role: Role
    first: int = NOWHERE
    last: int = NOWHERE
    lexical: float = 0.0
    evidence: tuple[tuple[int, int], ...] = ()
    """Runs of pieces (first, last) of the evidence; none if it is unknown."""


@dataclass(slots=True)
class Packer:
    """Collects texts, windows, questions and groups; `packed` returns them as arrays."""

    texts: list[Ints] = field(default_factory=list)
    text_documents: list[int] = field(default_factory=list)
    windows: list[tuple[int, int, int, int, int]] = field(default_factory=list)
    questions: list[tuple[int, int, int, int]] = field(default_factory=list)
    answers: list[Sequence[int]] = field(default_factory=list)
    groups: list[tuple[int, int]] = field(default_factory=list)
    group_items: list[Sequence[Item]] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)

    def text(self, pieces: Iterable[int], document: str = "") -> int:
        """Add a text, once unless it is a page; return its number, NOWHERE for one without pieces."""
        array = np.fromiter(pieces, np.uint16)
        if not document:
            if not len(array):
                return NOWHERE
            if (known := self._known.get(array.tobytes())) is not None:
                return known
            self._known[array.tobytes()] = len(self.texts)
        self.texts.append(array)
        self.text_documents.append(_index(self.documents, document) if document else NOWHERE)
        return len(self.texts) - 1

    def window(self, text: int, start: int, length: int, title: int = NOWHERE, heading: int = NOWHERE) -> int:
        """Add a window; return its number."""
        self.windows.append((text, start, length, title, heading))
        return len(self.windows) - 1

    def question(self, pieces: Iterable[int], kind: str, source: str, report: bool = False) -> int:
        """Add a question without answers, which belong into `answers`; return its number."""
        row = (self.text(pieces), _index(self.kinds, kind), _index(self.sources, source), int(report))
        self.questions.append(row)
        self.answers.append(())
        return len(self.questions) - 1

    def group(self, question: int, part: str, items: Sequence[Item]) -> None:
        """Add a group to one of SETS."""
        self.groups.append((question, SETS.index(part)))
        self.group_items.append(items)

    def packed(self) -> Packed:
        """Returns all that was added, in the smallest types that hold it."""
        windows = np.array(self.windows, np.int64).reshape(-1, 5)
        questions = np.array(self.questions, np.int64).reshape(-1, 4)
        groups = np.array(self.groups, np.int64).reshape(-1, 2)
        items = [item for group in self.group_items for item in group]
        runs = [(number, *run) for number, item in enumerate(items) for run in item.evidence]
        evidence = np.array(runs, np.int64).reshape(-1, 3)
        most = max((len(pages) for pages in self.answers), default=0)
        answers = np.full((len(self.answers), max(1, most)), NOWHERE, np.int32)
        for row, pages in zip(answers, self.answers, strict=True):
            row[: len(pages)] = pages
        return Packed(
            tokens=np.concatenate(self.texts) if self.texts else np.zeros(0, np.uint16),
            text_starts=_starts(self.texts),
            text_document=np.array(self.text_documents, np.int16),
            window_text=windows[:, 0].astype(np.int32),
            window_start=windows[:, 1].astype(np.uint16),
            window_length=windows[:, 2].astype(np.uint8),
            window_title=windows[:, 3].astype(np.int32),
            window_heading=windows[:, 4].astype(np.int32),
            question_text=questions[:, 0].astype(np.int32),
            question_kind=questions[:, 1].astype(np.uint8),
            question_source=questions[:, 2].astype(np.uint8),
            question_report=questions[:, 3].astype(np.uint8),
            question_answers=answers,
            group_question=groups[:, 0].astype(np.int32),
            group_set=groups[:, 1].astype(np.uint8),
            group_starts=_starts(self.group_items),
            item_window=np.array([item.window for item in items], np.int32),
            item_role=np.array([item.role for item in items], np.uint8),
            item_first=np.array([item.first for item in items], np.int16),
            item_last=np.array([item.last for item in items], np.int16),
            item_lexical=np.array([item.lexical for item in items], np.float16),
            evidence_item=evidence[:, 0].astype(np.int32),
            evidence_first=evidence[:, 1].astype(np.int16),
            evidence_last=evidence[:, 2].astype(np.int16),
            documents=tuple(self.documents),
            kinds=tuple(self.kinds),
            sources=tuple(self.sources),
        )


def _index(names: list[str], name: str) -> int:
    if name not in names:
        names.append(name)
    return names.index(name)


def _starts(rows: Sequence[Sequence[object]] | Sequence[Ints]) -> Ints:
    return np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.uint32)
