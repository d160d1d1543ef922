"""Mines hard negatives for training: pages that the first stage ranks high and that are not known to answer.

Some of those pages do answer, but were never judged. A teacher, which is a reranker, therefore scores them: a page is
dropped if its probability is at least a given fraction of the judged page's (Moreira et al., 2024, NV-Retriever,
"positive-aware mining", arXiv 2407.15831). The scores are written too: `fit` distils them, and orders groups by them.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from retrieval.evaluation.evaluate import Dataset, split_name
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.train.groups import Group
from retrieval.types import Filter, Page, PageContent, Reranker


class Reader(Protocol):
    """Chooses the part of a page that a small model should read, as `rerankers.text.TextReranker` does."""

    def passage(self, query: str, page: PageContent) -> str:
        """Returns the text of that part; "" for a page without words."""
        ...


@dataclass(frozen=True, slots=True)
class MiningQuestion:
    """A question and all pages that are known to answer it; the first of them becomes the group's positive."""

    source: str
    question: str
    answers: tuple[Page, ...]
    where: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Mining:
    """Options of mining."""

    negatives: int = 6
    """The most negatives of a question."""
    read: int = 12
    """Candidates of each question that the teacher scores: the first stage's best that are not known to answer."""
    likely: float = 0.95
    """Drop a candidate if the teacher gives it at least this fraction of the answer's probability: it may answer."""
    most: int = 0
    """The most questions, drawn at random; 0 for all."""
    seed: int = 0


@dataclass(slots=True)
class Mined:
    """Counts of the questions and candidates so far."""

    questions: int = 0
    groups: int = 0
    negatives: int = 0
    dropped: int = 0
    """Candidates that were dropped because they may answer."""
    without: int = 0
    """Questions that have no negative left."""


def of_dataset(dataset: Dataset, store: Store, within: bool) -> list[MiningQuestion]:
    """Returns the judged questions of a data set whose documents are in the index.

    within: whether a question that names a document is searched in that document only.
    """
    documents = {d.name: d for d in store.documents()}
    questions = []
    for question in dataset.questions:
        grades = dataset.qrels[question.query_id]
        names = sorted((name for name, grade in grades.items() if grade > 0), key=lambda n: -grades[n])
        places = [place for place in map(split_name, names) if place[0] in documents]
        pages = [Page(documents[file].doc_id, number, file) for file, number in places if number]
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        if pages:
            questions.append(MiningQuestion(dataset.name, question.text, tuple(pages), where))
    return questions


def of_groups(groups: Sequence[Group], pages: Mapping[str, Page]) -> list[MiningQuestion]:
    """Returns the questions of passage groups, each to be searched among the passages of its own source.

    pages: the page of each passage, as `add_passages` returns them.
    """
    answers: dict[tuple[str, str], list[Page]] = {}
    for group in groups:
        answers.setdefault((group.source, group.question), []).append(pages[group.positive])
    return [
        MiningQuestion(
            source, question, tuple(dict.fromkeys(positives)), Filter(documents=(positives[0].document,))
        )
        for (source, question), positives in answers.items()
    ]


@dataclass(frozen=True, slots=True)
class Miner:
    """Mines with a searcher that finds candidates, a teacher that scores them, and a reader that chooses their text."""

    searcher: Searcher
    reader: Reader
    teacher: Reranker
    options: Mining = field(default_factory=Mining)
    counts: Mined = field(default_factory=Mined)

    def mine(self, questions: Sequence[MiningQuestion]) -> Iterator[Group]:
        """Yields a group for each question that has a negative left, and updates `counts`."""
        chosen, most = list(questions), self.options.most
        if 0 < most < len(chosen):
            chosen = random.Random(self.options.seed).sample(chosen, most)
        for question in chosen:
            self.counts.questions += 1
            group = self._group(question)
            if group is None:
                self.counts.without += 1
            else:
                self.counts.groups += 1
                self.counts.negatives += len(group.negatives)
                yield group

    def _group(self, judged: MiningQuestion) -> Group | None:
        known = {page.page_id for page in judged.answers}
        top = self.options.read + len(known)
        hits = self.searcher.search(judged.question, top=top, where=judged.where, rerank=False).hits
        others = [hit.page for hit in hits if hit.page.page_id not in known][: self.options.read]
        if not others:
            return None
        contents = self.searcher.focused(judged.question, [judged.answers[0], *others])
        scores = logits(self.teacher.score(judged.question, contents))
        unlikely = _unlikely_answers(scores, self.options.likely)
        self.counts.dropped += len(others) - len(unlikely)
        texts = [self.reader.passage(judged.question, content) for content in contents]
        chosen = [i for i in unlikely if texts[i] and texts[i] != texts[0]][: self.options.negatives]
        if not chosen or not texts[0]:
            return None
        order = [0, *chosen]
        return Group(
            judged.source,
            judged.question,
            texts[0],
            tuple(texts[i] for i in chosen),
            tuple(scores[i] for i in order),
            tuple(contents[i].page.name for i in order),
        )


def logits(scores: Sequence[float]) -> list[float]:
    """Returns the scores as logits: scores that are all between 0 and 1 are taken for probabilities and converted."""
    if not all(0 <= score <= 1 for score in scores):
        return list(scores)
    odds = np.clip(np.array(scores, np.float64), 1e-6, 1 - 1e-6)
    return [float(value) for value in np.log(odds / (1 - odds))]


def _unlikely_answers(scores: Sequence[float], likely: float) -> list[int]:
    """Returns the positions of the candidates to use as negatives, in the first stage's order. scores: logits."""
    probabilities = 1 / (1 + np.exp(-np.clip(np.array(scores, np.float64), -30, 30)))
    return [i for i in range(1, len(scores)) if probabilities[i] < likely * probabilities[0]]
