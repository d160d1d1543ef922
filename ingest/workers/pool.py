"""Starts the worker processes when there is work, watches their time and memory, and kills and replaces them."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

import configs.settings as configs
from ingest.read.titles import printable
from ingest.workers.messages import Chunk
from retrieval.errors import UnreadableDocument

GRACE = 5.0
"""Seconds past the time limit after which the parent kills a worker that has not ended itself."""
SPARE_MB = 500
"""Memory that a worker needs before it has opened a document, in MiB."""


@dataclass(slots=True)
class _WorkerProcess:
    process: Any
    connection: Any
    chunk: Chunk | None = None  # None while it is free
    document: int = 0  # the document of its last chunk, which it may still have open
    last_answer: float = 0.0  # monotonic seconds
    last_check: float = 0.0  # of its memory, monotonic seconds
    killed_for: str = ""  # the reason for which the parent killed it


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker that was given this chunk has ended without answering."""

    chunk: Chunk
    error: UnreadableDocument


class WorkerPool:
    """Up to `size` worker processes. Not safe for use by several threads.

    Libraries do less: concurrent.futures gives up the whole pool when a worker dies; pebble limits the time of a task,
    but neither its memory nor the programs that it starts, and does not choose the worker that has the document open.
    """

    def __init__(self, settings: configs.Ingest, size: int) -> None:
        self._settings, self._size = settings, size
        self._workers: list[_WorkerProcess] = []
        self._context = _context()

    @property
    def busy(self) -> bool:
        """Whether a worker has a chunk."""
        return any(worker.chunk for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """Whether a worker is free, or one may still be started."""
        return len(self._workers) < self._size or any(worker.chunk is None for worker in self._workers)

    def assign(self, chunk: Chunk) -> None:
        """Send the chunk to a free worker, preferably to the one that has its document open."""
        free = [worker for worker in self._workers if worker.chunk is None and worker.process.is_alive()]
        self._workers = [worker for worker in self._workers if worker.chunk or worker in free]
        open_there = [worker for worker in free if worker.document == chunk.document]
        worker = (open_there or free)[0] if free else self._start_worker()
        worker.chunk, worker.document, worker.last_answer = chunk, chunk.document, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # it has just died: `receive` will find out
            worker.connection.send(chunk)

    def release(self, chunk: Chunk) -> None:
        """Mark the worker that has answered for this chunk as free."""
        for worker in self._workers:
            if worker.chunk is chunk:
                worker.chunk = None

    def receive(self, seconds: float, wake: int | None = None) -> list[tuple[Chunk, Any]]:
        """Wait up to `seconds` for answers; returns at most one per worker, `Lost` for a worker that has ended.

        Bytes that arrive at the file descriptor `wake` end the wait too, and are consumed. The caller may take its
        time before the next call: a worker whose answer has not been received yet is never too slow.
        """
        working = {worker.connection: (worker, worker.chunk) for worker in self._workers if worker.chunk}
        sources: list[Any] = [*working, *([] if wake is None else [wake])]
        ready = multiprocessing.connection.wait(sources, timeout=seconds) if working else []
        if wake in ready and wake is not None:
            os.read(wake, 4_096)
            ready.remove(wake)
        answers: list[tuple[Chunk, Any]] = []
        for connection in ready:
            worker, chunk = working.pop(connection)
            worker.last_answer = time.monotonic()
            try:
                answers.append((chunk, worker.connection.recv()))
            except (EOFError, OSError):
                self._workers.remove(worker)
                answers.append((chunk, Lost(chunk, self._cause_of_end(worker, chunk))))
        for worker, _ in working.values():
            if worker.connection.poll():  # an answer has come in the meantime
                worker.last_answer = time.monotonic()
            else:
                self._watch(worker)
        return answers

    def kill_all(self) -> None:
        """Kill all workers now and wait for their end."""
        for worker in self._workers:
            _kill(worker)
        for worker in self._workers:
            worker.process.join(5)
            worker.connection.close()
            worker.process.close()
        self._workers = []

    def _start_worker(self) -> _WorkerProcess:
        parent_end, child_end = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(child_end, self._settings), daemon=True, name="folioscope-worker"
        )
        process.start()
        child_end.close()
        worker = _WorkerProcess(process, parent_end)
        self._workers.append(worker)
        return worker

    def _watch(self, worker: _WorkerProcess) -> None:
        """Kill the worker if it has taken too much time or memory; its memory is checked once a second."""
        moment = time.monotonic()
        if moment - worker.last_answer > self._settings.seconds_per_page + GRACE:
            worker.killed_for = "too slow"
            _kill(worker)
        if moment - worker.last_check > 1:
            worker.last_check = moment
            with suppress(psutil.Error):
                used = psutil.Process(worker.process.pid).memory_info().rss
                if used > (self._settings.memory_mb + SPARE_MB) * 2**20:
                    worker.killed_for = "too much memory"
                    _kill(worker)

    def _cause_of_end(self, worker: _WorkerProcess, chunk: Chunk) -> UnreadableDocument:
        """Wait for the end of a worker that has closed its connection; returns the error of the chunk's document."""
        worker.process.join(5)
        if worker.process.is_alive():
            _kill(worker)
            worker.process.join(5)
        code = worker.process.exitcode
        worker.connection.close()
        _kill(worker)  # the processes that it has started
        name, limits = printable(chunk.task.source.path.name), self._settings
        if worker.killed_for == "too slow" or code == -signal.SIGALRM:
            seconds = f"{limits.seconds_per_page:g} s (seconds_per_page)"
            return UnreadableDocument(
                "too slow",
                f"{name}: a page took longer than {seconds}: raise the limit, or leave the file out",
            )
        if worker.killed_for == "too much memory":
            return UnreadableDocument(
                "too much memory",
                f"{name} needs more than {limits.memory_mb:,} MiB (memory_mb): raise the limit, or leave the file out",
            )
        return UnreadableDocument(
            "crashed", f"{name}: the worker that read it crashed ({_signal_name(code)})"
        )


def _work(connection: Any, settings: configs.Ingest) -> None:
    # Imported here, so that the parent process does not load the libraries that only its workers use.
    from ingest.workers.worker import run_worker

    run_worker(connection, settings)


def _context() -> Any:
    """Return a context that forks workers from a fork server, never from this process.

    This process has threads, and one of them may hold a lock at the moment of a fork. The fork server is a separate
    process without threads that has imported the workers' modules.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ingest.workers.worker"])
    return context


def _kill(worker: _WorkerProcess) -> None:
    """Kill the worker and the processes that it has started: a worker leads a process group as soon as it is up."""
    pid = worker.process.pid
    if pid:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    if worker.process.is_alive():
        worker.process.kill()


def _signal_name(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
