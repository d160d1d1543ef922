"""Builds the training set from documents, questions to their pages, contrast pairs and groups of passages.

The windows are those that the `text` reranker reads: whole words, at most WINDOW pieces, here each half a window after
the one before. Negatives come from the same document first, because search restricted to a document fails there.
"""

import gzip
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from benchmarks.gpu_train.align import PageWords, Span, forms
from benchmarks.gpu_train.documents import ReadPage
from benchmarks.gpu_train.lexical import Bm25, terms
from benchmarks.gpu_train.variants import variants
from rerankers.text import QUESTION_PIECES, TITLE_PIECES, WORD_PIECES
from retrieval.train.groups import Group
from retrieval.train.packed import EXTRA, NOWHERE, Item, Packer, Role, trimmed

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
LANGUAGES = ("en", "de", "es")
"""The languages of XQuAD that the English vocabulary can spell."""
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


@dataclass(frozen=True, slots=True)
class Answered:
    """A question with a paragraph that answers it, at character `start` (from 0)."""

    question: str
    paragraph: str
    answer: str
    start: int
    language: str  # of the paragraph


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
    verbatim: int = 0
    """Answers that stand in or beside the evidence word for word, or in a shorter form."""
    variants: int = 0
    """Windows that were changed so that they do not answer any more."""
    alike: int = 0
    """Answers of which words in or beside the evidence say about the same."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """A page in the pack: its text, its windows, and the first piece of each of its words (and the end)."""

    page: ReadPage
    text: int
    windows: tuple[int, ...]
    bounds: tuple[tuple[int, int], ...]  # of each window: first word, and the one after its last
    offsets: tuple[int, ...]

    def pieces(self, first: int, last: int, start: int) -> tuple[int, int]:
        """Returns the first and last piece of words in a window that starts at word `start`."""
        begin = self.offsets[first] - self.offsets[start]
        return begin, max(begin, self.offsets[last + 1] - self.offsets[start] - 1)


@dataclass(frozen=True, slots=True)
class Found:
    """Where on its page a question's evidence is, and its answer if that is known."""

    evidence: Span
    answer: Span | None
    runs: tuple[tuple[int, int], ...]
    """The words of both."""
    verbatim: bool = False
    """Whether the answer stands there as it was written."""

    def inside(self, page: Windowed, bounds: tuple[int, int]) -> tuple[tuple[int, int], ...]:
        """Returns the runs of pieces in the window of these words."""
        clipped = ((max(first, bounds[0]), min(last, bounds[1] - 1)) for first, last in self.runs)
        return tuple(page.pieces(first, last, bounds[0]) for first, last in clipped if first <= last)


