"""From a reranker's score to the probability that a page answers.

Fitted on judged questions; `retrieval.confidence` has what is kept of it.

Platt (1999): a logistic curve, with his smoothed targets. Isotonic: the best non-decreasing steps, by pooling
adjacent violators (Barlow et al., 1972). Which of them is used is decided by log loss on held-out questions.
Expected calibration error: Guo et al., 2017 (arXiv 1706.04599), 10 bins of equal counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from retrieval.confidence import CLOSE, Calibration, Method, Scores, predict, sigmoid
from retrieval.errors import FolioscopeError
from retrieval.evaluation.replay import JudgedCandidates

FOLDS = 5
BINS = 10
LEAST = 30
"""Relevant pages, and questions, below which a curve would be chance."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of the reliability plot."""

    predicted: float
    relevant: float  # share
    pages: int


def fit_calibration(
    observed: Sequence[JudgedCandidates], *, reranker: str, encoder: str, dataset: str
) -> Calibration:
    """Raises FolioscopeError where there is too little to fit."""
    scores, labels, groups = _pairs(observed)
    relevant, questions = int(labels.sum()), len(observed)
    if relevant < LEAST or questions < LEAST:
        raise FolioscopeError(
            f"{questions} questions with {relevant} relevant pages among those reranked are too few to calibrate by: "
            f"{LEAST} of each are the least"
        )
    before = as_published(scores)
    held = {method: _held_out(method, scores, labels, groups) for method in ("platt", "isotonic")}
    method: Method = (
        "platt" if _log_loss(held["platt"], labels) <= _log_loss(held["isotonic"], labels) else "isotonic"
    )
    x, y = _fit(method, scores, labels)
    return Calibration(
        reranker, encoder, method, tuple(map(float, x)), tuple(map(float, y)), dataset, questions, len(scores),
        relevant, _log_loss(held[method], labels), _log_loss(before, labels), ece(held[method], labels),
        ece(before, labels),
    )  # fmt: skip


def reliability(observed: Sequence[JudgedCandidates], method: Method | None) -> list[Reliability]:
    """Held-out predictions in bins of equal counts; None: of the scores as published."""
    scores, labels, groups = _pairs(observed)
    predicted = as_published(scores) if method is None else _held_out(method, scores, labels, groups)
    return [
        Reliability(float(predicted[part].mean()), float(labels[part].mean()), len(part))
        for part in _bins(predicted)
    ]


def as_published(scores: Scores) -> Scores:
    """What a score says of itself: a probability as it is, a logit by the logistic curve."""
    if len(scores) and scores.min() >= 0 and scores.max() <= 1:
        return np.clip(scores, CLOSE, 1 - CLOSE)
    return np.clip(sigmoid(scores), CLOSE, 1 - CLOSE)


def ece(predicted: Scores, labels: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean distance of prediction and share over bins, weighted by their pages."""
    return float(
        sum(len(part) * abs(predicted[part].mean() - labels[part].mean()) for part in _bins(predicted))
        / len(labels)
    )


def _pairs(observed: Sequence[JudgedCandidates]) -> tuple[Scores, NDArray[np.bool_], NDArray[np.int64]]:
    """Of all pages that were reranked: score, whether relevant, number of the question."""
    read = [~np.isnan(one.rerank) for one in observed]
    return (
        np.concatenate([one.rerank[keep] for one, keep in zip(observed, read, strict=True)]),
        np.concatenate([one.relevant[keep] for one, keep in zip(observed, read, strict=True)]),
        np.concatenate([np.full(int(keep.sum()), at) for at, keep in enumerate(read)]),
    )


def _held_out(method: str, scores: Scores, labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> Scores:
    """Each page's probability by a curve that has not seen its question."""
    count = int(groups.max()) + 1
    folds = (np.random.default_rng(0).permutation(count) % FOLDS)[groups]
    predicted = np.zeros(len(scores))
    for fold in range(FOLDS):
        out = folds == fold
        predicted[out] = predict(method, *_fit(method, scores[~out], labels[~out]), scores[out])
    return predicted


def _fit(method: str, scores: Scores, labels: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    return _isotonic(scores, labels) if method == "isotonic" else (np.zeros(0), _platt(scores, labels))


def _platt(scores: Scores, labels: NDArray[np.bool_], rounds: int = 100) -> Scores:
    """(a, b) by Newton's method, on standardised scores for a well-conditioned Hessian."""
    centre, width = scores.mean(), scores.std() or 1.0
    z = (scores - centre) / width
    positive, negative = labels.sum(), (~labels).sum()
    target = np.where(labels, (positive + 1) / (positive + 2), 1 / (negative + 2))
    a, b = 0.0, float(np.log((positive + 1) / (negative + 1)))
    for _ in range(rounds):
        p = sigmoid(a * z + b)
        gradient = np.array([((p - target) * z).sum(), (p - target).sum()])
        weight = np.maximum(p * (1 - p), 1e-9)
        hessian = np.array([[(weight * z * z).sum(), (weight * z).sum()], [(weight * z).sum(), weight.sum()]])
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        a, b = a - float(step[0]), b - float(step[1])
        if np.abs(step).max() < 1e-9:
            break
    return np.array([a / width, b - a * centre / width])


def _isotonic(scores: Scores, labels: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    """Knots of the curve: the middle of each pool of pages, and its share of relevant ones."""
    order = np.argsort(scores, kind="stable")
    fitted = isotonic_regression(labels[order].astype(np.float64))
    starts = fitted.blocks[:-1]
    middles = np.add.reduceat(scores[order], starts) / np.diff(fitted.blocks)
    return middles, fitted.x[starts]


def _bins(predicted: Scores) -> list[NDArray[np.int64]]:
    return [part for part in np.array_split(np.argsort(predicted, kind="stable"), BINS) if len(part)]


def _log_loss(predicted: Scores, labels: NDArray[np.bool_]) -> float:
    return float(-np.log(np.where(labels, predicted, 1 - predicted)).mean())
