"""Combining scores that have different scales: per query, over the pages at hand."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


def z_scores(scores: Scores) -> Scores:
    """Each score's distance from the mean in standard deviations; all 0 where the scores do not differ."""
    deviation = scores.std() if len(scores) else 0.0
    if deviation < 1e-9:
        return np.zeros_like(scores)
    standard: Scores = (scores - scores.mean()) / deviation
    return standard


def weighted(first: Scores, second: Scores, weight: float) -> Scores:
    """(1 - weight) * z(first) + weight * z(second)."""
    return (1 - weight) * z_scores(first) + weight * z_scores(second)


def best_first(scores: Scores) -> list[int]:
    """Positions by falling score; equal scores keep their order."""
    return [int(i) for i in np.argsort(-scores, kind="stable")]


def best(scores: Scores, count: int) -> NDArray[np.int64]:
    """The first `count` of `best_first`, without putting the others in order."""
    if not 0 < count < len(scores):
        return np.argsort(-scores, kind="stable")[:count]
    least = np.partition(scores, -count)[-count]
    above, level = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
    chosen = np.sort(np.concatenate([above, level[: count - len(above)]]))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def each_kind(vectors: Scores | None, text: Scores, depth: int) -> tuple[list[int], list[int]]:
    """The best `depth` positions by vectors alone, and by text alone; arguments as of `first_stage`."""
    by_vectors = [] if vectors is None else best_first(vectors)[:depth]
    return by_vectors, [i for i in best_first(text)[:depth] if text[i] > 0]


def first_stage(
    vectors: Scores | None, text: Scores, depth: int, text_weight: float, bonus: Scores | None = None
) -> tuple[list[int], Scores]:
    """The best `depth` positions by vectors and text together, best first, and their fused scores in that order.

    vectors (n,) MaxSim, None where the question has no vectors; text (n,) BM25, 0 where a page does not match. Each
    kind's own best `depth` are pooled, and scaled over that pool. bonus (n,): standard deviations by which a page is
    lifted after that, for what the question says of its place; a page with one is in the pool.
    """
    by_vectors, by_text = each_kind(vectors, text, depth)
    named = [] if bonus is None else np.flatnonzero(bonus).tolist()
    pool = sorted({*by_vectors, *by_text, *named})
    if not pool:
        return [], np.zeros(0)
    weight = 1.0 if vectors is None else text_weight
    fused = weighted(np.zeros(len(pool)) if vectors is None else vectors[pool], text[pool], weight)
    if bonus is not None:
        fused = fused + bonus[pool]
    order = best_first(fused)[:depth]
    return [pool[at] for at in order], fused[order]


def second_stage(first: Scores, rerank: Scores, weight: float) -> tuple[list[int], Scores]:
    """The order of the first len(rerank) candidates by z(first) + weight * z(rerank), and their scores in that order.

    The candidates after them keep their places.
    """
    fused = z_scores(first[: len(rerank)]) + weight * z_scores(rerank)
    order = best_first(fused)
    return order, fused[order]


def margin(first: Scores) -> float:
    """By how much the best candidate leads the second, in the first stage's fused score; infinite if it is alone."""
    return float(first[0] - first[1]) if len(first) > 1 else float("inf")
