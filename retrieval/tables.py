"""Finds the tables of a page: rows whose cells stand side by side, and for each cell the heads of its column.

Charts that are drawn with words count as tables too: a label with its value beside it is a row. Everything comes from
the places of words; ruled lines are not needed, so scans work the same.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from retrieval.layout import PARAGRAPH_GAP, PROSE_WORDS, Cell, Layout, Line, around, beside
from retrieval.types import Box, PageContent

SAME_ROW = 0.6
"""Lines that overlap vertically by this share of the lower one are in one row."""
ROW_GAP = 2.5
"""Rows further apart than this, in heights of a row, are in different tables."""
HEAD_GAP = 1.6
"""Lines of a head further apart than this, in heights of the lower one, are not one head."""
HEADS = 4
"""The most lines of a column's head."""
SAME_COLUMN = 0.5
"""Cells that overlap horizontally by this share of the narrower one are in one column."""
NEAR_HEAD = 1.5
"""A head beside all columns belongs to the nearest, if it is at most this many of its heights away."""
ROW_WORDS = 24
"""A row without numbers that has more words is a line of prose with wide blanks."""
TEXT_WORDS = 4
"""A table without numbers has at most this many words in a cell, on the mean: otherwise it is prose in columns."""
MOST_COLUMNS = 64
"""What has more is a map or a drawing, not a table."""
ALIKE_HEIGHTS = 2.0
"""Lines of one row differ by less than this factor in height: a chart's axis has an upright label beside its rows."""
MOST_RTL = 0.3
"""A page with a larger share of right-to-left words has no tables: their order is not understood here."""

_NO_SECTION = re.compile(r"^(?:[a-zà-öø-ÿ]|\W?\d{1,2}[)\]]|[*†‡])")
"""How a line begins that goes on with the one above it, or is a footnote."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: its cells from left to right, and for each the heads of its column from top to bottom."""

    cells: tuple[Cell, ...]
    heads: tuple[tuple[Cell, ...], ...]
    section: Cell | None
    """The line above that names a group of rows, alone on its line."""

    def heads_of(self, word: int) -> tuple[Cell, ...]:
        """Returns the heads of the cell with this word of the page."""
        return next(
            h for cell, h in zip(self.cells, self.heads, strict=True) if cell.first <= word < cell.end
        )


