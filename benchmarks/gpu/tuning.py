"""Limits the search for the best settings of Triton kernels, which takes a minute per model where minutes are all."""

import sys
from typing import Any


def limit(package: str, most: int) -> int:
    """Leaves at most this many settings to try in each kernel of a package that is imported; returns how many it cut.

    Those that stay are spread evenly over the list, whose order is by block size, warps and stages.
    """
    cut = 0
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.split(".")[0] != package:
            continue
        for kernel in list(vars(module).values()):
            tuner = _tuner(kernel)
            if tuner is not None and len(tuner.configs) > most:
                step = len(tuner.configs) / most
                cut += len(tuner.configs) - most
                tuner.configs = [tuner.configs[int(k * step)] for k in range(most)]
    return cut


def _tuner(kernel: Any) -> Any:
    """Returns the part of a decorated kernel that tries settings, or None."""
    while kernel is not None and not isinstance(getattr(kernel, "configs", None), list):
        kernel = vars(kernel).get("fn") if hasattr(kernel, "__dict__") else None
    return kernel
