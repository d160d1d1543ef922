"""Chooses the batch of each training step, from the groups, the options and the step's number alone.

A resumed training therefore gets the same batches as one that was never stopped. If a teacher scored the groups, they
come from easy to hard by the teacher's margin (Bengio et al., 2009, Curriculum Learning): the share of the harder half
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
"""Shares of the harder half in the first and in the last batch; every batch in between has groups of both halves."""


class TrainingRefused(FolioscopeError):
    """A training cannot start or resume with these groups and options."""


class TrainingGroup(Protocol):
    """A question, a text or page that answers it, and negatives that only seem to; a frozen dataclass."""

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
        """Identifies the positive: two groups with the same name are never in one batch."""


G = TypeVar("G", bound=TrainingGroup)


@dataclass(frozen=True, slots=True)
class Options:
    """The options that all trainings share."""

    steps: int = 500
    batch: int = 4
    """Groups in each step."""
    negatives: int = 4
    """The most negatives of a group in one step; a group with more shows a new sample each time."""
    learning_rate: float = 2e-4
    """The highest learning rate: it rises to this over the first tenth of the steps, then falls linearly to zero."""
    distil: float = 0.5
    """The teacher's share of the loss, from 0 to 1, in groups with its scores."""
    teacher_temperature: float = 1.0
    """Divides the teacher's scores: above 1, the teacher counts as less sure."""
    checkpoint_every: int = 50
    """Steps between checkpoints."""
    seed: int = 0

    def faults(self) -> list[str]:
        """Returns a message for each option that is out of range."""
        from_one = ("steps", "batch", "negatives", "rank", "checkpoint_every", "dim")
        above_zero = ("learning_rate", "teacher_temperature")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        faults = [f"{n} is {values[n]}: it must be at least 1" for n in from_one if values.get(n, 1) < 1]
        faults += [f"{n} is {values[n]}: it must be above 0" for n in above_zero if values[n] <= 0]
        if not 0 <= self.distil <= 1:
            faults.append(f"distil is {self.distil}: it must be from 0 to 1")
        return faults


@dataclass(frozen=True, slots=True)
class Progress:
    """A report of a training."""

    step: int  # steps done so far
    steps: int  # steps in all
    loss: float | None = None  # of the step that was just done
    note: str = ""


OnProgress = Callable[[Progress], None]


def check_training_input(groups: Sequence[TrainingGroup], options: Options) -> None:
    """Raises TrainingRefused if a training on these groups with these options is impossible."""
    if faults := options.faults():
        raise TrainingRefused("; ".join(faults))
    if not groups:
        raise TrainingRefused(
            "there are no groups to train on",
            remedy="give at least one group: a question, what answers it, and at least one negative",
        )
    for group in groups:
        if not group.negatives:
            raise TrainingRefused(
                f"the question {group.question!r} has no negative",
                remedy="give the group at least one negative, or remove it",
            )
        if group.scores and len(group.scores) != 1 + len(group.negatives):
            raise TrainingRefused(
                f"the question {group.question!r} has {len(group.scores)} teacher scores for "
                f"{1 + len(group.negatives)} texts or pages",
                remedy="give one score for each, the positive's first, or no scores",
            )


@dataclass(frozen=True, slots=True)
class Curriculum(Generic[G]):
    """The groups in two halves. `hard` is empty if no group has a teacher's scores."""

    easy: tuple[G, ...]
    hard: tuple[G, ...] = ()


def curriculum(groups: Sequence[G]) -> Curriculum[G]:
    """Returns the halves that the teacher finds easier and harder; a group without scores counts as the median."""
    margins = [group.scores[0] - max(group.scores[1:]) if group.scores else None for group in groups]
    known = [margin for margin in margins if margin is not None]
    if not known:
        return Curriculum(tuple(groups))
    middle = statistics.median(known)
    order = sorted(range(len(groups)), key=lambda i: -(middle if (m := margins[i]) is None else m))
    half = (len(groups) + 1) // 2
    return Curriculum(tuple(groups[i] for i in order[:half]), tuple(groups[i] for i in order[half:]))


def batch_at(course: Curriculum[G], step: int, options: Options) -> list[G]:
    """Returns the groups of a step (from 0), each with the negatives of this step. No positive is in it twice.

    Each half is passed through again and again, in a newly shuffled order each time.
    """
    size = min(options.batch, len(course.easy) + len(course.hard))
    hard_before, hard_after = _hard_until(step, size, options), _hard_until(step + 1, size, options)
    if not course.hard:
        hard_before = hard_after = 0
    easy_before, easy_after = step * size - hard_before, (step + 1) * size - hard_after
    batch: dict[str, G] = {}
    halves = ((course.easy, easy_before, easy_after), (course.hard, hard_before, hard_after))
    for half, before, after in halves:
        for at in range(before, after):
            order = _shuffled(len(half), f"{options.seed} {half is course.hard} {at // len(half)}")
            place = order[at % len(half)]
            rng = random.Random(f"{options.seed} {step} {place}")
            batch.setdefault(half[place].name, _with_sampled_negatives(half[place], options.negatives, rng))
    return list(batch.values())


def _hard_until(step: int, size: int, options: Options) -> int:
    """Returns the number of hard groups before this step, the integral of a share that grows linearly."""
    return int(size * step * (FIRST_HARD + (LAST_HARD - FIRST_HARD) * step / (2 * options.steps)))


@lru_cache(maxsize=8)
def _shuffled(count: int, seed: str) -> tuple[int, ...]:
    return tuple(random.Random(seed).sample(range(count), count))


def _with_sampled_negatives(group: G, most: int, rng: random.Random) -> G:
    if len(group.negatives) <= most:
        return group
    chosen = sorted(rng.sample(range(len(group.negatives)), most))
    scores = (group.scores[0], *(group.scores[1 + i] for i in chosen)) if group.scores else ()
    sampled: G = replace(group, negatives=tuple(group.negatives[i] for i in chosen), scores=scores)  # type: ignore[type-var]
    return sampled


def digest(rows: Sequence[object]) -> str:
    """Returns 16 hex digits that identify the rows."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def question_hash(question: str) -> str:
    """Returns 12 hex digits, the same for questions that differ only in case, accents and punctuation."""
    return blake2b(" ".join(words(question)).encode(), digest_size=6).hexdigest()
