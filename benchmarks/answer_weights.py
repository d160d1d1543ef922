"""Fits the regressions of `retrieval.answers`: which candidate answers, and how likely the best one is right.

The choice is a conditional logit (McFadden, 1974) over the candidates of one page: the probability of the right ones
among all. What the reader says of pages that it was trained on is too good; those examples have weights of their own
for it, and share the others: they only teach what rows and heads are worth. How sure the best one is, and its sentence
or row, comes from logistic regressions over its features, on pages that answer and on pages that do not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from retrieval.answers import Candidate, sure_features
from retrieval.confidence import sigmoid
from retrieval.evaluation.answer_tally import area_under_curve

FOLDS = 5
CHOICE_RIDGE, SURE_RIDGE = 0.3, 1.0
"""Weights of the squared weights beside the summed log losses."""
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
READER_FEATURES = ("support", "exact", "share", "unit", "evidence", "around")
"""The features that come from the reader."""
Table = NDArray[np.float64]
Marks = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """A question with the candidates of one page, and which of them are right. document: of the question."""

    document: str
    page_right: bool
    answerable: bool
    """Whether the index holds the question's document."""
    candidates: Sequence[Candidate]
    right: Sequence[bool]
    seen: bool = False
    """Whether the reader was trained on the page."""


def right_passages(example: Example) -> list[bool]:
    """Returns for each candidate whether a right one stands in its sentence or row."""
    places = [(c.first, c.end) for c, right in zip(example.candidates, example.right, strict=True) if right]
    return [
        any(a <= first and end <= b for a, b in candidate.passage for first, end in places)
        for candidate in example.candidates
    ]


