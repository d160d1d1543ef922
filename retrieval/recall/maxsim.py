"""Late interaction (Khattab and Zaharia, 2020, section 3.3) over pages of any length, without padding."""

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.recall.threads import on_all_cores
from retrieval.types import QueryEmbedding, Vectors

BLOCK = 64
"""Pages scored at once by one thread: their similarities stay in the processor's cache."""

PACED = 65_536  # vectors of the scan by which the pace is taken


def maxsim(query: QueryEmbedding, page: Vectors) -> float:
    """Sum over the query's vectors of each one's best dot product with the page's, times its weight.

    page (n, d). A page without vectors scores 0.
    """
    return float(maxsim_many(query, [page])[0])


def maxsim_many(query: QueryEmbedding, pages: Sequence[Vectors]) -> NDArray[np.float32]:
    """`maxsim` of each page (n_i, d), in the order given, as (pages,) float32."""
    if not pages:
        return np.zeros(0, np.float32)
    lengths = [len(page) for page in pages]
    return maxsim_ragged(query, np.concatenate(pages).astype(np.float32), np.cumsum([0, *lengths]))


@cache
def vectors_per_ms(dim: int) -> float:
    """Vectors of `dim` dimensions that this machine scans in a millisecond, for a question of 20 vectors."""
    rng = np.random.default_rng(0)
    vectors, columns = (rng.standard_normal((rows, dim)).astype(np.float32) for rows in (PACED, 20))
    query = unweighted_query(columns)
    offsets = np.arange(0, PACED + 1, 128)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        maxsim_ragged(query, vectors, offsets)
        seconds.append(time.perf_counter() - began)
    return PACED / (1000 * min(seconds))


def weighted(query: QueryEmbedding) -> Vectors:
    """(q, d) float32: each vector times its weight; those without weight are left out.

    The one reading of weights that every way of scoring has: MaxSim of these vectors, each of weight 1, is MaxSim of
    the question, because no weight is negative (`QueryEmbedding`).
    """
    if query.weights is None:
        return np.ascontiguousarray(query.vectors, np.float32)
    return np.ascontiguousarray((query.vectors * query.weights[:, None])[query.weights != 0], np.float32)


def unweighted_query(vectors: Vectors) -> QueryEmbedding:
    """A question of these vectors (q, d), all of one weight, without words."""
    return QueryEmbedding(vectors, ("",) * len(vectors), (True,) * len(vectors))


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """(pages + 1,): page i has rows offsets[i] to offsets[i + 1]; lengths (pages,)."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def maxsim_ragged(query: QueryEmbedding, vectors: Vectors, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """`maxsim` of each page, page i being vectors[offsets[i]:offsets[i + 1]]; float32 throughout.

    vectors (sum of n, d), offsets (pages + 1,). Blocks of pages are scored on all cores; a page's score
    depends on its block to the last bits of float32 only: BLAS sums in another order for another number of rows.
    """
    pages = len(offsets) - 1
    scores = np.zeros(pages, np.float32)
    columns = np.ascontiguousarray(weighted(query).T)
    if not columns.shape[1]:
        return scores
    filled = np.flatnonzero(np.diff(offsets))  # reduceat needs segments that are not empty
    starts, ends = offsets[filled], offsets[filled + 1]

    def score_block(first: int) -> None:
        block = slice(first, first + BLOCK)
        low, high = starts[block][0], ends[block][-1]
        best = np.maximum.reduceat(vectors[low:high] @ columns, starts[block] - low, axis=0)
        scores[filled[block]] = best.sum(axis=1)

    blocks = range(0, len(filled), BLOCK)
    if len(blocks) < 4:
        for first in blocks:
            score_block(first)
    else:
        on_all_cores(score_block, blocks)
    return scores
