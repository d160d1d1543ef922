"""The status of an ingest on the command line, for the web page: a small file in the folder of the index.

The process that holds the write lock writes it; others only read it. An index in an object store has no such file.
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
NAMES = 8  # files under way in one status
FINISHED_SHOWN = 60.0  # seconds for which a finished ingest is reported
STOPPED_SHOWN = 24 * 3600.0  # seconds for which a stopped ingest is reported
SILENT = 600.0  # seconds without an update after which an ingest on another machine counts as stopped
LONGEST = 100_000  # bytes that are read; the file is far shorter
STOPPED = "If it is started again, it continues where it stopped."


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """The status of one ingest. Times are in seconds since 1970."""

    pid: int
    host: str
    started: float
    at: float  # when this status was written
    state: Literal["running", "finished", "stopped"]
    files: int
    files_ended: int
    failed: int
    # At most NAMES files under way: name, pages read, pages embedded, pages of the document.
    names: tuple[tuple[str, int, int, int], ...]
    pages_done: int
    seconds: float
    message: str = ""


RUN = TypeAdapter(IngestStatus)


def record_status(
    events: Iterator[Progress], index_uri: str, clock: Callable[[], float] = time.time
) -> Iterator[Progress]:
    """Yield the events of an ingest and write the status file. A status that cannot be written is skipped."""
    if "://" in index_uri:
        yield from events
        return
    record = _Record(Path(index_uri), clock)
    last: Progress | None = None
    try:
        for event in events:  # from the first event on, this process holds the write lock
            record.update(event)
            last = event
            yield event
    finally:
        if last:
            record.write("finished" if last.event == "finished" else "stopped")


def current_status(index_uri: str, clock: Callable[[], float] = time.time) -> IngestStatus | None:
    """Returns the ingest that is under way, has just finished, or was stopped early; None if there is none."""
    if "://" in index_uri:
        return None
    try:
        with (Path(index_uri) / NAME).open("rb") as file:
            run = RUN.validate_json(file.read(LONGEST))
    except (OSError, ValidationError):
        return None
    age = clock() - run.at
    if run.state == "running" and not _is_alive(run, age):
        run = replace(run, state="stopped", names=(), message=STOPPED)
    shown = {"running": float("inf"), "finished": FINISHED_SHOWN, "stopped": STOPPED_SHOWN}[run.state]
    return run if age <= shown else None


class _Record:
    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._started = clock()
        self._written = 0.0
        self._last = Progress("found")
        self._failed = 0
        self._under_way: dict[str, Progress] = {}  # by uri

    def update(self, event: Progress) -> None:
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
        run = IngestStatus(
            pid=os.getpid(),
            host=socket.gethostname(),
            started=self._started,
            at=self._written,
            state=state,
            files=last.files,
            files_ended=last.files_ended,
            failed=self._failed,
            names=names if state == "running" else (),
            pages_done=last.pages_done,
            seconds=last.seconds,
            message=STOPPED if state == "stopped" else "",
        )
        part = self._folder / f"{NAME}.part"
        try:
            part.write_text(json.dumps(asdict(run)), encoding="ascii")
            part.replace(self._folder / NAME)
        except OSError:  # a full disk, a missing folder: the ingest itself reports what matters
            return


def _is_alive(run: IngestStatus, age: float) -> bool:
    """age: seconds since the last status."""
    if run.host != socket.gethostname():
        return age <= SILENT
    try:
        # A process that started later has been given the same number.
        return psutil.Process(run.pid).create_time() <= run.started + 1
    except (psutil.Error, ValueError, OverflowError):
        return False
