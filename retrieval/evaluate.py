"""How good is the search: every stage's ranking of a labelled data set, judged by ir_measures.

A data set is a folder: `pdfs/`, `queries.jsonl` ({"query_id", "text"}, optionally "document", the file that a
question is about, "sources", what the answer sits in, and "kind", what sort of question it is) and `qrels.txt` (TREC:
`qid 0 name.pdf#page=N grade`).
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import ir_measures
import numpy as np
from ir_measures import RR, R, nDCG

from retrieval.errors import NotFound
from retrieval.search import Searcher
from retrieval.store import Store
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


def read(folder: Path) -> Dataset:
    """Raises NotFound where a part is missing, ValueError where a line cannot be read."""
    for part in ("pdfs", "queries.jsonl", "qrels.txt"):
        if not (folder / part).exists():
            raise NotFound(
                f"{folder} is not a data set: it has no {part} (it needs pdfs/, queries.jsonl, qrels.txt)"
            )
    questions = []
    for line in _lines(folder / "queries.jsonl"):
        row = json.loads(line)
        attributes = {name: _names(row[name]) for name in ("sources", "kind") if row.get(name)}
        questions.append(Question(row["query_id"], row["text"], row.get("document") or "", attributes))
    qrels: dict[str, dict[str, int]] = {}
    for line in _lines(folder / "qrels.txt"):
        query_id, _, rest = line.split(maxsplit=2)
        name, grade = rest.rsplit(maxsplit=1)
        qrels.setdefault(query_id, {})[name] = int(grade)
    return judged(folder, folder / "pdfs", questions, qrels)


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
    told: Callable[[int], None] = lambda _: None,
) -> Evaluation:
    """Ask every question; judge each stage's order. `within` restricts a search to the question's document.

    `told` hears how many questions are done. Raises NotFound where the index lacks a judged document.
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
        told(done)
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
    return measured(MEASURES, {q.query_id: dataset.qrels[q.query_id] for q in dataset.questions}, run)


def measured(
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


def _names(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        yield from (line.strip() for line in lines if line.strip())
