"""Fits how sure a reader is: that a page answers, and that the words it found are the answer.

    python -m benchmarks.reader_calibration QUESTIONS --index held.lance [--model MODEL_FOLDER] [--write]

QUESTIONS is a folder with questions.jsonl; the index holds the documents of its held-out questions, which neither model
was trained on. The page's curve is that of `folioscope calibrate`. The answer's weights are a logistic regression on
`retrieval.answers.features` of the first page found for each question: right if the words are those of the written
answer. Each question is asked once more without its document, when nothing can be right.

--write: put the calibration into the reader's folder, and the fact `relevance_shift` into its manifest, so that a
relevance of 0 means a probability of one half. A second run leaves both as they are, up to rounding.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import configs.settings as configs
from retrieval import answers
from retrieval.confidence import Calibration, save_calibration, sigmoid
from retrieval.errors import FolioscopeError
from retrieval.evaluation import calibrate, replay
from retrieval.evaluation.answer_tally import area_under_curve
from retrieval.evaluation.evaluate import Dataset, Question
from retrieval.models.onnx import ModelFolder, write_manifest
from retrieval.search import Searcher
from retrieval.text import STOP_WORDS, words
from retrieval.types import Filter, PageReader, SearchRequest
from ui.factory import open_searcher

FOLDS = 5
RIDGE = 1.0
"""Weight of the squared weights beside the summed log loss."""
LONG = 24
"""An answer of more words that bear meaning is none."""
NAMES = ("page", "votes", "share", "evidence", "settled", "row", "length")


@dataclass(frozen=True, slots=True)
class Read:
    """What the reader found on the first page for one question."""

    question: str
    answerable: bool
    """Whether the index holds the document that answers."""
    page_right: bool
    confidence: float
    values: Mapping[str, float] | None
    """Features of the answer; None if nothing was found."""
    text: str
    right: bool


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument("--every", type=int, default=1, help="use every n-th question")
    parser.add_argument("--model", default=configs.Text().model, help="the folder of the reader")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    settings = configs.load_profile("cpu").model_copy(update={"reranker": configs.Text(model=options.model)})
    searcher, store = open_searcher(options.index, settings)
    rows = held_rows(options.questions)[:: options.every]
    names = {document.name: document.doc_id for document in store.documents()}
    judged = list(replay.judge_candidates(dataset(rows), searcher, within=False))
    assert searcher.reranker is not None
    calibration = calibrate.fit_calibration(
        judged,
        reranker=searcher.reranker.name,
        encoder=str(store.fingerprint),
        dataset=f"{len(rows)} held-out questions",
    )
    read = list(read_first(searcher, rows, names, calibration))
    weights, report = fit_answers(read)
    folder = ModelFolder(options.model)
    calibration, shift = with_zero_at_half(
        replace(calibration, answer=weights), folder.facts.get("relevance_shift", 0.0)
    )
    if options.write:
        write(folder, calibration, shift)
    fitted = {"log_loss": calibration.log_loss, "ece": calibration.ece, "relevance_shift": shift}
    print(json.dumps({**fitted, **report}, indent=1))


def held_rows(folder: Path) -> list[dict[str, Any]]:
    """Returns the held-out questions."""
    lines = (folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == "held"]


def dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """Returns the questions with the pages that answer."""
    questions = tuple(Question(row["id"], row["q"], row["file"]) for row in rows)
    qrels = {row["id"]: dict.fromkeys(golds(row), 1) for row in rows}
    return Dataset(Path(), Path(), questions, qrels)


def golds(row: Mapping[str, Any]) -> list[str]:
    """Returns the names of the pages that answer."""
    return [f"{file}#page={number}" for file, number in [(row["file"], row["page"]), *row.get("also", ())]]


def read_first(
    searcher: Searcher,
    rows: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    calibration: Calibration,
) -> Iterator[Read]:
    """Yields what the reader finds on the first page, for each question with and without its document.

    names: doc_ids by file name.
    """
    reader = searcher.reranker
    assert isinstance(reader, PageReader)
    for row in rows:
        for answerable in (True, False):
            where = Filter() if answerable else Filter(without=frozenset({names[row["file"]]}))
            *_, result = searcher.steps(SearchRequest(row["q"], where, budget_ms=np.inf))
            if not result.hits or not result.hits[0].reranked:
                continue
            page = result.hits[0].page
            (content,) = searcher.focused(row["q"], [page])
            (reading,) = reader.read(row["q"], [content], whole=True)
            confidence = float(calibration.probability(np.array([reading.score]))[0])
            found = answers.find(row["q"], content, reading)
            text = answers.verbatim(content, found.first, found.end) if found else ""
            page_right = answerable and page.name in golds(row)
            yield Read(
                row["id"],
                answerable,
                page_right,
                confidence,
                answers.features(found, confidence) if found else None,
                text,
                page_right and is_answer(text, row["answer"], row["evidence"]),
            )


def is_answer(text: str, answer: str, evidence: str) -> bool:
    """Returns whether words of the page give a written answer, which need not be verbatim.

    They must have all its numbers, and none that is neither in the answer nor in the evidence. Of words that bear
    meaning they must have all, or share half with the answer (F1); or, if the answer is not verbatim in the evidence
    ("No", a summary), half with the evidence.
    """
    own, wanted, quoted = _content(text), _content(answer), _content(evidence)
    numbers = {word for word in wanted if word[0].isdigit()}
    strange = {word for word in own if word[0].isdigit()} - numbers - set(quoted)
    if not own or not wanted or strange or len(own) > LONG:
        return False
    if numbers <= set(own) and (set(wanted) <= set(own) or _f1(own, wanted) >= 0.5):
        return True
    return not set(wanted) <= set(quoted) and _f1(own, quoted) >= 0.5


def _f1(own: Sequence[str], wanted: Sequence[str]) -> float:
    shared = sum((Counter(own) & Counter(wanted)).values())
    return 2 * shared / (len(own) + len(wanted))


def _content(text: str) -> list[str]:
    return [word for word in words(text) if word not in STOP_WORDS] or words(text)


def fit_answers(read: Sequence[Read]) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns the weights of the answer's features, and what they achieve on questions that they were not fitted to."""
    found = [each for each in read if each.values is not None]
    table = np.array([[1.0, *((each.values or {})[name] for name in NAMES)] for each in found])
    right = np.array([each.right for each in found])
    names = sorted({each.question for each in found})
    fold = np.array([names.index(each.question) % FOLDS for each in found])
    predicted = np.zeros(len(found))
    for part in range(FOLDS):
        predicted[fold == part] = sigmoid(
            table[fold == part] @ _logistic(table[fold != part], right[fold != part])
        )
    answerable = np.array([each.answerable for each in found])
    on_right_page = np.array([each.page_right for each in found])
    shown = {
        str(least): {
            "right": _percent(right & (predicted >= least), on_right_page),
            "wrong on the right page": _percent(~right & (predicted >= least) & on_right_page, on_right_page),
            "wrong without an answer": _percent((predicted >= least) & ~answerable, ~answerable),
        }
        for least in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    }
    weights = _logistic(table, right)
    report = {
        "answers": len(found),
        "right, if the page is": _percent(right, on_right_page),
        "log loss": float(-np.log(np.where(right, predicted, 1 - predicted)).mean()),
        "AUC": area_under_curve(predicted[right], predicted[~right]),
        "shown from": shown,
        "pages": _pages(read),
    }
    return dict(zip(("bias", *NAMES), map(float, weights), strict=True)), report


