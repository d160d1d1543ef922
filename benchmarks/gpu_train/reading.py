"""Trains readers (the teacher, then the student) on the device, and lets them score pairs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu_train.clock import Phase, Trainer
from benchmarks.gpu_train.held import Held
from benchmarks.gpu_train.resident import LONGEST, Draw, Resident, Rows, chunks
from rerankers.train import reader
from rerankers.train.reader import OUTSIDE, Reader
from retrieval.train.packed import Role

NAN = float("nan")
HARD_MARGIN = 2.0
NOT_EVIDENCE = 0.1
"""Weight of the pieces of a window that does not answer, beside those of one that does."""
DOUBTFUL = 0.1
"""A negative of lower probability stays, even if the teacher missed the answer too."""
STATE_EVERY = 180.0
"""Seconds between writes of a state from which a training can go on."""
AT_ONCE = 8192
"""Pairs that are sorted by length together when scoring."""


@dataclass(frozen=True, slots=True)
class ReaderOptions:
    """How a reader is trained."""

    learning_rate: float
    groups: int
    windows: int = 12
    faster: float = 5.0
    """The heads' learning rate over the body's."""
    decay: float = 0.99
    """Of the average of the weights."""
    titles: float = 0.7
    headings: float = 0.7
    """Shares of groups that see title and heading: the reader must do with and without."""
    distil: float = 0.6
    """The teacher's share of the loss."""
    span: float = 0.5
    answerable: float = 0.3
    evidence: float = 1.0
    margin: float = 0.05
    """Weights of the other losses beside the ranking's 1."""
    hard: float = 0.3
    """Weight of a margin of HARD_MARGIN over near misses."""
    parts: int = 3
    """Chunks of a step, by length."""
    dropout: bool = True
    """False on a CPU: attention with dropout is not fused there, and takes most of the time."""


@dataclass(frozen=True, slots=True)
class TeacherScores:
    """What the teacher says of the items (G, C), NaN where it was not asked."""

    relevance: Tensor
    answerable: Tensor


@dataclass(slots=True)
class Course:
    """What a training did."""

    steps: int = 0
    groups: int = 0
    pairs: int = 0
    pieces: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    stopped: str = ""


@dataclass(frozen=True, slots=True)
class Scored:
    """A reader's outputs of n pairs; first and last are the best span's pieces in the window."""

    relevance: Tensor
    answerable: Tensor
    best_first: Tensor
    best_last: Tensor
    evidence: Tensor  # (n, LONGEST) logits, or (0, LONGEST)


def autocast(device: torch.device) -> torch.autocast:
    """Returns bfloat16 autocast, which a CPU with AMX speeds up too."""
    return torch.autocast(device.type, torch.bfloat16)


def in_window(logits: Tensor, rows: Rows) -> Tensor:
    """Returns the logits (n, LONGEST) of the window's pieces, OUTSIDE after its end. logits (n, length)."""
    place = torch.arange(LONGEST, device=logits.device)[None]
    index = (rows.start[:, None] + place).clamp(max=logits.shape[1] - 1)
    inside = place < (rows.end - rows.start)[:, None]
    return logits.float().gather(1, index).masked_fill(~inside, OUTSIDE)


def forward_draw(
    model: Reader, data: Resident, draw: Draw, options: ReaderOptions, course: Course
) -> tuple[Tensor, ...]:
    """Returns relevance and answerable (g, k), first, last and evidence (g, k, LONGEST), in float32."""
    groups, size = draw.window.shape
    question = data.group_question[draw.group][:, None].expand(groups, size).flatten()
    titles = data.coin(groups, options.titles)[:, None].expand(groups, size).flatten()
    headings = data.coin(groups, options.headings)[:, None].expand(groups, size).flatten()
    window = draw.window.flatten()
    real = draw.real.flatten().nonzero()[:, 0]
    lengths = data.pair_lengths(question, window, titles, headings)[real]
    order: list[Tensor] = []
    outputs: list[list[Tensor]] = [[], [], [], [], []]
    for rows_of, length in chunks(lengths, 1 << 30, options.parts):
        at = real[rows_of]
        rows = data.pairs(question[at], window[at], titles[at], headings[at], length)
        with autocast(data.device):
            per_pair, per_piece = split_outputs(model(rows.ids, rows.mask, rows.segments), rows)
        order.append(at)
        for kept, output in zip(outputs, (*per_pair, *per_piece), strict=True):
            kept.append(output)
        course.pairs += len(at)
        course.pieces += len(at) * length
    index = torch.cat(order)
    tables = []
    for parts in outputs:
        values = torch.cat(parts)
        empty = torch.full((groups * size, *values.shape[1:]), OUTSIDE, device=data.device)
        tables.append(empty.index_put((index,), values).unflatten(0, (groups, size)))
    return tuple(tables)


