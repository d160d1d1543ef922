"""Adds groups that teach where the short answer stands: a window of lines with the answer, and some without it.

The windows are those of `rerankers/line_windows.py`: rows of tables have the heads of their columns beside the values.
Sources are questions to pages whose answer is marked; tables of WikiTableQuestions (Pasupat and Liang, 2015) and TAT-QA
(Zhu et al., 2021); and paragraphs in SQuAD's format, as those of SquadShifts (Miller et al., 2020).
"""

import csv
import json
import random
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu_train.align import PageWords, Span, squeeze
from benchmarks.gpu_train.documents import ReadPage
from benchmarks.gpu_train.lexical import terms
from benchmarks.gpu_train.pack import WINDOW, Answered, Builder
from rerankers.line_windows import EncodedLine, LineWindow, encode_lines, line_windows
from rerankers.text import QUESTION_PIECES, TITLE_PIECES
from retrieval.reading_lines import CELL, HEAD_WORDS, INSERTED, VALUE, ReadingLine
from retrieval.train.packed import Item, Role, trimmed

OTHERS = 3
"""The most windows of the same page that do not answer, in a group."""
MOST_ROWS = 60
"""A table with more rows is cut."""
Places = dict[tuple[int, int], tuple[int, int]]
"""The words (first, last) of the cells of a table, by row and column."""


@dataclass(frozen=True, slots=True)
class Marked:
    """A question to a page, with the words of its answer (both included), and those of the evidence."""

    question: str
    kind: str
    file: str
    page: int
    answer: Span
    evidence: tuple[tuple[int, int], ...]
    source: str


@dataclass(slots=True)
class _Lines:
    """A page's lines in the pack: their text, and the windows with their numbers."""

    words: Sequence[str]
    windows: list[tuple[LineWindow, int]] = field(default_factory=list)


