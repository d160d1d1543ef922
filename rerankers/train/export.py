"""Trained weights to what ships: int8 ONNX models that share one int8 word table, with checksums and a parity check.

The word table (30,522 x 384) is frozen in training, so both models' tables are the same: it is stored once,
int8 with one scale per row, as external data. The weights of every matrix product are int8 per channel.
"""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from rerankers.train import cross_encoder
from rerankers.train.cross_encoder import QUESTION_PIECES
from retrieval.models.onnx import ModelFolder, RowRunner, write_manifest
from retrieval.train import bi_encoder
from retrieval.train.course import TrainingRefused
from retrieval.train.minilm import CLS, SEP, load_tokenizer, pieces
from retrieval.train.run import new_folder

Kind = Literal["text", "words"]
ALIKE = 0.99
"""Correlation of int8 and float32 outputs below which a model is not exported: it would rank otherwise."""
WHOLE = 0.5
"""Weight of a question's own vector beside its words, where no model is taken over that says another."""
COMPARED_PIECES = 80
"""Of each passage that int8 and float32 are compared by."""
FILES = {"text": "cross.onnx", "words": "words.onnx"}
TABLE = "word_table"


class Int8Table(nn.Module):
    """Rows of the word table, int8, each with its scale."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        self.register_buffer(TABLE, (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        flat = ids.flatten()
        rows = torch.index_select(getattr(self, TABLE), 0, flat).float() * torch.index_select(
            self.scale, 0, flat
        )
        return rows.view(*ids.shape, -1)


class WordsGraph(nn.Module):
    """(ids, mask) -> (n, length, d + 1): each piece's projection and, last, its weight's logit; not normalised."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.bert, self.project, self.weigh = model.bert, model.project, model.weigh

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return torch.cat([self.project(hidden), self.weigh(hidden)], dim=-1)


class CrossGraph(nn.Module):
    """(ids, mask, segments) -> (n,) logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        logits: Tensor = self.model(ids, mask, segments)
        return logits


@dataclass(frozen=True, slots=True)
class Parity:
    """How near the int8 model is to what was trained, over the outputs for some texts."""

    correlation: float
    largest: float  # difference
    texts: int


def export(
    kind: Kind,
    fitted: Path,
    minilm: Path,
    out: Path,
    texts: Sequence[tuple[str, str]],
    base: Path | None = None,
) -> Parity:
    """Write a model folder `out` with the trained model of this kind, and of `base` the other one.

    fitted: the folder of `fit`. texts: (question, passage), to compare by. Raises TrainingRefused where int8 changes
    the model too much, or the word tables differ.
    """
    if not (fitted / "model.safetensors").is_file():
        raise TrainingRefused(f"{fitted} has no model.safetensors: its training has not come to its end")
    if not texts:
        raise TrainingRefused("there are no texts to compare the int8 model by: give some training groups")
    kept = ModelFolder(str(base)) if base else None
    with new_folder(out) as folder:
        facts: dict[str, Any] = {}
        if kept:
            facts = dict(kept.facts)
            for file in ("words.onnx", "cross.onnx", "table.bin"):
                shutil.copy(kept.file(file), folder / file)
        shutil.copy(minilm / "tokenizer.json", folder / "tokenizer.json")
        graph: nn.Module
        if kind == "words":
            words = bi_encoder.load(minilm, fitted)
            graph, bert, inputs = WordsGraph(words), words.bert, ["ids", "mask"]
            facts |= {
                "dim": words.project.out_features,
                "whole": facts.get("whole", WHOLE),
                "question_marker": bi_encoder.QUESTION_MARKER if words.markers else None,
                "passage_marker": bi_encoder.PASSAGE_MARKER if words.markers else None,
            }
        else:
            cross = cross_encoder.load(minilm, fitted)
            graph, bert, inputs = CrossGraph(cross), cross.bert, ["ids", "mask", "segments"]
        rows, lengths = _rows(minilm, texts, pairs=kind == "text")
        expected = _outputs(graph, rows, lengths)
        table = write_int8(graph, bert, inputs, folder / FILES[kind])
        if kept and table != (folder / "table.bin").read_bytes():
            raise TrainingRefused(
                f"the word table of {fitted} is not that of {base}: both models must come from the same MiniLM"
            )
        (folder / "table.bin").write_bytes(table)
        session = onnxruntime.InferenceSession(str(folder / FILES[kind]), providers=["CPUExecutionProvider"])
        parity = _parity(expected, RowRunner(session, None).run(rows, lengths))
        if parity.correlation < ALIKE:
            raise TrainingRefused(
                f"in int8 the model's outputs correlate with float32 by {parity.correlation:.4f}, {ALIKE} is the "
                "least: train longer or at a lower learning_rate, so that no weight stands out"
            )
        write_manifest(folder, out.name, facts)
        for earlier in kept.path.glob("trained_on_*.json") if kept else ():
            shutil.copy(earlier, folder / earlier.name)
        shutil.copy(fitted / "trained_on.json", folder / f"trained_on_{kind}.json")
    return parity


def _rows(
    minilm: Path, texts: Sequence[tuple[str, str]], pairs: bool
) -> tuple[list[list[int]], list[int] | None]:
    """Word pieces of each text, and how many of them are the question's; None where only passages are read."""
    tokenizer = load_tokenizer(minilm)
    read = pieces(tokenizer, [passage for _, passage in texts], COMPARED_PIECES)
    if not pairs:
        return [[CLS, *row, SEP] for row in read], None
    asked = [[CLS, *row, SEP] for row in pieces(tokenizer, [q for q, _ in texts], QUESTION_PIECES)]
    return [[*a, *row, SEP] for a, row in zip(asked, read, strict=True)], [len(a) for a in asked]