@dataclass(slots=True)
class Builder:
    """Packs documents and questions; `packer` has the result."""

    tokenizer: Tokenizer
    pages: Mapping[tuple[str, int], ReadPage]
    seed: int = 0
    packer: Packer = field(default_factory=Packer)
    counts: Counts = field(default_factory=Counts)
    asked: list[str] = field(default_factory=list)
    """The questions that are to be fitted."""
    _windowed: dict[tuple[str, int], Windowed] = field(default_factory=dict)
    _owner: list[tuple[str, int]] = field(default_factory=list)  # page of each window of a page
    _bm25: Bm25 | None = None
    _passages: dict[str, int] = field(default_factory=dict)
    _by_document: defaultdict[str, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    _variable: list[tuple[Mapping[str, Any], int, Item]] = field(default_factory=list)

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

        for key in self.pages:
            self._by_document[key[0]].append(key)

    def _cut(self, page: ReadPage) -> Windowed:
        per_word = [ids[:WORD_PIECES] for ids in self.ids(page.words)]
        offsets = [0]
        for ids in per_word:
            offsets.append(offsets[-1] + len(ids))
        text = self.packer.text((piece for ids in per_word for piece in ids), page.document)
        title = self.packer.text(self.ids([page.title])[0][:TITLE_PIECES])
        windows: list[int] = []
        bounds: list[tuple[int, int]] = []
        start = 0
        while start < len(per_word):
            end = start
            while end < len(per_word) and offsets[end + 1] - offsets[start] <= WINDOW:
                end += 1
            heading = self.packer.text(self.ids([page.heading_at(start)])[0][:HEADING_PIECES])
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
            self.asked.append(row["q"])
            positives = [item for item in own if item.role is Role.POSITIVE]
            self._variable.append((row, question, max(positives, key=_evidence_pieces)))
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
        ids = self.ids([row["q"]])[0][:QUESTION_PIECES]
        question = self.packer.question(ids, row["kind"], "questions", kind in REPORTS)
        also = (self._windowed.get((str(file), int(number))) for file, number in row.get("also", ()))
        texts = (gold.text, *(page.text for page in also if page))
        self.packer.answers[question] = tuple(dict.fromkeys(texts))
        return question

    def _gold_items(self, row: Mapping[str, Any], gold: Windowed, scores: NDArray[np.float32]) -> list[Item]:
        """Returns the items of the page that answers; those with the answer, or all evidence, are positives."""
        found, best = self.find(row, gold.page), self._best_of(gold, scores, 1)
        self._count(row, found)
        span = found and (found.answer or found.evidence)
        items: list[Item] = []
        positives = 0
        for window, bounds in zip(gold.windows, gold.bounds, strict=True):
            lexical = float(scores[window])
            if found and span and bounds[0] <= span.first and span.last < bounds[1]:
                first = last = NOWHERE
                if found.answer:
                    span_pieces = gold.pieces(found.answer.first, found.answer.last, bounds[0])
                    first, last = self._trimmed(window, *span_pieces)
                evidence = found.inside(gold, bounds)
                items.append(Item(window, Role.POSITIVE, first, last, lexical, evidence))
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
            bounds = gold.bounds[gold.windows.index(target)]
            evidence = found.inside(gold, bounds) if found else ()
            items = [
                Item(i.window, Role.POSITIVE, lexical=i.lexical, evidence=evidence)
                if i.window == target
                else i
                for i in items
            ]
        return items

    def find(self, row: Mapping[str, Any], page: ReadPage) -> Found | None:
        """Returns where evidence and answer are; of held-out questions, only answers that are there as written."""
        words = PageWords(page.words)
        if row.get("extract") is False:
            return None
        evidence = words.find(row["evidence"])
        if evidence is None:
            return None
        is_held = row["split"] == "held"
        written = forms(row["answer"])[: 1 if is_held else None]
        answer = next((span for form in written if (span := words.find_near(form, evidence))), None)
        verbatim = answer is not None
        if answer is None and not is_held:
            alike = (words.find_similar(form, evidence) for form in written)
            answer = next((span for span in alike if span), None)
        runs = [*words.runs(row["evidence"], evidence)]
        whole = tuple(runs + ([(answer.first, answer.last)] if answer else []))
        return Found(evidence, answer, whole, verbatim)

    def _count(self, row: Mapping[str, Any], found: Found | None) -> None:
        if row.get("extract") is False:
            self.counts.relevance_only += 1
        elif found is None:
            self.counts.unaligned += 1
        else:
            self.counts.exact += found.evidence.exact
            self.counts.similar += not found.evidence.exact
            self.counts.verbatim += found.verbatim
            self.counts.alike += found.answer is not None and not found.verbatim

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
                self.ids([row["q"]])[0][:QUESTION_PIECES], row["kind"], "contrast"
            )
            first, last = self._answer_pieces(row["pos"], row["answer"])
            items = [Item(self._passage(row["pos"]), Role.POSITIVE, first, last)]
            items += [Item(self._passage(text), Role.NEAR_MISS) for text in row["negs"]]
            self.packer.answers[question] = (self.packer.windows[items[0].window][0],)
            self.packer.group(question, "held contrast" if row["split"] == "held" else "contrast", items)
            if row["split"] != "held":
                self.asked.append(row["q"])

    def add_groups(self, groups: Sequence[Group]) -> None:
        """Add groups of passages, of which it is only known which one answers."""
        positives: dict[str, set[int]] = defaultdict(set)
        texts = {group.positive: self._passage(group.positive) for group in groups}
        for group in groups:
            positives[group.question].add(texts[group.positive])
        for group in groups:
            ids = self.ids([group.question])[0][:QUESTION_PIECES]
            question = self.packer.question(ids, "passage", group.corpus)
            items = [Item(texts[group.positive], Role.POSITIVE)]
            negatives = dict.fromkeys(self._passage(text) for text in group.negatives)
            items += [Item(w, Role.NEGATIVE) for w in negatives if w not in positives[group.question]]
            self.packer.answers[question] = (self.packer.windows[items[0].window][0],)
            self.packer.group(question, "passages", items)
            self.asked.append(group.question)

    def add_answers(
        self, paragraphs: Sequence[Answered], source: str = "answers", negatives: int = 6, apart: int = 2
    ) -> None:
        """Add questions whose answer's place in a paragraph is known, with other windows of the same language.

        negatives: the most windows of other paragraphs in a group. apart: those of the same one without the answer.
        """
        rng = random.Random(self.seed)
        windows: dict[str, list[tuple[int, str]]] = defaultdict(list)
        made: list[tuple[Answered, Item]] = []
        for row in paragraphs:
            item = self._answer_window(row, rng)
            if item:
                made.append((row, item))
                windows[row.language].append((item.window, row.paragraph))
        for row, item in made:
            own = [w for w, text in windows[row.language] if text == row.paragraph and w != item.window]
            others = [
                w
                for w, text in rng.sample(windows[row.language], min(12, len(windows[row.language])))
                if text != row.paragraph
            ]
            question = self.packer.question(self.ids([row.question])[0][:QUESTION_PIECES], "passage", source)
            self.packer.answers[question] = (self.packer.windows[item.window][0],)
            elsewhere = [Item(w, Role.NEGATIVE) for w in dict.fromkeys(others)][:negatives]
            beside = [Item(w, Role.NEGATIVE) for w in own if self._are_apart(w, item)][:apart]
            self.packer.group(question, "passages", [item, *beside, *elsewhere])
            self.asked.append(row.question)

    def _answer_window(self, row: Answered, rng: random.Random) -> Item | None:
        """Returns a window around the answer, which stands anywhere in it, with the sentence as evidence."""
        encoding = self.tokenizer.encode(row.paragraph, add_special_tokens=False)
        first, last = _pieces_at(encoding.offsets, row.start, row.start + len(row.answer))
        if first == NOWHERE or last - first >= WINDOW // 2:
            return None
        start = max(0, min(first - rng.randint(0, WINDOW - (last - first) - 1), len(encoding.ids) - WINDOW))
        while start < first and _continues(encoding, start):
            start += 1
        end = min(len(encoding.ids), start + WINDOW)
        text = self.packer.text(encoding.ids)
        window = self.packer.window(text, start, end - start)
        before = row.paragraph.rfind(". ", 0, row.start)
        after = row.paragraph.find(". ", row.start + len(row.answer))
        sentence = (before + 2 if before >= 0 else 0, after + 1 if after >= 0 else len(row.paragraph))
        evidence = _pieces_at(encoding.offsets, *sentence)
        clipped = (max(evidence[0] - start, 0), min(evidence[1], end - 1) - start)
        return Item(window, Role.POSITIVE, first - start, last - start, evidence=(clipped,))

    def add_variants(self) -> None:
        """Add groups of a window that answers and variants of it that do not, as in a set of contrasts."""
        rng = random.Random(self.seed)
        for row, question, item in self._variable:
            _, start, length, title, heading = self.packer.windows[item.window]
            key = self._owner[item.window]
            page = self._windowed[key]
            first = page.offsets.index(start)
            words = page.page.words[first : page.offsets.index(start + length, first)]
            span = None
            if item.first != NOWHERE:
                inside = [
                    i
                    for i in range(len(words))
                    if page.offsets[first + i + 1] - start > item.first
                    and page.offsets[first + i] - start <= item.last
                ]
                span = (inside[0], inside[-1])
            items = [item]
            for variant in variants(row["q"], page.page.title, words, span, self._other_words(key, rng), rng):
                ids = [piece for ids in self.ids(variant) for piece in ids[:WORD_PIECES]][:WINDOW]
                window = self.packer.window(self.packer.text(ids), 0, len(ids), title, heading)
                items.append(Item(window, Role.NEAR_MISS))
            if len(items) > 1:
                asked = self.packer.questions[question]
                pieces = self.packer.texts[asked[0]]
                again = self.packer.question(pieces, row["kind"], "variants")
                self.packer.answers[again] = self.packer.answers[question]
                self.packer.group(again, "contrast", items)
                self.counts.variants += len(items) - 1

    def _other_words(self, key: tuple[str, int], rng: random.Random) -> Sequence[str]:
        """Returns the words of another page of the same document, or of this one if there is no other."""
        pages = [other for other in self._by_document[key[0]] if other != key] or [key]
        return self.pages[rng.choice(pages)].words

    def _are_apart(self, window: int, item: Item) -> bool:
        """Returns whether a window of the same text does not have the item's answer."""
        text, start, length, _, _ = self.packer.windows[window]
        own_text, own_start, _, _, _ = self.packer.windows[item.window]
        at = own_start + item.first
        return text != own_text or not start - 4 <= at < start + length + 4

    def _trimmed(self, window: int, first: int, last: int) -> tuple[int, int]:
        """Returns the span without punctuation at its ends."""
        text, start, _, _, _ = self.packer.windows[window]
        return trimmed(self.packer.texts[text][start:], first, last)

    def _passage(self, text: str) -> int:
        """Returns the window of a whole passage, at most PASSAGE pieces; equal passages have the same one."""
        if text not in self._passages:
            ids = self.ids([text])[0][:PASSAGE]
            self._passages[text] = self.packer.window(self.packer.text(ids), 0, len(ids))
        return self._passages[text]

    def _answer_pieces(self, passage: str, answer: str) -> tuple[int, int]:
        """Returns the first and last piece of an answer in a passage, NOWHERE if it is not there."""
        at = passage.find(answer)
        if not answer or at < 0:
            return NOWHERE, NOWHERE
        offsets = self.tokenizer.encode(passage, add_special_tokens=False).offsets[:PASSAGE]
        return _pieces_at(offsets, at, at + len(answer))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _evidence_pieces(item: Item) -> int:
    return sum(last - first + 1 for first, last in item.evidence)


