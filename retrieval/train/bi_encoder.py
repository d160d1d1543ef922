"""Trains the bi-encoder of the `words` encoder.

One pass over a window gives its meaning and its words in context. A page has the vectors of its windows (means of the
hidden states) and of its runs of about eight word pieces; a question has one vector for the whole and one for each
word, with a learned weight per word. Training fits the score that search computes:

    score = a * max_windows(whole . window) + (1 - a) * sum_words(weight * max_runs(word . run))

Late interaction is Khattab and Zaharia's (2020). The loss is InfoNCE over hard and in-batch negatives, for each of the
two terms and for their sum. Training starts from all-MiniLM-L6-v2 (Apache-2.0), projected to 128 dimensions.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from retrieval.train import small, training_run
from retrieval.train.curriculum import OnProgress, Options
from retrieval.train.groups import Group
from retrieval.train.minilm import CLS, SEP, load_tokenizer, pad, pieces
from retrieval.train.words_model import PASSAGE_MARKER, QUESTION_MARKER, BiEncoder, Side, scores

QUESTION_PIECES = 40
PASSAGE_PIECES = 126


def encode_questions(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Side:
    """Returns the vectors of questions, whose parts are their words."""
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    head = [CLS, QUESTION_MARKER] if model.markers else [CLS]
    none = [-1] * len(head)
    rows = [[*head, *e.ids[:QUESTION_PIECES], SEP] for e in encodings]
    words = [
        [*none, *(w if w is not None else -1 for w in e.word_ids[:QUESTION_PIECES]), -1] for e in encodings
    ]
    ids, mask = pad(rows)
    return model.encode(ids, mask, _pad_groups(words, ids.shape[1]), weighted=True)


def encode_passages(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str], length: int) -> Side:
    """Returns the vectors of passages, whose parts are runs of `length` pieces."""
    rows = pieces(tokenizer, texts, PASSAGE_PIECES)
    head = [CLS, PASSAGE_MARKER] if model.markers else [CLS]
    ids, mask = pad([[*head, *row, SEP] for row in rows])
    runs = [[-1] * len(head) + [i // length for i in range(len(row))] + [-1] for row in rows]
    return model.encode(ids, mask, _pad_groups(runs, ids.shape[1]), weighted=False)


def _pad_groups(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    return torch.tensor([[*row, *[-1] * (length - len(row))] for row in rows])


def start_from_principal_axes(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Set the projection to the principal axes of words and passages, so that training starts near MiniLM's scores."""
    with torch.inference_mode():
        rows = pieces(tokenizer, texts, PASSAGE_PIECES)
        ids, mask = pad([[CLS, *row, SEP] for row in rows])
        hidden = model(ids, mask)
        unit = nn.functional.normalize
        means = unit(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)
        words = unit(hidden[mask.bool()][::20], dim=-1)
        sample = torch.cat([means, words[: 2 * len(means)]])
        _, _, axes = torch.linalg.svd(sample, full_matrices=False)
        known = axes[
            : model.project.out_features
        ]  # few texts give fewer axes than the projection has dimensions
        model.project.weight[: len(known)] = known


def validate(
    model: BiEncoder, tokenizer: Tokenizer, held_out: Sequence[Group]
) -> dict[str, dict[str, float]]:
    """Returns the mean reciprocal rank of the positive among its own negatives, by source and by mixture of terms."""
    model.eval()
    ranks: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode():
        for group in held_out:
            question = encode_questions(model, tokenizer, [group.question])
            passages = encode_passages(model, tokenizer, [group.positive, *group.negatives[:6]], length=8)
            dense, late = scores(question, passages)
            mixtures = {"dense": dense, "late": late, "half": dense + late, "late2": dense + 2 * late}
            by_term = ranks.setdefault(group.corpus, {})
            for name, score in mixtures.items():
                worse = int((score[0, 1:] >= score[0, 0]).sum())
                by_term.setdefault(name, []).append(1 / (1 + worse))
    model.train()
    return {s: {t: round(sum(r) / len(r), 3) for t, r in terms.items()} for s, terms in ranks.items()}


