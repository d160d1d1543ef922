"""Combines scores of different scales, for each query over its candidate pages.

The first stage has two ways. `ZScores` scales the scores of each query and kind to the same spread, and weighs them:
it needs to know nothing about the encoder, but lets a list in which nothing stands out count as much as one that is
sure. `LogOdds` adds the scores as they are, each times a fitted coefficient: what one unit of it adds to the log-odds
that a page answers. A question whose words are all common then gets little from BM25, and one with a rare word much.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, assert_never, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import ModelBroken
from retrieval.types import Encoder

if TYPE_CHECKING:
    import configs.settings as configs

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ZScores:
    """(1 - text_weight) * z(MaxSim) + text_weight * z(BM25), over the pool of one query."""

    text_weight: float  # 0 to 1
    sparse_weight: float = (
        0.0  # of z(sparse), 0 to 1, if there are sparse scores: the other two share the rest
    )

    def __str__(self) -> str:
        return f"text weight {self.text_weight:g}"


@dataclass(frozen=True, slots=True)
class LogOdds:
    """A sum of scores, each times the log-odds for one unit of it.

    The coefficients were fitted for one encoder and one kind of sparse vectors (`evaluation/fit_fusion.py`).
    """

    vectors: float  # of MaxSim
    text: float  # of BM25
    sparse: float = 0.0  # of the sparse vectors

    def __str__(self) -> str:
        return "log-odds"


Fusion = ZScores | LogOdds


@runtime_checkable
class FittedEncoder(Protocol):
    """An encoder whose model may carry coefficients for `LogOdds`."""

    @property
    def fusions(self) -> Mapping[str, LogOdds]:
        """By kind of the sparse vectors ("none", "passages", "splade"); {} if the model carries none."""
        ...


def choose_fusion(settings: "configs.Search", encoder: Encoder, sparse: str = "none") -> Fusion:
    """Returns the fusion that `settings.fuse` names; sparse: the kind of the sparse vectors.

    Raises ModelBroken if that needs coefficients which the encoder's model does not carry.
    """
    match settings.fuse:
        case "z_scores":
            return ZScores(settings.text_weight, 0.0 if sparse == "none" else settings.sparse_weight)
        case "log_odds":
            fitted = encoder.fusions if isinstance(encoder, FittedEncoder) else {}
            if sparse not in fitted:
                raise ModelBroken(
                    f"search.fuse is log_odds and search.sparse is {sparse}, but "
                    f"{encoder.fingerprint.kind} {encoder.fingerprint.model} has no fitted coefficients for that",
                    remedy="set search.fuse: z_scores in the profile",
                )
            return fitted[sparse]
        case _:
            assert_never(settings.fuse)


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
    return by_vectors, _matching(text, depth)


def _matching(scores: Scores, depth: int) -> list[int]:
    return [i for i in best_first(scores)[:depth] if scores[i] > 0]


def fuse_kinds(vectors: Scores | None, text: Scores, fusion: Fusion, sparse: Scores | None = None) -> Scores:
    """Returns the fused scores (n,) of a pool of pages; arguments as in `first_stage`.

    Those of `LogOdds` are scaled to a standard deviation of 1; those of `ZScores` spread at most as far.
    """
    match fusion:
        case ZScores():
            dense = z_scores(text) if vectors is None else fuse_weighted(vectors, text, fusion.text_weight)
            if sparse is None:
                return dense
            return (1 - fusion.sparse_weight) * dense + fusion.sparse_weight * z_scores(sparse)
        case LogOdds():
            odds = fusion.text * text
            if vectors is not None:
                odds = odds + fusion.vectors * vectors
            return z_scores(odds if sparse is None else odds + fusion.sparse * sparse)
        case _:
            assert_never(fusion)


def first_stage(
    vectors: Scores | None,
    text: Scores,
    depth: int,
    fusion: Fusion,
    bonus: Scores | None = None,
    sparse: Scores | None = None,
) -> tuple[list[int], Scores]:
    """Returns the best `depth` positions by all kinds of evidence together, best first, and their fused scores.

    vectors (n,): MaxSim, None if the query has no vectors; text (n,): BM25, 0 for a page that does not match; sparse
    (n,): of the sparse vectors, None if there are none. The pool is the best `depth` of each kind; scores are scaled
    over it. bonus (n,): standard deviations that are added after that, for pages at a place which the query names;
    these pages are in the pool too.
    """
    by_vectors, by_text = each_kind(vectors, text, depth)
    with_bonus = [] if bonus is None else np.flatnonzero(bonus).tolist()
    by_sparse = [] if sparse is None else _matching(sparse, depth)
    pool = sorted({*by_vectors, *by_text, *by_sparse, *with_bonus})
    if not pool:
        return [], np.zeros(0)
    in_pool = [None if scores is None else scores[pool] for scores in (vectors, sparse)]
    fused = fuse_kinds(in_pool[0], text[pool], fusion, in_pool[1])
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
