"""Fits how sure a reader is: that a page answers, and that the words it found are the answer.

    python -m benchmarks.reader_calibration QUESTIONS --index held.lance [--model MODEL_FOLDER] [--write]

QUESTIONS is a folder with questions.jsonl; the index holds the documents of its held-out questions, which neither model
was trained on. The page's curve is that of `folioscope calibrate`. Which words answer, and how sure that is, is fitted
on the page of each question (`benchmarks/answer_weights.py`), and on first pages that do not answer. For these,
questions are also searched for without their document, when nothing can be right.

--write: put the calibration into the reader's folder, and the fact `relevance_shift` into its manifest, so that a
relevance of 0 means a probability of one half. A second run leaves both as they are, up to rounding.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import configs.settings as configs
from benchmarks import answer_weights
from benchmarks.answer_weights import Example, percent
from benchmarks.gpu_train.align import forms
from benchmarks.gpu_train.documents import read_content
from retrieval import answers
from retrieval.confidence import Calibration, save_calibration
from retrieval.errors import FolioscopeError
from retrieval.evaluation import calibrate, replay
from retrieval.evaluation.answer_tally import area_under_curve
from retrieval.evaluation.answers import same_text
from retrieval.evaluation.evaluate import Dataset, Question
from retrieval.models.onnx import ModelFolder, write_manifest
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.tables import page_tables
from retrieval.text import STOP_WORDS, words
from retrieval.types import Filter, Page, PageContent, PageReader, Reranker, SearchRequest
from ui.factory import open_searcher

LONG = 24
"""An answer of more words that bear meaning is none."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with the names of the pages that answer, its own page first, and how it was answered by a person.

    also: other words of the page that are as right. evidence: the words that show the answer, if it need not be
    verbatim; then `is_answer` judges.
    """

    question: str
    file: str
    golds: tuple[str, ...]
    answer: str
    also: tuple[str, ...] = ()
    evidence: str = ""

    @property
    def number(self) -> int:
        """The number of its own page, from 1."""
        return int(self.golds[0].rpartition("=")[2])

    def is_right(self, text: str) -> bool:
        if self.evidence:
            return is_answer(text, self.answer, self.evidence)
        return any(same_text(text, each) for each in (self.answer, *self.also))


@dataclass(frozen=True, slots=True)
class First:
    """The first page that a search finds for a question, and the reader's score of it; None if it read none."""

    asked: Asked
    answerable: bool
    """Whether the document of the question was searched."""
    page: Page | None
    score: float

    @property
    def page_right(self) -> bool:
        return self.answerable and self.page is not None and self.page.name in self.asked.golds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("questions", type=Path)
    parser.add_argument("--index", required=True)
    parser.add_argument(
        "--marked", type=Path, help="more questions: file, page, q, answer, and also: words that are as right"
    )
    parser.add_argument(
        "--seen",
        type=Path,
        nargs="*",
        default=[],
        help="such questions to the documents that the reader was trained on",
    )
    parser.add_argument("--every", type=int, default=1, help="search for every n-th question")
    parser.add_argument("--model", default=configs.Text().model, help="the folder of the reader")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    settings = configs.load_profile("cpu").model_copy(update={"reranker": configs.Text(model=options.model)})
    searcher, store = open_searcher(options.index, settings)
    asked = [
        asked_of(row) for row in read_lines(options.questions / "questions.jsonl") if row["split"] == "held"
    ]
    sampled = asked[:: options.every]
    judged = list(replay.judge_candidates(dataset(sampled), searcher, within=False))
    assert searcher.reranker is not None
    calibration = calibrate.fit_calibration(
        judged,
        reranker=searcher.reranker.name,
        encoder=str(store.fingerprint),
        dataset=f"{len(sampled)} held-out questions",
    )
    firsts = list(first_pages(searcher, sampled, {each.name: each.doc_id for each in store.documents()}))
    if options.marked:
        asked += map(marked_of, read_lines(options.marked))
    found = list(examples(searcher, asked, store, firsts, calibration))
    seen = [marked_of(row) for path in options.seen for row in read_lines(path)]
    found += seen_examples(searcher.reranker, seen, options.questions / "pdfs")
    weights, report = answer_weights.fit(found)
    report = {"answers": report, "pages": page_report(firsts, calibration)}
    folder = ModelFolder(options.model)
    calibration, shift = with_zero_at_half(
        replace(calibration, answer=weights), folder.facts.get("relevance_shift", 0.0)
    )
    if options.write:
        write(folder, calibration, shift)
    fitted = {"log_loss": calibration.log_loss, "ece": calibration.ece, "relevance_shift": shift}
    print(json.dumps({**fitted, **report}, indent=1))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def asked_of(row: Mapping[str, Any]) -> Asked:
    """Returns a question whose evidence was quoted; its answer is verbatim if the evidence has it."""
    golds = tuple(f"{file}#page={n}" for file, n in [(row["file"], row["page"]), *row.get("also", ())])
    verbatim = f" {row['answer']} " in f" {row['evidence']} " and row.get("extract") is not False
    also = tuple(forms(row["answer"])) if verbatim else ()
    return Asked(row["q"], row["file"], golds, row["answer"], also, "" if verbatim else row["evidence"])