@dataclass(frozen=True, slots=True)
class WordsOptions(Options):
    """Options of the `words` encoder's training."""

    steps: int = 1000
    batch: int = 20
    negatives: int = 2
    learning_rate: float = 6e-5
    dim: int = 128
    frozen_layers: int = 2
    markers: bool = True
    """Put a marker before each question, and another before each passage (Khattab and Zaharia, 2020)."""
    bf16: bool = True


def fit(
    minilm: Path,
    groups: Sequence[Group],
    out: Path,
    options: WordsOptions | None = None,
    *,
    start: Path | None = None,
    held_out: Sequence[Group] = (),
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Train into `out/model.safetensors`, as `small.train_small_model` does.

    minilm: the folder with config.json, model.safetensors and tokenizer.json.
    """
    options = options or WordsOptions()
    tokenizer = load_tokenizer(minilm)

    def make() -> small.Trainee:
        model = BiEncoder(
            minilm, dim=options.dim, frozen_layers=options.frozen_layers, markers=options.markers
        ).train()
        if not start:
            sample = random.Random(options.seed).sample(range(len(groups)), min(400, len(groups)))
            start_from_principal_axes(model, tokenizer, [groups[i].positive for i in sample])
        heads = [*model.project.parameters(), *model.weigh.parameters(), model.scale]
        optimizer = small.adamw(model.bert, heads, options.learning_rate, faster=10, betas=(0.9, 0.999))

        def loss(batch: Sequence[Group], step: int) -> Tensor:
            length = random.Random(f"{options.seed} {step} runs").randint(5, 10)
            return batch_loss(model, tokenizer, batch, length, options)

        return small.Trainee(model, optimizer, loss, lambda groups: validate(model, tokenizer, groups))

    small.train_small_model(
        "words", make, groups, out, options=options, start=start, held_out=held_out, on_progress=on_progress
    )


def batch_loss(
    model: BiEncoder, tokenizer: Tokenizer, batch: Sequence[Group], length: int, options: WordsOptions
) -> Tensor:
    """Returns the loss () of a batch.

    It is the InfoNCE of each term and of their mean, over hard and in-batch negatives. Distillation is over the
    negatives of each group. length: the pieces of a run.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
        question = encode_questions(model, tokenizer, [g.question for g in batch])
        texts = [g.positive for g in batch] + [n for g in batch for n in g.negatives]
        passages = encode_passages(model, tokenizer, texts, length=length)
        dense, late = scores(question, passages)
    hot = model.scale.exp().clamp(max=60)
    both = (dense + late).float() / 2 * hot
    target = torch.arange(len(batch))
    losses = [
        nn.functional.cross_entropy(s, target, reduction="none")
        for s in (dense.float() * hot, late.float() * hot, both)
    ]
    most = 1 + max(len(g.negatives) for g in batch)
    own = torch.full((len(batch), most), float("-inf"))
    teacher = torch.full_like(own, float("-inf"))
    rows, at = [], len(batch)
    for i, group in enumerate(batch):
        columns = [i, *range(at, at + len(group.negatives))]
        at += len(group.negatives)
        rows.append(nn.functional.pad(both[i, columns], (0, most - len(columns)), value=float("-inf")))
        teacher[i, : len(group.scores)] = torch.tensor(group.scores)
    known = torch.tensor([bool(g.scores) for g in batch])
    return training_run.with_distillation(
        torch.stack(losses).mean(0), torch.stack(rows), scores=teacher, scored=known, options=options
    )


def load_trained(minilm: Path, folder: Path) -> BiEncoder:
    """Returns the model that `fit` trained in `folder`, for inference."""
    options = json.loads((folder / "run.json").read_text(encoding="utf-8"))["options"]
    model = BiEncoder(minilm, dim=options["dim"], markers=options["markers"])
    model.load_state_dict(load_file(folder / small.WEIGHTS))
    return model.eval()