def _outputs(
    graph: nn.Module, rows: Sequence[Sequence[int]], lengths: Sequence[int] | None
) -> list[NDArray[np.float32]]:
    """As `RowRunner.run` gives them."""
    graph.eval()
    found = []
    with torch.inference_mode():
        for i, row in enumerate(rows):
            ids = torch.tensor([row])
            inputs = [ids, torch.ones_like(ids)]
            if lengths is not None:
                inputs.append((torch.arange(len(row)) >= lengths[i]).long()[None])
            found.append(graph(*inputs)[0].numpy())
    return found


def _parity(expected: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]) -> Parity:
    one, other = (np.concatenate([values.ravel() for values in side]) for side in (expected, found))
    return Parity(float(np.corrcoef(one, other)[0, 1]), float(np.abs(one - other).max()), len(expected))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the tracer and the quantiser say of themselves: what became of the model is measured after."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def write_int8(graph: nn.Module, bert: nn.Module, inputs: Sequence[str], out: Path) -> bytes:
    """Write `graph` to `out` as int8 ONNX that looks for its word table in `table.bin` beside it; that table."""
    table = Int8Table(bert.embeddings.word_embeddings.weight.detach())
    bert.embeddings.word_embeddings = table
    bert.config._attn_implementation = "eager"
    example = torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "n", 1: "length"} for name in [*inputs, "output"]}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        whole, quantised = Path(folder) / "whole.onnx", Path(folder) / "int8.onnx"
        torch.onnx.export(
            graph.eval(),
            tuple(example for _ in inputs),
            str(whole),
            input_names=list(inputs),
            output_names=["output"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        quantize_dynamic(
            whole,
            quantised,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(str(quantised))
    rows = b""
    for tensor in model.graph.initializer:
        if list(tensor.dims) == list(table.word_table.shape):
            rows = bytes(tensor.raw_data)
            onnx.external_data_helper.set_external_data(tensor, "table.bin", offset=0, length=len(rows))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    out.write_bytes(model.SerializeToString())
    return rows
