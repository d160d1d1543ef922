"""Trains the `words` encoder on the device, and mines negatives with the MiniLM that it starts from.

The loss is that of `retrieval.train.bi_encoder`, with larger batches: negatives of the same document, the passages of
all other questions in the batch, and the teacher's distribution over the question's own.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.gpu_train.clock import Phase, Trainer
from benchmarks.gpu_train.reading import Course, TeacherScores, autocast, run_steps
from benchmarks.gpu_train.resident import MINED, Resident, chunks
from rerankers.train.reader import OUTSIDE, listwise_distillation
from retrieval.train.words_model import BiEncoder, Side, scores

RUN = 8
"""Pieces of a run when measuring, as the product has them."""
HOTTEST = 60.0


@dataclass(frozen=True, slots=True)
class EncoderOptions:
    """How the encoder is trained."""

    learning_rate: float = 1.5e-4
    questions: int = 256
    windows: int = 5
    faster: float = 10.0
    decay: float = 0.98
    titles: float = 0.7
    distil: float = 0.5
    dim: int = 128


def start_from_principal_axes(model: BiEncoder, data: Resident, window: Tensor) -> None:
    """Set the projection to the principal axes of passages and their pieces, so that training starts near MiniLM."""
    with torch.inference_mode():
        yes = torch.ones_like(window, dtype=torch.bool)
        ids, mask, _ = data.passages(window, run=RUN, titles=yes, marker=False)
        hidden = model(ids, mask)
        unit = nn.functional.normalize
        means = unit(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)
        words = unit(hidden[mask.bool()][::20], dim=-1)
        _, _, axes = torch.linalg.svd(torch.cat([means, words[: 2 * len(means)]]), full_matrices=False)
    known = axes[: model.project.out_features].clone()
    with torch.no_grad():
        model.project.weight[: len(known)] = known


def encoder_loss(
    model: BiEncoder,
    data: Resident,
    groups: Tensor,
    options: EncoderOptions,
    course: Course,
    run: int,
    teacher: TeacherScores | None,
) -> Tensor:
    """Returns the loss () of a batch. run: pieces of a run."""
    draw = data.draw(groups, options.windows)
    count, size = draw.window.shape
    real = draw.real.T.flatten()  # positives first, as the targets are
    window = draw.window.T.flatten()[real]
    titles = data.coin(len(window), options.titles)
    question = data.group_question[groups]
    with autocast(data.device):
        ids, mask, words = data.questions(question)
        asked = model.encode(ids, mask, words, weighted=True)
        course.pieces += ids.numel()
        ids, mask, runs = data.passages(window, run=run, titles=titles)
        course.pieces += ids.numel()
        dense, late = scores(asked, model.encode(ids, mask, runs, weighted=False))
    course.pairs += len(window)
    hot = model.scale.exp().clamp(max=HOTTEST)
    text = data.window_text[window]
    answers = (data.answers[question][:, None, :] == text[None, :, None]).any(-1)
    target = torch.arange(count, device=data.device)
    answers[target, target] = False
    dense, late = ((of.float() * hot).masked_fill(answers, OUTSIDE) for of in (dense, late))
    both = ((dense + late) / 2).masked_fill(answers, OUTSIDE)
    hard = torch.stack([nn.functional.cross_entropy(of, target) for of in (dense, late, both)]).mean()
    if teacher is None:
        return hard
    place = torch.full((size * count,), -1, dtype=torch.long, device=data.device)
    place[real] = torch.arange(len(window), device=data.device)
    place = place.view(size, count).T
    own = both.gather(1, place.clamp(min=0))
    wanted = teacher.relevance[groups[:, None], draw.column]
    known = (place >= 0) & wanted.isfinite()
    known = known & known[:, :1]
    fitted = listwise_distillation(own, wanted.nan_to_num(nan=OUTSIDE), known).mean()
    return (1 - options.distil) * hard + options.distil * fitted


def train_encoder(
    model: BiEncoder,
    data: Resident,
    order: Tensor,
    options: EncoderOptions,
    phase: Phase,
    teacher: TeacherScores | None,
) -> Iterator[tuple[Course, Trainer]]:
    """Train until the phase is over, yielding after each step. order: groups to train on, repeated as needed."""
    heads = [*model.project.parameters(), *model.weigh.parameters(), model.scale]
    trainer = Trainer(model, heads, options.learning_rate, options.faster, options.decay)
    rng = random.Random(0)

    def loss(groups: Tensor, course: Course) -> Tensor:
        return encoder_loss(model, data, groups.unique(), options, course, rng.randint(5, 10), teacher)

    return run_steps(model, trainer, loss, order, options.questions, phase)


@torch.inference_mode()
def score_held_words(model: BiEncoder, data: Resident, groups: Tensor, *, most: int) -> Tensor:
    """Returns the encoder's scores of held-out groups' windows (g, c) on the CPU: the mean of its two terms."""
    window = data.window[groups]
    unique, place = window.clamp(min=0).unique(return_inverse=True)
    passages = _encode(model, data, unique, most)
    result = torch.full(window.shape, float("-inf"), device=data.device)
    for at in torch.arange(len(groups), device=data.device).split(16):
        ids, mask, words = data.questions(data.group_question[groups[at]])
        with autocast(data.device):
            asked = model.encode(ids, mask, words, weighted=True)
        for i, row in enumerate(at.tolist()):
            one = Side(*(part[i : i + 1].float() for part in (asked.whole, asked.parts, asked.weights)))
            dense, late = scores(one, Side(*(part[place[row]] for part in passages)))
            result[row] = (dense + late)[0].float() / 2
    return result.masked_fill(window < 0, float("-inf")).cpu()


def _encode(model: BiEncoder, data: Resident, window: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the fields of the Side of windows, in float32."""
    sides: list[tuple[Tensor, Side]] = []
    for at, _ in chunks(data.window_length[window] + 80, most):
        titles = torch.ones(len(at), dtype=torch.bool, device=data.device)
        ids, mask, runs = data.passages(window[at], run=RUN, titles=titles)
        with autocast(data.device):
            sides.append((at, model.encode(ids, mask, runs, weighted=False)))
    parts = max(side.parts.shape[1] for _, side in sides)
    width = sides[0][1].whole.shape[1]
    count = len(window)
    fields = (
        torch.zeros(count, width, device=data.device),
        torch.zeros(count, parts, width, device=data.device),
        torch.zeros(count, parts, device=data.device),
    )
    for at, side in sides:
        fields[0][at] = side.whole.float()
        fields[1][at, : side.parts.shape[1]] = side.parts.float()
        fields[2][at, : side.parts.shape[1]] = side.weights
    return fields


