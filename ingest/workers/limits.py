"""Limits that a worker process sets for itself: its time, its memory, and an end when its parent has died."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Have the operating system end this process if the body takes longer than `seconds`.

    The system does so even while native code keeps Python from running.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(megabytes: int) -> None:
    """Limit this process to its present address space plus `megabytes` MiB, and switch off core dumps.

    Past the limit, allocations raise MemoryError or end the process.
    """
    with suppress(ValueError, OSError):  # macOS rejects some limits and ignores others
        limit = psutil.Process().memory_info().vms + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with(parent: int) -> None:
    """End this process when the process `parent` is no longer its parent. Never returns: run it in a thread."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
