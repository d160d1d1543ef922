"""What each step of a training shows: a function of the groups, the options and the step's number alone.

So a training that was stopped goes on with the very batches it would have had. Where a teacher scored the passages,
groups come from easy to hard by its margin (Bengio et al., 2009, Curriculum Learning): the share of the harder half
grows with the step.
"""

import hashlib
import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Generic, Protocol, TypeVar

from retrieval.errors import FolioscopeError
from retrieval.text import words

FIRST_HARD, LAST_HARD = 0.1, 0.9
"""Shares of the harder half in the first batch and in the last: no half is ever left out."""


class TrainingRefused(FolioscopeError):
    """A training cannot begin or go on as asked."""


class TrainingGroup(Protocol):
    """A question, what answers it, and what only looks as if it did; a frozen dataclass."""

    @property
    def source(self) -> str: ...
    @property
    def question(self) -> str: ...
    @property
    def negatives(self) -> tuple[Any, ...]: ...
    @property
    def scores(self) -> tuple[float, ...]: ...
    @property
    def name(self) -> str:
        """Names the positive."""


G = TypeVar("G", bound=TrainingGroup)


@dataclass(frozen=True, slots=True)
class Options:
    """What all trainings have in common."""

    steps: int = 500
    batch: int = 4
    """Groups a step."""
    negatives: int = 4
    """Passages or pages that a group shows beside the positive, at most: others are drawn at every step."""
    learning_rate: float = 2e-4
    """At its peak: it rises over the first tenth of the steps, then falls linearly to nothing."""
    distil: float = 0.5
    """The teacher's share of the loss, 0 to 1, in groups that have its scores."""
    teacher_temperature: float = 1.0
    """The teacher's scores are divided by this: above 1, it is taken to be less sure."""
    checkpoint_every: int = 50
    """Steps."""
    seed: int = 0

    def faults(self) -> list[str]:
        """What could not be trained with, in words."""
        least = ("steps", "batch", "negatives", "rank", "checkpoint_every", "dim")
        above = ("learning_rate", "teacher_temperature")
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        found = [f"{n} is {given[n]}: it must be at least 1" for n in least if n in given and given[n] < 1]
        found += [f"{n} is {given[n]}: it must be above 0" for n in above if given[n] <= 0]
        if not 0 <= self.distil <= 1:
            found.append(f"distil is {self.distil}: it must be from 0 to 1")
        return found


@dataclass(frozen=True, slots=True)
class Progress:
    """What a training tells."""

    step: int  # done, of `steps`
    steps: int
    loss: float | None = None  # of this step
    note: str = ""


OnProgress = Callable[[Progress], None]


def check(groups: Sequence[TrainingGroup], options: Options) -> None:
    """Raises TrainingRefused for what could not be trained on, or not so."""
    if faults := options.faults():
        raise TrainingRefused("; ".join(faults))
    if not groups:
        raise TrainingRefused(
            "there are no groups to train on: give a question, what answers it, and others, at least once"
        )
    for group in groups:
        if not group.negatives:
            raise TrainingRefused(f"the question {group.question!r} has no negative to tell its answer from")
        if group.scores and len(group.scores) != 1 + len(group.negatives):
            raise TrainingRefused(
                f"the question {group.question!r} has {len(group.scores)} teacher scores "
                f"for {1 + len(group.negatives)} texts or pages: give one for each, the positive's first, or none"
            )


@dataclass(frozen=True, slots=True)
class Curriculum(Generic[G]):
    """`hard` is empty where no teacher says which groups are."""

    easy: tuple[G, ...]
    hard: tuple[G, ...] = ()


def curriculum(groups: Sequence[G]) -> Curriculum[G]:
    """The halves that the teacher finds easier and harder. A group without scores stands in the middle."""
    margins = [group.scores[0] - max(group.scores[1:]) if group.scores else None for group in groups]
    known = [margin for margin in margins if margin is not None]
    if not known:
        return Curriculum(tuple(groups))
    middle = statistics.median(known)
    order = sorted(range(len(groups)), key=lambda i: -(middle if (m := margins[i]) is None else m))
    half = (len(groups) + 1) // 2
    return Curriculum(tuple(groups[i] for i in order[:half]), tuple(groups[i] for i in order[half:]))


def batch_at(course: Curriculum[G], step: int, options: Options) -> list[G]:
    """The groups of a step (from 0), each with the negatives it shows there. No positive is in it twice.

    Each half goes round in an order of its own, shuffled anew every time.
    """
    size = min(options.batch, len(course.easy) + len(course.hard))
    hard_before, hard_after = _hard_until(step, size, options), _hard_until(step + 1, size, options)
    if not course.hard:
        hard_before = hard_after = 0
    easy_before, easy_after = step * size - hard_before, (step + 1) * size - hard_after
    found: dict[str, G] = {}
    for half, before, after in (
        (course.easy, easy_before, easy_after),
        (course.hard, hard_before, hard_after),
    ):
        for at in range(before, after):
            place = _shuffled(len(half), f"{options.seed} {half is course.hard} {at // len(half)}")[
                at % len(half)
            ]
            rng = random.Random(f"{options.seed} {step} {place}")
            found.setdefault(half[place].name, _shown(half[place], options.negatives, rng))
    return list(found.values())


def _hard_until(step: int, size: int, options: Options) -> int:
    """How many hard groups there are before this step: the integral of a share that grows linearly."""
    return int(size * step * (FIRST_HARD + (LAST_HARD - FIRST_HARD) * step / (2 * options.steps)))


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: str) -> tuple[int, ...]:
    return tuple(random.Random(seed).sample(range(count), count))


def _shown(group: G, most: int, rng: random.Random) -> G:
    if len(group.negatives) <= most:
        return group
    chosen = sorted(rng.sample(range(len(group.negatives)), most))
    scores = (group.scores[0], *(group.scores[1 + i] for i in chosen)) if group.scores else ()
    shown: G = replace(group, negatives=tuple(group.negatives[i] for i in chosen), scores=scores)  # type: ignore[type-var]
    return shown


def digest(rows: Sequence[object]) -> str:
    """Names what is trained on: 16 hex digits."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def question_hash(question: str) -> str:
    """12 hex digits; the same for questions that differ in case, accents and punctuation only."""
    return blake2b(" ".join(words(question)).encode(), digest_size=6).hexdigest()
