"""How good is the search: every stage's ranking of a labelled data set, judged by ir_measures.

A data set is a folder: `pdfs/`, `queries.jsonl` ({"query_id", "text"}, optionally "document", the file that a
question is about, "sources", what the answer sits in, and "kind", what sort of question it is) and `qrels.txt` (TREC:
`qid 0 name.pdf#page=N grade`).
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
    document: str = ""  # the file that it is about, if it is about one
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What is known of it, by kind: {"sources": ("Table", "Chart")}. Results are broken down by them."""


@dataclass(frozen=True, slots=True)
class Dataset:
    folder: Path
    documents: Path  # what has to be ingested
    questions: tuple[Question, ...]  # those with at least one relevant page
    qrels: Mapping[str, Mapping[str, int]]  # query_id -> page name, or document name -> grade
    unit: Literal["page", "document"] = "page"
    """What is judged; a document's rank is that of its best page."""

    @property
    def name(self) -> str:
        return self.folder.name


@dataclass(frozen=True, slots=True)
class Evaluation:
    """`values[stage][measure]` has one value per question, in the order of `questions`."""

    questions: tuple[Question, ...]
    values: Mapping[str, Mapping[str, tuple[float, ...]]]
    seconds: Mapping[str, tuple[float, ...]] = field(
        default_factory=dict
    )  # by stage of the search, per question
    read: tuple[int, ...] = ()  # pages that the reranker read, per question

    def mean(self, stage: str, measure: str, keep: Callable[[Question], bool] = lambda _: True) -> float:
        chosen = [v for q, v in zip(self.questions, self.values[stage][measure], strict=True) if keep(q)]
        return float(np.mean(chosen)) if chosen else float("nan")


def read_dataset(folder: Path) -> Dataset:
    """Raises NotFound where a part is missing, BadDataset where a line cannot be used."""
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
    """By query_id."""
    questions: dict[str, Question] = {}
    lines: dict[str, int] = {}
    for line in read_jsonl(path):
        query_id, text = line.text("query_id"), line.text("text")
        if query_id.split() != [query_id]:
            raise line.bad(
                f"query_id is {query_id!r}", "a name without blanks, as qrels.txt separates by them"
            )
        if query_id in lines:
            raise line.bad(
                f"query_id {query_id!r} stands on line {lines[query_id]} too",
                "another query_id for each question",
            )
        attributes = {name: line.names(name) for name in ("sources", "kind") if line.row.get(name)}
        document = line.text("document") if line.row.get("document") else ""
        questions[query_id] = Question(query_id, text, document, attributes)
        lines[query_id] = line.number
    if not questions:
        raise BadDataset(
            f'{path} is empty: it needs a line for each question, like {{"query_id": "q1", "text": "..."}}'
        )
    return questions


