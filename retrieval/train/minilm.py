"""Loads MiniLM-L6 (Wang et al., 2020) in torch for training, with its word table frozen.

The word table has 11.7 of the 22.7 million parameters. It is frozen so that all models trained from the same checkpoint
can share one copy of it on disk (`rerankers.train.export`).
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

CLS, SEP = 101, 102


def load_bert(folder: Path, frozen_layers: int = 0) -> BertModel:
    """Returns the model in `folder` (config.json, model.safetensors), with embeddings and lowest layers frozen."""
    model = BertModel(BertConfig.from_pretrained(folder, attn_implementation="sdpa"), add_pooling_layer=False)
    weights = load_file(folder / "model.safetensors")
    weights = {name: value for name, value in weights.items() if not name.startswith("pooler")}
    result = model.load_state_dict(weights, strict=False)
    if result.missing_keys:
        raise ValueError(f"{folder}: the checkpoint lacks {result.missing_keys}")
    for frozen in [model.embeddings, *model.encoder.layer[:frozen_layers]]:
        frozen.requires_grad_(False)
    return model


def load_tokenizer(folder: Path) -> Tokenizer:
    """Returns the tokenizer in `folder` (tokenizer.json), without truncation or padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def pieces(tokenizer: Tokenizer, texts: Sequence[str], length: int) -> list[list[int]]:
    """Returns the first `length` word-piece ids of each text, without [CLS] and [SEP]."""
    return [
        encoding.ids[:length] for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]


def pad(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and mask, both (n, longest) int64, padded with 0 on the right."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids, mask