class Tables:
    """The tables of a page."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.rows: list[Row] = []
        """From top to bottom, table by table."""
        self._row_of: dict[int, Row] = {}  # by the first word of each cell
        if layout.rtl_share > MOST_RTL:
            return
        is_prose = _in_prose(layout)
        prose = [line.box for line, inside in zip(layout.lines, is_prose, strict=True) if inside]
        others = [line for line, inside in zip(layout.lines, is_prose, strict=True) if not inside]
        for block in _blocks(_put_together(layout, others), prose):
            self._add_block(block)

    def row_at(self, word: int) -> Row | None:
        """Returns the row in which a word of the page stands; None in prose."""
        return self._row_of.get(self.layout.cell_at(word).first)

    def _add_block(self, block: Sequence["_Line"]) -> None:
        """Find the columns and heads of lines that stand below each other, and keep the rows."""
        is_row = _which_are_rows(block)
        lines = [line for line, chosen in zip(block, is_row, strict=True) if chosen]
        columns = _columns([cell for line in lines for cell in line.cells])
        if not columns:
            return
        column_of = {cell.first: _column_of(columns, cell) for line in lines for cell in line.cells}
        for line in lines:
            for cell in line.cells:
                column_of[cell.first].is_numeric |= self.layout.is_numeric(cell)
        section: Cell | None = None
        drafts: list[_Draft] = []
        since_heads = 0  # the first draft after the last line of heads
        for at, line in enumerate(block):
            if is_row[at]:
                own = [column_of[cell.first] for cell in line.cells]
                drafts.append(_Draft(line, own, [tuple(column.heads) for column in own], section))
                for column in columns:
                    column.is_stale = True
            elif len(line.cells) == 1 and _names_all(columns, line.cells[0]):
                if not _NO_SECTION.match(self.layout.words[line.cells[0].first].text):
                    section = line.cells[0]
            else:
                last = at + 1 == len(block) or block[at + 1].has_values
                cells = self._split(columns, line.cells) if last else line.cells
                named = [(cell, column) for cell in cells for column in _named(columns, cell)]
                if line.names_years:
                    _name_from_below(drafts[since_heads:], named)
                since_heads = len(drafts)
                for cell, column in named:
                    column.add_head(cell)
        for draft in drafts:
            row = Row(tuple(draft.line.cells), tuple(draft.heads), draft.section)
            self.rows.append(row)
            self._row_of.update((cell.first, row) for cell in row.cells)

    def _split(self, columns: Sequence["_Column"], cells: Sequence[Cell]) -> list[Cell]:
        """Returns the cells of a line of heads, with those over several columns split between their words."""
        found: list[Cell] = []
        for cell in cells:
            spanned = sorted(
                (c for c in columns if _within(c, cell) >= SAME_COLUMN), key=lambda c: c.left + c.right
            )
            if not 1 < len(spanned) <= cell.end - cell.first:
                found.append(cell)
                continue
            start, owner = cell.first, None
            for at in range(cell.first, cell.end + 1):
                own = None if at == cell.end else _nearest(spanned, self.layout.words[at].box)
                if at > start and own is not owner:
                    found.append(Cell(start, at, around([w.box for w in self.layout.words[start:at]])))
                    start = at
                owner = own
        return found


def page_tables(page: PageContent) -> Tables:
    return Tables(Layout(page.words, page.page.width, page.page.height))


def _put_together(layout: Layout, lines: Sequence[Line]) -> list["_Line"]:
    """Returns the lines of the page that may belong to tables, with those beside each other put together."""
    made: list[_Line] = []
    for line in sorted(lines, key=lambda line: (line.box[1] + line.box[3], line.box[0])):
        for other in reversed(made[-4:]):
            if _belong_together(layout, other, line):
                other.add(line.cells)
                break
        else:
            made.append(_Line(list(line.cells), line.box[1], line.box[3], is_split=len(line.cells) > 1))
    for each in made:
        each.count(layout)
    return sorted(made, key=lambda each: each.top)


def _belong_together(layout: Layout, one: "_Line", other: Line) -> bool:
    """Returns whether lines beside each other are one row: short lines of prose in two columns are not."""
    heights = sorted((one.bottom - one.top, other.box[3] - other.box[1]))
    if heights[1] > ALIKE_HEIGHTS * heights[0]:
        return False
    if beside((0.0, one.top, 1.0, one.bottom), other.box) <= SAME_ROW:
        return False
    if any(_shared(cell.box, other.box) > 0 for cell in one.cells):
        return False
    return len(one.cells) + len(other.cells) > 2 or any(map(layout.is_numeric, (*one.cells, *other.cells)))


def _which_are_rows(block: Sequence["_Line"]) -> list[bool]:
    """Returns which lines of a block are rows of data: the others are heads, or name groups of rows."""
    top = next((at for at, line in enumerate(block) if line.has_values), None)
    several = [at for at, line in enumerate(block) if line.is_row]
    if top is None:  # a table without numbers has a line of heads if it has several rows
        cells = [cell for at in several for cell in block[at].cells]
        if len(several) < 2 or sum(cell.end - cell.first for cell in cells) > TEXT_WORDS * len(cells):
            return [False] * len(block)
        first = several[1] if len(several) > 2 else several[0]
        only_years = [at for at in several if block[at].names_years and not block[at].has_label]
        return [at in several and at >= first and at not in only_years for at in range(len(block))]
    found: list[bool] = []
    for at, line in enumerate(block):
        row = at >= top and line.is_row
        if row and line.names_years:  # a row of years has a label, and stands right below another row
            row = line.has_label and found[-1:] == [True]
        elif (
            row and line.values <= line.years
        ):  # texts and years, first after another line, name the numbers below
            below = block[at + 1] if at + 1 < len(block) else None
            row = found[-1:] == [True] or below is None or below.values - below.years < 2
        found.append(row)
    return found


@dataclass(slots=True)
class _Line:
    """Cells beside each other, from left to right, and how many of them are numbers, and years."""

    cells: list[Cell]
    top: float
    bottom: float
    values: int = 0
    years: int = 0
    words: int = 0
    has_label: bool = False
    """Whether its first cell is no number."""
    is_split: bool = False
    """Whether it has several cells, of which none comes from another line."""

    def add(self, cells: Sequence[Cell]) -> None:
        self.cells += cells
        self.top = min(self.top, *(cell.box[1] for cell in cells))
        self.bottom = max(self.bottom, *(cell.box[3] for cell in cells))

    def count(self, layout: Layout) -> None:
        self.cells.sort(key=lambda cell: cell.box[0])
        self.values = sum(map(layout.is_numeric, self.cells))
        self.years = sum(map(layout.is_year, self.cells))
        self.words = sum(cell.end - cell.first for cell in self.cells)
        self.has_label = not layout.is_numeric(self.cells[0]) and not layout.is_year(self.cells[0])

    @property
    def names_years(self) -> bool:
        return self.years >= self.values and (self.years > 1 or len(self.cells) == self.years == 1)

    @property
    def has_values(self) -> bool:
        return len(self.cells) > 1 and self.values > 0 and not self.names_years

    @property
    def is_row(self) -> bool:
        return len(self.cells) > 1 and (self.values > 0 or (self.is_split and self.words <= ROW_WORDS))


@dataclass(slots=True)
class _Draft:
    """A row whose heads may still be found below it."""

    line: _Line
    columns: list["_Column"]
    heads: list[tuple[Cell, ...]]
    section: Cell | None


def _name_from_below(drafts: Sequence[_Draft], named: Sequence[tuple[Cell, "_Column"]]) -> None:
    """Give rows of which not all numbers have heads those below them: the years under the bars of a chart."""
    for draft in drafts:
        above = [
            bool(heads) for heads, column in zip(draft.heads, draft.columns, strict=True) if column.is_numeric
        ]
        if all(above):
            continue
        for place, column in enumerate(draft.columns):
            below = tuple(cell for cell, other in named if other is column)
            draft.heads[place] = below or draft.heads[place]


@dataclass(slots=True)
class _Column:
    left: float
    right: float
    is_numeric: bool = False
    is_stale: bool = False
    """Whether a row of data stands below the heads: a further head begins anew."""
    heads: list[Cell] = field(default_factory=list)

    def add_head(self, cell: Cell) -> None:
        height = cell.box[3] - cell.box[1]
        if self.is_stale or (self.heads and cell.box[1] - self.heads[-1].box[3] > HEAD_GAP * height):
            self.heads = []
        self.is_stale = False
        self.heads = [*self.heads, cell][-HEADS:]


def _in_prose(layout: Layout) -> list[bool]:
    """Returns which lines take no part in tables.

    These are lines of one cell with many words, the short line after such a one, and text that was turned.
    """
    found: list[bool] = []
    for at, line in enumerate(layout.lines):
        long = line.end - line.first > PROSE_WORDS
        if not long and found and found[-1]:
            height = line.box[3] - line.box[1]
            before = layout.lines[at - 1].box
            long = (
                line.box[1] - before[3] < PARAGRAPH_GAP / 2 * height and abs(line.box[0] - before[0]) < height
            )
        found.append((len(line.cells) == 1 and long) or layout.is_turned(line))
    return found


def _blocks(lines: Sequence[_Line], prose: Sequence[Box]) -> Iterator[list[_Line]]:
    """Yields the lines of each table, with those above it that may be its heads. prose: lines between tables."""
    block: list[_Line] = []
    for line in lines:
        if block:
            bottom = max(other.bottom for other in block[-3:])
            height = min(line.bottom - line.top, block[-1].bottom - block[-1].top)
            if line.top - bottom > ROW_GAP * height or _is_between(prose, block[-1], line):
                yield block
                block = []
        block.append(line)
    if block:
        yield block


def _is_between(prose: Sequence[Box], above: _Line, below: _Line) -> bool:
    """Returns whether a line of prose stands between two lines, over or under most of the wider one."""
    boxes = [cell.box for cell in (*above.cells, *below.cells)]
    left, right = min(box[0] for box in boxes), max(box[2] for box in boxes)
    return any(
        above.top < box[1]
        and box[3] < below.bottom
        and _shared(box, (left, 0, right, 0)) > (right - left) / 2
        for box in prose
    )


def _columns(cells: Sequence[Cell]) -> list[_Column]:
    """Returns the columns of a table's cells: the narrow cells that stand below each other make them.

    None if there would be more than MOST_COLUMNS.
    """
    columns: list[_Column] = []
    for cell in sorted(cells, key=lambda cell: cell.box[2] - cell.box[0]):
        own = [column for column in columns if _within(column, cell) >= SAME_COLUMN]
        if not own:
            columns.append(_Column(cell.box[0], cell.box[2]))
        elif len(own) == 1:
            own[0].left, own[0].right = min(own[0].left, cell.box[0]), max(own[0].right, cell.box[2])
        if len(columns) > MOST_COLUMNS:
            return []
    return columns


def _column_of(columns: Sequence[_Column], cell: Cell) -> _Column:
    middle = cell.box[0] + cell.box[2]
    return max(columns, key=lambda c: (_within(c, cell), -abs(c.left + c.right - middle)))


def _named(columns: Sequence[_Column], head: Cell) -> list[_Column]:
    """Returns the columns that a head names: those it stands over, or the nearest."""
    own = [column for column in columns if _within(column, head) >= SAME_COLUMN]
    if own:
        return own
    near = max(columns, key=lambda c: _shared((c.left, 0, c.right, 0), head.box))
    distance = -_shared((near.left, 0, near.right, 0), head.box)
    return [near] if distance < NEAR_HEAD * (head.box[3] - head.box[1]) else []


def _names_all(columns: Sequence[_Column], head: Cell) -> bool:
    """Returns whether a cell alone on its line is the title of the rows below, not the head of one or two columns."""
    named = _named(columns, head)
    return len(named) > 2 or not any(column.is_numeric for column in named)


def _nearest(columns: Sequence[_Column], box: Box) -> _Column:
    return max(columns, key=lambda c: _shared((c.left, 0, c.right, 0), box))


def _within(column: _Column, cell: Cell) -> float:
    """Returns the share of the narrower width in which a column and a cell overlap."""
    narrower = min(column.right - column.left, cell.box[2] - cell.box[0])
    return _shared((column.left, 0, column.right, 0), cell.box) / max(narrower, 1e-6)


def _shared(a: Box, b: Box) -> float:
    """Returns the width in which two boxes overlap; below 0 the distance between them."""
    return min(a[2], b[2]) - max(a[0], b[0])
