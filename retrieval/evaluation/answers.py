"""Measures answers and highlights against gold answers: is the first page right, is the answer lit, is it given?

Token F1 is that of SQuAD (Rajpurkar et al., 2016).
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retrieval.evaluation.evaluate import Dataset, Question, require_judged_documents
from retrieval.evaluation.gold import Form, Gold, GoldAnswer
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.text import words
from retrieval.types import Answer, Box, Filter, Highlight, SearchResult

Light = Literal[
    "answer",  # it covers the answer, and little else
    "wide",  # it covers the answer, and so much else that it does not show where
    "passage",  # it touches the answer's sentence or row
    "elsewhere",  # it touches neither
    "none",  # nothing is lit
]
AnswerLine = Literal["exact", "part", "wrong", "silent"]

STRONGEST = 0.99
"""Regions at least this strong in relation to the strongest one are the strongest light, if none is an answer."""
COVERED = 0.5
"""The answer is lit if at least this share of the area of its words is."""
WIDE = 6.0
"""Light is wide if it is more than this many times as large as the answer's passage..."""
SMALL = 0.02
"""... and larger than this share of the page: a lit sentence is not wide because the passage is a single cell."""
LARGE = 0.25
"""Light on more than this share of the page is wide, unless the passage is as large."""
TOUCHED = 0.2
"""Two sets of boxes touch if they share this much of the smaller one: boxes of neighbouring lines overlap a little."""
SAME_PLACE = 0.8
"""Intersection over union from which an answer's words are those of the gold, however OCR spelt them."""
QUOTES_AND_DASHES = str.maketrans("“”„«»’‘‚–—−", '"""""\'\'\'---')
AROUND = " \t\n.,;:!?\"'()[]"  # punctuation that does not matter at the start and the end of an answer


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """What a search showed for one question, and how right it was."""

    question: Question
    form: Form
    page: str  # name of the first page; "" if there was none
    grade: int  # of the first page; 0 if it does not answer
    light: Light | None  # None if the first page is not right, or has no gold answer
    claims: bool  # whether the light is of kind "answer"
    answer: str  # the answer line; "" if there was none
    line: AnswerLine
    f1: float  # token F1 of the answer line, in [0, 1]
    signs: "Signs"

    @property
    def misleads(self) -> bool:
        """Whether something is lit as the answer that is neither the answer nor its passage."""
        return self.claims and self.light == "elsewhere"


@dataclass(frozen=True, slots=True)
class Signs:
    """What a search says about whether it found an answer."""

    weak: bool  # it says that nothing matches well, or that nothing matches
    answers: bool  # it gives an answer
    confidence: float | None  # of the first page; None without a calibration
    score: float | None  # the reranker's, of the first page; None if it was not read
    probability: float  # of the likeliest answer; 0 without answers


# Judging


