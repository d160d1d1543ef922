"""Hard negatives for training, from the first stage itself: what it ranks high and is not the answer.

Among them are pages that do answer and were never judged. A teacher, a reranker that reads both, drops those that it
likes about as much as the judged page: a share of that page's probability (Moreira et al., 2024, NV-Retriever,
"positive-aware mining", arXiv 2407.15831). Its scores are kept: `fit` distils them, and goes by them from easy to hard.
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
    """Says which part of a page a small model should read: `rerankers.text.TextReranker`."""

    def passage(self, query: str, page: PageContent) -> str: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and all pages that are known to answer it; the first of them stands in the group."""

    source: str
    question: str
    answers: tuple[Page, ...]
    where: Filter = field(default_factory=Filter)


@dataclass(frozen=True, slots=True)
class Mining:
    negatives: int = 6
    """Kept of each question, at most."""
    read: int = 12
    """Candidates that the teacher reads: the best of the first stage that are not known to answer."""
    likely: float = 0.95
    """A negative that the teacher finds at least this share as probable as the answer is dropped: it may be one."""
    most: int = 0
    """Questions, drawn at random; 0: all."""
    seed: int = 0


@dataclass(slots=True)
class Mined:
    """What became of the questions and candidates."""

    questions: int = 0
    groups: int = 0
    negatives: int = 0
    dropped: int = 0
    """Candidates that the teacher took for answers."""
    without: int = 0
    """Questions that no negative was left for."""


def of_dataset(dataset: Dataset, store: Store, within: bool) -> list[Asked]:
    """The judged questions of a data set whose documents are in the index."""
    documents = {d.name: d for d in store.documents()}
    asked = []
    for question in dataset.questions:
        grades = dataset.qrels[question.query_id]
        names = sorted((name for name, grade in grades.items() if grade > 0), key=lambda n: -grades[n])
        places = [place for place in map(split_name, names) if place[0] in documents]
        pages = [Page(documents[file].doc_id, number, file) for file, number in places if number]
        where = Filter(documents=(question.document,)) if within and question.document else Filter()
        if pages:
            asked.append(Asked(dataset.name, question.text, tuple(pages), where))
    return asked


def of_groups(groups: Sequence[Group], pages: Mapping[str, Page]) -> list[Asked]:
    """Questions of passage groups, asked among the passages of their own source."""
    answers: dict[tuple[str, str], list[Page]] = {}
    for group in groups:
        answers.setdefault((group.source, group.question), []).append(pages[group.positive])
    return [
        Asked(source, question, tuple(dict.fromkeys(found)), Filter(documents=(found[0].document,)))
        for (source, question), found in answers.items()
    ]


@dataclass(frozen=True, slots=True)
class Miner:
    """`searcher` finds candidates, `teacher` drops those that answer, `reader` says what of a page is its text."""

    searcher: Searcher
    reader: Reader
    teacher: Reranker
    options: Mining = field(default_factory=Mining)
    counts: Mined = field(default_factory=Mined)

    def mine(self, asked: Sequence[Asked]) -> Iterator[Group]:
        """A group for each question that a negative is left for."""
        chosen, most = list(asked), self.options.most
        if 0 < most < len(chosen):
            chosen = random.Random(self.options.seed).sample(chosen, most)
        for one in chosen:
            self.counts.questions += 1
            group = self._group(one)
            if group is None:
                self.counts.without += 1
            else:
                self.counts.groups += 1
                self.counts.negatives += len(group.negatives)
                yield group

    def _group(self, asked: Asked) -> Group | None:
        known = {page.page_id for page in asked.answers}
        top = self.options.read + len(known)
        hits = self.searcher.search(asked.question, top=top, where=asked.where, rerank=False).hits
        others = [hit.page for hit in hits if hit.page.page_id not in known][: self.options.read]
        if not others:
            return None
        contents = self.searcher.focused(asked.question, [asked.answers[0], *others])
        scores = logits(self.teacher.score(asked.question, contents))
        kept = _kept(scores, self.options.likely)
        self.counts.dropped += len(others) - len(kept)
        texts = [self.reader.passage(asked.question, content) for content in contents]
        chosen = [i for i in kept if texts[i] and texts[i] != texts[0]][: self.options.negatives]
        if not chosen or not texts[0]:
            return None
        order = [0, *chosen]
        return Group(
            asked.source,
            asked.question,
            texts[0],
            tuple(texts[i] for i in chosen),
            tuple(scores[i] for i in order),
            tuple(contents[i].page.name for i in order),
        )


def logits(scores: Sequence[float]) -> list[float]:
    """Scores as logits: those of a teacher that gives probabilities are turned back into what they came from."""
    if not all(0 <= score <= 1 for score in scores):
        return list(scores)
    odds = np.clip(np.array(scores, np.float64), 1e-6, 1 - 1e-6)
    return [float(value) for value in np.log(odds / (1 - odds))]


def _kept(scores: Sequence[float], likely: float) -> list[int]:
    """Positions of the candidates, the first stage's best first, that the teacher does not take for answers."""
    odds = 1 / (1 + np.exp(-np.clip(np.array(scores, np.float64), -30, 30)))
    return [i for i in range(1, len(scores)) if odds[i] < likely * odds[0]]
