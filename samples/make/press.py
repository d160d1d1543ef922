"""Sets flowables on fixed pages and writes a PDF with the same bytes on every run.

Questions are judged by page, so a document is a list of sheets, not a flow of text: text that does not fit on its
sheet is an error and never starts a new page. reportlab's invariant mode leaves out dates and ids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Frame

Flowable = Any  # reportlab carries no types
Draw = Callable[[Any], None]
Furniture = Callable[[Any, int, int], None]  # takes canvas, page number from 1, number of pages

FAMILIES = {
    "Sans": ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    "Serif": ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    "Stix": ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    "Mono": ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
}

ROOM_AFTER_HEADING = 64  # points: the heading and two lines


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page: a banner over the full width, then text that flows through the columns."""

    flow: Sequence[Flowable]
    banner: Sequence[Flowable] = ()
    draw: Draw | None = None  # draws under the text, in points from the bottom left
    rotate: int = 0  # the page's /Rotate, in degrees
    furniture: bool = True
    carry: bool = False  # text that does not fit continues on the next sheet


@dataclass(frozen=True, slots=True)
class Paper:
    """The page's layout. Lengths are in points; margins are left, top, right, bottom."""

    size: tuple[float, float] = A4
    margins: tuple[float, float, float, float] = (62, 66, 62, 60)
    columns: int = 1
    gutter: float = 18

    @property
    def width(self) -> float:
        """The width of the text, all columns and gutters together."""
        return self.size[0] - self.margins[0] - self.margins[2]

    @property
    def column(self) -> float:
        """The width of one column."""
        return (self.width - self.gutter * (self.columns - 1)) / self.columns


@cache
def fonts() -> None:
    """Register the fonts that come with matplotlib, so that a page looks the same in every viewer."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for family, files in FAMILIES.items():
        names = [family + style for style in ("", "-Bold", "-Italic", "-BoldItalic")]
        for name, file in zip(names, files, strict=True):
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{file}.ttf")))
        pdfmetrics.registerFontFamily(
            family, normal=names[0], bold=names[1], italic=names[2], boldItalic=names[3]
        )


def write_pdf(
    path: Path,
    sheets: Sequence[Sheet],
    paper: Paper,
    *,
    title: str,
    author: str,
    lang: str = "en",
    furniture: Furniture | None = None,
) -> None:
    """Write the sheets to a PDF. `furniture` draws headers and footers. Raises ValueError if a sheet overflows."""
    fonts()
    canvas = Canvas(str(path), pagesize=paper.size, invariant=1, pageCompression=1, lang=lang)
    canvas.setTitle(title)
    canvas.setAuthor(author)
    canvas.setSubject("Invented sample document")
    canvas.setCreator("samples/make")
    carried: list[Flowable] = []
    for number, sheet in enumerate(sheets, start=1):
        # reportlab swaps the sides of a page that is rotated by 90 degrees; the paper itself stays upright.
        canvas.setPageSize(paper.size if sheet.rotate % 180 == 0 else paper.size[::-1])
        canvas.setPageRotation(sheet.rotate)
        if furniture and sheet.furniture:
            canvas.saveState()
            furniture(canvas, number, len(sheets))
            canvas.restoreState()
        if sheet.draw:
            canvas.saveState()
            sheet.draw(canvas)
            canvas.restoreState()
        where = f"{path.name} page {number}"
        carried = place(canvas, sheet, [*carried, *sheet.flow], paper, where)
        if carried and not (sheet.carry and number < len(sheets)):
            raise ValueError(
                f"{where}: {len(carried)} flowables do not fit, the first is {str(carried[0])[:200]}"
            )
        canvas.showPage()
    canvas.save()


def place(canvas: Any, sheet: Sheet, flow: list[Flowable], paper: Paper, where: str) -> list[Flowable]:
    """Set the banner, then the flow column by column; returns the flowables that did not fit."""
    left, top, _, bottom = paper.margins
    height = paper.size[1] - top - bottom
    if sheet.banner:
        frame = Frame(left, bottom, paper.width, height, 0, 0, 0, 0)
        pour(frame, list(sheet.banner), canvas, where)
        height = frame._y - bottom
    rest = flow
    for column in range(paper.columns):
        x = left + column * (paper.column + paper.gutter)
        rest = pour(Frame(x, bottom, paper.column, height, 0, 0, 0, 0), rest, canvas, where)
    return rest


def pour(frame: Any, flow: list[Flowable], canvas: Any, where: str) -> list[Flowable]:
    """Fill the frame, splitting the last paragraph but never a tuple; returns the flowables that did not fit."""
    rest = list(flow)
    while rest:
        block = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
        sizes = [part.wrap(frame._width, 10_000) for part in block]
        if max(wide for wide, _ in sizes) > frame._width + 0.5:
            raise ValueError(f"{where}: {block} is wider than its frame of {frame._width:.0f} points")
        if len(block) > 1 and sum(
            high + part.getSpaceAfter() for part, (_, high) in zip(block, sizes, strict=True)
        ) > (frame._y - frame._y1p):
            break
        if block[0].getKeepWithNext() and frame._y - frame._y1p < ROOM_AFTER_HEADING:
            break
        if all(frame.add(part, canvas) for part in block):
            rest.pop(0)
            continue
        parts = frame.split(rest[0], canvas)
        if len(parts) < 2 or not frame.add(parts[0], canvas):
            break
        rest[:1] = parts[1:]
    return rest
