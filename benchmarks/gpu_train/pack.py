"""Builds the training set from documents, questions to their pages, contrast pairs and groups of passages.

The windows are those that the `text` reranker reads: whole words, at most WINDOW pieces, here each half a window after
the one before. Negatives come from the same document first, because search restricted to a document fails there.
"""

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.gpu_train.align import PageWords, Span
from benchmarks.gpu_train.documents import ReadPage
from benchmarks.gpu_train.lexical import Bm25, terms
from rerankers.text import QUESTION_PIECES, TITLE_PIECES, WORD_PIECES
from retrieval.train.groups import Group
from retrieval.train.packed import EXTRA, NOWHERE, Item, Packed, Packer, Role

WINDOW = 96
"""Pieces: about what the reranker's pairs of 128 leave beside a question and a title."""
PASSAGE = 140
HEADING_PIECES = 12
NEGATIVES = 24
"""The most of a question from its own document."""
OTHERS = 8
"""The most from other documents."""
HELD_WINDOWS = 64
"""About as many of a held question, evenly over its document's pages."""
UNANSWERABLE = 300
UNANSWERABLE_WINDOWS = 32
REPORTS = frozenset(
    {
        "annual report",
        "audit letter",
        "brochure",
        "factsheet",
        "financial statement",
        "policy study",
        "report",
        "statistical factsheet",
        "statistical report",
        "survey",
        "technical report",
    }
)
"""Kinds of documents that are read as reports are: for a separate figure."""