@torch.inference_mode()
def mean_vectors(bert: nn.Module, data: Resident, window: Tensor, most: int) -> Tensor:
    """Returns MiniLM's own vectors of windows (n, width): means of the hidden states, of unit length."""
    found: list[tuple[Tensor, Tensor]] = []
    for at, _ in chunks(data.window_length[window] + 80, most):
        no = torch.zeros(len(at), dtype=torch.bool, device=data.device)
        ids, mask, _ = data.passages(window[at], run=RUN, titles=no, marker=False)
        found.append((at, _mean(bert, data, ids, mask)))
    result = torch.empty(len(window), found[0][1].shape[1], device=data.device)
    for at, vectors in found:
        result[at] = vectors
    return result


@torch.inference_mode()
def question_vectors(bert: nn.Module, data: Resident, question: Tensor) -> Tensor:
    """Returns MiniLM's own vectors of questions (n, width)."""
    rows = []
    for part in question.split(1024):
        ids, mask, _ = data.questions(part)
        keep = torch.ones(ids.shape[1], dtype=torch.bool, device=data.device)
        keep[1] = False  # without the marker, which MiniLM does not know
        rows.append(_mean(bert, data, ids[:, keep], mask[:, keep]))
    return torch.cat(rows)


def _mean(bert: nn.Module, data: Resident, ids: Tensor, mask: Tensor) -> Tensor:
    with autocast(data.device):
        hidden = bert(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return nn.functional.normalize(mean, dim=-1)


@torch.inference_mode()
def mine(bert: nn.Module, data: Resident, most: int) -> int:
    """Add to each question the windows of its document that MiniLM finds nearest; returns how many were added."""
    before = int(data.count.sum())
    groups = data.groups("train")
    document = data.text_document[data.answers[data.group_question[groups], 0]]
    windows = (data.text_document[data.window_text] >= 0).nonzero()[:, 0]
    home = data.text_document[data.window_text[windows]]
    for number in document.unique().tolist():
        own, candidates = groups[document == number], windows[home == number]
        vectors = mean_vectors(bert, data, candidates, most)
        similarity = question_vectors(bert, data, data.group_question[own]) @ vectors.T
        answers = data.answers[data.group_question[own]]
        text = data.window_text[candidates]
        blocked = (answers[:, None, :] == text[None, :, None]).any(-1)
        best, at = similarity.masked_fill(blocked, -2.0).topk(min(MINED, len(candidates)), dim=1)
        data.add_negatives(own, torch.where(best > -2, candidates[at], -1))
    return int(data.count.sum()) - before


@torch.inference_mode()
def score_held_cosine(bert: nn.Module, data: Resident, groups: Tensor, most: int) -> Tensor:
    """Returns the cosines (g, c) of MiniLM, untrained, between held-out questions and windows, on the CPU."""
    window = data.window[groups]
    unique, place = window.clamp(min=0).unique(return_inverse=True)
    vectors = mean_vectors(bert, data, unique, most)
    asked = question_vectors(bert, data, data.group_question[groups])
    rows = [vectors[place[i]] @ asked[i] for i in range(len(groups))]
    return torch.stack(rows).masked_fill(window < 0, float("-inf")).cpu()
