"""Converts a reranker's score to the probability that a page answers, by the curve that `folioscope calibrate` fitted.

A calibration is stored with the index, or shipped with a model: then it is fitted on documents that the model was not
trained on, and serves every index that has none of its own. It is valid for one reranker over the index of one encoder:
scores of another reranker, or of candidates from another first stage, mean something else, so loading it for them
raises an error. A shipped one also says how sure the reader's answers are.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import FolioscopeError

FILE = "calibration.json"
CLOSE = 1e-4  # probabilities stay this far from 0 and 1, because a finite sample proves neither

Scores = NDArray[np.float64]
Method = Literal["platt", "isotonic"]


class CalibrationMismatch(FolioscopeError):
    """The calibration was made with another reranker or another encoder."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted curve with the data that it was fitted on.

    platt: y = (a, b) of sigmoid(a * score + b), and x is empty. isotonic: (x, y) are the knots of the curve.
    """

    reranker: str
    encoder: str
    method: Method
    x: tuple[float, ...]
    y: tuple[float, ...]
    dataset: str
    questions: int
    pages: int
    relevant: int
    log_loss: float  # on held-out questions
    log_loss_before: float
    ece: float  # expected calibration error, on held-out questions
    ece_before: float
    answer: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """The weights of `retrieval.answers`: which words answer, and how sure that is; empty if unknown."""

    def probability(self, scores: Scores) -> Scores:
        """Return the probability of each score, in the same shape."""
        return predict(self.method, np.array(self.x), np.array(self.y), scores)


def save_calibration(calibration: Calibration, index: str) -> Path:
    """Write the calibration into the index; return its path. Raises FolioscopeError for an index in an object store."""
    if "://" in index:
        raise FolioscopeError(
            f"{index} is in an object store: only local indexes can store a calibration",
            remedy="calibrate a local copy of the index",
        )
    place = Path(index) / FILE
    place.write_text(json.dumps(asdict(calibration), indent=1) + "\n", encoding="utf-8")
    return place


def load_calibration(index: str, *, reranker: str, encoder: str) -> Calibration | None:
    """Return the index's calibration, or None if it has none.

    Raises CalibrationMismatch, and FolioscopeError for a file that cannot be read.
    """
    place = Path(index) / FILE
    if "://" in index or not place.is_file():
        return None
    calibration = _read(place)
    for what, stored, loaded in (
        ("reranker", calibration.reranker, reranker),
        ("encoder", calibration.encoder, encoder),
    ):
        if stored != loaded:
            raise CalibrationMismatch(
                f"the index's calibration is for the {what} {stored}, but this profile has {loaded}",
                remedy=f"run 'folioscope calibrate' with this profile, or delete {place}",
            )
    return calibration


def load_shipped(folder: Path, *, reranker: str, encoder: str) -> Calibration | None:
    """Return the calibration in a model's folder, None if it has none or one for another reranker or encoder.

    Raises FolioscopeError for a file that cannot be read.
    """
    place = folder / FILE
    if not place.is_file():
        return None
    calibration = _read(place)
    return calibration if (calibration.reranker, calibration.encoder) == (reranker, encoder) else None


def _read(place: Path) -> Calibration:
    try:
        fields = json.loads(place.read_text(encoding="utf-8"))
        _require_answer_weights(fields)
        return Calibration(**{**fields, "x": tuple(fields["x"]), "y": tuple(fields["y"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise FolioscopeError(
            "the calibration cannot be read",
            remedy=f"delete {place}, or run 'folioscope calibrate' again ({error})",
        ) from error


def _require_answer_weights(fields: Mapping[str, Any]) -> None:
    missing = {"choice", "sure", "passage"} - fields["answer"].keys() if fields.get("answer") else set()
    if missing:
        raise ValueError(f"its answer weights have no {', '.join(sorted(missing))}")


def predict(method: str, x: Scores, y: Scores, scores: Scores) -> Scores:
    """Return the probabilities of `scores` by the curve (x, y) of a Calibration."""
    raw = np.interp(scores, x, y) if method == "isotonic" else sigmoid(y[0] * scores + y[1])
    clipped: Scores = np.clip(raw, CLOSE, 1 - CLOSE)
    return clipped


def sigmoid(x: Scores) -> Scores:
    logistic: Scores = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return logistic
