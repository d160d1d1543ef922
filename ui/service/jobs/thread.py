"""The one thread of the server that writes to the index: reads files, and does what else is asked for in between.

It holds the write lock while it reads files. Removals and edits do not wait for the end of that: they are done between
two events of the pipeline, by the same thread. The index's care waits until no file is being read.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ingest.progress import Progress
from ingest.sources import path_of
from retrieval.errors import BadSource, IndexBusy
from retrieval.store.store import Store
from ui.service.jobs.eta import ThroughputEstimate
from ui.service.jobs.requests import PendingRequests, in_words
from ui.service.jobs.table import JobTable
from ui.service.jobs.types import Batch, Removal, State

BUSY_RETRY = 2.0  # seconds between two looks at an index that another process writes to, or at a full disk
EDIT_RETRY = 0.25  # the same while somebody waits for an edit
FILES_AT_ONCE = 1_000  # that one run of the pipeline is given: starting it costs seconds in a large index
REMOVED_AT_ONCE = 500  # documents


class Ingest(Protocol):
    """`ingest.pipeline.ingest` with its store, encoder and settings filled in."""

    def __call__(
        self,
        paths: Sequence[Path],
        *,
        stop: threading.Event,
        again: bool,
        collection: str,
        tags: Sequence[str],
    ) -> Iterator[Progress]: ...


class JobThread:
    """Works off the table and the errands; `wake` it when there is more. `clock` gives seconds since 1970."""

    def __init__(
        self,
        uploads: Path,
        store: Store,
        ingest: Ingest,
        table: JobTable,
        errands: PendingRequests,
        wake: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self.waiting = ""
        """Why nothing moves; "" if it does, or if there is nothing to do."""
        self._uploads = uploads
        self._store = store
        self._ingest = ingest
        self._table = table
        self._errands = errands
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()  # of the next two
        self._under_way: dict[str, Progress] = {}  # by uri
        self._pace = ThroughputEstimate(clock)
        self._run_over = True  # the next file begins a new run
        self._halt = threading.Event()  # of the pipeline's run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def close(self) -> bool:
        """End soon; whether it has ended."""
        self._stop.set()
        self._halt.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        return not self._thread.is_alive()

    def halt(self) -> None:
        """End what is being read; what still waits, by the table, starts again."""
        self._halt.set()

    def under_way(self) -> dict[str, Progress]:
        """What was last told of each file that is being read, by uri."""
        with self._lock:
            return dict(self._under_way)

    def speed(self) -> tuple[int, float]:
        """Pages embedded in this run or the last, and pages per second."""
        with self._lock:
            return self._pace.pages, self._pace.pages_per_second()

    def seconds_left(self, under_way: float, left: float) -> float | None:
        """For `left` bytes, when `under_way` bytes of unfinished files are done; None if it cannot be told."""
        with self._lock:
            return None if self.waiting else self._pace.seconds_left(under_way, left)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._wake.wait(self._rest())
                self._wake.clear()
                while not self._stop.is_set() and self._step():
                    pass
                self.waiting, self._run_over = "", True
            except IndexBusy as error:
                self.waiting = str(error)
            except sqlite3.Error as error:
                self.waiting = f"the list of files cannot be read or written ({error}): is the disk full?"
                self._stop.wait(BUSY_RETRY)

    def _rest(self) -> float | None:
        """Seconds until there is something to do; None: until it is asked for."""
        if self.waiting:
            return EDIT_RETRY if self._errands.edits_wait else BUSY_RETRY
        due = self._table.next_due()
        return None if due is None else min(max(0.0, due - self._clock()), threading.TIMEOUT_MAX)

    def _step(self) -> bool:
        """Do one thing; False if there is none to do now. Raises IndexBusy, sqlite3.Error."""
        due = self._table.next_due()
        if not self._errands.any and (due is None or due > self._clock()):
            return self._read()
        try:
            with self._store.writing():
                self.waiting = ""
                self._between()
                self._errands.do_task()
        except (IndexBusy, sqlite3.Error):
            raise
        except Exception as error:
            self._errands.refuse(error)
            self._not_removed(self._table.claim(self._clock(), REMOVED_AT_ONCE), error)
        return True

    def _between(self) -> None:
        """Edits and removals, while this thread holds the write lock."""
        self._errands.do_edits()
        if removals := self._table.claim(self._clock(), REMOVED_AT_ONCE):
            try:
                self._remove(removals)
            except sqlite3.Error:
                raise
            except Exception as error:
                self._not_removed(removals, error)

    def _remove(self, removals: Sequence[Removal]) -> None:
        uris = {removal.uri for removal in removals}
        asked = {removal.doc_id for removal in removals}
        # A file that changed and was read again since has become another document.
        now = {document.doc_id for document in self._store.documents() if document.uri in uris}
        self._store.remove(asked | now)
        self._store.forget(uris)
        for uri in uris:
            delete_upload(self._uploads, uri)
        self._table.removed(removals)

    def _not_removed(self, removals: Sequence[Removal], error: Exception) -> None:
        self._table.not_removed(removals, self._clock(), f"Not removed: {in_words(error)}")

    def _read(self) -> bool:
        """Read the files that wait, or a batch of them; False if there are none."""
        halt = self._halt = threading.Event()
        if self._stop.is_set():
            return False
        self._table.requeue()
        batch = self._table.next_batch(FILES_AT_ONCE)
        if batch is None:
            return False
        if self._run_over:
            with self._lock:
                self._pace = ThroughputEstimate(self._clock)
            self._run_over = False
        left = dict(batch.sizes)
        try:
            self._follow(batch, left, halt)
        except (IndexBusy, sqlite3.Error):
            raise
        except BadSource as error:  # it names one file only: the others start again without all such
            gone = {uri: why for uri in left if (why := _trouble(path_of(uri)))}
            for uri, why in (gone or dict.fromkeys(left, str(error))).items():
                self._table.end([uri], "failed", self._clock(), reason="unreadable", message=why)
        except Exception as error:
            message = in_words(error)
            message = message[:1].upper() + message[1:]
            self._table.end(left, "failed", self._clock(), reason="stopped", message=message)
        else:
            if not halt.is_set():
                self._end_unsaid(batch, left)
        finally:
            with self._lock:
                self._pace.rest()
                self._under_way.clear()
            self._table.requeue()
        return True

    def _follow(self, batch: Batch, left: dict[str, int], halt: threading.Event) -> None:
        """Run the pipeline over `left`, taking out what has ended, and do what else is asked for between its events."""
        before = self._pace.pages
        events = self._ingest(
            [path_of(uri) for uri in left],
            stop=halt,
            again=batch.again,
            collection=batch.collection,
            tags=batch.tags,
        )
        try:
            for progress in events:
                self.waiting = ""
                with self._lock:
                    self._pace.work()
                self._note(progress, left, halt)
                with self._lock:
                    self._pace.reach(before + progress.pages_done)
                self._between()
        finally:
            if isinstance(events, Generator):
                events.close()  # now, so that the write lock is free

    def _note(self, progress: Progress, left: dict[str, int], halt: threading.Event) -> None:
        uri = progress.uri
        if progress.event == "page" and uri in left:
            if uri not in self._under_way and not self._table.begin(uri, self._clock()):
                halt.set()  # it was cancelled or removed before it began: the others start again without it
                return
            with self._lock:
                self._under_way[uri] = progress
        elif progress.event in ("done", "skipped", "failed") and uri in left:
            self._end(progress, left.pop(uri))
        if not self._under_way and progress.event != "finished" and not halt.is_set():
            for uri in left:  # the pipeline does not tell what it looks at before it is open: in their order
                if self._table.begin(uri, self._clock()):
                    with self._lock:
                        self._under_way[uri] = Progress("page", uri)
                    return

    def _end(self, progress: Progress, size: int) -> None:
        ends: dict[str, State] = {"done": "done", "skipped": "skipped", "failed": "failed"}
        state = ends[progress.event]
        with self._lock:
            before = self._under_way.pop(progress.uri, progress)
            if state == "done":
                self._pace.finish(size)
        self._table.end(
            [progress.uri], state, self._clock(), reason=progress.reason, message=progress.message,
            page=progress.page, read=progress.read, pages=progress.pages or before.pages,
        )  # fmt: skip

    def _end_unsaid(self, batch: Batch, left: Mapping[str, int]) -> None:
        """The pipeline tells the end of every file, once if it has two paths; were one left, it would wait for ever."""
        told = {os.path.realpath(path_of(uri)) for uri in batch.sizes if uri not in left}
        for uri in left:
            if os.path.realpath(path_of(uri)) in told:
                same = "It is the same file as another one of this list, by another path."
                self._table.end([uri], "skipped", self._clock(), reason="same file", message=same)
            else:
                message = "The ingest ended without a word on this file."
                self._table.end([uri], "failed", self._clock(), reason="stopped", message=message)


def delete_upload(uploads: Path, uri: str) -> None:
    """Nothing happens to a file that was ingested where it lies."""
    path = path_of(uri)
    if path.parent == uploads.absolute():
        path.unlink(missing_ok=True)


def _trouble(path: Path) -> str:
    """Why the file at `path` cannot be a source of documents; "" if it can."""
    try:
        path.stat()
    except FileNotFoundError:
        return "The file is no longer there: add it again."
    except OSError as error:
        return f"The file cannot be read: {error.strerror}."
    return "This is a folder, not a file." if path.is_dir() else ""
