"""Reading order of lines of text, from their boxes alone: columns are read one after the other.

A table's columns are not: a gutter counts only where what stands on both of its sides looks like prose.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.types import Box

MIN_LINES = 3
"""Lines that a column has at least."""
MIN_WIDTH = 0.18
"""Width of a column at least, as a share of the page: narrower ones are a table's."""
FILLED = 0.6
"""Share of its column's width that prose's middle line fills at least."""


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """The indices of `boxes` (page-relative, one per line or part of a line) in the order to read them."""
    if not boxes:
        return []
    return _order(np.asarray(boxes, np.float64), np.arange(len(boxes)), 0)


def _order(boxes: NDArray[np.float64], members: NDArray[np.intp], depth: int) -> list[int]:
    at = _gutter(boxes[members]) if depth < 4 else None
    if at is None:
        return _rows(boxes, members)
    middle = (boxes[members, 1] + boxes[members, 3]) / 2
    members = members[np.argsort(middle, kind="stable")]
    result: list[int] = []
    left: list[int] = []
    right: list[int] = []
    for member in [*members.tolist(), None]:
        if member is not None and boxes[member, 2] <= at:
            left.append(member)
        elif member is not None and boxes[member, 0] >= at:
            right.append(member)
        else:  # a line across both columns, or the end: what stands above it comes first
            for side in (left, right):
                if side:
                    result += _order(boxes, np.asarray(side, np.intp), depth + 1)
            left, right = [], []
            if member is not None:
                result.append(member)
    return result


def _gutter(boxes: NDArray[np.float64]) -> float | None:
    """The x that parts two columns of prose and is crossed by the fewest lines; None if there is none."""
    best: tuple[float, float, float] | None = None
    edges = np.unique(boxes[:, 0])
    for right_edge in edges[edges > boxes[:, 0].min() + MIN_WIDTH]:
        at = right_edge - 1e-4
        left, right = boxes[boxes[:, 2] <= at], boxes[boxes[:, 0] >= at]
        if not (_is_prose(left) and _is_prose(right)):
            continue
        crossing = len(boxes) - len(left) - len(right)
        if crossing > min(len(left), len(right)) or not _side_by_side(left, right):
            continue
        rank = (crossing, -min(len(left), len(right)), -float(right_edge))
        if best is None or rank < best:
            best = rank
    return None if best is None else -best[2] - 1e-4


def _is_prose(lines: NDArray[np.float64]) -> bool:
    if len(lines) < MIN_LINES:
        return False
    width = lines[:, 2].max() - lines[:, 0].min()
    return bool(width >= MIN_WIDTH and np.median(lines[:, 2] - lines[:, 0]) >= FILLED * width)


def _side_by_side(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    shared = min(left[:, 3].max(), right[:, 3].max()) - max(left[:, 1].min(), right[:, 1].min())
    lower = min(left[:, 3].max() - left[:, 1].min(), right[:, 3].max() - right[:, 1].min())
    return bool(shared > 0.3 * lower)


def _rows(boxes: NDArray[np.float64], members: NDArray[np.intp]) -> list[int]:
    """Top to bottom, and left to right within what shares a line."""
    top, bottom = boxes[members, 1], boxes[members, 3]
    result: list[int] = []
    row: list[int] = []
    row_middle = row_height = 0.0
    for k in np.argsort((top + bottom) / 2, kind="stable").tolist():
        middle, height = (top[k] + bottom[k]) / 2, bottom[k] - top[k]
        if row and middle - row_middle > 0.5 * min(height, row_height):
            result += sorted(row, key=lambda member: float(boxes[member, 0]))
            row = []
        if not row:
            row_middle, row_height = middle, height
        row.append(int(members[k]))
    return result + sorted(row, key=lambda member: float(boxes[member, 0]))
