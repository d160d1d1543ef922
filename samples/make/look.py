"""Makes the flowables of a document in its house style: fonts, colours, headings, lists and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.enums import TA_CENTER, TA_JUSTIFY, TA_LEFT, TA_RIGHT
from reportlab.lib.styles import ParagraphStyle
from reportlab.platypus import Paragraph, Spacer, Table

from samples.make.press import Flowable, fonts

Rows = Sequence[Sequence[Any]]


class Look:
    """The house style of one document. Sizes are in points."""

    def __init__(
        self,
        accent: str,
        width: float,  # the text's width, in points
        font: str = "Helvetica",
        heading: str = "Helvetica-Bold",
        size: float = 9.6,
        justify: bool = False,
        grid: bool = False,  # rule every cell of a table
    ) -> None:
        fonts()
        self.accent: Color = HexColor(accent)
        self.width, self.font, self.size, self.grid = width, font, size, grid
        self.bold = "Times-Bold" if font == "Times-Roman" else f"{font}-Bold"
        lead = size * 1.42
        self.body = ParagraphStyle(
            "body",
            fontName=font,
            fontSize=size,
            leading=lead,
            spaceAfter=size * 0.7,
            alignment=TA_JUSTIFY if justify else TA_LEFT,
        )
        self.head = ParagraphStyle("head", parent=self.body, fontName=heading, alignment=TA_LEFT)

    def p(
        self,
        text: str,
        size: float | None = None,
        colour: str = "#1c1c1c",
        after: float | None = None,
        align: str = "",
        indent: float = 0,
        hang: float = 0,
    ) -> Flowable:
        size = size or self.size
        style = ParagraphStyle(
            "p",
            parent=self.body,
            fontSize=size,
            leading=size * 1.42,
            textColor=HexColor(colour),
            leftIndent=indent,
            firstLineIndent=-hang,
        )
        if align:
            style.alignment = {"centre": TA_CENTER, "right": TA_RIGHT, "left": TA_LEFT}[align]
        if after is not None:
            style.spaceAfter = after
        return Paragraph(text, style)

    def ps(self, *texts: str) -> list[Flowable]:
        return [self.p(text) for text in texts]

    def h1(self, text: str, size: float = 20) -> Flowable:
        style = ParagraphStyle(
            "h1",
            parent=self.head,
            fontSize=size,
            leading=size * 1.2,
            textColor=self.accent,
            spaceAfter=size * 0.6,
        )
        return Paragraph(text, style)

    def h2(self, text: str, size: float = 12.5) -> Flowable:
        style = ParagraphStyle(
            "h2",
            parent=self.head,
            fontSize=size,
            leading=size * 1.25,
            textColor=self.accent,
            spaceBefore=size * 0.5,
            spaceAfter=size * 0.4,
            keepWithNext=1,
        )
        return Paragraph(text, style)

    def note(self, text: str) -> Flowable:
        return self.p(text, size=self.size * 0.8, colour="#555555")

    def caption(self, text: str) -> Flowable:
        return self.p(text, size=self.size * 0.88, colour="#333333", after=self.size)

    def gap(self, height: float = 8) -> Flowable:
        return Spacer(1, height)

    def bullets(self, items: Iterable[str], mark: str = "•") -> list[Flowable]:
        return [self.p(f"{mark}&nbsp;&nbsp;{item}", indent=14, hang=10, after=3.5) for item in items] + [
            self.gap(5)
        ]

    def clause(self, number: str, text: str, indent: float = 34) -> Flowable:
        style = ParagraphStyle(
            "clause",
            parent=self.body,
            leftIndent=indent,
            bulletIndent=0,
            bulletFontName=self.font,
            bulletFontSize=self.size,
        )
        return Paragraph(text, style, bulletText=number)

    def table(
        self,
        rows: Rows,
        widths: Sequence[float],  # relative to one another
        *,
        size: float | None = None,
        head: int = 1,
        totals: Iterable[int] = (),  # rows, from 0, that are sums of other rows
        left: Iterable[int] = (0,),  # columns set flush left; the others are numbers
        pad: float = 3.2,
        stripes: bool = False,
        share: float = 1.0,  # the table's share of the text's width
    ) -> Flowable:
        size = size or self.size * 0.9
        left = set(left)
        scale = self.width * share / sum(widths)

        def cell(value: Any, row: int, column: int) -> Any:
            text = str(value)
            if not isinstance(value, str) or column not in left:
                return text if isinstance(value, str | int | float) else value
            style = ParagraphStyle(
                "cell",
                parent=self.body,
                fontSize=size,
                leading=size * 1.22,
                spaceAfter=0,
                alignment=TA_LEFT,
                fontName=self.bold if row < head or row in bold else self.font,
                textColor=white if row < head and not self.grid else HexColor("#1c1c1c"),
            )
            return Paragraph(text, style)

        bold = {row % len(rows) for row in totals}
        data = [[cell(v, r, c) for c, v in enumerate(row)] for r, row in enumerate(rows)]
        style: list[tuple[Any, ...]] = [
            ("FONT", (0, 0), (-1, -1), self.font, size, size * 1.22),
            ("FONT", (0, 0), (-1, head - 1), self.bold, size, size * 1.22),
            ("ALIGN", (0, 0), (-1, -1), "RIGHT"),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
            ("TOPPADDING", (0, 0), (-1, -1), pad),
            ("BOTTOMPADDING", (0, 0), (-1, -1), pad),
            ("LEFTPADDING", (0, 0), (-1, -1), 4.5),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4.5),
        ]
        style += [("ALIGN", (c, 0), (c, -1), "LEFT") for c in left]
        if self.grid:
            style += [("GRID", (0, 0), (-1, -1), 0.5, HexColor("#555555"))]
            style += [("BACKGROUND", (0, 0), (-1, head - 1), HexColor("#e4e4e4"))] if head else []
        else:
            style += [("LINEBELOW", (0, head), (-1, -1), 0.3, HexColor("#c4c8cc"))]
            if head:
                style += [
                    ("BACKGROUND", (0, 0), (-1, head - 1), self.accent),
                    ("TEXTCOLOR", (0, 0), (-1, head - 1), white),
                ]
        if stripes:
            style += [
                ("BACKGROUND", (0, r), (-1, r), HexColor("#f1f4f6")) for r in range(head + 1, len(rows), 2)
            ]
        for row in bold:
            style += [
                ("FONT", (0, row), (-1, row), self.bold, size, size * 1.22),
                ("LINEABOVE", (0, row), (-1, row), 0.8, HexColor("#333333")),
            ]
        return Table(
            data,
            colWidths=[w * scale for w in widths],
            style=style,
            hAlign="LEFT",
            spaceBefore=3,
            spaceAfter=9,
            repeatRows=head,
        )
