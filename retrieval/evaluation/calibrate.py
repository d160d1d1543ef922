"""Fits the curve from a reranker's score to the probability that a page answers, on judged questions.

`retrieval.confidence` stores and applies the curve. Two methods are fitted, and the one with the lower log loss on
held-out questions is used: Platt (1999), a logistic curve with his smoothed targets; and isotonic regression, the best
non-decreasing steps, by pooling adjacent violators (Barlow et al., 1972). The expected calibration error is that of Guo
et al., 2017 (arXiv 1706.04599), with 10 bins of equal counts.
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
"""The fewest questions, and the fewest relevant pages, that a curve is fitted to: with fewer it would be chance."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of the reliability plot."""

    predicted: float  # mean probability
    relevant: float  # share of relevant pages
    pages: int


def fit_calibration(
    candidates: Sequence[JudgedCandidates], *, reranker: str, encoder: str, dataset: str
) -> Calibration:
    """Fit a curve to the scores of all reranked pages. Raises FolioscopeError if there are too few of them."""
    scores, labels, groups = _reranked(candidates)
    relevant, questions = int(labels.sum()), len(candidates)
    if relevant < LEAST or questions < LEAST:
        raise FolioscopeError(
            f"{questions} questions with {relevant} relevant pages among the reranked ones are too few to calibrate: "
            f"it needs at least {LEAST} of each"
        )
    before = as_published(scores)
    held_out = {method: _held_out(method, scores, labels, groups) for method in ("platt", "isotonic")}
    losses = {method: _log_loss(predicted, labels) for method, predicted in held_out.items()}
    method: Method = "platt" if losses["platt"] <= losses["isotonic"] else "isotonic"
    x, y = _fit(method, scores, labels)
    return Calibration(
        reranker=reranker,
        encoder=encoder,
        method=method,
        x=tuple(map(float, x)),
        y=tuple(map(float, y)),
        dataset=dataset,
        questions=questions,
        pages=len(scores),
        relevant=relevant,
        log_loss=losses[method],
        log_loss_before=_log_loss(before, labels),
        ece=ece(held_out[method], labels),
        ece_before=ece(before, labels),
    )


def reliability(candidates: Sequence[JudgedCandidates], method: Method | None) -> list[Reliability]:
    """Return the held-out predictions of a method in bins of equal counts. None: those of the scores as published."""
    scores, labels, groups = _reranked(candidates)
    predicted = as_published(scores) if method is None else _held_out(method, scores, labels, groups)
    return [
        Reliability(float(predicted[part].mean()), float(labels[part].mean()), len(part))
        for part in _bins(predicted)
    ]


def as_published(scores: Scores) -> Scores:
    """Read the scores as probabilities: unchanged if all are in [0, 1], otherwise as logits."""
    if len(scores) and scores.min() >= 0 and scores.max() <= 1:
        return np.clip(scores, CLOSE, 1 - CLOSE)
    return np.clip(sigmoid(scores), CLOSE, 1 - CLOSE)


def ece(predicted: Scores, labels: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: the mean distance of a bin's prediction from its share of relevant pages,
    weighted by its number of pages."""
    return float(
        sum(len(part) * abs(predicted[part].mean() - labels[part].mean()) for part in _bins(predicted))
        / len(labels)
    )


def _reranked(
    candidates: Sequence[JudgedCandidates],
) -> tuple[Scores, NDArray[np.bool_], NDArray[np.int64]]:
    """Return (score, whether it is relevant, number of its question from 0) for every page that was reranked."""
    return (
        np.concatenate([each.rerank[each.is_read] for each in candidates]),
        np.concatenate([each.relevant[each.is_read] for each in candidates]),
        np.concatenate([np.full(int(each.is_read.sum()), number) for number, each in enumerate(candidates)]),
    )


def _held_out(method: str, scores: Scores, labels: NDArray[np.bool_], groups: NDArray[np.int64]) -> Scores:
    """Return each page's probability by a curve that was fitted without its question."""
    count = int(groups.max()) + 1
    folds = (np.random.default_rng(0).permutation(count) % FOLDS)[groups]
    predicted = np.zeros(len(scores))
    for fold in range(FOLDS):
        outside = folds == fold
        curve = _fit(method, scores[~outside], labels[~outside])
        predicted[outside] = predict(method, *curve, scores[outside])
    return predicted


def _fit(method: str, scores: Scores, labels: NDArray[np.bool_]) -> tuple[Scores, Scores]:
    return _isotonic(scores, labels) if method == "isotonic" else (np.zeros(0), _platt(scores, labels))


def _platt(scores: Scores, labels: NDArray[np.bool_], rounds: int = 100) -> Scores:
    """Fit (a, b) by Newton's method, on standardized scores so that the Hessian is well-conditioned."""
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
    """Return the knots of the curve: the mean score of each pool of pages, and its share of relevant pages."""
    order = np.argsort(scores, kind="stable")
    fitted = isotonic_regression(labels[order].astype(np.float64))
    starts = fitted.blocks[:-1]
    middles = np.add.reduceat(scores[order], starts) / np.diff(fitted.blocks)
    return middles, fitted.x[starts]


def _bins(predicted: Scores) -> list[NDArray[np.int64]]:
    return [part for part in np.array_split(np.argsort(predicted, kind="stable"), BINS) if len(part)]


def _log_loss(predicted: Scores, labels: NDArray[np.bool_]) -> float:
    return float(-np.log(np.where(labels, predicted, 1 - predicted)).mean())
