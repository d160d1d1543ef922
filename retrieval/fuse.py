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