@dataclass(slots=True)
class Counts:
    """What was packed."""

    questions: int = 0
    without_page: int = 0
    """Questions whose page has no words, or is not there: left out."""
    exact: int = 0
    similar: int = 0
    unaligned: int = 0
    relevance_only: int = 0
    """Questions whose evidence does not hold the answer."""
    answers: int = 0
    """Spans that are the answer itself, not its evidence."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """A page in the pack: its text, its windows, and the first piece of each of its words (and the end)."""

    page: ReadPage
    text: int
    windows: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]  # of each window: first word, and the one after its last
    offsets: tuple[int, ...]


@dataclass(slots=True)
class Builder:
    """Packs documents and questions; `packer` has the result."""

    tokenizer: Tokenizer
    pages: Mapping[tuple[str, int], ReadPage]
    seed: int = 0
    packer: Packer = field(default_factory=Packer)
    counts: Counts = field(default_factory=Counts)
    _windowed: dict[tuple[str, int], Windowed] = field(default_factory=dict)
    _owner: list[tuple[str, int]] = field(default_factory=list)  # page of each window of a page
    _bm25: Bm25 | None = None
    _passages: dict[str, int] = field(default_factory=dict)

    def add_documents(self) -> None:
        """Cut all pages into windows, and weigh their terms."""
        texts: list[list[str]] = []
        for key, page in self.pages.items():
            windowed = self._cut(page)
            self._windowed[key] = windowed
            self._owner += [key] * len(windowed.windows)
            texts += [
                [term for word in page.words[start:end] for term in terms(word)]
                for start, end in windowed.bounds
            ]
        self._bm25 = Bm25(texts)

    def _cut(self, page: ReadPage) -> Windowed:
        per_word = [ids[:WORD_PIECES] for ids in self._ids(page.words)]
        offsets = [0]
        for ids in per_word:
            offsets.append(offsets[-1] + len(ids))
        text = self.packer.text((piece for ids in per_word for piece in ids), page.document)
        title = self.packer.text(self._ids([page.title])[0][:TITLE_PIECES])
        windows: list[int] = []
        bounds: list[tuple[int, int]] = []
        start = 0
        while start < len(per_word):
            end = start
            while end < len(per_word) and offsets[end + 1] - offsets[start] <= WINDOW:
                end += 1
            heading = self.packer.text(self._ids([page.heading_at(start)])[0][:HEADING_PIECES])
            length = offsets[end] - offsets[start]
            if length:
                windows.append(self.packer.window(text, offsets[start], length, title, heading))
                bounds.append((start, end))
            if end >= len(per_word):
                break
            start += max(1, (end - start) // 2)
        return Windowed(page, text, tuple(windows), tuple(bounds), tuple(offsets))

    def add_questions(self, rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str]) -> None:
        """Add questions to pages. kinds: of the documents, by name."""
        split = {str(row["file"]): str(row["split"]) for row in rows}
        held_documents = {file for file, part in split.items() if part == "held"}
        starts = self._document_windows()
        outside = np.array([file in held_documents for file, _ in self._owner], bool)
        held: list[tuple[Mapping[str, Any], int, NDArray[np.float32]]] = []
        for row in rows:
            key = (str(row["file"]), int(row["page"]))
            gold = self._windowed.get(key)
            if gold is None or not gold.windows:
                self.counts.without_page += 1
                continue
            self.counts.questions += 1
            question = self._question(row, kinds.get(key[0], ""), gold)
            assert self._bm25 is not None
            scores = self._bm25.scores(terms(row["q"]))
            answers = {key, *((str(file), int(number)) for file, number in row.get("also", ()))}
            own = self._gold_items(row, gold, scores)
            if row["split"] == "held":
                held.append((row, question, scores))
                items = self._held_items(key[0], own, scores, starts)
                self.packer.group(question, "held", items)
                continue
            near = [
                Item(w, Role.NEAR_MISS)
                for number in row.get("not", ())
                if (key[0], int(number)) not in answers
                for w in self._best_of(self._windowed.get((key[0], int(number))), scores, 3)
            ]
            blocked = {item.window for item in near}
            inside, elsewhere = self._negatives(key[0], answers, blocked, scores, outside, starts)
            self.packer.group(question, "train", [*own, *near, *inside, *elsewhere])
        self._add_unanswerable(held, starts)

    def _question(self, row: Mapping[str, Any], kind: str, gold: Windowed) -> int:
        ids = self._ids([row["q"]])[0][:QUESTION_PIECES]
        question = self.packer.question(ids, row["kind"], "questions", kind in REPORTS)
        also = (self._windowed.get((str(file), int(number))) for file, number in row.get("also", ()))
        texts = (gold.text, *(page.text for page in also if page))
        self.packer.answers[question] = tuple(dict.fromkeys(texts))
        return question

    def _gold_items(self, row: Mapping[str, Any], gold: Windowed, scores: NDArray[np.float32]) -> list[Item]:
        """Returns the items of the page that answers; those with the evidence are positives, with its place."""
        span, best = self._span(row, gold.page), self._best_of(gold, scores, 1)
        items: list[Item] = []
        positives = 0
        for window, (start, end) in zip(gold.windows, gold.bounds, strict=True):
            lexical = float(scores[window])
            if span and start <= span.first and span.last < end:
                first = gold.offsets[span.first] - gold.offsets[start]
                last = gold.offsets[span.last + 1] - gold.offsets[start] - 1
                items.append(Item(window, Role.POSITIVE, first, max(first, last), lexical))
                positives += 1
            else:
                items.append(Item(window, Role.SAME_PAGE, lexical=lexical))
        if not positives:
            target = best[0]
            if span:  # It fits into no window: the one that shares most of it answers.
                target = max(
                    zip(gold.windows, gold.bounds, strict=True),
                    key=lambda pair: min(pair[1][1], span.last + 1) - max(pair[1][0], span.first),
                )[0]
            items = [
                Item(i.window, Role.POSITIVE, lexical=i.lexical) if i.window == target else i for i in items
            ]
        return items

    def _span(self, row: Mapping[str, Any], page: ReadPage) -> Span | None:
        """Returns the answer's words if they stand in or beside the evidence, else the evidence."""
        words = PageWords(page.words)
        if row.get("extract") is False:
            self.counts.relevance_only += 1
            return None
        evidence = words.find(row["evidence"])
        if evidence is None:
            self.counts.unaligned += 1
            return None
        self.counts.exact += evidence.exact
        self.counts.similar += not evidence.exact
        answer = words.find_near(row["answer"], evidence)
        self.counts.answers += answer is not None
        return answer or evidence

    def _best_of(self, page: Windowed | None, scores: NDArray[np.float32], most: int) -> list[int]:
        if page is None:
            return []
        return sorted(page.windows, key=lambda w: (-scores[w], w))[:most]

    def _negatives(
        self,
        document: str,
        answers: set[tuple[str, int]],
        blocked: set[int],
        scores: NDArray[np.float32],
        outside: NDArray[np.bool_],
        starts: Mapping[str, tuple[int, int]],
    ) -> tuple[list[Item], list[Item]]:
        """Returns negatives of this document and of others, most similar first. outside: windows never to use."""
        first, end = starts[document]
        inside = self._spread(
            [first + int(i) for i in np.argsort(-scores[first:end], kind="stable")],
            lambda w: self._owner[w] not in answers and w not in blocked,
            NEGATIVES,
        )
        rest = np.where(outside, -1.0, scores)
        rest[first:end] = -1.0
        for key in answers:
            rest[list(self._windowed[key].windows) if key in self._windowed else []] = -1.0
        most = min(4 * OTHERS + NEGATIVES - len(inside), len(rest) - 1)
        top = np.argpartition(-rest, most)[:most] if most > 0 else np.arange(len(rest))
        order = [int(i) for i in top[np.argsort(-rest[top], kind="stable")]]
        short = max(0, (NEGATIVES - len(inside)) // 2)  # Short documents have few negatives of their own.
        elsewhere = self._spread(order, lambda w: rest[w] >= 0, OTHERS + short)
        return (
            [Item(w, Role.NEGATIVE, lexical=float(scores[w])) for w in inside],
            [Item(w, Role.OTHER_DOCUMENT, lexical=float(scores[w])) for w in elsewhere],
        )

    def _spread(self, order: Sequence[int], allowed: Any, most: int) -> list[int]:
        """Returns the first allowed windows, none beside another on its page: neighbours share half of their words."""
        chosen: list[int] = []
        taken: set[int] = set()
        for window in order:
            if len(chosen) == most:
                break
            if not allowed(window):
                continue
            neighbours = {w for w in (window - 1, window + 1) if w in taken}
            if any(self._owner[w] == self._owner[window] for w in neighbours):
                continue
            chosen.append(window)
            taken.add(window)
        return chosen

    def _held_items(
        self,
        document: str,
        own: Sequence[Item],
        scores: NDArray[np.float32],
        starts: Mapping[str, tuple[int, int]],
    ) -> list[Item]:
        """Returns each page's best windows by BM25, about HELD_WINDOWS in all, and those with the answer.

        If BM25 does not choose a window with the answer, it is EXTRA: there to measure spans, not to rank its page,
        because other pages have no such help.
        """
        known = {item.window: item for item in own}
        numbers = sorted({self._owner[w] for w in range(*starts[document])})
        each = max(1, HELD_WINDOWS // max(1, len(numbers)))
        chosen = [
            window
            for key in numbers
            for window in self._spread(
                self._best_of(self._windowed[key], scores, len(self._windowed[key].windows)),
                lambda _: True,
                each,
            )
        ]
        items = [known.get(w) or Item(w, Role.NEGATIVE, lexical=float(scores[w])) for w in chosen]
        items += [
            replace(item, lexical=EXTRA)
            for item in own
            if item.role is Role.POSITIVE and item.window not in set(chosen)
        ]
        return items

    def _add_unanswerable(
        self,
        held: Sequence[tuple[Mapping[str, Any], int, NDArray[np.float32]]],
        starts: Mapping[str, tuple[int, int]],
    ) -> None:
        """Pair held questions with the best windows of another held document."""
        rng = random.Random(self.seed)
        documents = sorted({str(row["file"]) for row, _, _ in held})
        for row, question, scores in rng.sample(list(held), min(UNANSWERABLE, len(held))):
            others = [name for name in documents if name != row["file"]]
            if not others:
                continue
            first, end = starts[rng.choice(others)]
            order = [first + int(i) for i in np.argsort(-scores[first:end], kind="stable")]
            windows = self._spread(order, lambda _: True, UNANSWERABLE_WINDOWS)
            items = [Item(w, Role.OTHER_DOCUMENT, lexical=float(scores[w])) for w in windows]
            self.packer.group(question, "unanswerable", items)

    def _document_windows(self) -> dict[str, tuple[int, int]]:
        """Returns the first window of each document and the one after its last."""
        ranges: dict[str, tuple[int, int]] = {}
        for window, (file, _) in enumerate(self._owner):
            ranges[file] = (ranges.get(file, (window, 0))[0], window + 1)
        return ranges

    def add_contrast(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add questions with a passage that answers and minimal variants that do not."""
        for row in rows:
            question = self.packer.question(
                self._ids([row["q"]])[0][:QUESTION_PIECES], row["kind"], "contrast"
            )
            first, last = self._answer_pieces(row["pos"], row["answer"])
            items = [Item(self._passage(row["pos"]), Role.POSITIVE, first, last)]
            items += [Item(self._passage(text), Role.NEAR_MISS) for text in row["negs"]]
            self.packer.answers[question] = (self.packer.windows[items[0].window][0],)
            self.packer.group(question, "held contrast" if row["split"] == "held" else "contrast", items)

    def add_groups(self, groups: Sequence[Group]) -> None:
        """Add groups of passages, of which it is only known which one answers."""
        positives: dict[str, set[int]] = defaultdict(set)
        texts = {group.positive: self._passage(group.positive) for group in groups}
        for group in groups:
            positives[group.question].add(texts[group.positive])
        for group in groups:
            ids = self._ids([group.question])[0][:QUESTION_PIECES]
            question = self.packer.question(ids, "passage", group.corpus)
            items = [Item(texts[group.positive], Role.POSITIVE)]
            negatives = dict.fromkeys(self._passage(text) for text in group.negatives)
            items += [Item(w, Role.NEGATIVE) for w in negatives if w not in positives[group.question]]
            self.packer.answers[question] = (self.packer.windows[items[0].window][0],)
            self.packer.group(question, "passages", items)

    def _passage(self, text: str) -> int:
        """Returns the window of a whole passage, at most PASSAGE pieces; equal passages have the same one."""
        if text not in self._passages:
            ids = self._ids([text])[0][:PASSAGE]
            self._passages[text] = self.packer.window(self.packer.text(ids), 0, len(ids))
        return self._passages[text]

    def _answer_pieces(self, passage: str, answer: str) -> tuple[int, int]:
        """Returns the first and last piece of an answer in a passage, NOWHERE if it is not there."""
        at = passage.find(answer)
        if not answer or at < 0:
            return NOWHERE, NOWHERE
        offsets = self.tokenizer.encode(passage, add_special_tokens=False).offsets[:PASSAGE]
        inside = [i for i, (start, end) in enumerate(offsets) if end > at and start < at + len(answer)]
        return (inside[0], inside[-1]) if inside else (NOWHERE, NOWHERE)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def build(
    tokenizer: Tokenizer,
    pages: Sequence[ReadPage],
    questions: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    *,
    contrast: Sequence[Mapping[str, Any]] = (),
    groups: Sequence[Group] = (),
) -> tuple[Packed, Counts]:
    """Returns the training set and what is in it. questions, sources, contrast: rows of the files of that name."""
    builder = Builder(tokenizer, {(page.document, page.number): page for page in pages})
    builder.add_documents()
    builder.add_questions(questions, {str(row["file"]): str(row["kind"]) for row in sources})
    builder.add_contrast(contrast)
    builder.add_groups(groups)
    return builder.packer.packed(), builder.counts


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file of JSON lines; none if it does not exist."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