def split_outputs(outputs: tuple[Tensor, ...], rows: Rows) -> tuple[list[Tensor], list[Tensor]]:
    """Returns a reader's outputs per pair (n,), and those per piece of the window (n, LONGEST), in float32."""
    relevance, answerable, *per_piece = outputs
    return [relevance.float(), answerable.float()], [in_window(output, rows) for output in per_piece]


def draw_loss(
    model: Reader,
    data: Resident,
    draw: Draw,
    options: ReaderOptions,
    course: Course,
    teacher: TeacherScores | None = None,
) -> Tensor:
    """Returns the loss () of a draw."""
    relevance, answerable, first, last, evidence = forward_draw(model, data, draw, options, course)
    ranking = reader.listwise_loss(relevance, draw.real)
    span = reader.span_loss(first[:, 0], last[:, 0], draw.first[:, 0], draw.last[:, 0])
    near_miss = data.role[draw.group[:, None], draw.column] == int(Role.NEAR_MISS)
    hard = reader.pairwise_loss(relevance, draw.real & near_miss, HARD_MARGIN)
    target = torch.zeros_like(answerable)
    target[:, 0] = 1.0
    if teacher:
        where = draw.group[:, None]
        scores = teacher.relevance[where, draw.column]
        known = draw.real & scores.isfinite()
        known = known & known[:, :1]
        scores = scores.nan_to_num(nan=OUTSIDE)
        fitted = reader.listwise_distillation(relevance, scores, known)
        fitted = fitted + options.margin * reader.margin_distillation(relevance, scores, known)
        both = (1 - options.distil) * ranking + options.distil * fitted
        ranking = torch.where(known[:, 0], both, ranking)
        probability = teacher.answerable[where, draw.column].sigmoid()
        target = torch.where(known, (target + probability.nan_to_num()) / 2, target)
    flat = reader.answerable_loss(answerable.flatten(), target.flatten(), draw.real.flatten().float())
    return (
        ranking.mean()
        + options.hard * hard
        + options.span * span
        + options.answerable * flat
        + options.evidence * _evidence_loss(data, draw, evidence)
    )


def _evidence_loss(data: Resident, draw: Draw, logits: Tensor) -> Tensor:
    """Returns the loss () of evidence logits (g, k, LONGEST): positives' known evidence, and none of the others."""
    inside = logits > OUTSIDE / 2
    row = draw.evidence[:, 0]
    target = torch.zeros_like(logits)
    target[:, 0] = data.evidence[row.clamp(min=0)].float()
    weight = inside * NOT_EVIDENCE
    weight[:, 0] = inside[:, 0] * (row >= 0).float()[:, None]
    return reader.evidence_loss(logits, target, weight)


def train_reader(
    model: Reader,
    data: Resident,
    order: Tensor,
    options: ReaderOptions,
    phase: Phase,
    teacher: TeacherScores | None = None,
    state: Path | None = None,
) -> Iterator[tuple[Course, Trainer]]:
    """Train until the phase is over, yielding after each step. order: groups to train on, repeated as needed.

    state: a file that is written every few minutes; if it exists, the training goes on from it.
    """
    heads = [weight for head in model.heads() for weight in head.parameters()]
    trainer = Trainer(model, heads, options.learning_rate, options.faster, options.decay)

    def loss(groups: Tensor, course: Course) -> Tensor:
        return draw_loss(model, data, data.draw(groups, options.windows), options, course, teacher)

    before = _restore(state, model, data, trainer, phase) if state and state.is_file() else Course()
    written = time.monotonic()
    steps = run_steps(model, trainer, loss, order, options.groups, phase, before, dropout=options.dropout)
    for course, _ in steps:
        if state and time.monotonic() - written > STATE_EVERY:
            written = time.monotonic()
            _save(state, model, data, trainer, phase, course)
        yield course, trainer


