"""Measures the ranking of every stage of the search on a labelled data set, by ir_measures.

A data set is a folder with `pdfs/`, `queries.jsonl` and `qrels.txt`. Each line of `queries.jsonl` has "query_id" and
"text", and may have "document" (the file that the question is about), "sources" (what the answer is in, such as a
table) and "kind" (the kind of question). `qrels.txt` has TREC's lines, `qid 0 name.pdf#page=N grade`.
"""

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from retrieval.errors import BadDataset, NotFound
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Filter, Page

Run = Mapping[str, float]  # page name -> score, of one query

MEASURES = [nDCG @ 5, nDCG @ 10, RR @ 10, R @ 10, R @ 100]
STAGES = ("text", "vectors", "first stage", "reranked")


@dataclass(frozen=True, slots=True)
class Question:
    query_id: str
    text: str
    document: str = ""  # the file that the question is about; "" if it is about no particular file
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Values by attribute, {"sources": ("Table", "Chart")}. Results are also reported for each value."""


@dataclass(frozen=True, slots=True)
class Dataset:
    folder: Path
    documents: Path  # the folder or file to ingest
    questions: tuple[Question, ...]  # each has at least one relevant page
    qrels: Mapping[str, Mapping[str, int]]  # query_id -> page name, or document name -> grade
    unit: Literal["page", "document"] = "page"
    """Whether pages or documents are judged. A document's rank is that of its best page."""

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The measures of every stage for every question, in the order of `questions`."""

    questions: tuple[Question, ...]
    values: Mapping[str, Mapping[str, tuple[float, ...]]]  # values[stage][measure]
    seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # by stage of the search
    read: tuple[int, ...] = ()  # pages that the reranker read

    def mean(self, stage: str, measure: str, keep: Callable[[Question], bool] = lambda _: True) -> float:
        """Return the mean over the questions that `keep` accepts; NaN if it accepts none."""
        chosen = [v for q, v in zip(self.questions, self.values[stage][measure], strict=True) if keep(q)]
        return float(np.mean(chosen)) if chosen else float("nan")


def read_dataset(folder: Path) -> Dataset:
    """Read a data set. Raises NotFound if a part is missing, BadDataset if a line cannot be used."""
    for part in ("pdfs", "queries.jsonl", "qrels.txt"):
        if not (folder / part).exists():
            raise NotFound(
                f"{folder} is not a data set: it has no {part} (it needs pdfs/, queries.jsonl, qrels.txt)"
            )
    questions = _read_questions(folder / "queries.jsonl")
    qrels = _read_qrels(folder / "qrels.txt", questions)
    dataset = judged(folder, folder / "pdfs", questions.values(), qrels)
    if not dataset.questions:
        raise BadDataset(
            f"{folder / 'qrels.txt'} has no grade above 0: no question has a page that answers it"
        )
    return dataset


def _read_questions(path: Path) -> dict[str, Question]:
    """Return the questions by query_id."""
    questions: dict[str, Question] = {}
    lines: dict[str, int] = {}
    for line in read_jsonl(path):
        query_id, text = line.text("query_id"), line.text("text")
        if query_id.split() != [query_id]:
            raise line.bad(
                f"query_id is {query_id!r}",
                "a name without blanks, because blanks separate the fields of qrels.txt",
            )
        if query_id in lines:
            raise line.bad(
                f"query_id {query_id!r} is also on line {lines[query_id]}",
                "a different query_id for each question",
            )
        attributes = {name: line.names(name) for name in ("sources", "kind") if line.row.get(name)}
        document = line.text("document") if line.row.get("document") else ""
        questions[query_id] = Question(query_id, text, document, attributes)
        lines[query_id] = line.number
    if not questions:
        raise BadDataset(
            f'{path} is empty: it needs a line for each question, such as {{"query_id": "q1", "text": "..."}}'
        )
    return questions


def _read_qrels(path: Path, questions: Mapping[str, Question]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, line in read_lines(path):
        fields = line.split(maxsplit=2)
        judgement = fields[2].rsplit(maxsplit=1) if len(fields) == 3 else []  # a name may have blanks
        if len(judgement) < 2:
            raise bad_line(
                path, number, f"the line is {shortened(line)}", "'QUERY_ID 0 report.pdf#page=12 GRADE'"
            )
        name, grade = judgement
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", grade):
            raise bad_line(
                path, number, f"the grade is {grade!r}", "a whole number, 0 for a page that does not answer"
            )
        if fields[0] not in questions:
            raise bad_line(path, number, f"the question is {fields[0]!r}", "a query_id of queries.jsonl")
        grades = qrels.setdefault(fields[0], {})
        if grades.setdefault(name, int(grade)) != int(grade):
            raise bad_line(
                path,
                number,
                f"{fields[0]!r} gives {name!r} the grade {grade}, and an earlier line gives it {grades[name]}",
                "one grade for a question and a page",
            )
    if not qrels:
        raise BadDataset(f"{path} is empty: it needs lines like 'q1 0 report.pdf#page=12 1'")
    return qrels


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One object of a .jsonl file, with its line number."""

    path: Path
    number: int  # line number, from 1
    row: Mapping[str, Any]

    def bad(self, fault: str, expected: str) -> BadDataset:
        return bad_line(self.path, self.number, fault, expected)

    def text(self, key: str) -> str:
        """Return the value of `key`. Raises BadDataset if it is missing, not a string, or blank."""
        value = self.row.get(key)
        if not isinstance(value, str) or not value.strip():
            missing = (
                f"{key!r} is missing; the keys are {', '.join(self.row)}"
                if self.row
                else f"{key!r} is missing"
            )
            raise self.bad(f"{key} is {shortened(value)}" if key in self.row else missing, f"{key}: a text")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """Return the value of `key`, a text or a list of texts, as a tuple. Raises BadDataset for anything else."""
        value = self.row[key]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.bad(f"{key} is {shortened(value)}", f"{key}: a text or a list of texts")
        return tuple(values)


