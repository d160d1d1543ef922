"""A model that trains with rounded weights computes as its int8 export does."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from rerankers.train.rounding import rounded, train_rounded


def test_weights_are_rounded_as_the_export_rounds_them(tmp_path: Path) -> None:
    weight = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    columns = numpy_helper.from_array(weight.T.numpy().copy(), "weight")
    shapes = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, size]) for n, size in (("x", 50), ("y", 6))
    ]
    product = helper.make_node("MatMul", ["x", "weight"], ["y"], "product")
    graph = helper.make_graph([product], "graph", shapes[:1], shapes[1:], [columns])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "float32.onnx")
    quantize_dynamic(
        tmp_path / "float32.onnx",
        tmp_path / "int8.onnx",
        per_channel=True,
        reduce_range=True,
        weight_type=QuantType.QInt8,
    )
    saved = onnx.load(tmp_path / "int8.onnx").graph.initializer
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in saved}
    exported = values["weight_quantized"].astype(np.float32) * values["weight_scale"]
    np.testing.assert_allclose(rounded(weight).numpy(), exported.T, rtol=1e-5, atol=1e-7)


def test_rounding_again_changes_nothing_and_zeros_stay() -> None:
    weight = torch.randn(3, 20, generator=torch.Generator().manual_seed(1))
    weight[1] = 0
    once = rounded(weight)
    assert torch.allclose(rounded(once), once, atol=1e-7)
    assert not once[1].any()


def test_a_model_computes_with_rounded_weights_and_its_own_ones_learn() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 4)
    model = nn.Sequential(layer, nn.GELU(), nn.Linear(4, 2))
    names = list(model.state_dict())
    values = torch.randn(3, 8)
    expected = values @ rounded(layer.weight).T + layer.bias
    assert train_rounded(model) == 2
    assert torch.allclose(layer(values), expected)
    model(values).square().sum().backward()
    assert layer.weight.grad is not None
    assert bool(layer.weight.grad.any())
    assert list(model.state_dict()) == names
