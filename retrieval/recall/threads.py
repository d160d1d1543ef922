"""The threads that all searches of a process share: as many as there are cores for scans, and some that wait for reads.

A scan is split into blocks that fit into a core's cache, one thread of ours for each core. BLAS's own threads would
wait for each other inside small products, and spin for about 20 ms after each one, which slows down everything else: a
scan of 2,000 pages takes 60 ms with them and 42 ms without, on two cores.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import threadpool_limits

from configs.cores import available_cores

READERS = 32
"""More than the searches that run at once (`serve.at_once`): a thread is started only when all others are busy."""
T = TypeVar("T")
R = TypeVar("R")


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Returns `work` of each item, in the order given, computed on all cores.

    `work` must release the GIL, as numpy's products do. A thread that has lowered its own priority gets threads of its
    own for this call, which inherit that priority: the shared ones belong to searches. So does a call from inside
    `work`, which would otherwise wait for the threads that wait for it.
    """
    _use_one_blas_thread()
    if _has_low_priority() or _inside.work:
        with ThreadPoolExecutor(available_cores()) as pool:
            return list(pool.map(work, items))
    return list(_scanners().map(work, items))


@cache
def readers() -> ThreadPoolExecutor:
    """Returns the threads in which searches query LanceDB while they scan."""
    return ThreadPoolExecutor(READERS, thread_name_prefix="read")


@cache
def _scanners() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(available_cores(), "scan", initializer=_mark_inside)


class _Inside(threading.local):
    work = False


_inside = _Inside()


def _mark_inside() -> None:
    _inside.work = True


def _has_low_priority() -> bool:
    """Whether this thread gives way to the process's first one; Linux alone has a priority for each thread."""
    if sys.platform != "linux":
        return False
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    return own > os.getpriority(os.PRIO_PROCESS, os.getpid())


@cache
def _use_one_blas_thread() -> None:
    """Limits BLAS to the calling thread, for the whole process and from now on."""
    threadpool_limits(1, "blas")


def _forget_threads() -> None:
    """A forked child has none of its parent's threads: it starts its own."""
    readers.cache_clear()
    _scanners.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
