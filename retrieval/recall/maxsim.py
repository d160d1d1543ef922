"""Late interaction (Khattab and Zaharia, 2020, section 3.3) over pages of any length, without padding."""

import time
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.recall.threads import on_all_cores
from retrieval.types import QueryEmbedding, Vectors

BLOCK = 64
"""Pages that one thread scores at once: their similarities stay in the processor's cache."""

TIMED_VECTORS = 65_536


def maxsim(query: QueryEmbedding, page: Vectors) -> float:
    """Returns the sum over the query's vectors of each one's best dot product with the page's, times its weight.

    page (n, d). A page without vectors scores 0.
    """
    return float(maxsim_many(query, [page])[0])


def maxsim_many(query: QueryEmbedding, pages: Sequence[Vectors]) -> NDArray[np.float32]:
    """Returns `maxsim` of each page (n_i, d), in the order given, as (pages,) float32."""
    if not pages:
        return np.zeros(0, np.float32)
    lengths = [len(page) for page in pages]
    return maxsim_ragged(query, np.concatenate(pages).astype(np.float32), np.cumsum([0, *lengths]))


@cache
def vectors_per_ms(dim: int) -> float:
    """Measures how many vectors of `dim` dimensions this machine scans in a millisecond, for a query of 20 vectors."""
    rng = np.random.default_rng(0)
    vectors, columns = (rng.standard_normal((rows, dim)).astype(np.float32) for rows in (TIMED_VECTORS, 20))
    query = unweighted_query(columns)
    offsets = np.arange(0, TIMED_VECTORS + 1, 128)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        maxsim_ragged(query, vectors, offsets)
        seconds.append(time.perf_counter() - began)
    return TIMED_VECTORS / (1000 * min(seconds))


def weighted(query: QueryEmbedding) -> Vectors:
    """Returns (q, d) float32: the query's vectors times their weights, without those of weight 0.

    Every way of scoring uses these vectors: their MaxSim, each with weight 1, is the MaxSim of the query, because no
    weight is negative (`QueryEmbedding`).
    """
    if query.weights is None:
        return np.ascontiguousarray(query.vectors, np.float32)
    return np.ascontiguousarray((query.vectors * query.weights[:, None])[query.weights != 0], np.float32)


def unweighted_query(vectors: Vectors) -> QueryEmbedding:
    """Returns a query of these vectors (q, d), all of weight 1, without words."""
    return QueryEmbedding(vectors, ("",) * len(vectors), (True,) * len(vectors))


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Returns (pages + 1,): page i has rows offsets[i] to offsets[i + 1]; lengths (pages,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def maxsim_ragged(
    query: QueryEmbedding,
    vectors: Vectors,
    offsets: NDArray[np.int64],
    keep: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Returns `maxsim` of each page, page i being vectors[offsets[i]:offsets[i + 1]], as (pages,) float32.

    vectors (sum of n, d) float32, offsets (pages + 1,). Pages where `keep` (pages,) is false get -inf, and are neither
    scored nor copied. Blocks of pages are scored on all cores; a page's score depends on its block in the last bits of
    float32 only, because BLAS sums in another order for another number of rows.
    """
    pages = len(offsets) - 1
    scores = np.zeros(pages, np.float32)
    scored = np.diff(offsets) > 0  # reduceat needs segments that are not empty
    if keep is not None:
        scores[~keep] = -np.inf
        scored &= keep
    columns = np.ascontiguousarray(weighted(query).T)
    if not columns.shape[1]:
        return scores
    rows = np.flatnonzero(scored)
    starts, ends = offsets[rows], offsets[rows + 1]

    def score_block(first: int) -> None:
        last = min(first + BLOCK, len(rows))
        cuts = np.flatnonzero(starts[first + 1 : last] != ends[first : last - 1]) + first + 1
        for low, high in pairwise([first, *cuts.tolist(), last]):  # pages side by side need one product
            similar = vectors[starts[low] : ends[high - 1]] @ columns
            best = np.maximum.reduceat(similar, starts[low:high] - starts[low], axis=0)
            scores[rows[low:high]] = best.sum(axis=1)

    blocks = range(0, len(rows), BLOCK)
    if len(blocks) < 4:
        for first in blocks:
            score_block(first)
    else:
        on_all_cores(score_block, blocks)
    return scores
