"""Finds lines, their cells, and sentences among a page's words, from their boxes and order alone."""

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.text import STOP_WORDS
from retrieval.types import Box, Word

CELL_GAP = 0.75
"""Words further apart than this, in heights of their line, are in different cells."""
PROSE_WORDS = 8
"""A line of one cell with more words is prose."""
TURNED = 0.6
"""Words of three letters and more that are narrower than this share of their height were turned by 90 degrees."""
SENTENCE_WORDS = 60
"""The most words of a sentence to each side of an answer."""
PARAGRAPH_GAP = 1.1
"""Lines further apart than this, in heights of the line, are in different paragraphs."""

_END = re.compile(r"[.!?…][\"'”’)\]]*$")
_SHORT = re.compile(
    r"^(?:[A-Za-z]|[A-Z][a-z]?|e\.g|i\.e|No|Nr|Art|Abs|vs|cf|Fig|St|Dr|Mr|Mrs|Inc|Ltd|Co|approx|ca|bzw|z\.B)\.$"
)
_NUMBER = re.compile(r"^[(\[<>~≤≥±+\-–—−$€£¥]*\d[\d.,' \u00a0/:%-]*[%)\]]*[a-zA-Z°µ%€$£]{0,3}$")
_YEAR = re.compile(r"^(?:FY\s?|Q[1-4]\s?)?(?:19|20)\d\d(?:[/-]\d\d(?:\d\d)?)?[*)]*$", re.IGNORECASE)
_LIST_MARK = re.compile(r"^(?:[-–—•▪●◦■□*·]|\(?(?:\d{1,2}|[a-z]|[ivx]{1,4})[.)])$", re.IGNORECASE)
_RTL = re.compile(r"[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_PERIOD = re.compile(
    r"^(?:[QHT][1-4]|jan|feb|mar|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez)\.?[*)]*$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Cell:
    """Words [first, end) of a page that stand together on one line."""

    first: int
    end: int
    box: Box


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the page, or of one of its columns: cells from left to right; a line of prose is one cell."""

    cells: tuple[Cell, ...]
    box: Box

    @property
    def first(self) -> int:
        return self.cells[0].first

    @property
    def end(self) -> int:
        return self.cells[-1].end


class Layout:
    """The lines of a page. width, height: of the page, in any unit; 0 if they are not known."""

    def __init__(self, words: Sequence[Word], width: float = 0.0, height: float = 0.0) -> None:
        self.words = words
        self._aspect = width / height if width > 0 and height > 0 else 0.75
        self.lines = [_line(words, first, end, self._aspect) for first, end in runs(words)]
        self._line_of = [at for at, line in enumerate(self.lines) for _ in range(line.first, line.end)]

    @property
    def rtl_share(self) -> float:
        """The share of the words that are written from right to left."""
        found = sum(bool(_RTL.search(word.text)) for word in self.words)
        return found / max(1, len(self.words))

    def is_turned(self, line: Line) -> bool:
        """Returns whether most of a line's longer words are upright columns of letters."""
        long = [word.box for word in self.words[line.first : line.end] if len(word.text) > 2]
        turned = sum((x1 - x0) * self._aspect < TURNED * (y1 - y0) for x0, y0, x1, y1 in long)
        return turned > len(long) / 2

    def line_at(self, word: int) -> Line:
        return self.lines[self._line_of[word]]

    def cell_at(self, word: int) -> Cell:
        return next(cell for cell in self.line_at(word).cells if cell.first <= word < cell.end)

    def crosses_cells(self, first: int, end: int) -> bool:
        """Returns whether words [first, end) go from one cell to another beside it."""
        while first < end:
            cell = self.cell_at(first)
            if cell.end < min(end, self.line_at(first).end):
                return True
            first = cell.end
        return False

    def text(self, first: int, end: int) -> str:
        """Returns words [first, end) as they are on the page."""
        return " ".join(word.text for word in self.words[first:end])

    def boxes(self, first: int, end: int) -> tuple[Box, ...]:
        """Returns a box for each line, or part of one, of words [first, end)."""
        boxes: list[Box] = []
        at = first
        while at < end:
            stop = min(end, self.cell_at(at).end)
            boxes.append(around([word.box for word in self.words[at:stop]]))
            at = stop
        return tuple(boxes)

    def is_numeric(self, cell: Cell) -> bool:
        """Returns whether the cell is a value: a number or a mark for none, maybe with currency or units."""
        tokens = [word.text for word in self.words[cell.first : cell.end]]
        if len(tokens) > 1 and not any(c.isalnum() for c in tokens[0]):
            tokens = tokens[1:]
        unit = not any(token.casefold() in STOP_WORDS for token in tokens[1:])
        return len(tokens) <= 4 and _is_value(tokens[0]) and unit

    def is_year(self, cell: Cell) -> bool:
        """Returns whether the cell only says years, or parts of them ("Q3", "Oct 22")."""
        texts = [word.text for word in self.words[cell.first : cell.end]]
        periods = [bool(_YEAR.match(text) or _PERIOD.match(text)) for text in texts]
        return periods[0] and all(
            period or text.isdigit() for period, text in zip(periods, texts, strict=True)
        )

    def sentence(self, first: int, end: int) -> tuple[int, int]:
        """Returns the words [first, end) of the sentences in which these words stand."""
        start = first
        while start > 0 and first - start < SENTENCE_WORDS and not self._ends(start - 1):
            start -= 1
        stop = end
        while stop < len(self.words) and stop - end < SENTENCE_WORDS and not self._ends(stop - 1):
            stop += 1
        return start, stop

    def _ends(self, word: int) -> bool:
        """Returns whether a sentence or a block of text ends with this word."""
        text = self.words[word].text
        if _END.search(text) and not _SHORT.match(text):
            return True
        if word + 1 >= len(self.words):
            return True
        here, there = self.line_at(word), self.line_at(word + 1)
        if here is there:
            return self.cell_at(word) is not self.cell_at(word + 1)
        height = min(here.box[3] - here.box[1], there.box[3] - there.box[1])
        gap = there.box[1] - here.box[3]
        if gap > PARAGRAPH_GAP * height:
            return True
        if gap < -2 * height:  # the next column: its text goes on in small letters
            return not self.words[word + 1].text[:1].islower()
        taller = max(here.box[3] - here.box[1], there.box[3] - there.box[1])
        return taller > 1.35 * height and len(here.cells) == len(there.cells) == 1


def around(boxes: Sequence[Box]) -> Box:
    """Returns the smallest box around boxes."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _is_value(token: str) -> bool:
    return bool(_NUMBER.match(token)) or token in {"-", "–", "—", "n/a", "N/A"}


def runs(words: Sequence[Word]) -> Iterator[tuple[int, int]]:
    """Yields the runs [first, end) of words that stand beside each other, from left to right."""
    at = 0
    while at < len(words):
        end = at + 1
        while end < len(words) and _follows(words[end - 1].box, words[end].box):
            end += 1
        yield at, end
        at = end


def _follows(before: Box, box: Box) -> bool:
    """Returns whether a word stands to the right of the one before, on the same line."""
    return beside(before, box) >= 0.5 and box[0] >= before[0]


def _line(words: Sequence[Word], first: int, end: int, aspect: float) -> Line:
    height = statistics.median(max(word.box[3] - word.box[1], 1e-6) for word in words[first:end])
    cells: list[Cell] = []
    start = first
    for at in range(first + 1, end + 1):
        marks = at == first + 1 < end and bool(_LIST_MARK.match(words[first].text))  # belongs to its text
        if at == end or (
            not marks and (words[at].box[0] - words[at - 1].box[2]) * aspect > CELL_GAP * height
        ):
            cells.append(Cell(start, at, around([word.box for word in words[start:at]])))
            start = at
    return Line(tuple(cells), around([cell.box for cell in cells]))


def beside(a: Box, b: Box) -> float:
    """Returns the share of the lower box's height in which both overlap vertically."""
    lower = min(a[3] - a[1], b[3] - b[1])
    return (min(a[3], b[3]) - max(a[1], b[1])) / max(lower, 1e-6)
