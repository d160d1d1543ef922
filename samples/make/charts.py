"""Draws charts as vectors (reportlab.graphics), so that their numbers are in the page's text layer.

Lengths are in points. `plots.py` draws charts as pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String, Wedge
from reportlab.lib.colors import HexColor, white

PALETTE = ("#1f4e79", "#d9822b", "#5b8c5a", "#8a4f7d", "#9aa5b1", "#c0392b")
INK, GREY = HexColor("#333333"), HexColor("#d4d8dc")


def number(value: float, decimals: int, mark: str = ",") -> str:
    """Format a number; `mark` separates thousands."""
    return f"{value:,.{decimals}f}".replace(",", mark).replace("-", "−")


def step(top: float) -> float:
    """Return a round distance between grid lines that gives about five lines up to `top`."""
    rough = top / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    return next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= rough * 0.999)


def text(
    x: float, y: float, words: str, size: float = 7.5, anchor: str = "middle", bold: bool = False
) -> Any:
    """Return the words as a shape, anchored at (x, y)."""
    font = "Helvetica-Bold" if bold else "Helvetica"
    return String(x, y, words, fontSize=size, fontName=font, textAnchor=anchor, fillColor=INK)


def legend(drawing: Any, names: Sequence[str], x: float, y: float, colours: Sequence[str]) -> None:
    """Add a row of colours with their names, from (x, y) to the right."""
    for name, colour in zip(names, colours, strict=False):
        drawing.add(Rect(x, y, 7, 7, fillColor=HexColor(colour), strokeColor=None))
        drawing.add(text(x + 10, y + 0.5, name, anchor="start"))
        x += 22 + 4.0 * len(name)


def axes(
    drawing: Any,
    box: tuple[float, float, float, float],
    top: float,
    unit: str,
    decimals: int,
    mark: str = ",",
) -> None:
    """Add grid lines from 0 to `top`, their numbers and the unit; `box` is (x, y, width, height)."""
    x, y, width, height = box
    gap = step(top)
    for i in range(int(top / gap + 1e-6) + 1):
        at = y + height * i * gap / top
        drawing.add(Line(x, at, x + width, at, strokeColor=GREY, strokeWidth=0.5))
        drawing.add(text(x - 4, at - 2.5, number(i * gap, decimals if gap < 1 else 0, mark), anchor="end"))
    drawing.add(text(x - 22, y + height + 9, unit, anchor="start"))


def bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    width: float,
    height: float,
    unit: str = "",
    decimals: int = 0,
    colours: Sequence[str] = PALETTE,
    stacked: bool = False,
    values: bool = True,
) -> Any:
    """Return a chart of vertical bars: one group per label, or one stack, with a bar for each series."""
    drawing = Drawing(width, height)
    x, y, w, h = 34.0, 20.0, width - 40, height - 54
    rows = list(series.values())
    peak = max(sum(column) if stacked else max(column) for column in zip(*rows, strict=True))
    top = math.ceil(peak * 1.06 / step(peak)) * step(peak)
    axes(drawing, (x, y, w, h), top, unit, decimals)
    slot = w / len(labels)
    wide = slot * 0.56 if stacked else slot * 0.76 / len(rows)
    for i, label in enumerate(labels):
        drawing.add(text(x + slot * (i + 0.5), y - 11, label))
        base = 0.0
        for s, row in enumerate(rows):
            tall = h * row[i] / top
            left = x + slot * i + (slot * 0.22 if stacked else slot * 0.12 + wide * s)
            low = y + h * base / top
            drawing.add(
                Rect(
                    left,
                    low,
                    wide - (0 if stacked else 1),
                    tall,
                    fillColor=HexColor(colours[s]),
                    strokeColor=None,
                )
            )
            if values and not stacked:
                drawing.add(text(left + wide / 2, low + tall + 2.5, number(row[i], decimals), size=7))
            elif values and tall > 9:
                inside = text(left + wide / 2, low + tall / 2 - 2.5, number(row[i], decimals), size=7)
                inside.fillColor = white
                drawing.add(inside)
            base += row[i] if stacked else 0
        if stacked and values:
            drawing.add(text(x + slot * (i + 0.5), y + h * base / top + 3, number(base, decimals), bold=True))
    if len(rows) > 1:
        legend(drawing, list(series), x + 40, height - 10, colours)
    return drawing


def lines(
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    width: float,
    height: float,
    unit: str = "",
    decimals: int = 0,
    colours: Sequence[str] = PALETTE,
    mark: str = ",",
) -> Any:
    """Return a line chart with a marked point and its number for each label of each series."""
    drawing = Drawing(width, height)
    x, y, w, h = 34.0, 20.0, width - 46, height - 54
    peak = max(max(row) for row in series.values())
    top = math.ceil(peak * 1.06 / step(peak)) * step(peak)
    axes(drawing, (x, y, w, h), top, unit, decimals, mark)
    slot = w / len(labels)
    for i, label in enumerate(labels):
        drawing.add(text(x + slot * (i + 0.5), y - 11, label))
    for s, row in enumerate(series.values()):
        points = [(x + slot * (i + 0.5), y + h * v / top) for i, v in enumerate(row)]
        drawing.add(
            PolyLine(
                [c for point in points for c in point], strokeColor=HexColor(colours[s]), strokeWidth=1.6
            )
        )
        for (px, py), value in zip(points, row, strict=True):
            drawing.add(Circle(px, py, 2.2, fillColor=HexColor(colours[s]), strokeColor=None))
            drawing.add(text(px, py + (5 if s % 2 == 0 else -11), number(value, decimals, mark), size=7))
    if len(series) > 1:
        legend(drawing, list(series), x + 40, height - 10, colours)
    return drawing


def across(
    items: Mapping[str, float],
    width: float,
    height: float,
    unit: str = "",
    decimals: int = 0,
    colour: str = PALETTE[0],
    names: float = 130,
) -> Any:
    """Return a chart of horizontal bars, the first item on top; `names` is the width of the labels."""
    drawing = Drawing(width, height)
    slot = height / len(items)
    top = max(items.values()) * 1.02
    room = width - names - 52
    for i, (name, value) in enumerate(items.items()):
        low = height - slot * (i + 1)
        drawing.add(text(names - 6, low + slot / 2 - 2.5, name, anchor="end", size=8))
        drawing.add(
            Rect(
                names,
                low + slot * 0.2,
                room * value / top,
                slot * 0.6,
                fillColor=HexColor(colour),
                strokeColor=None,
            )
        )
        label = f"{number(value, decimals)}{unit}"
        drawing.add(text(names + room * value / top + 4, low + slot / 2 - 2.5, label, anchor="start", size=8))
    return drawing


def donut(
    items: Mapping[str, float],
    width: float,
    height: float,
    unit: str = " %",
    decimals: int = 0,
    colours: Sequence[str] = PALETTE,
    middle: str = "",
) -> Any:
    """Return a ring chart with its legend on the right and the text `middle` in its centre."""
    drawing = Drawing(width, height)
    radius, total, angle = height / 2 - 6, sum(items.values()), 90.0
    cx, cy = radius + 8, height / 2
    for i, (name, value) in enumerate(items.items()):
        turn = 360 * value / total
        drawing.add(
            Wedge(cx, cy, radius, angle - turn, angle, fillColor=HexColor(colours[i]), strokeColor=white)
        )
        angle -= turn
        low = height - 20 - i * 16
        drawing.add(Rect(2 * radius + 28, low, 8, 8, fillColor=HexColor(colours[i]), strokeColor=None))
        drawing.add(
            text(2 * radius + 41, low + 0.5, f"{name}: {number(value, decimals)}{unit}", 8.5, "start")
        )
    drawing.add(Circle(cx, cy, radius * 0.55, fillColor=white, strokeColor=white))
    drawing.add(text(cx, cy - 4, middle, 10, bold=True))
    return drawing


def enlarged(drawing: Any, by: float) -> Any:
    """Enlarge the drawing and its lettering `by` times, in place, for slides; returns the drawing."""
    drawing.scale(by, by)
    drawing.width, drawing.height = drawing.width * by, drawing.height * by
    return drawing
