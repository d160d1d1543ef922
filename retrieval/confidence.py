"""A reranker's score as the probability that a page answers: the curve that `folioscope calibrate` fitted.

It is kept with the index, and holds for one reranker over one encoder's index: scores of another reranker, or of
candidates that another first stage chose, mean something else, so it is refused for them.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import FolioscopeError

FILE = "calibration.json"
CLOSE = 1e-4  # probabilities stay this far from 0 and 1: a finite sample proves neither

Scores = NDArray[np.float64]
Method = Literal["platt", "isotonic"]


class CalibrationMismatch(FolioscopeError):
    """The calibration is of another reranker or of another index's encoder."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """`x` and `y` are the curve: for platt y = (a, b) of sigmoid(a * score + b), x is empty; for isotonic its knots."""

    reranker: str
    encoder: str
    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]
    dataset: str
    questions: int
    pages: int
    relevant: int
    log_loss: float  # held out
    log_loss_before: float
    ece: float  # held out
    ece_before: float

    def probability(self, scores: Scores) -> Scores:
        return predict(self.method, np.array(self.x), np.array(self.y), scores)


def save_calibration(calibration: Calibration, index: str) -> Path:
    """Raises FolioscopeError for an index in an object store."""
    if "://" in index:
        raise FolioscopeError(f"{index} is in an object store: calibrations are kept in local indexes only")
    place = Path(index) / FILE
    place.write_text(json.dumps(asdict(calibration), indent=1) + "\n", encoding="utf-8")
    return place


def load_calibration(index: str, *, reranker: str, encoder: str) -> Calibration | None:
    """None where the index has none. Raises CalibrationMismatch, FolioscopeError for a file that cannot be read."""
    place = Path(index) / FILE
    if "://" in index or not place.is_file():
        return None
    try:
        given = json.loads(place.read_text(encoding="utf-8"))
        calibration = Calibration(**{**given, "x": tuple(given["x"]), "y": tuple(given["y"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FolioscopeError(
            f"{place} cannot be read ({error}): delete it, or run 'folioscope calibrate' again"
        ) from error
    for what, theirs, ours in (
        ("reranker", calibration.reranker, reranker),
        ("encoder", calibration.encoder, encoder),
    ):
        if theirs != ours:
            raise CalibrationMismatch(
                f"{place} is a calibration of the {what} {theirs}, this is {ours}: run 'folioscope calibrate' with "
                "this profile, or delete the file"
            )
    return calibration


def predict(method: str, x: Scores, y: Scores, scores: Scores) -> Scores:
    raw = np.interp(scores, x, y) if method == "isotonic" else sigmoid(y[0] * scores + y[1])
    clipped: Scores = np.clip(raw, CLOSE, 1 - CLOSE)
    return clipped


def sigmoid(x: Scores) -> Scores:
    logistic: Scores = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return logistic
