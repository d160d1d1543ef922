"""The reader: a cross-encoder that says of a question and a window whether the window answers, and with which words.

It has four heads on one pass over `[CLS] question [SEP] title heading window [SEP]`:

- relevance, one logit per pair, to rank windows: listwise softmax of an answer against its negatives (Cao et al., 2007)
- answerable, one logit per pair, calibrated on its own (binary cross-entropy): is there an answer at all?
- span, two logits per piece, for the first and the last piece of the short answer (Devlin et al., 2019, section 4.2)
- evidence, one logit per piece: whether it is part of what shows the answer, wherever it stands (rows of a table)

A larger reader can act as teacher: its distributions are fitted beside the labels (Hinton et al., 2015).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from retrieval.train.minilm import load_bert

OUTSIDE = -1e4
"""Logit of a piece that cannot be part of an answer: of the question, the title, and padding."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader says of n pairs of `length` pieces, in float32."""

    relevance: Tensor  # (n,)
    answerable: Tensor  # (n,)
    first: Tensor  # (n, length) logits of the answer's first piece
    last: Tensor  # (n, length)
    evidence: Tensor  # (n, length) logits of each piece


class Reader(nn.Module):
    """An encoder of BERT's kind with the four heads."""

    def __init__(self, bert: nn.Module, width: int) -> None:
        """bert: takes input_ids, attention_mask and token_type_ids; `last_hidden_state` (n, length, width)."""
        super().__init__()
        self.bert = bert
        self.relevance = nn.Linear(2 * width, 1)
        self.answerable = nn.Linear(2 * width, 1)
        self.span = nn.Linear(width, 2)
        self.evidence = nn.Linear(width, 1)
        for head in self.heads():
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def heads(self) -> list[nn.Linear]:
        return [self.relevance, self.answerable, self.span, self.evidence]

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> tuple[Tensor, ...]:
        """Returns the fields of a Reading; `read` names them. All inputs (n, length); segment 1 is the passage."""
        encoded: Any = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        hidden = encoded.last_hidden_state
        real = mask[..., None].to(hidden.dtype)
        mean = (hidden * real).sum(1) / real.sum(1)
        both = torch.cat([hidden[:, 0], mean], dim=1)
        spans = self.span(hidden)
        return (
            self.relevance(both)[:, 0],
            self.answerable(both)[:, 0],
            spans[..., 0],
            spans[..., 1],
            self.evidence(hidden)[..., 0],
        )

    def read(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Reading:
        """Returns what the reader says of pairs of pieces."""
        return Reading(*(output.float() for output in self(ids, mask, segments)))


def listwise_loss(relevance: Tensor, real: Tensor) -> Tensor:
    """Returns the cross-entropy (g,) of groups' positives. relevance (g, k), positives first; real (g, k) bool."""
    return -relevance.masked_fill(~real, OUTSIDE).log_softmax(1)[:, 0]


def listwise_distillation(relevance: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Returns the divergence (g,) of groups' softmax from the teacher's. All (g, k)."""
    student = relevance.masked_fill(~real, OUTSIDE).log_softmax(1)
    target = teacher.masked_fill(~real, OUTSIDE).log_softmax(1)
    return (target.exp() * (target - student)).sum(1)


def margin_distillation(relevance: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Returns the squared error (g,) of the positives' margins over the others (Hofstätter et al., 2020)."""
    others = real[:, 1:]
    wrong = (relevance[:, :1] - relevance[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    return (wrong.square() * others).sum(1) / others.sum(1).clamp(min=1)


def span_loss(first: Tensor, last: Tensor, target_first: Tensor, target_last: Tensor) -> Tensor:
    """Returns the mean cross-entropy () of spans. logits (n, length); targets (n,), -1 for pairs without a span."""
    known = target_first >= 0
    losses = [
        nn.functional.cross_entropy(logits, target.clamp(min=0), reduction="none")
        for logits, target in ((first, target_first), (last, target_last))
    ]
    return ((losses[0] + losses[1]) / 2 * known).sum() / known.sum().clamp(min=1)


def evidence_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean binary cross-entropy () over pieces. All (n, length); weight 0 where a piece does not count."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp(min=1)


def pairwise_loss(relevance: Tensor, hard: Tensor, margin: float) -> Tensor:
    """Returns the mean hinge () of positives over hard negatives. relevance (g, k), positives first; hard (g, k)."""
    short = (margin - (relevance[:, :1] - relevance)).clamp(min=0)
    return (short * hard).sum() / hard.sum().clamp(min=1)


def answerable_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Returns the mean binary cross-entropy (). target: 1 or 0, or a teacher's probability; all (n,)."""
    losses = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def best_spans(first: Tensor, last: Tensor, longest: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the most probable spans: first and last piece (n,), and the sum of their logits (n,).

    first and last are (n, length), with OUTSIDE for pieces that cannot be part of an answer.
    """
    length = first.shape[1]
    place = torch.arange(length, device=first.device)
    distance = place[None, :] - place[:, None]
    allowed = (distance >= 0) & (distance < longest)
    total = (first[:, :, None] + last[:, None, :]).masked_fill(~allowed, 3 * OUTSIDE)
    score, at = total.flatten(1).max(1)
    return at // length, at % length, score


def load_trained(minilm: Path, folder: Path) -> Reader:
    """Returns the reader in `folder` (model.safetensors), for inference. minilm: the folder of what it started from."""
    bert = load_bert(minilm)
    model = Reader(bert, bert.config.hidden_size)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
