"""Puts a page into lines for a reader: prose as it stands, and each row of a table with the heads of its cells.

A reader that gets a table word by word does not know which number belongs to which head. Here a row is a line like
"Value by site / Site: Hexley | Hand tools: 51,134 | Safety: 42,460". The heads are repeated in each row; they and the
marks between are not words of the page at this place, and cannot be part of an answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.layout import Cell, Layout, Line
from retrieval.tables import Row, Tables

INSERTED = -1
"""Stands for the place of a text that is not a word of the page here."""
SECTION, CELL, VALUE = "/", "|", ":"
SECTION_WORDS = 8
HEAD_WORDS = 6
"""The most words of a section and of a cell's heads that are repeated."""
LONGEST = 70
"""About the most pieces of a line; a row with more is cut into several, each with the row's first cell."""

_PIECES = re.compile(r"\d{1,3}|[^\W\d_]{1,7}|[^\w\s]|_")


Part = list[tuple[str, int]]
"""Texts with their words."""


@dataclass(frozen=True, slots=True)
class ReadingLine:
    """Texts in reading order, and the number of the page's word that each one is, or INSERTED."""

    texts: tuple[str, ...]
    words: tuple[int, ...]


def reading_lines(tables: Tables) -> list[ReadingLine]:
    """Returns the page's lines. Every word of the page is in exactly one of them."""
    layout = tables.layout
    found: list[ReadingLine] = []
    done: set[int] = set()  # the first words of rows
    for line in layout.lines:
        row = tables.row_at(line.first)
        if row is None:
            found += _prose_lines(layout, line)
        elif row.cells[0].first not in done:
            done.add(row.cells[0].first)
            found += _row_lines(layout, row)
    return found


def _prose_lines(layout: Layout, line: Line) -> Iterator[ReadingLine]:
    """Yields a line as it stands, in several parts if it is long."""
    part: Part = []
    for word in range(line.first, line.end):
        own = _own(layout, range(word, word + 1))
        if part and _size(part) + _size(own) > LONGEST:
            yield _joined([part])
            part = []
        part += own
    yield _joined([part])


def _row_lines(layout: Layout, row: Row) -> Iterator[ReadingLine]:
    """Yields the lines of a row: one, unless it is long."""
    cells = [_cell(layout, cell, heads) for cell, heads in zip(row.cells, row.heads, strict=True)]
    label = [*_inserted(layout, row.section, SECTION_WORDS), (SECTION, INSERTED)] if row.section else []
    again = [*label, *((text, INSERTED) for text, _ in cells[0][-SECTION_WORDS:])]
    parts, size = [label + cells[0]], _size(label + cells[0])
    for cell in cells[1:]:
        if size + _size(cell) > LONGEST and len(parts) > 1:
            yield _joined(parts)
            parts, size = [again], _size(again)
        parts.append([(CELL, INSERTED), *cell])
        size += _size(cell) + 1
    yield _joined(parts)


def _cell(layout: Layout, cell: Cell, heads: Sequence[Cell]) -> Part:
    named = [text for head in heads for text in _inserted(layout, head, HEAD_WORDS)][-HEAD_WORDS:]
    return [*named, *([(VALUE, INSERTED)] if named else []), *_own(layout, range(cell.first, cell.end))]


def _own(layout: Layout, words: range) -> Part:
    return [(layout.words[word].text, word) for word in words]


def _inserted(layout: Layout, cell: Cell, most: int) -> Part:
    return [(word.text, INSERTED) for word in layout.words[cell.first : cell.end][:most]]


def _size(part: Part) -> int:
    """Returns about how many pieces the texts have."""
    return sum(len(_PIECES.findall(text)) for text, _ in part)


def _joined(parts: Sequence[Part]) -> ReadingLine:
    texts, words = zip(*(pair for part in parts for pair in part), strict=True)
    return ReadingLine(texts, words)
