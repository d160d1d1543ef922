"""Arithmetic of page-relative boxes."""

from collections.abc import Iterable, Sequence

from retrieval.types import Box

PAGE: Box = (0.0, 0.0, 1.0, 1.0)


def clip(box: Box, to: Box = PAGE) -> Box:
    """The part of the box inside `to`; a box outside it comes back without area."""
    x0, y0 = min(max(box[0], to[0]), to[2]), min(max(box[1], to[1]), to[3])
    return x0, y0, max(min(box[2], to[2]), x0), max(min(box[3], to[3]), y0)


def area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around all of them; at least one is needed."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def covered(box: Box, by: Sequence[Box]) -> float:
    """Share of the box under the others, in [0, 1]; what two of them share is counted twice, up to 1."""
    whole = area(box)
    if whole <= 0:
        return 0.0
    return min(1.0, sum(area(clip(other, box)) for other in by) / whole)