def read_jsonl(path: Path) -> Iterator[JsonLine]:
    """Yield the objects of a .jsonl file. Raises BadDataset for a line that is not a JSON object."""
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise bad_line(
                path, number, f"{shortened(line)} is not JSON ({error})", "a JSON object"
            ) from error
        if not isinstance(row, dict):
            raise bad_line(path, number, f"the line is {shortened(row)}", "a JSON object")
        yield JsonLine(path, number, row)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, text) of each line that is not blank. Raises BadDataset for a line that is not UTF-8."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise bad_line(path, number, f"{shortened(line)} is not UTF-8", "text in UTF-8") from error
            if text:
                yield number, text


def bad_line(path: Path, number: int, fault: str, expected: str) -> BadDataset:
    """Return the error for a line that cannot be used. number: from 1."""
    return BadDataset(f"{path}, line {number}: {fault}; expected {expected}")


def shortened(value: object) -> str:
    """Return the value's repr, cut off after 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def judged(
    folder: Path,
    documents: Path,
    questions: Iterable[Question],
    qrels: Mapping[str, Mapping[str, int]],
    unit: Literal["page", "document"] = "page",
) -> Dataset:
    """Return a data set without the questions that no page answers: every order of pages is equally good for them."""
    answered = tuple(q for q in questions if any(grade > 0 for grade in qrels.get(q.query_id, {}).values()))
    return Dataset(folder, documents, answered, qrels, unit)


def evaluate(
    dataset: Dataset,
    searcher: Searcher,
    store: Store,
    *,
    within: bool,
    budget_ms: float | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Search for every question, and judge each stage's order.

    within: search only the document of each question. on_progress: called with the number of questions that are done.
    Raises NotFound if a judged document is not in the index.
    """
    require_judged_documents(dataset, store)
    runs: dict[str, dict[str, Run]] = {stage: {} for stage in STAGES}
    seconds: dict[str, list[float]] = {}
    for done, question in enumerate(dataset.questions, start=1):
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        began = time.perf_counter()
        result = searcher.search(question.text, top=100, where=where, budget_ms=budget_ms)
        seconds.setdefault("total", []).append(time.perf_counter() - began)
        for stage in result.stages:
            seconds.setdefault(stage.name, []).append(stage.seconds)
        orders = [
            result.rankings["text"],
            result.rankings["vectors"],
            [hit.page for hit in result.candidates],
            [hit.page for hit in result.hits],
        ]
        for stage_name, pages in zip(STAGES, orders, strict=True):
            runs[stage_name][question.query_id] = as_run(pages, dataset.unit)
        on_progress(done)
    values = {stage: judge(dataset, run) for stage, run in runs.items()}
    return Evaluation(dataset.questions, values, {name: tuple(s) for name, s in seconds.items()})


def require_judged_documents(dataset: Dataset, store: Store) -> None:
    """Raise NotFound if a judged document is not in the index."""
    judged_documents = {document_of(name) for grades in dataset.qrels.values() for name in grades}
    missing = sorted(judged_documents - {d.name for d in store.documents()})
    if missing:
        raise NotFound(
            f"the index lacks {len(missing)} judged documents, {missing[0]!r} among them: "
            f"ingest {dataset.documents} into it first"
        )


def as_run(pages: Sequence[Page], unit: Literal["page", "document"] = "page") -> Run:
    """Return scores that fall with the rank, so that only the order is judged and there are no ties."""
    return falling_scores([page.name if unit == "page" else page.document for page in pages])


def falling_scores(names: Sequence[str]) -> Run:
    """Return falling scores for names, which are given best first. A name that occurs twice has its better place."""
    return {name: float(len(names) - at) for at, name in reversed(list(enumerate(names)))}


def document_of(name: str) -> str:
    """Return the document of a page's name, as in `report.pdf#page=12`. A document's name is returned unchanged."""
    return split_name(name)[0]


def split_name(name: str) -> tuple[str, int]:
    """Return (document, page number) for a page's name, and (name, 0) for a document's name."""
    document, _, number = name.rpartition("#page=")
    return (document, int(number)) if document and number.isdigit() else (name, 0)


def judge(dataset: Dataset, run: Mapping[str, Run]) -> dict[str, tuple[float, ...]]:
    """Return each measure's value for each question, in the data set's order; 0 for a question without a result."""
    return measure_runs(MEASURES, {q.query_id: dataset.qrels[q.query_id] for q in dataset.questions}, run)


def measure_runs(
    measures: Sequence[Any], qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Run]
) -> dict[str, tuple[float, ...]]:
    """Return each measure's value for each query of `qrels`, in its order; 0 for a query without a result."""
    values: dict[str, dict[str, float]] = {str(measure): {} for measure in measures}
    judgements = {query_id: dict(grades) for query_id, grades in qrels.items()}
    scores = {query_id: dict(pages) for query_id, pages in run.items()}
    for metric in ir_measures.iter_calc(measures, judgements, scores):
        values[str(metric.measure)][metric.query_id] = metric.value
    return {name: tuple(by_query.get(qid, 0.0) for qid in qrels) for name, by_query in values.items()}


def paired_p(first: Sequence[float], second: Sequence[float], rounds: int = 10_000, seed: int = 0) -> float:
    """Return the two-sided p of 'no difference' by Fisher's randomization test (Smucker et al., 2007)."""
    differences = np.array(second) - np.array(first)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(rounds, len(differences)))
    extreme = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    return float((extreme.sum() + 1) / (rounds + 1))