def marked_of(row: Mapping[str, Any]) -> Asked:
    """Returns a question whose answer is words of its page."""
    name = f"{row['file']}#page={row['page']}"
    return Asked(row["q"], row["file"], (name,), row["answer"], tuple(row.get("also", ())))


def dataset(asked: Sequence[Asked]) -> Dataset:
    """Returns the questions with the pages that answer."""
    numbered = [(str(number), each) for number, each in enumerate(asked)]
    questions = tuple(Question(number, each.question, each.file) for number, each in numbered)
    qrels = {number: dict.fromkeys(each.golds, 1) for number, each in numbered}
    return Dataset(Path(), Path(), questions, qrels)


def first_pages(searcher: Searcher, asked: Sequence[Asked], documents: Mapping[str, str]) -> Iterator[First]:
    """Yields the first page for each question, with its document and without it. documents: doc_ids by file name."""
    for each in asked:
        for answerable in (True, False):
            where = Filter() if answerable else Filter(without=frozenset({documents[each.file]}))
            *_, result = searcher.steps(SearchRequest(each.question, where, budget_ms=np.inf))
            best = result.hits[0] if result.hits and result.hits[0].reranked else None
            score = best.scores["rerank"] if best else -np.inf
            yield First(each, answerable, best.page if best else None, score)


def examples(
    searcher: Searcher,
    asked: Sequence[Asked],
    store: Store,
    firsts: Sequence[First],
    calibration: Calibration,
) -> Iterator[Example]:
    """Yields the candidates on each question's own page, and those on first pages that do not answer."""
    for each in asked:
        yield _example(searcher, First(each, True, store.page(each.file, each.number), 0.0), calibration)
    for first in firsts:
        if first.page and not first.page_right:
            yield _example(searcher, first, calibration)


def seen_examples(reader: Reranker, asked: Sequence[Asked], pdfs: Path) -> Iterator[Example]:
    """Yields the candidates on pages of documents that the reader was trained on, in `pdfs`."""
    for each in asked:
        content = read_content(pdfs / each.file, each.number)
        found = _candidates(reader, each.question, content, lambda _: 0.5)
        right = [each.is_right(answers.verbatim(content, c.first, c.end)) for c in found]
        yield Example(each.file, True, True, found, right, seen=True)


def _example(searcher: Searcher, first: First, calibration: Calibration) -> Example:
    asked = first.asked
    assert searcher.reranker
    assert first.page
    (content,) = searcher.focused(asked.question, [first.page])
    found = _candidates(
        searcher.reranker,
        asked.question,
        content,
        lambda score: float(calibration.probability(np.array([score]))[0]),
    )
    right = [first.page_right and asked.is_right(answers.verbatim(content, c.first, c.end)) for c in found]
    return Example(asked.file, first.page_right, first.answerable, found, right)


def _candidates(
    reader: Reranker, question: str, content: PageContent, confidence: Callable[[float], float]
) -> list[answers.Candidate]:
    assert isinstance(reader, PageReader)
    (reading,) = reader.read(question, [content], whole=True)
    return answers.candidates(question, page_tables(content), reading, confidence(reading.score))


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


def page_report(firsts: Sequence[First], calibration: Calibration) -> dict[str, Any]:
    """Returns how well the first page's confidence tells questions with an answer from those without."""
    sure = calibration.probability(np.array([first.score for first in firsts]))
    answerable = np.array([first.answerable for first in firsts])
    page_right = np.array([first.page_right for first in firsts])
    weak = {
        str(least): {
            "said without an answer": percent(sure < least, ~answerable),
            "said with one": percent(sure < least, answerable),
            "said on the right page": percent(sure < least, page_right),
        }
        for least in (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)
    }
    return {
        "AUC": area_under_curve(sure[answerable], sure[~answerable]),
        "AUC, right pages": area_under_curve(sure[page_right], sure[~answerable]),
        "first page right": percent(page_right, answerable),
        "weak below": weak,
    }


if __name__ == "__main__":
    main()
