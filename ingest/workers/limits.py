"""Limits that a worker process sets for itself: time, memory, and the life of its parent."""

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """The system ends this process if what is inside takes longer: no Python is needed for it to happen."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(megabytes: int) -> None:
    """Let this process add so much address space to what it has, and no more: MemoryError, or its end."""
    with suppress(ValueError, OSError):  # macOS refuses some limits, and does not keep others
        limit = psutil.Process().memory_info().vms + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with(parent: int) -> None:
    """Never returns: ends this process when `parent` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
