"""Switches a loaded Qwen3.5 between the kernels of flash-linear-attention (`fla`) and transformers' own functions.

transformers 5.23 binds fla's Triton kernels when it is imported, if `fla` can be imported then, whatever the device of
a model: `use_kernel_func_from_hub_with_fallback` (transformers/integrations/hub_kernels.py) puts wrappers in place of
the functions below, and keeps the function in torch as `__wrapped__`. The layers look these names up in their module at
every call. Without a GPU the kernels fail ("0 active drivers"), so a model on a CPU must run with them switched off.
"""

import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

BOUND_TO_FLA = ("torch_chunk_gated_delta_rule", "torch_recurrent_gated_delta_rule")


def available() -> bool:
    """Returns whether fla is installed, and a GPU is there to run it."""
    return torch.cuda.is_available() and importlib.util.find_spec("fla") is not None


def uses_linear_attention(model: torch.nn.Module) -> bool:
    """Returns whether the model has layers that call these functions: Qwen3.5 has them, Qwen2 and Qwen3-VL do not."""
    return bool(_modules(model))


@contextmanager
def switched(model: torch.nn.Module, on: bool) -> Iterator[None]:
    """Inside the block, the model's linear attention runs with fla's kernels, or without.

    The functions are replaced for every model of this architecture in the process, so no other thread may run one.
    A captured CUDA graph replays the kernels that it was captured with. Raises ValueError if the model has no linear
    attention, and RuntimeError if it is to be on but transformers did not bind fla.
    """
    modules = _modules(model)
    if not modules:
        raise ValueError(f"{type(model).__name__} has no linear attention, so there is nothing to switch")
    with ExitStack() as replaced:
        for module in modules:
            for name in BOUND_TO_FLA:
                function = getattr(module, name)
                if on and not is_bound(function):
                    raise RuntimeError(
                        f"transformers runs {name} without fla: install fla-core where Python finds it before"
                        " transformers is imported"
                    )
                if not on and is_bound(function):
                    replaced.enter_context(patch.object(module, name, _in_torch(function)))
        yield


def is_bound(function: Callable[..., Any]) -> bool:
    """Returns whether transformers' wrapper calls fla's kernel, instead of the function in torch that it wraps."""
    if not hasattr(function, "__wrapped__"):
        return False
    return bool(inspect.getclosurevars(function).nonlocals["is_new_implementation"])


def _in_torch(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the wrapped function, which like the wrapper ignores the arguments that only other kernels know."""
    torch_function: Callable[..., Any] = function.__wrapped__  # type: ignore[attr-defined]
    known = set(inspect.signature(torch_function).parameters)

    @functools.wraps(torch_function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return torch_function(*args, **{name: value for name, value in kwargs.items() if name in known})

    del call.__wrapped__  # so that `is_bound` does not take it for transformers' wrapper
    return call


def _modules(model: torch.nn.Module) -> list[ModuleType]:
    """Returns the Python modules of the model's layers that have the functions to switch."""
    names = {type(layer).__module__ for layer in model.modules() if "GatedDeltaNet" in type(layer).__name__}
    modules = [sys.modules[name] for name in sorted(names)]
    return [module for module in modules if all(hasattr(module, name) for name in BOUND_TO_FLA)]