def fit(examples: Sequence[Example]) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Returns the weights, and what they achieve on documents that they were not fitted to."""
    some = next(example for example in examples if example.candidates)
    names = list(some.candidates[0].features)
    documents = sorted({example.document for example in examples if not example.seen})
    fold = np.array([-1 if e.seen else documents.index(e.document) % FOLDS for e in examples])
    judged: list[Judged] = []
    for part in range(FOLDS):
        weights = _fit([e for e, f in zip(examples, fold, strict=True) if f != part], names)
        judged += [_judged(e, weights, names) for e, f in zip(examples, fold, strict=True) if f == part]
    return _named(_fit(examples, names), names), _report(judged)


@dataclass(frozen=True, slots=True)
class Judged:
    """An example with whether the best candidate and its passage are right, and how sure each is."""

    example: Example
    right: bool = False
    sure: float = 0.0
    passage_right: bool = False
    passage_sure: float = 0.0


def _report(judged: Sequence[Judged]) -> dict[str, Any]:
    right, sure = (np.array([getattr(each, name) for each in judged]) for name in ("right", "sure"))
    passage_right = np.array([each.passage_right for each in judged])
    passage_sure = np.array([each.passage_sure for each in judged])
    on_right_page = np.array([each.example.page_right for each in judged])
    unanswerable = np.array([not each.example.answerable for each in judged])
    possible = np.array([any(each.example.right) for each in judged])
    found = sure > 0
    return {
        "examples": len(judged),
        "right pages": int(on_right_page.sum()),
        "a candidate is right, of right pages": percent(possible, on_right_page),
        "the best is right, of right pages": percent(right, on_right_page),
        "its passage is right, of right pages": percent(passage_right, on_right_page),
        "AUC": area_under_curve(sure[found & right], sure[found & ~right]),
        "shown from": {
            str(least): {
                "right": percent(right & (sure >= least), on_right_page),
                "wrong on the right page": percent(~right & (sure >= least), on_right_page),
                "without an answer": percent(sure >= least, unanswerable),
            }
            for least in THRESHOLDS
        },
        "passage lit from": {
            str(least): {
                "right": percent(passage_right & (passage_sure >= least), on_right_page),
                "wrong on the right page": percent(~passage_right & (passage_sure >= least), on_right_page),
            }
            for least in (0.1, 0.25, *THRESHOLDS)
        },
    }


def percent(chosen: Marks, among: Marks) -> float:
    return round(100 * float((chosen & among).sum() / max(1, among.sum())), 1)


Fitted = tuple[Table, Table, Table]


def _fit(examples: Sequence[Example], names: Sequence[str]) -> Fitted:
    """Returns the weights of the choice, of the sure answer and of its passage: features, lead and bias."""
    tables = [(_with_seen(e, names), np.array(e.right, bool)) for e in examples if any(e.right)]
    wide = _minimum(lambda w: _conditional_loss(w, tables), len(names) + len(READER_FEATURES), CHOICE_RIDGE)
    choice = wide[: len(names)]
    rows, right = [], []
    for example in examples:
        if example.candidates and not example.seen:
            best, values = _best(example, choice, names)
            rows.append(values)
            right.append((example.right[best], right_passages(example)[best]))
    table, labels = np.array(rows), np.array(right, bool)

    def fitted(target: Marks) -> Table:
        return _minimum(lambda w: _logistic_loss(w, table, target), table.shape[1], SURE_RIDGE)

    sure, passage = fitted(labels[:, 0]), fitted(labels[:, 1])
    return choice, sure, passage


def _best(example: Example, choice: Table, names: Sequence[str]) -> tuple[int, list[float]]:
    """Returns which candidate is the best one, and its features with its lead and 1 for the bias."""
    logits = _table(example.candidates, names) @ choice
    best = int(np.argmax(logits))
    values = sure_features(example.candidates[best], [float(value) for value in logits])
    return best, [*(values[name] for name in (*names, "lead")), 1.0]


def _judged(example: Example, fitted: Fitted, names: Sequence[str]) -> Judged:
    if not example.candidates:
        return Judged(example)
    best, values = _best(example, fitted[0], names)
    sure, passage = (float(sigmoid(np.array(values) @ weights)) for weights in fitted[1:])
    return Judged(example, example.right[best], sure, right_passages(example)[best], max(sure, passage))


def _named(fitted: Fitted, names: Sequence[str]) -> dict[str, dict[str, float]]:
    columns = (names, (*names, "lead", "bias"), (*names, "lead", "bias"))
    return {
        name: dict(zip(of, map(float, weights), strict=True))
        for name, of, weights in zip(("choice", "sure", "passage"), columns, fitted, strict=True)
    }


def _with_seen(example: Example, names: Sequence[str]) -> Table:
    """Returns the features, and those of the reader once more if it was trained on the page, else zeros."""
    again = _table(example.candidates, READER_FEATURES) * example.seen
    return np.hstack([_table(example.candidates, names), again])


def _table(found: Sequence[Candidate], names: Sequence[str]) -> Table:
    return np.array([[candidate.features[name] for name in names] for candidate in found])


def _conditional_loss(weights: Table, tables: Sequence[tuple[Table, Marks]]) -> tuple[float, Table]:
    value, slope = 0.0, np.zeros_like(weights)
    for table, right in tables:
        logits = table @ weights
        logits -= logits.max()
        powers = np.exp(logits)
        value += np.log(powers.sum()) - np.log(powers[right].sum())
        among_all, among_right = powers / powers.sum(), np.where(right, powers, 0.0) / powers[right].sum()
        slope += table.T @ (among_all - among_right)
    return float(value), slope


def _logistic_loss(weights: Table, table: Table, right: Marks) -> tuple[float, Table]:
    logits = table @ weights
    value = np.logaddexp(0, logits).sum() - logits[right].sum()
    return float(value), table.T @ (sigmoid(logits) - right)


def _minimum(loss: Callable[[Table], tuple[float, Table]], size: int, ridge: float) -> Table:
    def whole(weights: Table) -> tuple[float, Table]:
        value, slope = loss(weights)
        return value + ridge * float(weights @ weights) / 2, slope + ridge * weights

    fitted: Table = minimize(whole, np.zeros(size), jac=True, method="L-BFGS-B").x
    return fitted
