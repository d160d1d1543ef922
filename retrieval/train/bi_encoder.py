"""Train the bi-encoder behind the `words` encoder: one pass gives a window's meaning and its words in context.

A page becomes the vectors of its windows (mean of the hidden states) and of its runs of some eight word
pieces; a question becomes one vector for the whole and one for each word, each word with a learned weight.
The score is what search computes later, and so is what training fits:

    score = a * max_windows(whole . window) + (1 - a) * sum_words(weight * max_runs(word . run))

Late interaction after Khattab and Zaharia (2020); InfoNCE over hard and in-batch negatives, for each of the
two terms and for their sum. From the weights of all-MiniLM-L6-v2 (Apache-2.0), projected to 128 dimensions.

    python -m retrieval.train.bi_encoder MINILM_FOLDER DATA_FOLDER OUT_FOLDER --minutes 60
"""

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from retrieval.train.groups import Group, batches, hold_out, read_groups, read_xquad
from retrieval.train.minilm import CLS, SEP, load_bert, load_tokenizer, pad, pieces

QUESTION_PIECES = 40
PASSAGE_PIECES = 126


@dataclass(frozen=True, slots=True)
class Side:
    """Vectors of a batch of texts: `whole` (n, d), `parts` (n, p, d), and what each part counts (n, p)."""

    whole: Tensor
    parts: Tensor
    weights: Tensor  # of a question's words: sums to 1; of a passage's runs: 1, or 0 for padding


class BiEncoder(nn.Module):
    def __init__(self, folder: Path, dim: int = 128, frozen_layers: int = 2) -> None:
        super().__init__()
        self.bert = load_bert(folder, frozen_layers)
        width = self.bert.config.hidden_size
        self.project = nn.Linear(width, dim, bias=False)
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Hidden states (n, length, width), padding zeroed."""
        hidden: Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden.float() * mask[..., None]

    def encode(self, ids: Tensor, mask: Tensor, groups: Tensor, weighted: bool) -> Side:
        """`groups` (n, length): which word or run each piece belongs to, from 0; -1 for none."""
        hidden = self(ids, mask)
        whole = hidden.sum(1) / mask.sum(1, keepdim=True)
        count = int(groups.max()) + 1
        one_hot = nn.functional.one_hot(groups.clamp(min=0), count).float() * (groups >= 0)[..., None]
        sizes = one_hot.sum(1)
        parts = torch.einsum("nlw,nlp->npw", hidden, one_hot) / sizes.clamp(min=1)[..., None]
        present = sizes > 0
        if weighted:
            logits = self.weigh(parts)[..., 0].masked_fill(~present, float("-inf"))
            weights = logits.softmax(-1)
        else:
            weights = present.float()
        unit = nn.functional.normalize
        return Side(unit(self.project(whole), dim=-1), unit(self.project(parts), dim=-1), weights)


def scores(questions: Side, passages: Side) -> tuple[Tensor, Tensor]:
    """(dense, late), both (questions, passages)."""
    dense = questions.whole @ passages.whole.T
    similarity = torch.einsum("qwd,prd->qpwr", questions.parts, passages.parts)
    similarity = similarity.masked_fill(passages.weights[None, :, None, :] == 0, -1.0)
    late = (similarity.amax(-1) * questions.weights[:, None, :]).sum(-1)
    return dense, late


def encode_questions(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> Side:
    encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    rows = [[CLS, *e.ids[:QUESTION_PIECES], SEP] for e in encodings]
    words = [[-1, *(w if w is not None else -1 for w in e.word_ids[:QUESTION_PIECES]), -1] for e in encodings]
    ids, mask = pad(rows)
    return model.encode(ids, mask, _pad_groups(words, ids.shape[1]), weighted=True)


def encode_passages(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str], run: int) -> Side:
    rows = pieces(tokenizer, texts, PASSAGE_PIECES)
    ids, mask = pad([[CLS, *row, SEP] for row in rows])
    runs = [[-1, *(i // run for i in range(len(row))), -1] for row in rows]
    return model.encode(ids, mask, _pad_groups(runs, ids.shape[1]), weighted=False)


def _pad_groups(rows: Sequence[Sequence[int]], length: int) -> Tensor:
    return torch.tensor([[*row, *[-1] * (length - len(row))] for row in rows])


def start_from_principal_axes(model: BiEncoder, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Set the projection to the main directions of words and passages, so that training starts near the original."""
    with torch.inference_mode():
        rows = pieces(tokenizer, texts, PASSAGE_PIECES)
        ids, mask = pad([[CLS, *row, SEP] for row in rows])
        hidden = model(ids, mask)
        unit = nn.functional.normalize
        means = unit(hidden.sum(1) / mask.sum(1, keepdim=True), dim=-1)
        words = unit(hidden[mask.bool()][::20], dim=-1)
        sample = torch.cat([means, words[: 2 * len(means)]])
        _, _, axes = torch.linalg.svd(sample, full_matrices=False)
        model.project.weight.copy_(axes[: model.project.out_features])


