"""Trained weights to what ships: two int8 ONNX models that share one int8 word table, with checksums.

The word table (30,522 x 384) is frozen in training, so both models' tables are the same: it is stored once,
int8 with one scale per row, as external data. The weights of every matrix product are int8 per channel.

    python -m rerankers.train.export MINILM_FOLDER BI_FOLDER CROSS_FOLDER OUT_FOLDER --name folio-1 --whole 0.5
"""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from rerankers.train import cross_encoder
from retrieval.onnx import write_manifest
from retrieval.train import bi_encoder

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


def export(
    graph: nn.Module, bert: nn.Module, inputs: Sequence[str], out: Path, shared_table: bool = True
) -> None:
    """Write `graph` to `out` as int8 ONNX, its word table beside it in `table.bin`."""
    table = Int8Table(bert.embeddings.word_embeddings.weight.detach())
    bert.embeddings.word_embeddings = table
    bert.config._attn_implementation = "eager"
    example = torch.ones(2, 16, dtype=torch.long)
    axes = {name: {0: "n", 1: "length"} for name in [*inputs, "output"]}
    with tempfile.TemporaryDirectory() as folder:
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
    if shared_table:
        for tensor in model.graph.initializer:
            if list(tensor.dims) == list(table.word_table.shape):
                (out.parent / "table.bin").write_bytes(tensor.raw_data)
                onnx.external_data_helper.set_external_data(
                    tensor, "table.bin", offset=0, length=len(tensor.raw_data)
                )
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
    out.write_bytes(model.SerializeToString())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("minilm", "bi", "cross", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--name", default="folio-1")
    parser.add_argument(
        "--whole", type=float, default=0.5, help="weight of the question's own vector beside its words"
    )
    parser.add_argument("--dim", type=int, default=128)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    words = bi_encoder.load(options.minilm, options.bi, options.dim)
    export(WordsGraph(words), words.bert, ["ids", "mask"], options.out / "words.onnx")
    cross = cross_encoder.load(options.minilm, options.cross)
    export(CrossGraph(cross), cross.bert, ["ids", "mask", "segments"], options.out / "cross.onnx")
    shutil.copy(options.minilm / "tokenizer.json", options.out / "tokenizer.json")
    write_manifest(options.out, options.name, {"dim": options.dim, "whole": options.whole})


if __name__ == "__main__":
    main()