def judge_answers(
    dataset: Dataset,
    gold: Mapping[str, Gold],
    searcher: Searcher,
    store: Store,
    *,
    within: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[JudgedAnswer]:
    """Search for every question without a time limit, and judge the first page, its highlights and the answer line.

    within: search only the document of each question. on_progress: called with the number of questions that are done.
    Raises NotFound if a judged document is not in the index.
    """
    require_judged_documents(dataset, store)
    for done, question in enumerate(dataset.questions, start=1):
        result = _search(searcher, question, within)
        first = result.hits[0].page if result.hits else None
        highlight = searcher.highlight(question.text, [first])[0] if first else None
        yield judge_answer(
            question, gold[question.query_id], dataset.qrels[question.query_id], result, highlight
        )
        on_progress(done)


def judge_refusals(
    questions: Sequence[Question],
    searcher: Searcher,
    *,
    within: bool,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Signs]:
    """Search for questions that no page answers, as `judge_answers` does, and return the signs of each result."""
    for done, question in enumerate(questions, start=1):
        yield signs_of(_search(searcher, question, within))
        on_progress(done)


def _search(searcher: Searcher, question: Question, within: bool) -> SearchResult:
    where = Filter(documents=(question.document,)) if within and question.document else Filter()
    return searcher.search(question.text, where=where, budget_ms=inf)


def signs_of(result: SearchResult) -> Signs:
    first = result.hits[0] if result.hits else None
    return Signs(
        weak=any(note.kind in ("weak_match", "no_match") for note in result.notes),
        answers=bool(result.answers),
        confidence=first.confidence if first else None,
        score=first.scores.get("rerank") if first else None,
        probability=result.answers[0].probability if result.answers else 0.0,
    )


def judge_answer(
    question: Question,
    gold: Gold,
    grades: Mapping[str, int],
    result: SearchResult,
    highlight: Highlight | None,
) -> JudgedAnswer:
    """Judge one result. highlight: of its first page; None if there is none. grades: by page name."""
    page = result.hits[0].page.name if result.hits else ""
    light, claims = strongest_light(highlight) if highlight else ((), False)
    line, f1 = judge_line(gold, result.answers[0]) if result.answers else ("silent", 0.0)
    return JudgedAnswer(
        question=question,
        form=gold.form,
        page=page,
        grade=max(grades.get(page, 0), 0),
        light=judge_light(gold.on(page), light) if gold.on(page) else None,
        claims=claims,
        answer=result.answers[0].text if result.answers else "",
        line=line,
        f1=f1,
        signs=signs_of(result),
    )


def strongest_light(highlight: Highlight) -> tuple[tuple[Box, ...], bool]:
    """Return what the eye sees first, and whether it is lit as the answer.

    These are the regions of kind "answer"; if there are none, those that are nearly as strong as the strongest.
    """
    answers = tuple(region.box for region in highlight.regions if region.kind == "answer")
    if answers:
        return answers, True
    most = max((region.strength for region in highlight.regions), default=0.0)
    return tuple(r.box for r in highlight.regions if r.strength >= STRONGEST * most), False


def judge_light(gold: Sequence[GoldAnswer], light: Sequence[Box]) -> Light:
    """Judge the light on a page by the gold answers of that page."""
    if not light:
        return "none"
    covering = [way for way in _ways(gold) if _covers(light, way)]
    if any(area(light) <= _widest(way) for way in covering):
        return "answer"
    if covering:
        return "wide"
    if any(touch(light, [*answer.boxes, *answer.passage]) for answer in gold):
        return "passage"
    return "elsewhere"


def _ways(gold: Sequence[GoldAnswer]) -> list[list[list[GoldAnswer]]]:
    """Return the ways to answer on a page. A way is a list of parts, and a part a list of equally good answers."""
    alone = [[[answer]] for answer in gold if answer.item is None]
    items = sorted({answer.item for answer in gold if answer.item is not None})
    parts = [[answer for answer in gold if answer.item == item] for item in items]
    return [*alone, *([parts] if parts else [])]


def _covers(light: Sequence[Box], way: Sequence[Sequence[GoldAnswer]]) -> bool:
    """Return whether the light covers enough of one answer of each part."""
    return all(any(shared(a.boxes, light) >= COVERED * area(a.boxes) for a in part) for part in way)


def _widest(way: Sequence[Sequence[GoldAnswer]]) -> float:
    """Return the largest area of light that still shows where the answer is, as a share of the page."""
    passage = area([box for part in way for answer in part for box in answer.passage])
    return max(SMALL, min(WIDE * passage, max(passage, LARGE)))


def judge_line(gold: Gold, answer: Answer) -> tuple[AnswerLine, float]:
    """Judge an answer line; return its token F1 as well, the best over the gold answers of its page.

    An item of a list with more items is a part of the answer. Where the answer is a passage, the answer is exact if it
    lies in the gold passage and its own passage holds the gold words.
    """
    here = gold.on(answer.page.name)
    if not here:
        return "wrong", 0.0
    items = {each.item for each in gold.answers if each.item is not None}
    ways = _ways(here)
    joined = [" ".join(part[0].text for part in way) for way in ways]
    texts = [*joined, *(text for each in here for text in (each.text, *each.also))]
    f1 = max(token_f1(answer.text, text) for text in texts)
    complete = [each for each in here if each.item is None or len(items) == 1]
    lists = [text for text, way in zip(joined, ways, strict=True) if len(way) == len(items)]
    if any(_is_exact(gold.form, each, answer) for each in complete) or _is_one_of(answer.text, lists):
        return "exact", f1
    if _is_one_of(answer.text, texts) or any(touch(answer.boxes, each.boxes) for each in here):
        return "part", f1
    return "wrong", f1


def _is_exact(form: Form, gold: GoldAnswer, answer: Answer) -> bool:
    if _is_one_of(answer.text, (gold.text, *gold.also)):
        return True
    if form in ("passage", "yes_no"):
        holds = shared(gold.boxes, answer.passage_boxes) >= COVERED * area(gold.boxes)
        return holds and shared(answer.boxes, gold.passage) >= COVERED * area(answer.boxes) > 0
    common = shared(answer.boxes, gold.boxes)
    return common >= SAME_PLACE * (area(answer.boxes) + area(gold.boxes) - common) > 0


# Texts and boxes


def same_text(one: str, other: str) -> bool:
    """Return whether two texts differ only in case, blanks, kinds of quotes and dashes, and punctuation around them."""
    return _plain(one) == _plain(other)


def _is_one_of(text: str, texts: Sequence[str]) -> bool:
    return any(same_text(text, each) for each in texts)


def _plain(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).translate(QUOTES_AND_DASHES).casefold().strip(AROUND)
    return re.sub(r"\s+", "", folded)


def token_f1(one: str, other: str) -> float:
    """Return the harmonic mean of precision and recall over the words of two texts, in [0, 1]."""
    first, second = Counter(words(one)), Counter(words(other))
    common = (first & second).total()
    return 2 * common / (first.total() + second.total()) if common else 0.0


def area(boxes: Sequence[Box]) -> float:
    """Return the area of the union of the boxes, as a share of the page."""
    return shared(boxes, boxes)


def shared(one: Sequence[Box], other: Sequence[Box]) -> float:
    """Return the area that the unions of two sets of boxes share, as a share of the page."""
    if not one or not other:
        return 0.0
    corners = np.array([*one, *other])
    xs, ys = np.unique(corners[:, [0, 2]]), np.unique(corners[:, [1, 3]])
    both = _cells(one, xs, ys) & _cells(other, xs, ys)
    return float(np.diff(ys) @ both @ np.diff(xs))


def _cells(boxes: Sequence[Box], xs: NDArray[np.float64], ys: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which cells of the grid of these lines the boxes fill, (rows, columns)."""
    cells = np.zeros((len(ys) - 1, len(xs) - 1), np.bool_)
    for x0, y0, x1, y1 in boxes:
        rows = slice(np.searchsorted(ys, y0), np.searchsorted(ys, y1))
        cells[rows, np.searchsorted(xs, x0) : np.searchsorted(xs, x1)] = True
    return cells


def touch(one: Sequence[Box], other: Sequence[Box]) -> bool:
    """Return whether two sets of boxes share a good part of the smaller one."""
    return shared(one, other) > TOUCHED * min(area(one), area(other))