@dataclass(slots=True)
class Spans:
    """Adds groups to a builder's packer."""

    builder: Builder
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    _pages: dict[tuple[str, int], _Lines] = field(default_factory=dict)

    def add_marked(self, rows: Sequence[Marked]) -> None:
        """Add questions to pages of the builder."""
        rng = random.Random(self.seed)
        for row in rows:
            key = (row.file, row.page)
            if key not in self._pages:
                page = self.builder.pages[key]
                self._pages[key] = self._encoded(page.words, page.title, page.lines)
            page_lines = self._pages[key]
            self._add(row, page_lines, rng)

    def _add(self, row: Marked, page: _Lines, rng: random.Random) -> None:
        answer = squeeze("".join(page.words[row.answer.first : row.answer.last + 1]))
        positives: list[Item] = []
        others: list[tuple[float, Item]] = []
        asked = set(terms(row.question))
        for window, number in page.windows:
            place = window.place(row.answer.first, row.answer.last)
            own = [word for word in window.words if word != INSERTED]
            if place:
                place = trimmed(window.pieces, *place)
                runs = tuple(run for a, b in row.evidence for run in _runs(window, a, b))
                positives.append(Item(number, Role.POSITIVE, *place, evidence=runs))
            elif not any(a <= word <= b for word in own for a, b in row.evidence):
                text = [page.words[word] for word in dict.fromkeys(own)]
                if answer and answer in squeeze("".join(text)):
                    continue
                alike = len(asked & {term for word in text for term in terms(word)}) + rng.random()
                others.append((alike, Item(number, Role.NEGATIVE)))
        if not positives:
            self.counts[f"{row.source} without a window"] += 1
            return
        others.sort(key=lambda pair: -pair[0])
        self._group(row.question, row.kind, row.source, [*positives, *(item for _, item in others[:OTHERS])])

    def _group(self, question: str, kind: str, source: str, items: list[Item]) -> None:
        packer = self.builder.packer
        number = packer.question(self.builder.ids([question])[0][:QUESTION_PIECES], kind, source)
        packer.answers[number] = (packer.windows[items[0].window][0],)
        packer.group(number, "passages", items)
        self.counts[source] += 1
        self.asked.append(question)

    def _encoded(self, words: Sequence[str], title: str, lines: Sequence[ReadingLine]) -> _Lines:
        packer, encode = self.builder.packer, self.builder.ids
        encoded: list[EncodedLine] = encode_lines(encode, lines, WINDOW)
        text = packer.text([piece for line in encoded for piece in line.pieces])
        title_text = packer.text(encode([title])[0][:TITLE_PIECES])
        starts = [0]
        for line in encoded:
            starts.append(starts[-1] + len(line.pieces))
        found = _Lines(words)
        for window in line_windows(encoded, WINDOW):
            number = packer.window(text, starts[window.first], len(window.pieces), title_text)
            found.windows.append((window, number))
        return found

    def add_tables(self, folder: Path) -> None:
        """Add the training questions of WikiTableQuestions that one cell of their table answers."""
        rng = random.Random(self.seed)
        tables: dict[str, tuple[_Lines, Places]] = {}
        with (folder / "data" / "training.tsv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in rows:
            name = row["context"]
            if name not in tables:
                tables[name] = self._table(folder, name)
            lines, places = tables[name]
            found = _only_cell(lines.words, places, row["targetValue"])
            if found is None:
                continue
            (first, last), whole = found
            asked = set(terms(row["utterance"]))
            near = {t for word in lines.words[whole[0] : whole[1] + 1] for t in terms(word)}
            near -= {t for word in lines.words[first : last + 1] for t in terms(word)}
            if not asked & near:  # other rows must be counted or compared
                continue
            marked = Marked(
                row["utterance"], "table", name, 0, Span(first, last, True), (whole,), "wikitables"
            )
            self._add(marked, lines, rng)

    def _table(self, folder: Path, name: str) -> tuple[_Lines, Places]:
        path = folder / name.replace(".csv", ".tsv")
        table = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()][: MOST_ROWS + 1]
        page, number = re.findall(r"(\d+)-csv/(\d+)", name)[0]
        about = json.loads((folder / "page" / f"{page}-page" / f"{number}.json").read_text(encoding="utf-8"))
        rows = [[_unescaped(cell) for cell in row] for row in table]
        words, lines, places = _table_lines(rows[0], rows[1:])
        return self._encoded(words, about["title"], lines), places

    def add_tatqa(self, path: Path) -> None:
        """Add the questions of a file of TAT-QA (Zhu et al., 2021) that one span of a table or paragraph answers."""
        rng = random.Random(self.seed)
        paragraphs: list[Answered] = []
        for context in json.loads(path.read_text(encoding="utf-8")):
            texts = {str(each["order"]): each["text"] for each in context["paragraphs"]}
            table: list[list[str]] = context["table"]["table"]
            top = next((at for at, row in enumerate(table) if any(map(_is_value, row[1:]))), 1)
            heads = [" ".join(row[column] for row in table[:top]) for column in range(len(table[0]))]
            words, lines, places = _table_lines(heads, table[top:])
            encoded = self._encoded(words, "", lines)
            for row in context["questions"]:
                if row["answer_type"] != "span" or len(row["answer"]) != 1:
                    continue
                answer = str(row["answer"][0])
                text = next((t for n in row["rel_paragraphs"] if answer in (t := texts.get(n, ""))), "")
                if text:
                    paragraphs.append(Answered(row["question"], text, answer, text.index(answer), path.stem))
                    continue
                found = _only_cell(words, places, answer)
                if found:
                    cell, whole = found
                    marked = Marked(
                        row["question"], "table", path.stem, 0, Span(*cell, True), (whole,), "tatqa answers"
                    )
                    self._add(marked, encoded, rng)
        self.builder.add_answers(paragraphs, "tatqa answers", negatives=1, apart=1)


