"""Arithmetic on page-relative boxes."""

from collections.abc import Iterable, Sequence

from retrieval.types import Box

PAGE: Box = (0.0, 0.0, 1.0, 1.0)


def clip(box: Box, to: Box = PAGE) -> Box:
    """Return the part of the box inside `to`; a box outside it becomes one without area."""
    x0, y0 = min(max(box[0], to[0]), to[2]), min(max(box[1], to[1]), to[3])
    return x0, y0, max(min(box[2], to[2]), x0), max(min(box[3], to[3]), y0)


def area(box: Box) -> float:
    """Return the share of the page that the box covers; 0 for an inverted box."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def union(boxes: Iterable[Box]) -> Box:
    """Return the smallest box around all of them. Raises ValueError for no box."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def covered(box: Box, by: Sequence[Box]) -> float:
    """Return the share of the box that the others cover, in [0, 1]; their overlaps count twice, up to 1."""
    own_area = area(box)
    if own_area <= 0:
        return 0.0
    return min(1.0, sum(area(clip(other, box)) for other in by) / own_area)
