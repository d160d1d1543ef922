"""Exports trained weights as int8 ONNX models that share one word table, with checksums and a parity check.

The word table (30,522 x 384) is frozen in training, so both models have the same one. It is stored once as external
data, in int8 with one scale per row. The weights of every matrix product are int8 per channel.
"""

import json
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

from rerankers.train import cross_encoder, reader
from rerankers.train.cross_encoder import QUESTION_PIECES
from retrieval.models.onnx import ModelFolder, RowRunner, write_manifest
from retrieval.train import bi_encoder, words_model
from retrieval.train.curriculum import TrainingRefused
from retrieval.train.minilm import CLS, SEP, load_tokenizer, pieces
from retrieval.train.trained_on import read_trained_on, write_trained_on
from retrieval.train.training_run import new_folder

Kind = Literal["text", "reader", "words"]
LEAST_CORRELATION = 0.99
"""Between int8 and float32 outputs. A model below it is not exported, because it would rank pages differently."""
WHOLE = 0.5
"""The weight of a question's vector for the whole, beside its words; a base model's own value takes precedence."""
COMPARED_PIECES = 80
"""Word pieces of each passage on which int8 and float32 are compared."""
FILES = {"text": "cross.onnx", "reader": "reader.onnx", "words": "words.onnx"}
OUTPUTS = {
    "text": ("output",),
    "reader": ("relevance", "answerable", "first", "last", "evidence"),
    "words": ("output",),
}
"""The names of the model's outputs; a reranker takes the first as a pair's score."""
TABLE = "word_table"
NARROW = 4


class Int8Table(nn.Module):
    """The word table: rows in int8, each with its scale."""

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
    """(ids, mask) -> (n, length, d + 1): each piece's projection, not normalised, and last the logit of its weight."""

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


class ReaderGraph(nn.Module):
    """(ids, mask, segments) -> the fields of a Reading."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.model(ids, mask, segments)
        return outputs


@dataclass(frozen=True, slots=True)
class Parity:
    """How close the outputs of the int8 model are to those of the trained one, on some texts."""

    correlation: float  # the lowest of the model's outputs
    largest: float  # absolute difference
    texts: int


def export(
    kind: Kind,
    fitted: Path,
    out: Path,
    *,
    minilm: Path,
    texts: Sequence[tuple[str, str]],
    base: Path | None = None,
) -> Parity:
    """Write a model folder `out` with the trained model of this kind, and the other kind's model of `base`.

    fitted: the folder of `fit`. texts: pairs (question, passage) on which int8 and float32 are compared. Raises
    TrainingRefused if int8 changes the outputs too much, or the word tables differ.
    """
    if not (fitted / "model.safetensors").is_file():
        raise TrainingRefused(
            f"{fitted} has no model.safetensors: its training is not done",
            remedy="run 'folioscope train fit' again with the same options, which resumes it",
        )
    if not texts:
        raise TrainingRefused(
            "there are no texts on which to compare the int8 model with the trained one",
            remedy="give a file of training groups",
        )
    base_model = ModelFolder(str(base)) if base else None
    kept = _kept_files(base_model, kind) if base_model else []
    with new_folder(out) as folder:
        facts: dict[str, Any] = {}
        if base_model:
            facts = dict(base_model.facts)
            for file in kept:
                shutil.copy(base_model.file(file), folder / file)
        shutil.copy(minilm / "tokenizer.json", folder / "tokenizer.json")
        graph: nn.Module
        if kind == "words":
            words = bi_encoder.load_trained(minilm, fitted)
            graph, bert, inputs = WordsGraph(words), words.bert, ["ids", "mask"]
            facts |= {
                "dim": words.project.out_features,
                "whole": facts.get("whole", WHOLE),
                "question_marker": words_model.QUESTION_MARKER if words.markers else None,
                "passage_marker": words_model.PASSAGE_MARKER if words.markers else None,
            }
        elif kind == "reader":
            model = reader.load_trained(minilm, fitted)
            graph, bert, inputs = ReaderGraph(model), model.bert, ["ids", "mask", "segments"]
            facts["reranker"] = "reader"
            facts.pop("relevance_shift", None)  # that of the reader before
        else:
            cross = cross_encoder.load_trained(minilm, fitted)
            graph, bert, inputs = CrossGraph(cross), cross.bert, ["ids", "mask", "segments"]
            facts.pop("reranker", None)
        rows, lengths = _rows(minilm, texts, pairs=kind != "words")
        expected = _outputs(graph, rows, lengths)
        table = write_int8(graph, bert, inputs, folder / FILES[kind], OUTPUTS[kind])
        if base_model and table != (folder / "table.bin").read_bytes():
            raise TrainingRefused(
                f"the word table of {fitted} differs from that of {base}: both models must come from the same MiniLM"
            )
        (folder / "table.bin").write_bytes(table)
        session = onnxruntime.InferenceSession(str(folder / FILES[kind]), providers=["CPUExecutionProvider"])
        parity = _parity(expected, RowRunner(session, None).run_outputs(rows, lengths))
        if parity.correlation < LEAST_CORRELATION:
            raise TrainingRefused(
                f"the int8 model's outputs correlate with float32 by {parity.correlation:.4f}, below the limit of "
                f"{LEAST_CORRELATION}",
                remedy="train longer or at a lower learning_rate, so that no weight is far larger than the others",
            )
        write_manifest(folder, out.name, facts)
        earlier = read_trained_on(base_model.path) if base_model else {}
        by_kind = {other: hashes for other, hashes in earlier.items() if FILES.get(other) in kept}
        by_kind[kind] = set(json.loads((fitted / "trained_on.json").read_text(encoding="utf-8")))
        write_trained_on(folder, by_kind)
    return parity


def _kept_files(base: ModelFolder, kind: Kind) -> list[str]:
    """Returns the files of a base model that stay: its word table, and the model that is not of this kind."""
    replaced = ("words.onnx",) if kind == "words" else ("cross.onnx", "reader.onnx")
    return [name for name in base.names if name.endswith((".onnx", ".bin")) and name not in replaced]


def _rows(
    minilm: Path, texts: Sequence[tuple[str, str]], pairs: bool
) -> tuple[list[list[int]], list[int] | None]:
    """Returns the rows of word pieces, and how many pieces of each are the question's; None for passages alone."""
    tokenizer = load_tokenizer(minilm)
    passages = pieces(tokenizer, [passage for _, passage in texts], COMPARED_PIECES)
    if not pairs:
        return [[CLS, *passage, SEP] for passage in passages], None
    questions = [[CLS, *row, SEP] for row in pieces(tokenizer, [q for q, _ in texts], QUESTION_PIECES)]
    rows = [[*question, *passage, SEP] for question, passage in zip(questions, passages, strict=True)]
    return rows, [len(question) for question in questions]


