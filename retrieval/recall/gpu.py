"""Chooses the GPU that scans vectors, checks that it can, and launches the kernel on it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from retrieval.errors import DeviceMissing, MissingExtra, first_line
from retrieval.recall.part import NoRoom

STEP = 16
"""The kernel gets lengths rounded up to multiples of this, so that it is compiled once for all of them."""
_LAUNCHING = threading.Lock()
"""Triton's search for the best settings is not safe in several threads."""


def choose_gpu(device: str) -> torch.device | None:
    """Returns the GPU that `search.device` names, after a first scan there; None for "auto" if there is no GPU.

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
            f"search.device is {device}, and a first scan there fails: {why}; fix that (Triton needs a C compiler and "
            "Python's headers), or set search.device: cpu"
        ) from error
    return chosen


def try_gpu(device: torch.device) -> None:
    """Scan one page. Raises any error of the kernel, its compiler or the GPU, and ValueError for a wrong score."""
    vector = torch.ones(1, STEP, dtype=torch.float16, device=device)
    ends = torch.tensor([0, 1], dtype=torch.int32, device=device)
    with launching(device):
        scores = kernel(device)(vector, vector, ends, ends, STEP, STEP).tolist()
    if scores != [[STEP]]:
        raise ValueError(f"the kernel gives {scores} for a page whose score is {STEP}")


def gpu_name(device: torch.device) -> str:
    return f"{torch.cuda.get_device_name(device)} ({device})" if device.type == "cuda" else str(device)


@contextmanager
def launching(device: torch.device) -> Iterator[None]:
    """Makes Triton launch on `device`, for one thread at a time."""
    with _LAUNCHING, torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        yield


@contextmanager
def room(device: torch.device) -> Iterator[None]:
    """Raises NoRoom instead of the errors that a full GPU gives."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError, or the driver's own, which has another class
        if "out of memory" not in str(error):
            raise
        raise NoRoom(f"{gpu_name(device)} is full: {first_line(error)}") from error


def kernel(device: torch.device) -> Any:
    """Returns the kernel: (query, vectors, ends of each, most vectors of each) -> (queries, pages) float32."""
    if device.type == "cuda":
        from late_interaction_kernels import maxsim_varlen

        return maxsim_varlen
    from late_interaction_kernels.reference import maxsim_reference_varlen

    return lambda query, vectors, ends, page_ends, *_: maxsim_reference_varlen(
        query, vectors, ends, page_ends
    )