def validate(
    model: BiEncoder, tokenizer: Tokenizer, held_out: Sequence[Group]
) -> dict[str, dict[str, float]]:
    """Mean reciprocal rank of the positive among its own negatives, by source, of each term and of mixtures."""
    model.eval()
    ranks: dict[str, dict[str, list[float]]] = {}
    with torch.inference_mode():
        for group in held_out:
            question = encode_questions(model, tokenizer, [group.question])
            passages = encode_passages(model, tokenizer, [group.positive, *group.negatives[:6]], run=8)
            dense, late = scores(question, passages)
            shown = {"dense": dense, "late": late, "half": dense + late, "late2": dense + 2 * late}
            by_term = ranks.setdefault(group.source.split("-")[0], {})
            for name, score in shown.items():
                worse = int((score[0, 1:] >= score[0, 0]).sum())
                by_term.setdefault(name, []).append(1 / (1 + worse))
    model.train()
    return {s: {t: round(sum(r) / len(r), 3) for t, r in terms.items()} for s, terms in ranks.items()}


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    rng = random.Random(options.seed)
    tokenizer = load_tokenizer(options.minilm)
    model = BiEncoder(options.minilm, options.dim, options.freeze).train()
    groups = read_groups(options.data / "groups.jsonl.gz") + read_xquad(options.data / "xquad.jsonl.gz")
    training, held_out = hold_out(groups, each=60, seed=options.seed)
    start_from_principal_axes(
        model, tokenizer, [group.positive for group in rng.sample(training, min(400, len(training)))]
    )
    scale = nn.Parameter(torch.tensor(20.0).log())
    heads = [*model.project.parameters(), *model.weigh.parameters(), scale]
    body = [p for p in model.bert.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": options.lr}, {"params": heads, "lr": options.lr * 10}], weight_decay=0.01
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    print(
        json.dumps(
            {
                "groups": len(training),
                "held_out": len(held_out),
                "start": validate(model, tokenizer, held_out),
            }
        ),
        flush=True,
    )
    began, budget, spent = time.process_time(), options.minutes * 60, 0.0
    next_check = 600.0
    for step, batch in enumerate(batches(training, options.batch, options.negatives, options.seed)):
        spent = time.process_time() - began
        if spent > budget:
            break
        share = min(1.0, (step + 1) / 40) * max(0.02, 1 - spent / budget)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            question = encode_questions(model, tokenizer, [g.question for g in batch])
            texts = [g.positive for g in batch] + [n for g in batch for n in g.negatives]
            passages = encode_passages(model, tokenizer, texts, run=rng.randint(5, 10))
            dense, late = scores(question, passages)
        target = torch.arange(len(batch))
        hot = scale.exp().clamp(max=60)
        losses = [
            nn.functional.cross_entropy(s.float() * hot, target) for s in (dense, late, (dense + late) / 2)
        ]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*body, *heads], 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(
                json.dumps(
                    {
                        "step": step,
                        "seconds": round(spent),
                        "scale": round(hot.item(), 1),
                        "loss": [round(x.item(), 3) for x in losses],
                    }
                ),
                flush=True,
            )
        if spent > next_check:
            next_check += 600
            print(json.dumps({"step": step, "held_out": validate(model, tokenizer, held_out)}), flush=True)
            save(model, options.out)
    print(json.dumps({"end": validate(model, tokenizer, held_out), "cpu_seconds": round(spent)}), flush=True)
    save(model, options.out)


def save(model: BiEncoder, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
    )


def load(minilm: Path, folder: Path, dim: int = 128) -> BiEncoder:
    model = BiEncoder(minilm, dim)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("minilm", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="CPU minutes")
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--negatives", type=int, default=2)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--freeze", type=int, default=2, help="lowest layers kept as they are")
    parser.add_argument("--lr", type=float, default=6e-5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