def _pieces_at(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """Returns the first and last piece of these characters, NOWHERE if there is none."""
    inside = [i for i, piece in enumerate(offsets) if piece[1] > start and piece[0] < end]
    return (inside[0], inside[-1]) if inside else (NOWHERE, NOWHERE)


def _continues(encoding: Encoding, piece: int) -> bool:
    """Returns whether this piece continues the word of the one before it."""
    return piece > 0 and encoding.offsets[piece][0] == encoding.offsets[piece - 1][1]


def read_answers(path: Path) -> list[Answered]:
    """Returns XQuAD's questions with their paragraphs: each in its language, and in pairs of two of LANGUAGES."""
    rows: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["lang"] in LANGUAGES:
                rows[row["id"]][row["lang"]] = row
    return [
        Answered(asked["q"], read["context"], read["answer"], read["start"], read["lang"])
        for same in rows.values()
        for asked, read in product(same.values(), repeat=2)
        if read["context"][read["start"] :].startswith(read["answer"])
    ]


def build(
    tokenizer: Tokenizer,
    pages: Sequence[ReadPage],
    questions: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
    *,
    contrast: Sequence[Mapping[str, Any]] = (),
    groups: Sequence[Group] = (),
    answers: Sequence[Answered] = (),
) -> Builder:
    """Returns the training set; `counts` says what is in it.

    questions, sources, contrast: rows of the files of that name.
    """
    builder = Builder(tokenizer, {(page.document, page.number): page for page in pages})
    builder.add_documents()
    builder.add_questions(questions, {str(row["file"]): str(row["kind"]) for row in sources})
    builder.add_contrast(contrast)
    builder.add_groups(groups)
    builder.add_answers(answers)
    builder.add_variants()
    return builder


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file of JSON lines; none if it does not exist."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
