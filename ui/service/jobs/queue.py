"""The jobs of the web page: files to add, documents to edit or remove. One thread of the server does them in turn.

The table (`ui.service.jobs.table`) survives a restart: queued and interrupted jobs continue. The thread
(`ui.service.jobs.thread`) writes to the index. The methods here return at once, except `change`, which waits for its
edit.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ingest.known import EDITED
from ingest.read.titles import printable
from ingest.sources import path_of, state_of
from retrieval.errors import IndexBusy, NotFound
from retrieval.labels import BadLabel, checked_labels
from retrieval.store.store import Store
from retrieval.types import Document
from ui.service.jobs.requests import PendingRequests
from ui.service.jobs.table import JobTable
from ui.service.jobs.thread import Ingest, JobThread, delete_upload
from ui.service.jobs.types import ENDED, STATES, File, Job, State

__all__ = ["ENDED", "BadLabel", "Ingest", "Job", "Jobs", "State", "Summary"]

ADDED_AT_ONCE = 1_000  # files queued in one transaction, during which the table is locked


@dataclass(frozen=True, slots=True)
class Summary:
    """The state of all jobs together. A run lasts until no file is left to read."""

    counts: Mapping[str, int]  # jobs in each state
    pages_done: int  # pages embedded in this run, or in the last one
    pages_per_second: float  # over the last 30 seconds at work; 0 if unknown
    seconds_left: float | None  # None if unknown
    waiting: str  # why the work is blocked; "" if it is not, or if there is nothing to do
    busy: bool
    task: str  # the maintenance task of the index that waits or is under way
    task_result: str  # the result of the last one, as a sentence


class Jobs:
    """Safe to call from several threads. `start` starts the work, `close` ends it. clock: seconds since 1970."""

    def __init__(
        self, folder: Path, store: Store, ingest: Ingest, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        """The uploads folder. Removing a document also deletes its file if the file is in this folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._clock = clock
        self._table = JobTable(folder / ".jobs.sqlite")
        self._wake = threading.Event()
        self._requests = PendingRequests(self._wake.set)
        self._thread = JobThread(
            uploads=folder,
            store=store,
            ingest=ingest,
            table=self._table,
            requests=self._requests,
            wake=self._wake,
            clock=clock,
        )

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.close():
            self._table.close()

    # State

    def listed(self, limit: int) -> list[Job]:
        """Returns at most `limit` jobs: first those under way, then failed, queued, the newest ended, and removals."""
        jobs, now = self._table.first_jobs(limit), self._clock()
        under_way = self._thread.under_way()
        return [
            replace(job, page=at.page, read=at.read, pages=at.pages, seconds=max(0.0, now - job.since))
            if job.state == "reading" and (at := under_way.get(job.uri))
            else job
            for job in jobs
        ]

    def summary(self) -> Summary:
        totals = self._table.totals()
        counts: dict[str, int] = {state: totals.get(state, (0, 0))[0] for state in STATES}
        reading = self.listed(counts["reading"]) if counts["reading"] else []
        read = sum(job.size * min(1.0, job.page / job.pages) for job in reading if job.pages)
        left = sum(totals.get(state, (0, 0))[1] for state in ("queued", "reading")) - read
        waiting = self._thread.waiting
        pages, speed = self._thread.speed()
        seconds_left = self._thread.seconds_left(read, left) if reading else None
        busy = bool(counts["queued"] or counts["reading"] or counts["removing"] or self._requests.task)
        return Summary(
            counts=counts,
            pages_done=pages,
            pages_per_second=speed,
            seconds_left=seconds_left,
            waiting=waiting if busy else "",
            busy=busy,
            task=self._requests.task,
            task_result=self._requests.task_result,
        )

    def is_busy(self) -> bool:
        """Whether anything is queued or under way."""
        return self._table.is_busy() or bool(self._requests.task)

    def pending_removals(self) -> frozenset[str]:
        """Returns the doc_ids of the documents that are to be removed: a search should leave them out."""
        return self._table.pending_removals()

    # Files

    def add(self, paths: Iterable[Path], collection: str = "default", tags: Sequence[str] = ()) -> int:
        """Queue files. Returns their number.

        A file that is in the table starts again, and a pending removal of its document is dropped. Raises BadLabel for
        an invalid collection or tag, and the errors of iterating over `paths`; the files before the error are queued.
        """
        labels = checked_labels(collection=collection, tags=tags)
        return self._queue((path, False, labels["collection"], labels["tags"]) for path in paths)

    def reread(self, doc_ids: Sequence[str]) -> None:
        """Queue the files of these documents again. Raises NotFound, and queues none, if a document or file is gone."""
        documents = self._documents(doc_ids)
        for document in documents:
            path = path_of(document.uri)
            match state_of(path):
                case "file":
                    pass
                case "unreachable":
                    raise NotFound(
                        f"nothing is read again: the server cannot reach the file of {document.name}; try again "
                        "without this document",
                        remedy=f"make {path} readable for the server",
                    )
                case _:
                    raise NotFound(
                        f"nothing is read again: the file of {document.name} is no longer there; try again without "
                        "this document",
                        remedy=f"put {path} back",
                    )
        self._queue((path_of(d.uri), True, d.collection, d.tags) for d in documents)

    def cancel(self, job_id: int) -> None:
        """Cancel a file that is queued or being read. Documents that are done stay."""
        if self._table.cancel(self._clock(), job_id):
            self._thread.stop_reading()

    def cancel_all(self) -> None:
        """Cancel all files that are queued or being read."""
        self._table.cancel(self._clock())
        self._thread.stop_reading()

    def retry(self, job_id: int) -> None:
        """Queue a job that failed or was cancelled again."""
        self._table.retry(("failed", "cancelled"), job_id)
        self._wake.set()

    def retry_all_failed(self) -> None:
        """Queue all failed jobs again. Cancelled jobs stay cancelled."""
        self._table.retry(("failed",))
        self._wake.set()

    def clear(self) -> None:
        """Delete the jobs that have ended, and the uploads among them that are not the file of a document."""
        ended = self._table.forget_ended()
        in_use = {document.uri for document in self._store.documents()}
        for uri in ended:
            if uri not in in_use:
                delete_upload(self.folder, uri)

    # Documents

    def remove(self, doc_ids: Sequence[str], delay_s: float = 10.0) -> None:
        """Remove documents in `delay_s` seconds, and not before their files have been read.

        Raises NotFound, and removes nothing, if one of the documents does not exist.
        """
        documents = self._documents(doc_ids)
        self._table.add_removals([(d.uri, d.name, d.doc_id) for d in documents], self._clock() + delay_s)
        self._wake.set()

    def undo(self, doc_ids: Sequence[str]) -> int:
        """Drop the removals that have not begun. Returns their number."""
        return self._table.undo_removals(doc_ids)

    def change(
        self,
        doc_id: str,
        *,
        name: str | None = None,
        title: str | None = None,
        collection: str | None = None,
        tags: Sequence[str] | None = None,
        date: str | None = None,
        wait_s: float = 5.0,
    ) -> Document:
        """Edit a document and return it. Values that are None stay as they are.

        Reading its file again keeps the edits. Raises BadLabel for an invalid value, NotFound, and IndexBusy if the
        edit could not start within `wait_s` seconds; then nothing changes.
        """
        values = checked_labels(name=name, title=title, collection=collection, tags=tags, date=date)

        def changed(document: Document) -> Document:
            new = {field for field, value in values.items() if getattr(document, field) != value}
            before = {field for field in document.meta.get(EDITED, "").split(", ") if field}
            edited = sorted(before | (new & {"name", "title", "date"}))
            meta = dict(document.meta) | ({EDITED: ", ".join(edited)} if edited else {})
            return replace(document, **values, meta=meta) if new else document

        def edit() -> Document:
            (before,) = self._documents([doc_id])
            after = changed(before)
            if after.name != before.name:
                self._check_free(after)
            self._store.update(after)
            return after

        (document,) = self._documents([doc_id])
        if changed(document) == document:
            return document
        edited = self._requests.submit_edit(edit, wait_s)
        if edited is None:
            why = (
                self._thread.waiting
                or f"the server was busy reading files for {wait_s:g} s: try again in a moment"
            )
            raise IndexBusy(f"{document.name} was not changed: {why}")
        return edited

    # The index

    def run(self, work: Callable[[], str | None], name: str) -> None:
        """Run a maintenance task when no file is being read. `Summary.task_result` then reports its result.

        work: may return its result as a sentence. name: for example "Compacting". Raises IndexBusy during another task.
        """
        self._requests.submit_task(work, name)

    def _documents(self, doc_ids: Sequence[str]) -> list[Document]:
        known = {document.doc_id: document for document in self._store.documents()}
        unknown = [doc_id for doc_id in doc_ids if doc_id not in known]
        if unknown:
            raise NotFound(
                f"no document {printable(unknown[0])!r}: it may have been removed meanwhile; reload the list"
            )
        return [known[doc_id] for doc_id in dict.fromkeys(doc_ids)]

    def _check_free(self, document: Document) -> None:
        for other in self._store.documents():
            if other.doc_id != document.doc_id and document.name in (other.name, other.doc_id):
                raise BadLabel(f"{document.name!r} is the name of another document: choose another name")
        if self._table.has_waiting(document.name, document.uri):
            raise BadLabel(
                f"{document.name!r} is the name of a file that waits to be read: choose another name"
            )

    def _queue(self, requests: Iterable[tuple[Path, bool, str, Sequence[str]]]) -> int:
        """Queue files given as (path, again, collection, tags). Returns their number."""
        rows, count = (_file(*request) for request in requests), 0
        while files := list(islice(rows, ADDED_AT_ONCE)):
            self._table.add_files(files)
            self._wake.set()
            count += len(files)
        return count


def _file(path: Path, again: bool, collection: str, tags: Sequence[str]) -> File:
    try:
        size = path.stat().st_size
    except OSError:  # reading the file will report the error
        size = 0
    return File(
        path.absolute().as_uri(), printable(path.name), size, again, collection, json.dumps(list(tags))
    )