def _save(
    path: Path, model: nn.Module, data: Resident, trainer: Trainer, phase: Phase, course: Course
) -> None:
    values = {
        "model": model.state_dict(),
        "trainer": trainer.state(),
        "random": [torch.get_rng_state(), data.random.get_state()],
        "elapsed": phase.elapsed(),
        "course": asdict(course),
    }
    torch.save(values, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _restore(path: Path, model: nn.Module, data: Resident, trainer: Trainer, phase: Phase) -> Course:
    """Returns the course so far. The time since the file was written does not count."""
    values = torch.load(path, weights_only=True)
    model.load_state_dict(values["model"])
    trainer.restore(values["trainer"])
    torch.set_rng_state(values["random"][0])
    data.random.set_state(values["random"][1])
    course = Course(**values["course"])
    phase.began, phase.done = time.monotonic() - values["elapsed"], course.steps
    return course


def run_steps(
    model: nn.Module,
    trainer: Trainer,
    loss_of: Callable[[Tensor, Course], Tensor],
    order: Tensor,
    size: int,
    phase: Phase,
    course: Course | None = None,
    *,
    dropout: bool = True,
) -> Iterator[tuple[Course, Trainer]]:
    """Train until the phase is over, yielding after each step. size: groups of a step, halved if memory is too small.

    loss_of: takes the numbers of groups, and counts in the course what it reads. course: of a training that goes on.
    """
    course = course or Course()
    model.train(dropout)
    while not phase.is_over():
        at = torch.arange(course.groups, course.groups + size, device=order.device)
        groups = order[at % len(order)]
        course.groups += size
        try:
            loss = loss_of(groups, course)
            stepped = trainer.step(loss, phase)
        except torch.OutOfMemoryError:
            size //= 2
            course.stopped = f"too little memory: {size} groups a step"
            if not size:
                break
            torch.cuda.empty_cache()
            continue
        if not stepped:
            course.stopped = trainer.broken
            break
        course.steps += 1
        if course.steps % 10 == 0 or course.steps <= 3:
            course.losses.append((course.steps, round(float(loss.detach()), 4)))
        yield course, trainer
    model.eval()
    yield course, trainer


Read = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]
"""A reader, or what has its inputs and outputs."""


@torch.inference_mode()
def score_pairs(
    model: Read,
    data: Resident,
    question: Tensor,
    window: Tensor,
    *,
    most: int,
    evidence: bool = False,
    headings: bool = True,
) -> Scored:
    """Returns a reader's outputs of pairs. question, window (n,). most: pieces of a batch. evidence: keep logits."""
    count = len(question)
    yes = torch.ones(count, dtype=torch.bool, device=data.device)
    titles, shown = yes, yes if headings else ~yes
    result = Scored(
        torch.empty(count, device=data.device),
        torch.empty(count, device=data.device),
        torch.empty(count, dtype=torch.long, device=data.device),
        torch.empty(count, dtype=torch.long, device=data.device),
        torch.empty(count if evidence else 0, LONGEST, dtype=torch.float16, device=data.device),
    )
    lengths = data.pair_lengths(question, window, titles, shown)
    for at, length in chunks(lengths, most):
        rows = data.pairs(question[at], window[at], titles[at], shown[at], length)
        with autocast(data.device):
            outputs = model(rows.ids, rows.mask, rows.segments)
        (relevance, answerable), (first, last, *more) = split_outputs(outputs, rows)
        result.relevance[at], result.answerable[at] = relevance, answerable
        result.best_first[at], result.best_last[at], _ = reader.best_spans(first, last)
        if evidence and more:
            result.evidence[at] = more[0].half()
    return result


def held_of(data: Resident, part: float = 1.0) -> tuple[Held, Tensor]:
    """Returns the held-out groups, or evenly a part of them but all contrasts, and their numbers on the device."""
    step = max(1, round(1 / part))
    groups = torch.cat(
        [data.groups("held")[::step], data.groups("held contrast"), data.groups("unanswerable")[::step]]
    )
    tables = (data.window, data.role, data.first, data.last, data.evidence_row)
    window, role, first, last, row = (table[groups].cpu().numpy() for table in tables)
    return Held(
        data.packed,
        groups.cpu().numpy(),
        window,
        role,
        first,
        last,
        evidence_row=row,
        evidence=data.evidence.cpu().numpy(),
        continues=data.continues.cpu().numpy(),
    ), groups


