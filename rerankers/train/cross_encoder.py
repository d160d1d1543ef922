"""Trains the `text` reranker, a cross-encoder that reads the question and one passage together.

The model computes one logit from [CLS] and the mean of all hidden states. The loss is the listwise softmax of one
positive against hard negatives (Cao et al., 2007, ListNet's top-one loss with one relevant item) and, in groups with a
teacher's scores, the teacher's distribution. Training starts from MiniLM-L6's weights or those of an earlier training.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from retrieval.train import small, training_run
from retrieval.train.curriculum import OnProgress, Options
from retrieval.train.groups import Group
from retrieval.train.minilm import CLS, SEP, load_bert, load_tokenizer, pad, pieces

QUESTION_PIECES = 40
PAIR_PIECES = 128
WINDOW_WORDS = 95
"""About as many words as a window of a page has beside a question."""


@dataclass(frozen=True, slots=True)
class TextOptions(Options):
    """Options of the `text` reranker's training."""

    steps: int = 1500
    batch: int = 12
    negatives: int = 5
    learning_rate: float = 1.5e-4
    frozen_layers: int = 1
    """The number of lowest layers that are frozen; the word table always is, so that the shipped models share it."""
    surroundings: float = 0.6
    """The share of groups whose passages get other text before and after them, as in a window of a page."""
    bf16: bool = True


class CrossEncoder(nn.Module):
    """MiniLM with a head that makes one logit of a pair."""

    def __init__(self, folder: Path, frozen_layers: int = 3) -> None:
        super().__init__()
        self.bert = load_bert(folder, frozen_layers)
        self.head = nn.Linear(2 * self.bert.config.hidden_size, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """Returns one logit per pair (n,). ids, mask and segments are (n, length); segment 1 is the passage."""
        hidden = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
        real = mask[..., None].to(hidden.dtype)
        mean = (hidden * real).sum(1) / real.sum(1)
        logits: Tensor = self.head(torch.cat([hidden[:, 0], mean], dim=1))[:, 0]
        return logits


def logits(model: CrossEncoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> Tensor:
    """Returns the logits (n,) of pairs of a question and a passage."""
    questions = pieces(tokenizer, [question for question, _ in pairs], QUESTION_PIECES)
    passages = pieces(tokenizer, [passage for _, passage in pairs], PAIR_PIECES)
    left = [[CLS, *question, SEP] for question in questions]
    both = [[*a, *b[: PAIR_PIECES - len(a) - 1], SEP] for a, b in zip(left, passages, strict=True)]
    ids, mask = pad(both)
    segments = mask.clone()
    for row, a in zip(segments, left, strict=True):
        row[: len(a)] = 0
    result: Tensor = model(ids, mask, segments)
    return result


def fit(
    minilm: Path,
    groups: Sequence[Group],
    out: Path,
    options: TextOptions | None = None,
    *,
    start: Path | None = None,
    held_out: Sequence[Group] = (),
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Train into `out/model.safetensors`, as `small.train_small_model` does.

    minilm: the folder with config.json, model.safetensors and tokenizer.json.
    """
    options = options or TextOptions()
    tokenizer = load_tokenizer(minilm)

    def make() -> small.Trainee:
        model = CrossEncoder(minilm, options.frozen_layers).train()
        heads = model.head.parameters()
        optimizer = small.adamw(model.bert, heads, options.learning_rate, faster=5, betas=(0.9, 0.98))

        def loss(batch: Sequence[Group], step: int) -> Tensor:
            rng = random.Random(f"{options.seed} {step} windows")
            surrounded = [with_surroundings(group, rng, options.surroundings) for group in batch]
            return batch_loss(model, tokenizer, surrounded, options)

        return small.Trainee(model, optimizer, loss, lambda groups: validate(model, tokenizer, groups))

    small.train_small_model(
        "text", make, groups, out, options=options, start=start, held_out=held_out, on_progress=on_progress
    )


def batch_loss(
    model: CrossEncoder, tokenizer: Tokenizer, batch: Sequence[Group], options: TextOptions
) -> Tensor:
    """Returns the loss () of groups, which may have different numbers of negatives."""
    pairs = [(g.question, passage) for g in batch for passage in (g.positive, *g.negatives)]
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        pair_logits = logits(model, tokenizer, pairs).float()
    lists = pair_logits.split([1 + len(g.negatives) for g in batch])
    table = nn.utils.rnn.pad_sequence(list(lists), batch_first=True, padding_value=float("-inf"))
    scores = torch.full_like(table, float("-inf"))
    for row, group in zip(scores, batch, strict=True):
        row[: len(group.scores)] = torch.tensor(group.scores)
    losses = nn.functional.cross_entropy(table, torch.zeros(len(batch), dtype=torch.long), reduction="none")
    scored = torch.tensor([bool(g.scores) for g in batch])
    return training_run.with_distillation(losses, table, scores=scores, scored=scored, options=options)


def with_surroundings(group: Group, rng: random.Random, share: float) -> Group:
    """Returns the group with parts of its negatives before and after each passage, as in a window of a page.

    Only this share of the groups is changed, drawn at random. Groups of pages are not: their passages are windows.
    """
    if group.pages or rng.random() >= share or len(group.negatives) < 2:
        return group
    surrounded = []
    for passage in (group.positive, *group.negatives):
        others = [other for other in group.negatives if other != passage]
        words = passage.split()
        room = WINDOW_WORDS - len(words)
        if room < 10 or not others:
            surrounded.append(passage)
            continue
        before = rng.randint(0, room)
        left, right = rng.choice(others).split(), rng.choice(others).split()
        surrounded.append(" ".join([*left[max(0, len(left) - before) :], *words, *right[: room - before]]))
    return replace(group, positive=surrounded[0], negatives=tuple(surrounded[1:]))


def validate(model: CrossEncoder, tokenizer: Tokenizer, held_out: Sequence[Group]) -> dict[str, float]:
    """Returns the mean reciprocal rank of the positive among its own negatives, by source."""
    model.eval()
    ranks: dict[str, list[float]] = {}
    with torch.inference_mode():
        for group in held_out:
            score = logits(
                model, tokenizer, [(group.question, p) for p in (group.positive, *group.negatives[:6])]
            )
            ranks.setdefault(group.corpus, []).append(1 / (1 + int((score[1:] >= score[0]).sum())))
    model.train()
    return {source: round(sum(r) / len(r), 3) for source, r in ranks.items()}


def load_trained(minilm: Path, folder: Path) -> CrossEncoder:
    """Returns the model that `fit` trained in `folder`, for inference."""
    model = CrossEncoder(minilm)
    model.load_state_dict(load_file(folder / small.WEIGHTS))
    return model.eval()
