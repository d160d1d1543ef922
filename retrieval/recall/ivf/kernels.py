"""Loops for which numpy has no fast operation, compiled by numba; they release the GIL."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from retrieval.types import Vectors

F = TypeVar("F", bound=Callable[..., Any])
FAST = {"contract", "reassoc", "nsz", "arcp"}  # sums in any order, but infinities stay infinite
NOWHERE = np.float32(-1e30)


def _compiled(function: F) -> F:
    """Compile a function, and cache the result on disk if a folder for it can be written."""
    try:
        return cast(F, numba.njit(function, nogil=True, fastmath=FAST, cache=True))
    except RuntimeError:
        return cast(F, numba.njit(function, nogil=True, fastmath=FAST))


def _count_ones(context: Any, value: Any) -> Any:
    """Returns how many bits of a uint64 are set."""
    return types.uint64(types.uint64), lambda _, builder, signature, given: builder.ctpop(given[0])


_ones: Any = intrinsic(_count_ones)


@_compiled
def probe(
    lists: NDArray[np.int64],
    similar: Vectors,
    floors: Vectors,
    planes: NDArray[np.uint64],
    scales: Vectors,
    starts: NDArray[np.int64],
    pages: NDArray[np.uint32],
    signs: NDArray[np.uint64],
    factors: NDArray[np.uint8],
    step: np.float32,
    keep: NDArray[np.bool_],
    approximate_scores: Vectors,
) -> None:
    """Add to approximate_scores (pages,) how far each page's best vector lies above each query vector's floor.

    lists, similar, floors, planes, scales: from `ProbedQuery`; starts, pages, signs, factors: from `Segment`, factors
    in units of `step`; keep (pages,): pages where it is false are skipped.
    """
    best = np.full(len(approximate_scores), NOWHERE, np.float32)
    touched = np.empty(len(approximate_scores), np.uint32)
    for query in range(lists.shape[0]):
        count = 0
        low, unit, offset = scales[query, 0], scales[query, 1], scales[query, 2]
        for at in range(lists.shape[1]):
            for posting in range(starts[lists[query, at]], starts[lists[query, at] + 1]):
                page = pages[posting]
                if not keep[page]:
                    continue
                ones = np.uint64(0)
                levels = np.uint64(0)
                for word in range(signs.shape[1]):
                    bits = signs[posting, word]
                    ones += _ones(bits)
                    levels += _ones(bits & planes[query, 0, word])
                    levels += _ones(bits & planes[query, 1, word]) << np.uint64(1)
                    levels += _ones(bits & planes[query, 2, word]) << np.uint64(2)
                    levels += _ones(bits & planes[query, 3, word]) << np.uint64(3)
                dot = low * np.float32(ones) + unit * np.float32(levels) - offset
                value = similar[query, at] + step * factors[posting] * dot
                if best[page] == NOWHERE:
                    touched[count] = page
                    count += 1
                    best[page] = value
                elif value > best[page]:
                    best[page] = value
        for at in range(count):
            page = touched[at]
            if best[page] > floors[query]:
                approximate_scores[page] += best[page] - floors[query]
            best[page] = NOWHERE


@_compiled
def _raise(values: Vectors, scale: np.float32, queries: Vectors, best: Vectors) -> None:
    """Raise best (q,) to each query's dot product with one vector (d,), times scale; q is a multiple of 4."""
    for query in range(
        0, queries.shape[0], 4
    ):  # four at once, so that each value is read once for all of them
        a = b = c = d = np.float32(0)
        for at in range(len(values)):
            value = values[at]
            a += queries[query, at] * value
            b += queries[query + 1, at] * value
            c += queries[query + 2, at] * value
            d += queries[query + 3, at] * value
        best[query] = max(best[query], a * scale)
        best[query + 1] = max(best[query + 1], b * scale)
        best[query + 2] = max(best[query + 2], c * scale)
        best[query + 3] = max(best[query + 3], d * scale)


@_compiled
def best_of(halves: NDArray[np.uint16], queries: Vectors, best: Vectors) -> None:
    """Raise best (q,) to each query vector's best dot product with the page's vectors, in float32.

    halves (n, d): the bits of the page's float16 values, which are finite; queries (q, d), q a multiple of 4. Vectors
    are widened one at a time, so that a page costs little more than reading it.
    """
    values = np.empty(halves.shape[1], np.float32)
    words = values.view(np.uint32)
    for row in range(halves.shape[0]):
        for at in range(halves.shape[1]):  # exponent and mantissa move to their new places; 2^112 too small
            words[at] = np.uint32(halves[row, at] & np.uint16(0x7FFF)) << np.uint32(13)
        for at in range(halves.shape[1]):
            values[at] *= np.float32(5.192296858534828e33)
        for at in range(halves.shape[1]):
            words[at] |= np.uint32(halves[row, at] & np.uint16(0x8000)) << np.uint32(16)
        _raise(values, np.float32(1), queries, best)


@_compiled
def best_of_int8(stored: NDArray[np.int8], queries: Vectors, best: Vectors) -> None:
    """Do what `best_of` does for a page stored as int8 (n, d), each vector scaled to length 1."""
    values = np.empty(stored.shape[1], np.float32)
    for row in range(stored.shape[0]):
        length = np.float32(0)
        for at in range(stored.shape[1]):
            values[at] = np.float32(stored[row, at])
            length += values[at] * values[at]
        _raise(values, np.float32(1) / np.sqrt(max(length, np.float32(1))), queries, best)


@_compiled
def signs_and_factors(
    rotated: Vectors,
    centroids: Vectors,
    own: NDArray[np.uint32],
    signs: NDArray[np.uint64],
    factors: Vectors,
) -> None:
    """Encode the residual of each row of `rotated` (n, 64 * words) from its centroid.

    signs: which of its values are positive, lowest bit first; factors: the sum of their squares divided by the sum of
    their magnitudes.
    """
    left = np.empty(rotated.shape[1], np.float32)
    for row in range(rotated.shape[0]):
        squares, magnitudes = np.float32(0), np.float32(0)
        centroid = centroids[own[row]]
        for at in range(rotated.shape[1]):
            left[at] = rotated[row, at] - centroid[at]
            squares += left[at] * left[at]
            magnitudes += abs(left[at])
        factors[row] = squares / max(magnitudes, np.float32(1e-9))
        for word in range(signs.shape[1]):
            bits = np.uint64(0)
            for bit in range(64):
                bits |= np.uint64(left[64 * word + bit] > 0) << np.uint64(bit)
            signs[row, word] = bits


@_compiled
def add_to(sums: Vectors, own: NDArray[np.int64], vectors: Vectors) -> None:
    """Add each row of vectors (n, d) to the row of sums (k, d) whose number is in `own` (n,)."""
    for row in range(vectors.shape[0]):
        for at in range(vectors.shape[1]):
            sums[own[row], at] += vectors[row, at]