def _read_qrels(path: Path, questions: Mapping[str, Question]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for number, line in read_lines(path):
        fields = line.split(maxsplit=2)
        named = fields[2].rsplit(maxsplit=1) if len(fields) == 3 else []  # a name may have blanks
        if len(named) < 2:
            raise bad_line(
                path, number, f"{shortened(line)} stands there", "'QUERY_ID 0 report.pdf#page=12 GRADE'"
            )
        name, grade = named
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", grade):
            raise bad_line(
                path, number, f"the grade is {grade!r}", "a whole number, 0 for a page that does not answer"
            )
        if fields[0] not in questions:
            raise bad_line(
                path, number, f"the question is {fields[0]!r}", "a query_id that queries.jsonl has"
            )
        grades = qrels.setdefault(fields[0], {})
        if grades.setdefault(name, int(grade)) != int(grade):
            raise bad_line(
                path, number, f"{fields[0]!r} gives {name!r} the grade {grade}, an earlier line another one",
                "one grade for a question and a page",
            )  # fmt: skip
    if not qrels:
        raise BadDataset(f"{path} is empty: it needs lines like 'q1 0 report.pdf#page=12 1'")
    return qrels


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One object of a .jsonl file, and where it stands."""

    path: Path
    number: int  # of the line, from 1
    row: Mapping[str, Any]

    def bad(self, found: str, expected: str) -> BadDataset:
        return bad_line(self.path, self.number, found, expected)

    def text(self, key: str) -> str:
        """The value of `key`. Raises BadDataset if it is missing, no string, or blank."""
        value = self.row.get(key)
        if not isinstance(value, str) or not value.strip():
            missing = f"there is no {key!r} among {', '.join(self.row) or 'no keys at all'}"
            raise self.bad(f"{key} is {shortened(value)}" if key in self.row else missing, f"{key}: a text")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        """A text, or several, as a tuple. Raises BadDataset if it is something else."""
        value = self.row[key]
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
            raise self.bad(f"{key} is {shortened(value)}", f"{key}: a text or a list of texts")
        return tuple(values)


def read_jsonl(path: Path) -> Iterator[JsonLine]:
    """Raises BadDataset for a line that is no JSON object."""
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise bad_line(
                path, number, f"{shortened(line)} is no JSON ({error})", "a JSON object"
            ) from error
        if not isinstance(row, dict):
            raise bad_line(path, number, f"{shortened(row)} stands there", "a JSON object")
        yield JsonLine(path, number, row)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text) of each line that is not blank. Raises BadDataset where it is no UTF-8."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise bad_line(path, number, f"{shortened(line)} is no UTF-8", "text in UTF-8") from error
            if text:
                yield number, text


def bad_line(path: Path, number: int, found: str, expected: str) -> BadDataset:
    return BadDataset(f"{path}, line {number}: {found}; expected {expected}")


def shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def judged(
    folder: Path,
    documents: Path,
    questions: Iterable[Question],
    qrels: Mapping[str, Mapping[str, int]],
    unit: Literal["page", "document"] = "page",
) -> Dataset:
    """Without the questions that nothing answers: no order of pages would be right or wrong for them."""
    kept = tuple(q for q in questions if any(grade > 0 for grade in qrels.get(q.query_id, {}).values()))
    return Dataset(folder, documents, kept, qrels, unit)


def evaluate(
    dataset: Dataset,
    searcher: Searcher,
    store: Store,
    *,
    within: bool,
    budget_ms: float | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Ask every question; judge each stage's order. `within` restricts a search to the question's document.

    `on_progress` hears how many questions are done. Raises NotFound where the index lacks a judged document.
    """
    require(dataset, store)
    runs: dict[str, dict[str, Run]] = {stage: {} for stage in STAGES}
    seconds: dict[str, list[float]] = {}
    for done, question in enumerate(dataset.questions, start=1):
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        began = time.perf_counter()
        result = searcher.search(question.text, top=100, where=where, budget_ms=budget_ms)
        seconds.setdefault("whole", []).append(time.perf_counter() - began)
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


def require(dataset: Dataset, store: Store) -> None:
    """Raises NotFound where the index lacks a judged document."""
    known = {d.name for d in store.documents()}
    wanted = {document_of(name) for grades in dataset.qrels.values() for name in grades}
    if wanted - known:
        raise NotFound(
            f"the index lacks {len(wanted - known)} judged documents, {sorted(wanted - known)[0]!r} among "
            f"them: ingest {dataset.documents} into it first"
        )


def as_run(pages: Sequence[Page], unit: Literal["page", "document"] = "page") -> Run:
    """Scores that fall with the rank: the order is what is judged, and no tie is left to chance."""
    return falling([page.name if unit == "page" else page.document for page in pages])


def falling(names: Sequence[str]) -> Run:
    """Scores of names that are given best first; of a name that comes twice, its better place."""
    return {name: float(len(names) - at) for at, name in reversed(list(enumerate(names)))}


def document_of(name: str) -> str:
    """Of a page's name, `report.pdf#page=12`; of a document's, that name itself."""
    return split_name(name)[0]


def split_name(name: str) -> tuple[str, int]:
    """(document, number) of a page's name; a document's name with 0."""
    document, _, number = name.rpartition("#page=")
    return (document, int(number)) if document and number.isdigit() else (name, 0)


def judge(dataset: Dataset, run: Mapping[str, Run]) -> dict[str, tuple[float, ...]]:
    """Each measure's value for each question, in the data set's order; 0 where a question found nothing."""
    return measure_runs(MEASURES, {q.query_id: dataset.qrels[q.query_id] for q in dataset.questions}, run)


def measure_runs(
    measures: Sequence[Any], qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Run]
) -> dict[str, tuple[float, ...]]:
    """Each measure's value for each query of `qrels`, in its order; 0 where a query found nothing."""
    found: dict[str, dict[str, float]] = {str(measure): {} for measure in measures}
    judged = {query_id: dict(grades) for query_id, grades in qrels.items()}
    for metric in ir_measures.iter_calc(measures, judged, {qid: dict(scores) for qid, scores in run.items()}):
        found[str(metric.measure)][metric.query_id] = metric.value
    return {name: tuple(by_query.get(qid, 0.0) for qid in qrels) for name, by_query in found.items()}


def paired_p(first: Sequence[float], second: Sequence[float], rounds: int = 10_000, seed: int = 0) -> float:
    """Two-sided p of 'no difference' by Fisher's randomization test (Smucker et al., 2007)."""
    differences = np.array(second) - np.array(first)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(rounds, len(differences)))
    extreme = np.abs((signs * differences).mean(axis=1)) >= abs(differences.mean()) - 1e-12
    return float((extreme.sum() + 1) / (rounds + 1))
