"""The worker processes themselves: started when there is work, watched, ended, replaced."""

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
from ingest.read.titles import clean
from ingest.workers.messages import Chunk
from retrieval.errors import UnreadableDocument

GRACE = 5.0
"""Seconds past the time limit after which the parent ends a worker that has not ended itself."""
SPARE_MB = 500
"""What a worker needs before it has opened anything, in MiB."""


@dataclass(slots=True)
class _Member:
    process: Any
    connection: Any
    chunk: Chunk | None = None
    document: int = 0  # of its last chunk: it may still have it open
    heard: float = 0.0  # monotonic seconds of its last sign of life
    looked: float = 0.0
    verdict: str = ""  # why the parent ended it


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker that had this chunk is gone."""

    chunk: Chunk
    error: UnreadableDocument


class WorkerPool:
    """Up to `size` workers. Not for use by two threads."""

    def __init__(self, settings: configs.Ingest, size: int) -> None:
        self._settings, self._size = settings, size
        self._members: list[_Member] = []
        self._context = _context()

    @property
    def busy(self) -> bool:
        return any(member.chunk for member in self._members)

    @property
    def has_room(self) -> bool:
        return len(self._members) < self._size or any(member.chunk is None for member in self._members)

    def give(self, chunk: Chunk) -> None:
        """Hand the chunk to a worker that is free, best to the one that has its document open."""
        free = [member for member in self._members if member.chunk is None and member.process.is_alive()]
        self._members = [member for member in self._members if member.chunk or member in free]
        open_there = [member for member in free if member.document == chunk.document]
        member = (open_there or free)[0] if free else self._hire()
        member.chunk, member.document, member.heard = chunk, chunk.document, time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):  # it died just now: `answers` will find out
            member.connection.send(chunk)

    def done(self, chunk: Chunk) -> None:
        for member in self._members:
            if member.chunk is chunk:
                member.chunk = None

    def answers(self, seconds: float, wake: int | None = None) -> list[tuple[Chunk, Any]]:
        """What the workers have said, after waiting up to `seconds`; a `Lost` for each that is gone.

        Bytes that arrive at the file descriptor `wake` end the wait too, and are read.

        One answer each at most. The caller may take its time before it asks again: a worker that waits to be
        heard is never too slow.
        """
        working = {member.connection: (member, member.chunk) for member in self._members if member.chunk}
        heard: list[Any] = [*working, *([] if wake is None else [wake])]
        ready = multiprocessing.connection.wait(heard, timeout=seconds) if working else []
        if wake in ready and wake is not None:
            os.read(wake, 4_096)
            ready.remove(wake)
        answers: list[tuple[Chunk, Any]] = []
        for connection in ready:
            member, chunk = working.pop(connection)
            member.heard = time.monotonic()
            try:
                answers.append((chunk, member.connection.recv()))
            except (EOFError, OSError):
                self._members.remove(member)
                answers.append((chunk, Lost(chunk, self._verdict(member, chunk))))
        for member, _ in working.values():
            if member.connection.poll():  # it has spoken meanwhile
                member.heard = time.monotonic()
            else:
                self._watch(member)
        return answers

    def end(self) -> None:
        """End all workers now."""
        for member in self._members:
            _kill(member)
        for member in self._members:
            member.process.join(5)
            member.connection.close()
            member.process.close()
        self._members = []

    def _hire(self) -> _Member:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(theirs, self._settings), daemon=True, name="folioscope-worker"
        )
        process.start()
        theirs.close()
        member = _Member(process, ours)
        self._members.append(member)
        return member

    def _watch(self, member: _Member) -> None:
        moment = time.monotonic()
        if moment - member.heard > self._settings.seconds_per_page + GRACE:
            member.verdict = "too slow"
            _kill(member)
        if moment - member.looked > 1:
            member.looked = moment
            with suppress(psutil.Error):
                if (
                    psutil.Process(member.process.pid).memory_info().rss
                    > (self._settings.memory_mb + SPARE_MB) * 2**20
                ):
                    member.verdict = "too much memory"
                    _kill(member)

    def _verdict(self, member: _Member, chunk: Chunk) -> UnreadableDocument:
        member.process.join(5)
        if member.process.is_alive():
            _kill(member)
            member.process.join(5)
        code = member.process.exitcode
        member.connection.close()
        _kill(member)  # what it started itself
        name, limits = clean(chunk.task.source.path.name), self._settings
        if member.verdict == "too slow" or code == -signal.SIGALRM:
            seconds = f"{limits.seconds_per_page:g} s (seconds_per_page)"
            return UnreadableDocument(
                "too slow", f"{name}: a page took longer than {seconds}: raise it, or leave it out"
            )
        if member.verdict == "too much memory":
            return UnreadableDocument(
                "too much memory",
                f"{name} needs more than {limits.memory_mb:,} MiB (memory_mb): raise it, or leave it out",
            )
        return UnreadableDocument("crashed", f"{name}: the worker that read it crashed ({_name(code)})")


def _work(connection: Any, settings: configs.Ingest) -> None:
    # Imported here, so that the parent process need not load what only its workers use.
    from ingest.workers.worker import run_worker

    run_worker(connection, settings)


def _context() -> Any:
    """Never a fork of this process: it has threads, and one of them may hold a lock at that moment.

    The fork server is a process of its own that has imported what the workers need and has no threads.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ingest.workers.worker"])
    return context


def _kill(member: _Member) -> None:
    """End the worker and what it has started, which may outlive it: it leads a process group, once it is up."""
    pid = member.process.pid
    if pid:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    if member.process.is_alive():
        member.process.kill()


def _name(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"
