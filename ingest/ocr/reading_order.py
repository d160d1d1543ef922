"""Puts lines of text into reading order from their boxes alone, one column of prose after the other.

The columns of a table are read row by row: a gutter separates columns only if the lines on both sides look like prose.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.types import Box

MIN_LINES = 3
"""The fewest lines of a column of prose."""
MIN_WIDTH = 0.18
"""The least width of a column of prose, as a share of the page: narrower columns belong to a table."""
FILLED = 0.6
"""Lines are prose if the median line fills at least this share of its column's width."""
MAX_DEPTH = 4
"""Columns within columns are separated at most this many times."""


def reading_order(boxes: Sequence[Box]) -> list[int]:
    """Return the indices of `boxes` in reading order; each box is a line or a part of one, relative to the page."""
    if not boxes:
        return []
    return _order(np.asarray(boxes, np.float64), np.arange(len(boxes)), 0)


def _order(boxes: NDArray[np.float64], members: NDArray[np.intp], depth: int) -> list[int]:
    at = _gutter(boxes[members]) if depth < MAX_DEPTH else None
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
        else:  # A line across both columns, or the end: the columns above it come first.
            for side in (left, right):
                if side:
                    result += _order(boxes, np.asarray(side, np.intp), depth + 1)
            left, right = [], []
            if member is not None:
                result.append(member)
    return result


def _gutter(boxes: NDArray[np.float64]) -> float | None:
    """Return the x that separates two columns of prose and crosses the fewest lines; None if there are no columns."""
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
    """Return whether the two columns overlap by more than 0.3 of the shorter one's height."""
    overlap = min(left[:, 3].max(), right[:, 3].max()) - max(left[:, 1].min(), right[:, 1].min())
    shorter = min(left[:, 3].max() - left[:, 1].min(), right[:, 3].max() - right[:, 1].min())
    return bool(overlap > 0.3 * shorter)


def _rows(boxes: NDArray[np.float64], members: NDArray[np.intp]) -> list[int]:
    """Return the members from top to bottom, and from left to right within a row."""
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
