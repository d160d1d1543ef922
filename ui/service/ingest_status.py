"""An ingest of the command line as the web page sees it: a small file in the index's folder, kept up to date.

It is written by the process that holds the write lock, and only read by others. An index in an object store has none.
"""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import psutil
from pydantic import TypeAdapter, ValidationError

from ingest.progress import Progress

NAME = ".ingest.json"
EVERY = 0.5  # seconds between two writes
NAMES = 8  # files under way that are told
FINISHED_SHOWN = 60.0  # seconds
STOPPED_SHOWN = 24 * 3600.0
SILENT = 600.0  # seconds without a word after which a process of another machine is taken to be gone
LONGEST = 100_000  # bytes; ours are far shorter
STOPPED = "the ingest was ended; start the same command again and it goes on"


@dataclass(frozen=True, slots=True)
class Run:
    """Times in seconds since 1970."""

    pid: int
    host: str
    started: float
    at: float  # when this was written
    state: Literal["running", "finished", "stopped"]
    files: int
    files_ended: int
    failed: int
    names: tuple[
        tuple[str, int, int, int], ...
    ]  # under way, at most eight: name, pages read, embedded, of the document
    pages_done: int
    seconds: float
    message: str = ""


RUN = TypeAdapter(Run)


def record_status(
    events: Iterator[Progress], index_uri: str, clock: Callable[[], float] = time.time
) -> Iterator[Progress]:
    """Pass the events of an ingest on, and keep the file. Where it cannot be written, nothing else happens."""
    if "://" in index_uri:
        yield from events
        return
    record = _Record(Path(index_uri), clock)
    last: Progress | None = None
    try:
        for event in events:  # from the first on, the write lock is ours
            record.take(event)
            last = event
            yield event
    finally:
        if last:
            record.write("finished" if last.event == "finished" else "stopped")


def current_status(index_uri: str, clock: Callable[[], float] = time.time) -> Run | None:
    """The ingest of the command line that is under way, has just finished, or was ended before it had."""
    if "://" in index_uri:
        return None
    try:
        with (Path(index_uri) / NAME).open("rb") as file:
            run = RUN.validate_json(file.read(LONGEST))
    except (OSError, ValidationError):
        return None
    silent = clock() - run.at
    if run.state == "running" and not _alive(run, silent):
        run = replace(run, state="stopped", names=(), message=STOPPED)
    shown = {"running": float("inf"), "finished": FINISHED_SHOWN, "stopped": STOPPED_SHOWN}[run.state]
    return run if silent <= shown else None


class _Record:
    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._started = clock()
        self._written = 0.0
        self._last = Progress("found")
        self._failed = 0
        self._under_way: dict[str, Progress] = {}  # by uri

    def take(self, event: Progress) -> None:
        self._last = event
        self._failed += event.event == "failed"
        if event.event == "page":
            self._under_way[event.uri] = event
        else:
            self._under_way.pop(event.uri, None)
        if self._clock() - self._written >= EVERY:
            self.write("running")

    def write(self, state: Literal["running", "finished", "stopped"]) -> None:
        last, self._written = self._last, self._clock()
        names = tuple((p.name, p.read, p.page, p.pages) for p in list(self._under_way.values())[:NAMES])
        run = Run(
            os.getpid(), socket.gethostname(), self._started, self._written, state, last.files, last.files_ended,
            self._failed, names if state == "running" else (), last.pages_done, last.seconds,
            STOPPED if state == "stopped" else "",
        )  # fmt: skip
        part = self._folder / f"{NAME}.part"
        try:
            part.write_text(json.dumps(asdict(run)), encoding="ascii")
            part.replace(self._folder / NAME)
        except OSError:  # a full disk, a folder that has gone: the ingest itself will say so, if it matters
            return


def _alive(run: Run, silent: float) -> bool:
    if run.host != socket.gethostname():
        return silent <= SILENT
    try:
        return (
            psutil.Process(run.pid).create_time() <= run.started + 1
        )  # else its number went to another process
    except (psutil.Error, ValueError, OverflowError):
        return False
