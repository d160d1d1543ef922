"""Lets a model train with its weights rounded as the int8 export rounds them, so that nothing is lost there.

The forward pass sees rounded weights, the gradient passes as if there were no rounding (the straight-through estimator:
Bengio et al., 2013; for int8: Jacob et al., 2018).
"""

import torch
from torch import Tensor, nn

LEVELS = 64
"""Whole steps to each side of 0: seven bits, as processors without VNNI need them (onnxruntime's `reduce_range`)."""


def rounded(weight: Tensor) -> Tensor:
    """Returns a matrix (out, in) in whole steps of each row's largest value over LEVELS; its gradient is `weight`'s."""
    step = weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-12) / LEVELS
    return weight + ((weight / step).round() * step - weight).detach()


def train_rounded(model: nn.Module) -> int:
    """Let all linear layers of a model compute with rounded weights; returns how many there are."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        layer.forward = _Rounded(layer)
    return len(layers)


class _Rounded:
    """The forward of a linear layer with rounded weights."""

    def __init__(self, layer: nn.Linear) -> None:
        self._layer = layer

    def __call__(self, values: Tensor) -> Tensor:
        return torch.nn.functional.linear(values, rounded(self._layer.weight), self._layer.bias)