def with_zero_at_half(calibration: Calibration, shift: float) -> tuple[Calibration, float]:
    """Returns the calibration of scores of which 0 means one half, and the `relevance_shift` that gives such scores.

    shift: that with which the reader gave the scores of `calibration`. Raises FolioscopeError if no score means one
    half.
    """
    changed = round(shift - _score_at_half(calibration), 3)
    by = changed - shift
    if calibration.method == "isotonic":
        return replace(calibration, x=tuple(round(x + by, 6) for x in calibration.x)), changed
    slope, intercept = calibration.y
    return replace(calibration, y=(slope, intercept - slope * by)), changed


def _score_at_half(calibration: Calibration) -> float:
    if calibration.method == "platt":
        slope, intercept = calibration.y
        return -intercept / slope
    least, most = calibration.y[0], calibration.y[-1]
    if not least <= 0.5 <= most:
        raise FolioscopeError(
            f"no score means a probability of one half: the curve goes from {least:.2f} to {most:.2f}",
            remedy="use more held-out questions",
        )
    return float(np.interp(0.5, calibration.y, calibration.x))


def write(folder: ModelFolder, calibration: Calibration, shift: float) -> None:
    """Write the calibration and the `relevance_shift` for which it holds into the reader's folder."""
    save_calibration(calibration, str(folder.path))
    write_manifest(folder.path, folder.name, {**folder.facts, "relevance_shift": shift})


def _pages(read: Sequence[Read]) -> dict[str, Any]:
    """Returns how well the first page's confidence tells questions with an answer from those without."""
    sure = np.array([each.confidence for each in read])
    answerable = np.array([each.answerable for each in read])
    page_right = np.array([each.page_right for each in read])
    weak = {
        str(least): {
            "said without an answer": _percent((sure < least) & ~answerable, ~answerable),
            "said with one": _percent((sure < least) & answerable, answerable),
            "said on the right page": _percent((sure < least) & page_right, page_right),
        }
        for least in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)
    }
    return {
        "AUC": area_under_curve(sure[answerable], sure[~answerable]),
        "AUC, right pages": area_under_curve(sure[page_right], sure[~answerable]),
        "first page right": _percent(page_right, answerable),
        "weak below": weak,
    }


def _logistic(table: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logits = table @ weights
        value = np.logaddexp(0, logits).sum() - logits[labels].sum() + RIDGE * (weights[1:] ** 2).sum() / 2
        slope = table.T @ (sigmoid(logits) - labels)
        slope[1:] += RIDGE * weights[1:]
        return float(value), slope

    fitted: NDArray[np.float64] = minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B").x
    return fitted


def _percent(chosen: NDArray[np.bool_], among: NDArray[np.bool_]) -> float:
    return round(100 * float((chosen & among).sum() / max(1, among.sum())), 1)


if __name__ == "__main__":
    main()