def _outputs(
    graph: nn.Module, rows: Sequence[Sequence[int]], lengths: Sequence[int] | None
) -> list[tuple[NDArray[np.float32], ...]]:
    """Returns the float32 outputs in the form of `RowRunner.run_outputs`."""
    graph.eval()
    outputs = []
    with torch.inference_mode():
        for i, row in enumerate(rows):
            ids = torch.tensor([row])
            inputs = [ids, torch.ones_like(ids)]
            if lengths is not None:
                inputs.append((torch.arange(len(row)) >= lengths[i]).long()[None])
            found = graph(*inputs)
            found = found if isinstance(found, tuple) else (found,)
            outputs.append(tuple(output[0].numpy() for output in found))
    return outputs


def _parity(
    expected: Sequence[tuple[NDArray[np.float32], ...]], actual: Sequence[tuple[NDArray[np.float32], ...]]
) -> Parity:
    correlations, differences = [], []
    for number in range(len(expected[0])):
        a, b = (np.concatenate([row[number].ravel() for row in side]) for side in (expected, actual))
        correlations.append(float(np.corrcoef(a, b)[0, 1]))
        differences.append(float(np.abs(a - b).max()))
    return Parity(min(correlations), max(differences), len(expected))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the warnings of tracer and quantizer: the parity check afterwards measures what they warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _narrow(model: onnx.ModelProto) -> list[str]:
    """Returns the names of the matrix products with at most NARROW columns: heads, whose rounding saves nothing."""
    narrow = {t.name for t in model.graph.initializer if len(t.dims) == 2 and min(t.dims) <= NARROW}
    return [n.name for n in model.graph.node if n.op_type in ("MatMul", "Gemm") and n.input[1] in narrow]


def write_int8(
    graph: nn.Module,
    bert: nn.Module,
    inputs: Sequence[str],
    out: Path,
    outputs: Sequence[str] = ("output",),
) -> bytes:
    """Write `graph` to `out` as int8 ONNX, with its word table in `table.bin` beside it; return that table's bytes.

    inputs, outputs: the names of the graph's inputs and outputs.
    """
    table = Int8Table(bert.embeddings.word_embeddings.weight.detach())
    bert.embeddings.word_embeddings = table
    bert.config._attn_implementation = "eager"
    example = torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "n", 1: "length"} for name in [*inputs, *outputs]}
    with tempfile.TemporaryDirectory() as folder, _quiet():
        float32, int8 = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        torch.onnx.export(
            graph.eval(),
            tuple(example for _ in inputs),
            str(float32),
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        quantize_dynamic(
            float32,
            int8,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_narrow(onnx.load(str(float32))),
        )
        model = onnx.load(str(int8))
    rows = b""
    for tensor in model.graph.initializer:
        if list(tensor.dims) == list(table.word_table.shape):
            rows = bytes(tensor.raw_data)
            onnx.external_data_helper.set_external_data(tensor, "table.bin", offset=0, length=len(rows))
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    out.write_bytes(model.SerializeToString())
    return rows
