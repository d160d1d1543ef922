"""Rounds MPNet's matrices so that its outputs change little: GPTQ (Frantar et al., 2023).

Columns are rounded one after the other, and each column's error is made up for by those not yet rounded, as far as the
inputs of some texts allow. Layers are done in order, each on the outputs of the rounded ones below it.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.gpu_train.starts import LARGEST, row_scale
from retrieval.train.mpnet import MPNet

BLOCK = 128
"""Columns whose errors are passed on to the rest at once."""
DAMPING = 0.01
"""Of the mean of the diagonal: keeps the inverse stable where inputs hardly vary."""


@torch.inference_mode()
def round_layers(model: MPNet, ids: Tensor, mask: Tensor, steps: float) -> dict[str, Tensor]:
    """Round all matrices of the layers in place; returns the scale (rows, 1) of each, by its weight's name.

    ids, mask (n, length): texts as the model will meet them. steps: as in `write_start`.
    """
    scales: dict[str, Tensor] = {}
    model.eval()
    hidden, bias = model.embed(ids, mask)
    real = mask.bool()
    for number, layer in enumerate(model.encoder.layer):
        attention = layer.attention
        parts = [
            {f"attention.attn.{name}": attention.attn[name] for name in "qkv"},
            {"attention.attn.o": attention.attn["o"]},
            {"intermediate.dense": layer.intermediate["dense"]},
            {"output.dense": layer.output["dense"]},
        ]
        for part in parts:
            inputs = _inputs(next(iter(part.values())), partial(layer, hidden, bias))
            rows = inputs[real]
            products = rows.T @ rows / len(rows)
            for name, linear in part.items():
                scale = row_scale(linear.weight.numpy(), steps)
                scales[f"encoder.layer.{number}.{name}.weight"] = torch.from_numpy(scale)
                linear.weight.copy_(rounded(linear.weight, products, torch.from_numpy(scale).float()))
        hidden = layer(hidden, bias)
    return scales


def rounded(weight: Tensor, products: Tensor, scale: Tensor) -> Tensor:
    """Returns a matrix (out, in) in whole steps. products (in, in): the mean of its inputs' outer products."""
    size = weight.shape[1]
    damped = products + DAMPING * products.diagonal().mean() * torch.eye(size)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    left, result = weight.clone(), torch.empty_like(weight)
    for start in range(0, size, BLOCK):
        end = min(start + BLOCK, size)
        block, errors = left[:, start:end].clone(), torch.empty(len(weight), end - start)
        for i in range(end - start):
            column = block[:, i : i + 1]
            whole = (column / scale).round().clamp(-LARGEST, LARGEST) * scale
            error = (column - whole) / upper[start + i, start + i]
            block[:, i + 1 :] -= error * upper[start + i, start + i + 1 : end]
            result[:, start + i], errors[:, i] = whole[:, 0], error[:, 0]
        left[:, end:] -= errors @ upper[start:end, end:]
    return result


def _inputs(linear: nn.Module, run: Callable[[], object]) -> Tensor:
    """Returns what `linear` gets as its input in a run."""
    seen: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    run()
    handle.remove()
    return seen[0]
