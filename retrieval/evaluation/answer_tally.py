"""Counts judged answers, for all questions and by attribute, and measures how well a search tells that it has none."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from retrieval.evaluation.answers import AnswerLine, JudgedAnswer, Light, Signs


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts over some questions. A page is right if it has a grade; lights are judged on right first pages only."""

    attribute: str  # "form", "kind", ...; "" for all questions
    value: str
    questions: int
    by_itself: int  # first pages of grade 2 or more
    right: int  # first pages of any grade above 0
    lights: Mapping[Light, int]  # on right first pages that have a gold answer
    misleading: int  # of these, how many light as the answer what is neither the answer nor its passage
    lines: Mapping[AnswerLine, int]  # over all questions
    lines_of_right: Mapping[AnswerLine, int]  # over questions whose first page is right
    f1: float  # mean token F1 of the answer lines of `right`, silent ones left out; NaN if all are silent

    @property
    def judged(self) -> int:
        """The number of lights that were judged."""
        return sum(self.lights.values())


@dataclass(frozen=True, slots=True)
class Refusal:
    """How results of questions that no page answers differ from those of questions that a page answers.

    An area under the curve (AUC) is the probability that a sign is greater for an answered question than for an
    unanswered one; it is missing if a search does not have that sign.
    """

    answered: int
    unanswered: int
    weak: tuple[int, int]  # results that say that nothing matches well, of (answered, unanswered) questions
    silent: tuple[int, int]  # results without an answer
    auc: Mapping[str, float]  # by sign


def tallies(judged: Sequence[JudgedAnswer]) -> list[Tally]:
    """Return the tally of all questions, those by form, and those by kind."""
    groups: dict[tuple[str, str], list[JudgedAnswer]] = {("", "all"): list(judged)}
    for each in sorted(judged, key=lambda each: each.form):
        groups.setdefault(("form", each.form), []).append(each)
    for value in sorted({kind for each in judged for kind in each.question.attributes.get("kind", ())}):
        groups["kind", value] = [each for each in judged if value in each.question.attributes.get("kind", ())]
    return [_tally(*name, members) for name, members in groups.items()]


def _tally(attribute: str, value: str, judged: Sequence[JudgedAnswer]) -> Tally:
    right = [each for each in judged if each.grade > 0]
    lights = Counter(each.light for each in right if each.light)
    lines, lines_of_right = Counter(each.line for each in judged), Counter(each.line for each in right)
    agreements = [each.f1 for each in right if each.line != "silent"]
    return Tally(
        attribute=attribute,
        value=value,
        questions=len(judged),
        by_itself=sum(each.grade > 1 for each in judged),
        right=len(right),
        lights={light: lights[light] for light in get_args(Light)},
        misleading=sum(each.misleads for each in right),
        lines={line: lines[line] for line in get_args(AnswerLine)},
        lines_of_right={line: lines_of_right[line] for line in get_args(AnswerLine)},
        f1=float(np.mean(agreements)) if agreements else float("nan"),
    )


def refusal(answered: Sequence[Signs], unanswered: Sequence[Signs]) -> Refusal:
    """Compare the signs of results. Neither sequence may be empty."""
    signs: dict[str, Callable[[Signs], float | None]] = {
        "confidence": lambda each: each.confidence,
        "reranker score": lambda each: each.score,
        "answer probability": lambda each: each.probability,
    }
    auc = {}
    for name, sign in signs.items():
        first, second = (
            [value for each in side if (value := sign(each)) is not None] for side in (answered, unanswered)
        )
        if first and second and len({*first, *second}) > 1:
            auc[name] = area_under_curve(first, second)
    return Refusal(
        answered=len(answered),
        unanswered=len(unanswered),
        weak=(sum(each.weak for each in answered), sum(each.weak for each in unanswered)),
        silent=(sum(not each.answers for each in answered), sum(not each.answers for each in unanswered)),
        auc=auc,
    )


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the probability that a positive value is greater than a negative one; ties count half."""
    difference = np.subtract.outer(np.array(positive), np.array(negative))
    return float((difference > 0).mean() + (difference == 0).mean() / 2)