def _table_lines(
    heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> tuple[list[str], list[ReadingLine], Places]:
    """Returns a table's words, its lines, and the words (first, last) of each cell (row, column) that has some."""
    shown = [head.split()[-HEAD_WORDS:] for head in heads]
    words: list[str] = []
    lines: list[ReadingLine] = []
    places: Places = {}
    for at, row in enumerate(rows):
        texts: list[str] = []
        numbers: list[int] = []
        for column, (head, cell) in enumerate(zip(shown, row, strict=False)):
            own = cell.split()
            if not own:
                continue
            lead = [*([CELL] if texts else []), *head, *([VALUE] if head else [])]
            texts += [*lead, *own]
            numbers += [INSERTED] * len(lead) + list(range(len(words), len(words) + len(own)))
            places[at, column] = (len(words), len(words) + len(own) - 1)
            words += own
        if texts:
            lines.append(ReadingLine(tuple(texts), tuple(numbers)))
    return words, lines, places


def _only_cell(
    words: Sequence[str], places: Places, answer: str
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Returns the words (first, last) of the only cell that is an answer, and of its row; None if there is no such."""
    wanted = squeeze(answer)
    cells = [
        (line, (first, last))
        for (line, _), (first, last) in places.items()
        if squeeze("".join(words[first : last + 1])) == wanted
    ]
    if not wanted or len(cells) != 1:
        return None
    line, cell = cells[0]
    row = [place for (other, _), place in places.items() if other == line]
    return cell, (row[0][0], row[-1][1])


def _is_value(cell: str) -> bool:
    return bool(re.search(r"\d", cell)) and not re.fullmatch(r"\D*(?:19|20)\d\d\D*", cell)


def marked_of(rows: Sequence[Mapping[str, Any]], builder: Builder) -> Iterator[Marked]:
    """Yields the questions of the training part whose answer is found on their page."""
    for row in rows:
        page = builder.pages.get((row["file"], row["page"]))
        found = builder.find(row, page) if page and page.words and row["split"] == "train" else None
        if found and found.answer:
            yield Marked(row["q"], row["kind"], row["file"], row["page"], found.answer, found.runs, "spans")


def marked_by_line(
    rows: Sequence[Mapping[str, Any]], pages: Mapping[tuple[str, int], ReadPage], held: Collection[str] = ()
) -> Iterator[Marked]:
    """Yields questions whose answer is given with the line of the page on which it begins.

    held: documents that are never trained on.
    """
    for row in rows:
        page = pages.get((row["file"], row["page"]))
        if page is None or row["file"] in held or row["line"] >= len(page.rows):
            continue
        first, end = page.rows[row["line"]]
        found = PageWords(page.words).find_near(row["answer"], Span(first, end - 1, True))
        if found is None:
            continue
        runs = [span for span in page.rows if span[0] <= found.last and found.first < span[1]]
        evidence = ((min(a for a, _ in runs), max(b for _, b in runs) - 1),)
        yield Marked(row["q"], "written", row["file"], row["page"], found, evidence, "written")


def read_squad(path: Path) -> list[Answered]:
    """Returns the questions of a file in SQuAD's format, each with its most common answer."""
    found: list[Answered] = []
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                given = Counter(
                    (answer["text"].strip(), answer["answer_start"]) for answer in question["answers"]
                )
                if not given:
                    continue
                most = max(given.values())
                text, start = min((key for key, n in given.items() if n == most), key=lambda key: len(key[0]))
                if paragraph["context"][start:].startswith(text):
                    found.append(Answered(question["question"], paragraph["context"], text, start, path.stem))
    return found


def _runs(window: LineWindow, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yields the runs of pieces of the words first to last in a window."""
    start = None
    for at, word in enumerate((*window.words, INSERTED)):
        inside = first <= word <= last
        if inside and start is None:
            start = at
        elif not inside and start is not None:
            yield start, at - 1
            start = None


def _unescaped(cell: str) -> str:
    return cell.replace("\\n", " ").replace("\\p", "|").replace("\\\\", "\\")
