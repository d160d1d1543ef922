"""Combines scores of different scales, for each query over its candidate pages."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def z_scores(scores: Scores) -> Scores:
    """Returns each score's distance from the mean in standard deviations; all 0 if the scores do not differ."""
    deviation = scores.std() if len(scores) else 0.0
    if deviation < 1e-9:
        return np.zeros_like(scores)
    standard: Scores = (scores - scores.mean()) / deviation
    return standard


def fuse_weighted(first: Scores, second: Scores, weight: float) -> Scores:
    """Returns (1 - weight) * z(first) + weight * z(second)."""
    return (1 - weight) * z_scores(first) + weight * z_scores(second)


def best_first(scores: Scores) -> list[int]:
    """Returns the positions by falling score; equal scores keep their order."""
    return [int(i) for i in np.argsort(-scores, kind="stable")]


def best(scores: Scores, count: int) -> NDArray[np.int64]:
    """Returns the first `count` of `best_first`, without sorting the others."""
    if not 0 < count < len(scores):
        return np.argsort(-scores, kind="stable")[:count]
    least = np.partition(scores, -count)[-count]
    above, level = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    chosen = np.sort(np.concatenate([above, level[: count - len(above)]]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def each_kind(vectors: Scores | None, text: Scores, depth: int) -> tuple[list[int], list[int]]:
    """Returns the best `depth` positions by vectors alone, and by text alone; arguments as in `first_stage`."""
    by_vectors = [] if vectors is None else best_first(vectors)[:depth]
    return by_vectors, [i for i in best_first(text)[:depth] if text[i] > 0]


def first_stage(
    vectors: Scores | None, text: Scores, depth: int, text_weight: float, bonus: Scores | None = None
) -> tuple[list[int], Scores]:
    """Returns the best `depth` positions by vectors and text together, best first, and their fused scores.

    vectors (n,): MaxSim, None if the query has no vectors; text (n,): BM25, 0 for a page that does not match. The pool
    is the best `depth` of each kind; scores are scaled over it. bonus (n,): standard deviations that are added after
    that, for pages at a place which the query names; these pages are in the pool too.
    """
    by_vectors, by_text = each_kind(vectors, text, depth)
    with_bonus = [] if bonus is None else np.flatnonzero(bonus).tolist()
    pool = sorted({*by_vectors, *by_text, *with_bonus})
    if not pool:
        return [], np.zeros(0)
    weight = 1.0 if vectors is None else text_weight
    fused = fuse_weighted(np.zeros(len(pool)) if vectors is None else vectors[pool], text[pool], weight)
    if bonus is not None:
        fused = fused + bonus[pool]
    order = best_first(fused)[:depth]
    return [pool[at] for at in order], fused[order]


def second_stage(first: Scores, rerank: Scores, weight: float) -> tuple[list[int], Scores]:
    """Returns the order of the first len(rerank) candidates by z(first) + weight * z(rerank), and the fused scores.

    The candidates after them keep their places.
    """
    fused = z_scores(first[: len(rerank)]) + weight * z_scores(rerank)
    order = best_first(fused)
    return order, fused[order]


def margin(first: Scores) -> float:
    """Returns the best candidate's lead over the second in the first stage's fused score; infinite if it is alone."""
    return float(first[0] - first[1]) if len(first) > 1 else float("inf")
