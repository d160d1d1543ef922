"""The GPU on which vectors are scanned: whether there is one that can, and how the kernel is launched on it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from retrieval.errors import DeviceMissing, MissingExtra, first_line
from retrieval.recall.part import NoRoom

STEP = 16
"""Lengths are told to the kernel as multiples of this, so that it is compiled once for all of them."""
_LAUNCHING = threading.Lock()
"""Triton's search for the best settings is not made for several threads."""


def choose_gpu(device: str) -> torch.device | None:
    """Where vectors are kept for `search.device`, after a first scan there; None for "auto" where there is no GPU.

    Raises DeviceMissing, MissingExtra.
    """
    if device == "auto" and not torch.cuda.is_available():
        return None
    if find_spec("late_interaction_kernels") is None:
        raise MissingExtra(
            f"search.device is {device}, and the package late-interaction-kernels, which scans on a GPU, is not "
            "installed: run 'make gpu', or set search.device: cpu"
        )
    chosen = torch.device("cuda" if device == "auto" else device)
    if not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceMissing(
            f"search.device is {device}, and torch {torch.__version__} sees {torch.cuda.device_count()} CUDA GPUs "
            "here: check nvidia-smi and the driver, or set search.device: cpu"
        )
    try:
        try_gpu(chosen)
    except Exception as error:
        why = f"{type(error).__name__}: {first_line(error).rstrip('.')}"
        raise DeviceMissing(
            f"search.device is {device}, and a first scan there fails: {why}; mend that (Triton needs a C compiler and "
            "Python's headers), or set search.device: cpu"
        ) from error
    return chosen


def try_gpu(device: torch.device) -> None:
    """One page is scanned. Raises whatever the kernel, its compiler or the GPU have against it."""
    one = torch.ones(1, STEP, dtype=torch.float16, device=device)
    ends = torch.tensor([0, 1], dtype=torch.int32, device=device)
    with launching(device):
        found = kernel(device)(one, one, ends, ends, STEP, STEP).tolist()
    if found != [[STEP]]:
        raise ValueError(f"the kernel gives {found} for a page of which the score is {STEP}")


def gpu_name(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else str(device)


@contextmanager
def launching(device: torch.device) -> Iterator[None]:
    """One thread at a time, and Triton's launches go to `device`."""
    with _LAUNCHING, torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def room(device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError, or the driver's own, which has another class
        if "out of memory" not in str(error):
            raise
        raise NoRoom(f"{gpu_name(device)} is full: {first_line(error)}") from error


def kernel(device: torch.device) -> Any:
    """(question, vectors, ends of each, most vectors of each) -> (questions, pages) float32."""
    if device.type == "cuda":
        from late_interaction_kernels import maxsim_varlen

        return maxsim_varlen
    from late_interaction_kernels.reference import maxsim_reference_varlen

    return lambda question, vectors, ends, page_ends, *_: maxsim_reference_varlen(
        question, vectors, ends, page_ends
    )
