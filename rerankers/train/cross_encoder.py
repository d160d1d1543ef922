"""Train the `text` reranker: a cross-encoder that reads the question and one passage together.

One logit from [CLS] and the mean of all hidden states; listwise softmax of one positive against hard
negatives (Cao et al., 2007, ListNet's top-one loss with one relevant item). From MiniLM-L6's weights.

    python -m rerankers.train.cross_encoder MINILM_FOLDER DATA_FOLDER OUT_FOLDER --minutes 60
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from retrieval.train.groups import Group, batches, hold_out, read_groups, read_xquad
from retrieval.train.minilm import CLS, SEP, load_bert, load_tokenizer, pad, pieces

QUESTION_PIECES = 40
PAIR_PIECES = 128


class CrossEncoder(nn.Module):
    def __init__(self, folder: Path, frozen_layers: int = 3) -> None:
        super().__init__()
        self.bert = load_bert(folder, frozen_layers)
        self.head = nn.Linear(2 * self.bert.config.hidden_size, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        """One logit per pair (n,); ids, mask and segments are (n, length); segment 1 is the passage."""
        hidden = self.bert(input_ids=ids, attention_mask=mask, token_type_ids=segments).last_hidden_state
        real = mask[..., None].to(hidden.dtype)
        mean = (hidden * real).sum(1) / real.sum(1)
        logits: Tensor = self.head(torch.cat([hidden[:, 0], mean], dim=1))[:, 0]
        return logits


def logits(model: CrossEncoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> Tensor:
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


def validate(model: CrossEncoder, tokenizer: Tokenizer, held_out: Sequence[Group]) -> dict[str, float]:
    """Mean reciprocal rank of the positive among its own negatives, by source."""
    model.eval()
    ranks: dict[str, list[float]] = {}
    with torch.inference_mode():
        for group in held_out:
            score = logits(
                model, tokenizer, [(group.question, p) for p in (group.positive, *group.negatives[:6])]
            )
            ranks.setdefault(group.source.split("-")[0], []).append(
                1 / (1 + int((score[1:] >= score[0]).sum()))
            )
    model.train()
    return {source: round(sum(r) / len(r), 3) for source, r in ranks.items()}


def train(options: argparse.Namespace) -> None:
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tokenizer = load_tokenizer(options.minilm)
    model = CrossEncoder(options.minilm, options.freeze)
    if options.start:
        model.load_state_dict(load_file(options.start / "model.safetensors"))
    model.train()
    groups = read_groups(options.data / "groups.jsonl.gz") + read_xquad(options.data / "xquad.jsonl.gz")
    training, held_out = hold_out(groups, each=60, seed=options.seed)
    body = [p for p in model.bert.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": options.lr}, {"params": model.head.parameters(), "lr": options.lr * 10}],
        weight_decay=0.01,
        betas=(0.9, 0.98),
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    began, budget, spent = time.process_time(), options.minutes * 60, 0.0
    next_check = 600.0
    for step, batch in enumerate(batches(training, options.batch, options.negatives, options.seed)):
        spent = time.process_time() - began
        if spent > budget:
            break
        share = min(1.0, (step + 1) / 40) * max(0.02, 1 - spent / budget)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * share
        pairs = [(g.question, passage) for g in batch for passage in (g.positive, *g.negatives)]
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            score = logits(model, tokenizer, pairs).float().view(len(batch), -1)
        loss = nn.functional.cross_entropy(score, torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*body, *model.head.parameters()], 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(
                json.dumps({"step": step, "seconds": round(spent), "loss": round(loss.item(), 3)}), flush=True
            )
        if spent > next_check:
            next_check += 600
            print(json.dumps({"step": step, "held_out": validate(model, tokenizer, held_out)}), flush=True)
            save(model, options.out)
    print(json.dumps({"end": validate(model, tokenizer, held_out), "cpu_seconds": round(spent)}), flush=True)
    save(model, options.out)


def save(model: CrossEncoder, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
    )


def load(minilm: Path, folder: Path) -> CrossEncoder:
    model = CrossEncoder(minilm)
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
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--negatives", type=int, default=3)
    parser.add_argument("--freeze", type=int, default=3, help="lowest layers kept as they are")
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--start", type=Path, help="go on from the weights in this folder")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
