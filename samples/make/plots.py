"""Draws charts and figures as pixels (matplotlib), so that their numbers are in no text layer.

A figure is drawn at `dpi` and stored as a PNG with few colours, so that a page stays small.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image as Pixels
from reportlab.platypus import Image

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
}


def figure(width: float, height: float, rows: int = 1, columns: int = 1, size: float = 9) -> tuple[Any, Any]:
    """Return a matplotlib figure and its axes; width, height and the size of labels are in points."""
    with plt.rc_context(STYLE | {"font.size": size}):
        drawn, axes = plt.subplots(rows, columns, figsize=(width / 72, height / 72), layout="constrained")
        return drawn, axes


def pixels(drawn: Any, dpi: int = 150, colours: int = 64) -> Any:
    """Return the figure as a reportlab flowable of the figure's own size, and close the figure."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):
        drawn.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    width, height = drawn.get_size_inches() * 72
    plt.close(drawn)
    few = Pixels.open(buffer).convert("RGB").quantize(colours, dither=Pixels.Dither.NONE)
    small = io.BytesIO()
    few.save(small, format="png")
    small.seek(0)
    return Image(small, width=float(width), height=float(height))


def label_bars(axes: Any, form: str = "{:.0f}", size: float = 9) -> None:
    """Write its value above each bar."""
    for container in axes.containers:
        axes.bar_label(container, fmt=lambda v: form.format(v), padding=2, fontsize=size)
