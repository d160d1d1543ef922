"""The one thread of the server that writes to the index: it reads files, and removes and edits documents in between.

The thread holds the write lock while it reads files. Removals and edits need not wait until then: the same thread does
them between two events of the pipeline. Maintenance tasks wait until no file is being read.
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

BUSY_RETRY = (
    2.0  # seconds between two attempts while another process writes to the index, or the disk is full
)
EDIT_RETRY = 0.25  # seconds between two attempts while a reader waits for an edit
FILES_AT_ONCE = 1_000  # files of one run of the pipeline, which takes seconds to start on a large index
REMOVED_AT_ONCE = 500  # documents of one removal


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
    """Works off the table and the requests.

    uploads: the folder of uploaded files, which are deleted with their documents. wake: set this event when there is
    new work. clock: seconds since 1970.
    """

    def __init__(
        self,
        *,
        uploads: Path,
        store: Store,
        ingest: Ingest,
        table: JobTable,
        requests: PendingRequests,
        wake: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self.waiting = ""
        """Why the work is blocked; "" if it is not, or if there is nothing to do."""
        self._uploads = uploads
        self._store = store
        self._ingest = ingest
        self._table = table
        self._requests = requests
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()  # guards the next two attributes
        self._under_way: dict[str, Progress] = {}  # by uri
        self._throughput = ThroughputEstimate(clock)
        self._run_over = True  # the next file begins a new run
        self._stop_reading = threading.Event()  # ends the current run of the pipeline
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def close(self) -> bool:
        """Ask the thread to end and wait up to 5 seconds. Returns whether it has ended."""
        self._closing.set()
        self._stop_reading.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        return not self._thread.is_alive()

    def stop_reading(self) -> None:
        """End the current run of the pipeline. Files that are still queued in the table then start in a new run."""
        self._stop_reading.set()

    def under_way(self) -> dict[str, Progress]:
        """Returns the latest progress of each file that is being read, by uri."""
        with self._lock:
            return dict(self._under_way)

    def speed(self) -> tuple[int, float]:
        """Returns the pages embedded in this run or the last one, and the pages per second."""
        with self._lock:
            return self._throughput.pages, self._throughput.pages_per_second()

    def seconds_left(self, under_way: float, left: float) -> float | None:
        """Returns the seconds needed for `left` bytes, see `ThroughputEstimate.seconds_left`; None while blocked."""
        with self._lock:
            return None if self.waiting else self._throughput.seconds_left(under_way, left)

    def _work(self) -> None:
        while not self._closing.is_set():
            try:
                self._wake.wait(self._seconds_to_wait())
                self._wake.clear()
                while not self._closing.is_set() and self._step():
                    pass
                self.waiting, self._run_over = "", True
            except IndexBusy as error:
                self.waiting = error.message
            except sqlite3.Error as error:
                self.waiting = (
                    f"the list of files cannot be read or written ({error}): is the server's disk full?"
                )
                self._closing.wait(BUSY_RETRY)

    def _seconds_to_wait(self) -> float | None:
        """Returns the seconds until there is work; None if only a new request brings work."""
        if self.waiting:
            return EDIT_RETRY if self._requests.has_edits() else BUSY_RETRY
        due = self._table.next_due()
        return None if due is None else min(max(0.0, due - self._clock()), threading.TIMEOUT_MAX)

    def _step(self) -> bool:
        """Do one piece of work. Returns False if there is none now. Raises IndexBusy, sqlite3.Error."""
        due = self._table.next_due()
        if not self._requests.has_any() and (due is None or due > self._clock()):
            return self._read_batch()
        try:
            with self._store.writing():
                self.waiting = ""
                self._edit_and_remove()
                self._requests.run_task()
        except (IndexBusy, sqlite3.Error):
            raise
        except Exception as error:
            self._requests.fail_all(error)
            self._fail_removals(self._table.claim_removals(self._clock(), REMOVED_AT_ONCE), error)
        return True

    def _edit_and_remove(self) -> None:
        """Do the requested edits and removals. This thread holds the write lock."""
        self._requests.run_edits()
        if removals := self._table.claim_removals(self._clock(), REMOVED_AT_ONCE):
            try:
                self._remove(removals)
            except sqlite3.Error:
                raise
            except Exception as error:
                self._fail_removals(removals, error)

    def _remove(self, removals: Sequence[Removal]) -> None:
        uris = {removal.uri for removal in removals}
        requested = {removal.doc_id for removal in removals}
        # A file that has changed and been read again since the request has become another document.
        current = {document.doc_id for document in self._store.documents() if document.uri in uris}
        self._store.remove(requested | current)
        self._store.delete_from_ledger(uris)
        for uri in uris:
            delete_upload(self._uploads, uri)
        self._table.delete_removals(removals)

    def _fail_removals(self, removals: Sequence[Removal], error: Exception) -> None:
        self._table.fail_removals(removals, self._clock(), f"Not removed: {in_words(error)}")

    def _read_batch(self) -> bool:
        """Read the next batch of queued files. Returns False if there are none."""
        stop = self._stop_reading = threading.Event()
        if self._closing.is_set():
            return False
        self._table.requeue()
        batch = self._table.next_batch(FILES_AT_ONCE)
        if batch is None:
            return False
        if self._run_over:
            with self._lock:
                self._throughput = ThroughputEstimate(self._clock)
            self._run_over = False
        left = dict(batch.sizes)
        try:
            self._run_pipeline(batch, left, stop)
        except (IndexBusy, sqlite3.Error):
            raise
        except (
            BadSource
        ) as error:  # names one unreadable file: all such files end here, the others start again
            unreadable = {uri: why for uri in left if (why := _trouble(path_of(uri)))}
            for uri, why in (unreadable or dict.fromkeys(left, error.message)).items():
                self._table.mark_ended([uri], "failed", self._clock(), reason="unreadable", message=why)
        except Exception as error:
            message = in_words(error)
            message = message[:1].upper() + message[1:]
            self._table.mark_ended(left, "failed", self._clock(), reason="stopped", message=message)
        else:
            if not stop.is_set():
                self._end_unreported(batch, left)
        finally:
            with self._lock:
                self._throughput.pause()
                self._under_way.clear()
            self._table.requeue()
        return True

    def _run_pipeline(self, batch: Batch, left: dict[str, int], stop: threading.Event) -> None:
        """Read the files in `left`, which loses each file that ends, and serve other requests between two events."""
        before = self._throughput.pages
        events = self._ingest(
            [path_of(uri) for uri in left],
            stop=stop,
            again=batch.again,
            collection=batch.collection,
            tags=batch.tags,
        )
        try:
            for progress in events:
                self.waiting = ""
                with self._lock:
                    self._throughput.resume()
                self._record(progress, left, stop)
                with self._lock:
                    self._throughput.set_pages(before + progress.pages_done)
                self._edit_and_remove()
        finally:
            if isinstance(events, Generator):
                events.close()  # at once, so that the write lock is released

    def _record(self, progress: Progress, left: dict[str, int], stop: threading.Event) -> None:
        """Write an event of the pipeline into the table."""
        uri = progress.uri
        if progress.event == "page" and uri in left:
            if uri not in self._under_way and not self._table.mark_reading(uri, self._clock()):
                stop.set()  # the file was cancelled or removed before it began: the others start again without it
                return
            with self._lock:
                self._under_way[uri] = progress
        elif progress.event in ("done", "skipped", "failed") and uri in left:
            self._end(progress, left.pop(uri))
        if not self._under_way and progress.event != "finished" and not stop.is_set():
            for (
                uri
            ) in left:  # the pipeline does not report a file that it opens: assume that it keeps the order
                if self._table.mark_reading(uri, self._clock()):
                    with self._lock:
                        self._under_way[uri] = Progress("page", uri)
                    return

    def _end(self, progress: Progress, size: int) -> None:
        states: dict[str, State] = {"done": "done", "skipped": "skipped", "failed": "failed"}
        state = states[progress.event]
        with self._lock:
            before = self._under_way.pop(progress.uri, progress)
            if state == "done":
                self._throughput.add_file(size)
        self._table.mark_ended(
            [progress.uri],
            state,
            self._clock(),
            reason=progress.reason,
            message=progress.message,
            page=progress.page,
            read=progress.read,
            pages=progress.pages or before.pages,
        )

    def _end_unreported(self, batch: Batch, left: Mapping[str, int]) -> None:
        """End the files whose end the pipeline has not reported, which would otherwise wait forever.

        The pipeline reports a file with two paths only once.
        """
        reported = {os.path.realpath(path_of(uri)) for uri in batch.sizes if uri not in left}
        for uri in left:
            if os.path.realpath(path_of(uri)) in reported:
                same = "This is the same file as another one in this list, under another path."
                self._table.mark_ended([uri], "skipped", self._clock(), reason="same file", message=same)
            else:
                message = "The ingest ended without reporting this file. Try again."
                self._table.mark_ended([uri], "failed", self._clock(), reason="stopped", message=message)


def delete_upload(uploads: Path, uri: str) -> None:
    """Delete the file at `uri` if it is in the uploads folder. Files that were ingested elsewhere stay."""
    path = path_of(uri)
    if path.parent == uploads.absolute():
        path.unlink(missing_ok=True)


def _trouble(path: Path) -> str:
    """Returns why the file at `path` cannot be read; "" if it can."""
    try:
        path.stat()
    except FileNotFoundError:
        return "The file is no longer there: add it again."
    except OSError as error:
        return f"The file cannot be read: {error.strerror}."
    return "This is a folder, not a file." if path.is_dir() else ""
