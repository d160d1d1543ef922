"""Reads the weights of an exported int8 reader back, so that a training can go on from a model that ships.

The float32 weights of a training that ended are often gone. An int8 weight times its column's scale is what the model
computes with, so nothing is lost but what the export had rounded away.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from rerankers.train.reader import Reader
from retrieval.train.minilm import load_bert

TABLE = "bert.embeddings.word_embeddings"
PREFIX = "model."


def read_int8_reader(path: Path, minilm: Path) -> Reader:
    """Returns the reader in `reader.onnx`, with zeros in the heads that it does not have.

    path: the model, with table.bin beside it. minilm: the folder of MiniLM, for the architecture. Raises ValueError if
    the file has weights of another architecture.
    """
    bert = load_bert(minilm)
    model = Reader(bert, bert.config.hidden_size)
    weights = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    found = {name: torch.from_numpy(value.copy()) for name, value in _weights(onnx.load(str(path))).items()}
    unknown = {
        name: tuple(value.shape)
        for name, value in found.items()
        if name not in weights or weights[name].shape != value.shape
    }
    missing = {name for name in weights if name not in found and not name.startswith("evidence.")}
    if unknown or missing:
        raise ValueError(f"{path} is no reader like {minilm}: unknown {unknown}, missing {sorted(missing)}")
    model.load_state_dict(weights | found)
    return model.eval()


def _weights(graph: Any) -> dict[str, NDArray[np.float32]]:
    """Returns the weights of an exported reader, by their names in torch."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in stored.items()
        if name.startswith(PREFIX) and value.dtype == np.float32 and not name.endswith(("_scale", ".scale"))
    }
    rows = f"{PREFIX}{TABLE}"
    weights[f"{TABLE}.weight"] = stored[f"{rows}.word_table"].astype(np.float32) * stored[f"{rows}.scale"]
    for node in graph.graph.node:
        # /model/bert/encoder/layer.0/attention/self/query/MatMul_quant
        layer = ".".join(node.name.strip("/").split("/")[1:-1])
        if node.op_type == "MatMulInteger" and node.input[1].endswith("_quantized"):
            name = node.input[1].removesuffix("_quantized")
            whole = stored[f"{name}_quantized"].astype(np.float32) - stored[f"{name}_zero_point"]
            weights[f"{layer}.weight"] = (whole * stored[f"{name}_scale"]).T
        elif node.op_type == "MatMul" and node.input[1] in stored:  # a head that is not rounded
            weights[f"{layer}.weight"] = stored[node.input[1]].T
    return weights
