"""Trains readers (the teacher, then the student) on the device, and lets them score pairs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.gpu_train.clock import Phase, Trainer
from benchmarks.gpu_train.held import Held
from benchmarks.gpu_train.resident import LONGEST, Draw, Resident, Rows, chunks
from rerankers.train import reader
from rerankers.train.reader import OUTSIDE, Reader
from retrieval.train.packed import Role

NAN = float("nan")
DOUBTFUL = 0.1
"""A negative of lower probability stays, even if the teacher missed the answer too."""
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
    margin: float = 0.05
    """Weights of the other losses beside the ranking's 1."""
    parts: int = 3
    """Chunks of a step, by length."""


@dataclass(frozen=True, slots=True)
class TeacherScores:
    """What the teacher says of the items (G, C), NaN where it was not asked; spans of positives only."""

    relevance: Tensor
    answerable: Tensor
    best_first: Tensor
    best_last: Tensor
    span_row: Tensor  # (G, C) row of `first` and `last`, -1 for none
    first: Tensor  # (r, LONGEST)
    last: Tensor


@dataclass(slots=True)
class Course:
    """What a training did."""

    steps: int = 0
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
    first: Tensor  # (n, LONGEST) logits, or (0, LONGEST)
    last: Tensor


def autocast(device: torch.device) -> torch.autocast:
    """Returns bfloat16 autocast on a GPU; on a CPU it does nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def in_window(logits: Tensor, rows: Rows) -> Tensor:
    """Returns the logits (n, LONGEST) of the window's pieces, OUTSIDE after its end. logits (n, length)."""
    place = torch.arange(LONGEST, device=logits.device)[None]
    index = (rows.start[:, None] + place).clamp(max=logits.shape[1] - 1)
    inside = place < (rows.end - rows.start)[:, None]
    return logits.float().gather(1, index).masked_fill(~inside, OUTSIDE)


