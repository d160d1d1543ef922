"""Fits the coefficients by which the first stage adds its kinds of evidence (`retrieval.fuse.LogOdds`).

A question's pool is a choice among its pages: the probability of a page is the softmax of the sum of its scores, each
times a coefficient (McFadden, 1974; ListNet, Cao et al., 2007). The coefficients maximize the likelihood of the pages
that answer, by Newton's method: the loss is convex, so there is one best set, whatever the start.

Scores of questions on which the encoder was trained are too good, and would give the vectors too much weight: fit on
others. How good the fit is for questions that it has not seen is measured by cross-validation over documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.errors import BadDataset
from retrieval.evaluation.evaluate import Dataset
from retrieval.evaluation.replay import FIRST, JudgedCandidates, RerankPolicy, replay
from retrieval.fuse import LogOdds

FOLDS = 7
STEPS = 50
PRIOR = 1e-3
"""Weight of the squared coefficients in the loss, in units of the evidence's spread: keeps a perfect list finite."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """The pool of one question: its evidence (pages, kinds), and the share of each page in the answer (pages,)."""

    evidence: NDArray[np.float64]
    share: NDArray[np.float64]


def fit_log_odds(candidates: Sequence[JudgedCandidates]) -> LogOdds:
    """Return the coefficients that make the pages that answer likeliest.

    Questions that name a place are left out, since the bonus decides them, and so are those without an answer in the
    pool. Either all candidates have sparse scores, or none. Raises BadDataset if no question is left.
    """
    choices = [choice for each in candidates if (choice := _choice(each)) is not None]
    if not choices:
        raise BadDataset(
            "no question has both a page that answers and one that does not among its candidates"
        )
    spread = np.mean([choice.evidence.std(axis=0) for choice in choices], axis=0)
    spread = np.maximum(spread, 1e-9)
    coefficients = np.zeros(len(spread))
    for _ in range(STEPS):
        gradient = 2 * PRIOR * coefficients
        hessian = 2 * PRIOR * np.eye(len(spread))
        for choice in choices:
            scaled = choice.evidence / spread
            odds = scaled @ coefficients
            probability = np.exp(odds - odds.max())
            probability /= probability.sum()
            mean = probability @ scaled
            gradient += (mean - choice.share @ scaled) / len(choices)
            hessian += ((scaled * probability[:, None]).T @ scaled - np.outer(mean, mean)) / len(choices)
        step = np.linalg.solve(hessian, gradient)
        coefficients -= step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return LogOdds(*(coefficients / spread).tolist())


def cross_validate(
    dataset: Dataset, candidates: Sequence[JudgedCandidates], others: Sequence[JudgedCandidates] = ()
) -> NDArray[np.float64]:
    """Return nDCG@10 (questions,) of the first stage, each document's questions with a fit that has not seen them.

    others: the same questions' candidates in another setting, such as within their document; each fit sees both.
    """
    documents = [each.question.document for each in candidates]
    names = sorted(set(documents))
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {names[at]: place % FOLDS for place, at in enumerate(order)}
    values = np.zeros(len(candidates))
    for fold in range(FOLDS):
        rows = [at for at, document in enumerate(documents) if fold_of[document] == fold]
        if not rows:
            continue
        seen = [each for each in (*candidates, *others) if fold_of[each.question.document] != fold]
        policy = RerankPolicy(fit_log_odds(seen), 0.0, 0)
        values[rows] = replay(dataset, [candidates[at] for at in rows], policy).values
    return values


def _choice(candidates: JudgedCandidates) -> _Choice | None:
    if not candidates.has_vectors or candidates.place.any():
        return None
    by_vectors, by_text = fuse.each_kind(candidates.vectors, candidates.text, FIRST)
    pool = sorted({*by_vectors, *by_text})
    relevant = candidates.relevant[pool].astype(np.float64)
    if not 0 < relevant.sum() < len(pool):
        return None
    kinds = [candidates.vectors, candidates.text]
    if candidates.sparse is not None:
        kinds.append(candidates.sparse)
    evidence = np.stack(kinds, axis=1)[pool]
    return _Choice(evidence, relevant / relevant.sum())
