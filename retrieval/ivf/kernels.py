"""The two loops that numpy has no fast words for, compiled by numba; both let other threads run meanwhile."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from retrieval.types import Vectors

F = TypeVar("F", bound=Callable[..., Any])
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order; no liberties with infinities
NOWHERE = np.float32(-1e30)


def _compiled(function: F) -> F:
    """Kept on disk for the next process, where there is a folder that can be written."""
    try:
        return cast(F, numba.njit(function, nogil=True, fastmath=FAST, cache=True))
    except RuntimeError:
        return cast(F, numba.njit(function, nogil=True, fastmath=FAST))


@_compiled
def probe(
    similar: Vectors,
    lists: NDArray[np.int64],
    tables: Vectors,
    floors: Vectors,
    starts: NDArray[np.int64],
    pages: NDArray[np.uint32],
    signs: NDArray[np.uint8],
    factors: NDArray[np.uint8],
    step: np.float32,
    keep: NDArray[np.bool_],
    gains: Vectors,
) -> None:
    """Adds to gains (pages,) how far each page's best vector in the lists lies above each query vector's floor.

    similar, lists, tables, floors: of `Asked`; starts, pages, signs, factors: of `Segment`, factors in units of `step`;
    keep (pages,): pages that are looked at.
    """
    best = np.full(len(gains), NOWHERE, np.float32)
    touched = np.empty(len(gains), np.uint32)
    width = signs.shape[1]
    for query in range(lists.shape[0]):
        table = tables[query]
        count = 0
        for at in range(lists.shape[1]):
            for posting in range(starts[lists[query, at]], starts[lists[query, at] + 1]):
                page = pages[posting]
                if not keep[page]:
                    continue
                total = np.float32(0)
                for byte in range(width):
                    total += table[byte, signs[posting, byte]]
                value = similar[query, at] + step * factors[posting] * total
                if best[page] == NOWHERE:
                    touched[count] = page
                    count += 1
                if value > best[page]:
                    best[page] = value
        for at in range(count):
            page = touched[at]
            if best[page] > floors[query]:
                gains[page] += best[page] - floors[query]
            best[page] = NOWHERE


@_compiled
def best_of(
    halves: NDArray[np.uint16],
    queries: Vectors,
    best: Vectors,
) -> None:
    """Raises best (q,) to each query vector's best dot product with a page's, in float32.

    halves (n, d): the bits of the page's float16, finite; queries (q, d), q a multiple of 4. One vector at a
    time is widened, so that a page costs little more than reading it.
    """
    values = np.empty(halves.shape[1], np.float32)
    words = values.view(np.uint32)
    for row in range(halves.shape[0]):
        for at in range(halves.shape[1]):  # exponent and mantissa in their new places: 2^112 too small
            words[at] = np.uint32(halves[row, at] & np.uint16(0x7FFF)) << np.uint32(13)
        for at in range(halves.shape[1]):
            values[at] *= np.float32(5.192296858534828e33)
        for at in range(halves.shape[1]):
            words[at] |= np.uint32(halves[row, at] & np.uint16(0x8000)) << np.uint32(16)
        for query in range(0, queries.shape[0], 4):  # four at once: each value is read once for them
            a = b = c = d = np.float32(0)
            for at in range(halves.shape[1]):
                value = values[at]
                a += queries[query, at] * value
                b += queries[query + 1, at] * value
                c += queries[query + 2, at] * value
                d += queries[query + 3, at] * value
            best[query] = max(best[query], a)
            best[query + 1] = max(best[query + 1], b)
            best[query + 2] = max(best[query + 2], c)
            best[query + 3] = max(best[query + 3], d)