def score_held(
    model: Read,
    data: Resident,
    groups: Tensor,
    *,
    most: int,
    headings: bool = True,
    window: Tensor | None = None,
) -> dict[str, Tensor]:
    """Returns a reader's outputs of held-out groups as tables (g, c) on the CPU, -inf where there is no window.

    window (g, c): the groups' windows, -1 where none is to be read; by default all.
    """
    window = data.window[groups] if window is None else window
    row, column = (window >= 0).nonzero(as_tuple=True)
    scored = score_pairs(
        model,
        data,
        data.group_question[groups][row],
        window[row, column],
        most=most,
        evidence=True,
        headings=headings,
    )
    tables = {}
    for name in ("relevance", "answerable", "best_first", "best_last", "evidence"):
        values = getattr(scored, name)
        empty = float("-inf") if values.is_floating_point() else -1
        shape = (*window.shape, *values.shape[1:])
        table = torch.full(shape, empty, dtype=values.dtype, device=data.device)
        table[row, column] = values
        tables[name] = table.cpu()
    return tables


@torch.inference_mode()
def score_items(
    model: nn.Module, data: Resident, groups: Tensor, phase: Phase, *, most: int
) -> tuple[TeacherScores, int]:
    """Let the teacher score the items of groups, positives first, until the phase is over; returns how many."""
    shape = data.window.shape
    relevance, answerable = (torch.full(shape, NAN, device=data.device) for _ in range(2))
    row, column = (data.window[groups] >= 0).nonzero(as_tuple=True)
    group = groups[row]
    role = data.role[group, column]
    priority = torch.rand(len(row), device=data.device, generator=data.random)
    for later, wanted in enumerate(
        (Role.POSITIVE, Role.NEAR_MISS, Role.NEGATIVE, Role.OTHER_DOCUMENT, Role.SAME_PAGE)
    ):
        priority[role == int(wanted)] += later
    order = priority.argsort()
    done = 0
    for batch in order.split(AT_ONCE):
        if phase.is_over():
            break
        g, c = group[batch], column[batch]
        scored = score_pairs(model, data, data.group_question[g], data.window[g, c], most=most)
        relevance[g, c], answerable[g, c] = scored.relevance, scored.answerable
        done += len(batch)
        phase.done += 1
    return TeacherScores(relevance, answerable), done


def write_scores(path: Path, data: Resident, teacher: TeacherScores, groups: Tensor) -> None:
    """Write what the teacher said of the items of these groups that it was asked about."""
    row, column = teacher.relevance[groups].isfinite().nonzero(as_tuple=True)
    group = groups[row]
    order = (group * 1000 + column).argsort()
    group, column = group[order], column[order]
    np.savez_compressed(
        path,
        group=group.cpu().numpy().astype(np.uint32),
        window=data.window[group, column].cpu().numpy().astype(np.uint32),
        relevance=teacher.relevance[group, column].cpu().numpy().astype(np.float16),
        answerable=teacher.answerable[group, column].cpu().numpy().astype(np.float16),
    )


def read_scores(path: Path, data: Resident) -> TeacherScores:
    """Returns what `write_scores` wrote of the same packed data; mined windows join their groups as negatives."""
    with np.load(path) as file:
        group, window = (torch.from_numpy(file[name].astype(np.int64)) for name in ("group", "window"))
        values = [torch.from_numpy(file[name].astype(np.float32)) for name in ("relevance", "answerable")]
    group, window = group.to(data.device), window.to(data.device)
    data.add_pairs(group, window)
    judged = data.groups("contrast")
    scores = []
    for value in values:
        table = torch.full(data.window.shape, NAN, device=data.device)
        for part in torch.arange(len(group), device=data.device).split(AT_ONCE):
            at, column = (data.window[group[part]] == window[part][:, None]).nonzero(as_tuple=True)
            table[group[part][at], column] = value.to(data.device)[part][at]
        table[judged] = NAN  # People judged these pairs; the teacher got one in four wrong.
        scores.append(table)
    return TeacherScores(*scores)


def drop_likely_answers(data: Resident, teacher: TeacherScores, likely: float) -> int:
    """Never draw negatives that the teacher finds about as probable as the answer; returns their number.

    Positive-aware mining as in NV-Retriever (Moreira et al., 2024). Negatives that a person judged stay.
    """
    probability = teacher.answerable.sigmoid()
    positive = torch.where(data.role == int(Role.POSITIVE), probability.nan_to_num(), 0.0).amax(1)
    mined = (data.role == int(Role.NEGATIVE)) | (data.role == int(Role.OTHER_DOCUMENT))
    dropped = mined & (probability >= likely * positive[:, None]) & (probability > DOUBTFUL)
    data.weight[dropped] = float("-inf")
    scored = probability.isfinite() & data.weight.isfinite()
    data.weight[scored] += 6.0  # Draw what the teacher scored, where there is enough of it.
    return int(dropped.sum())