def forward_draw(
    model: Reader, data: Resident, draw: Draw, options: ReaderOptions, course: Course
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns relevance and answerable (g, k), and the positives' span logits (g, LONGEST) each, in float32."""
    groups, size = draw.window.shape
    question = data.group_question[draw.group][:, None].expand(groups, size).flatten()
    titles = data.coin(groups, options.titles)[:, None].expand(groups, size).flatten()
    headings = data.coin(groups, options.headings)[:, None].expand(groups, size).flatten()
    window = draw.window.flatten()
    real = draw.real.flatten().nonzero()[:, 0]
    lengths = data.pair_lengths(question, window, titles, headings)[real]
    order: list[Tensor] = []
    outputs: list[list[Tensor]] = [[], [], [], []]
    for rows_of, length in chunks(lengths, 1 << 30, options.parts):
        at = real[rows_of]
        rows = data.pairs(question[at], window[at], titles[at], headings[at], length)
        with autocast(data.device):
            relevance, answerable, first, last = model(rows.ids, rows.mask, rows.segments)
        order.append(at)
        for kept, output in zip(
            outputs,
            (relevance.float(), answerable.float(), in_window(first, rows), in_window(last, rows)),
            strict=True,
        ):
            kept.append(output)
        course.pairs += len(at)
        course.pieces += len(at) * length
    index = torch.cat(order)
    relevance, answerable = (
        torch.full((groups * size,), OUTSIDE, device=data.device).index_put((index,), torch.cat(parts))
        for parts in outputs[:2]
    )
    first, last = (
        torch.full((groups * size, LONGEST), OUTSIDE, device=data.device).index_put(
            (index,), torch.cat(parts)
        )
        for parts in outputs[2:]
    )
    table = (groups, size)
    return relevance.view(table), answerable.view(table), first[::size], last[::size]


def draw_loss(
    model: Reader,
    data: Resident,
    draw: Draw,
    options: ReaderOptions,
    course: Course,
    teacher: TeacherScores | None = None,
) -> Tensor:
    """Returns the loss () of a draw."""
    relevance, answerable, first, last = forward_draw(model, data, draw, options, course)
    ranking = reader.listwise_loss(relevance, draw.real)
    span = reader.span_loss(first, last, draw.first[:, 0], draw.last[:, 0])
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
        ranking = (1 - options.distil) * ranking + options.distil * fitted
        row = teacher.span_row[draw.group, draw.column[:, 0]]
        wanted = (row >= 0).float()
        kept = row.clamp(min=0)
        ends = [
            reader.span_distillation(own, of[kept].float(), wanted)
            for own, of in ((first, teacher.first), (last, teacher.last))
        ]
        span = (span + (ends[0] + ends[1]) / 2) / 2
        probability = teacher.answerable[where, draw.column].sigmoid()
        target = torch.where(known, (target + probability.nan_to_num()) / 2, target)
    flat = reader.answerable_loss(answerable.flatten(), target.flatten(), draw.real.flatten().float())
    return ranking + options.span * span + options.answerable * flat


def train_reader(
    model: Reader,
    data: Resident,
    order: Tensor,
    options: ReaderOptions,
    phase: Phase,
    teacher: TeacherScores | None = None,
) -> Iterator[tuple[Course, Trainer]]:
    """Train until the phase is over, yielding after each step. order: groups to train on, repeated as needed."""
    heads = [weight for head in model.heads() for weight in head.parameters()]
    trainer = Trainer(model, heads, options.learning_rate, options.faster, options.decay)

    def loss(groups: Tensor, course: Course) -> Tensor:
        return draw_loss(model, data, data.draw(groups, options.windows), options, course, teacher)

    return run_steps(model, trainer, loss, order, options.groups, phase)


def run_steps(
    model: nn.Module,
    trainer: Trainer,
    loss_of: Callable[[Tensor, Course], Tensor],
    order: Tensor,
    size: int,
    phase: Phase,
) -> Iterator[tuple[Course, Trainer]]:
    """Train until the phase is over, yielding after each step. size: groups of a step, halved if memory is too small.

    loss_of: takes the numbers of groups, and counts in the course what it reads.
    """
    course, at = Course(), 0
    model.train()
    while not phase.is_over():
        groups = order[torch.arange(at, at + size, device=order.device) % len(order)]
        at += size
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


@torch.inference_mode()
def score_pairs(
    model: nn.Module,
    data: Resident,
    question: Tensor,
    window: Tensor,
    *,
    most: int,
    spans: bool = False,
    headings: bool = True,
) -> Scored:
    """Returns a reader's outputs of pairs. question, window (n,). most: pieces of a batch. spans: keep their logits."""
    count = len(question)
    yes = torch.ones(count, dtype=torch.bool, device=data.device)
    titles, shown = yes, yes if headings else ~yes
    result = Scored(
        torch.empty(count, device=data.device),
        torch.empty(count, device=data.device),
        torch.empty(count, dtype=torch.long, device=data.device),
        torch.empty(count, dtype=torch.long, device=data.device),
        torch.empty(count if spans else 0, LONGEST, dtype=torch.float16, device=data.device),
        torch.empty(count if spans else 0, LONGEST, dtype=torch.float16, device=data.device),
    )
    lengths = data.pair_lengths(question, window, titles, shown)
    for at, length in chunks(lengths, most):
        rows = data.pairs(question[at], window[at], titles[at], shown[at], length)
        with autocast(data.device):
            relevance, answerable, first, last = model(rows.ids, rows.mask, rows.segments)
        first, last = in_window(first, rows), in_window(last, rows)
        result.relevance[at], result.answerable[at] = relevance.float(), answerable.float()
        result.best_first[at], result.best_last[at], _ = reader.best_spans(first, last)
        if spans:
            result.first[at], result.last[at] = first.half(), last.half()
    return result


def held_of(data: Resident, part: float = 1.0) -> tuple[Held, Tensor]:
    """Returns the held-out groups, or the first part of each set's, and their numbers on the device."""
    groups = torch.cat(
        [
            (found := data.groups(name))[: max(2, round(len(found) * part))]
            for name in ("held", "held contrast", "unanswerable")
        ]
    )
    arrays = [table[groups].cpu().numpy() for table in (data.window, data.role, data.first, data.last)]
    return Held(data.packed, groups.cpu().numpy(), *arrays), groups


def score_held(
    model: nn.Module, data: Resident, groups: Tensor, *, most: int, headings: bool = True
) -> dict[str, Tensor]:
    """Returns a reader's outputs of held-out groups as tables (g, c) on the CPU, -inf where there is no window."""
    window = data.window[groups]
    row, column = (window >= 0).nonzero(as_tuple=True)
    scored = score_pairs(
        model, data, data.group_question[groups][row], window[row, column], most=most, headings=headings
    )
    tables = {}
    for name in ("relevance", "answerable", "best_first", "best_last"):
        values = getattr(scored, name)
        empty = float("-inf") if values.is_floating_point() else -1
        table = torch.full(window.shape, empty, dtype=values.dtype, device=data.device)
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
    best_first, best_last, span_row = (
        torch.full(shape, -1, dtype=torch.long, device=data.device) for _ in range(3)
    )
    row, column = (data.window[groups] >= 0).nonzero(as_tuple=True)
    group = groups[row]
    role = data.role[group, column]
    priority = torch.rand(len(row), device=data.device, generator=data.random)
    for later, wanted in enumerate(
        (Role.POSITIVE, Role.NEAR_MISS, Role.NEGATIVE, Role.OTHER_DOCUMENT, Role.SAME_PAGE)
    ):
        priority[role == int(wanted)] += later
    order = priority.argsort()
    logits: list[tuple[Tensor, Tensor]] = []
    done = spans = 0
    for batch in order.split(AT_ONCE):
        if phase.is_over():
            break
        g, c = group[batch], column[batch]
        scored = score_pairs(model, data, data.group_question[g], data.window[g, c], most=most, spans=True)
        relevance[g, c], answerable[g, c] = scored.relevance, scored.answerable
        best_first[g, c], best_last[g, c] = scored.best_first, scored.best_last
        positive = (data.role[g, c] == int(Role.POSITIVE)).nonzero()[:, 0]
        span_row[g[positive], c[positive]] = torch.arange(spans, spans + len(positive), device=data.device)
        logits.append((scored.first[positive], scored.last[positive]))
        spans += len(positive)
        done += len(batch)
        phase.done += 1
    first, last = (torch.cat([pair[i] for pair in logits]) for i in (0, 1))
    return TeacherScores(relevance, answerable, best_first, best_last, span_row, first, last), done


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
