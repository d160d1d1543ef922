"""What the web page has been asked to add, change or remove, done one after the other by one thread of the server.

The list (`ui.service.jobs.table`) outlives the server: what was waiting or under way is taken up again. The thread
(`ui.service.jobs.thread`) writes to the index; what is asked of it here returns at once, but for an edit, which is
waited for.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from ingest.known import EDITED
from ingest.read.titles import clean
from ingest.sources import path_of, state_of
from retrieval.errors import IndexBusy, NotFound
from retrieval.labels import BadChange, checked_labels
from retrieval.store.store import Store
from retrieval.types import Document
from ui.service.jobs.requests import PendingRequests
from ui.service.jobs.table import JobTable
from ui.service.jobs.thread import Ingest, JobThread, delete_upload
from ui.service.jobs.types import ENDED, STATES, File, Job, State

__all__ = ["ENDED", "BadChange", "Ingest", "Job", "Jobs", "State", "Summary"]

ADDED_AT_ONCE = 1_000  # files, while the list is held


@dataclass(frozen=True, slots=True)
class Summary:
    """How the work as a whole goes. A run lasts until nothing is left to read."""

    counts: Mapping[str, int]  # jobs in each state
    pages_done: int  # embedded in this run, or in the last one
    pages_per_second: float  # over the last half minute at work; 0 if it is not known
    seconds_left: float | None  # None while it cannot be told
    waiting: str  # why nothing moves; "" if it does, or if there is nothing to do
    busy: bool
    task: str  # the care of the index that waits or is under way
    task_result: str  # what came of the last one


class Jobs:
    """Safe to call from several threads. `start` begins the work, `close` ends it soon. `clock` gives epoch seconds."""

    def __init__(
        self, folder: Path, store: Store, ingest: Ingest, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        """Where uploads are kept; a document that is removed takes its file here with it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._clock = clock
        self._table = JobTable(folder / ".jobs.sqlite")
        self._wake = threading.Event()
        self._errands = PendingRequests(self._wake.set)
        self._thread = JobThread(folder, store, ingest, self._table, self._errands, self._wake, clock)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.close():
            self._table.close()

    # What is going on

    def listed(self, limit: int) -> list[Job]:
        """Under way first, then failed, queued, and the newest that have ended; removals last."""
        jobs, now = self._table.listed(limit), self._clock()
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
        share = sum(job.size * min(1.0, job.page / job.pages) for job in reading if job.pages)
        left = sum(totals.get(state, (0, 0))[1] for state in ("queued", "reading")) - share
        waiting = self._thread.waiting
        pages, speed = self._thread.speed()
        seconds_left = self._thread.seconds_left(share, left) if reading else None
        busy = bool(counts["queued"] or counts["reading"] or counts["removing"] or self._errands.task)
        return Summary(
            counts, pages, speed, seconds_left, waiting if busy else "", busy,
            self._errands.task, self._errands.task_result,
        )  # fmt: skip

    def busy(self) -> bool:
        return self._table.busy() or bool(self._errands.task)

    def leaving(self) -> frozenset[str]:
        """doc_ids of the documents whose removal is asked for: a search should leave them out."""
        return self._table.leaving()

    # Files

    def add(self, paths: Iterable[Path], collection: str = "default", tags: Sequence[str] = ()) -> int:
        """Queue files; how many. One that is in the list already starts anew, and stays if it was to be removed.

        Raises BadChange for a collection or tags that a document cannot have, and what iterating over `paths` raises:
        the files before that are queued.
        """
        said = checked_labels(collection=collection, tags=tags)
        return self._queue((path, False, said["collection"], said["tags"]) for path in paths)

    def reread(self, doc_ids: Sequence[str]) -> None:
        """Queue the files of these documents, though they are known. Raises NotFound if one is no longer there."""
        documents = self._documents(doc_ids)
        for document in documents:
            path = path_of(document.uri)
            match state_of(path):
                case "file":
                    pass
                case "unreachable":
                    raise NotFound(
                        f"the file of {document.name} cannot be reached ({path}): nothing is read again; make its "
                        "folder readable for the server, or leave this document out"
                    )
                case _:
                    raise NotFound(
                        f"the file of {document.name} is no longer there ({path}): nothing is read again; put it "
                        "back, or leave this document out"
                    )
        self._queue((path_of(d.uri), True, d.collection, d.tags) for d in documents)

    def cancel(self, job_id: int) -> None:
        """A file that waits, or is being read, is not read; what is done stays."""
        if self._table.cancel(self._clock(), job_id):
            self._thread.halt()

    def cancel_all(self) -> None:
        self._table.cancel(self._clock())
        self._thread.halt()

    def retry(self, job_id: int) -> None:
        """Start anew what failed or was cancelled."""
        self._table.retry(("failed", "cancelled"), job_id)
        self._wake.set()

    def retry_all_failed(self) -> None:
        self._table.retry(("failed",))
        self._wake.set()

    def clear(self) -> None:
        """Forget what has ended, and delete the uploads among it that no document was made of."""
        ended = self._table.forget_ended()
        kept = {document.uri for document in self._store.documents()}
        for uri in ended:
            if uri not in kept:
                delete_upload(self.folder, uri)

    # Documents

    def remove(self, doc_ids: Sequence[str], delay_s: float = 10.0) -> None:
        """Remove documents in `delay_s` seconds; one whose file is being read, after that. Raises NotFound, for all."""
        documents = self._documents(doc_ids)
        self._table.remove([(d.uri, d.name, d.doc_id) for d in documents], self._clock() + delay_s)
        self._wake.set()

    def undo(self, doc_ids: Sequence[str]) -> int:
        """Drop removals that have not begun; how many."""
        return self._table.undo(doc_ids)

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
        """The document as it is from now on: what is None stays. Reading its file again keeps what was changed.

        Raises BadChange for what a document cannot be called, NotFound, and IndexBusy if nothing could be written
        for `wait_s` seconds: then it stays as it is.
        """
        said = checked_labels(name=name, title=title, collection=collection, tags=tags, date=date)

        def changed(document: Document) -> Document:
            new = {field for field, value in said.items() if getattr(document, field) != value}
            kept = {field for field in document.meta.get(EDITED, "").split(", ") if field}
            edited = sorted(kept | (new & {"name", "title", "date"}))
            meta = dict(document.meta) | ({EDITED: ", ".join(edited)} if edited else {})
            return replace(document, **said, meta=meta) if new else document

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
        made = self._errands.ask(edit, wait_s)
        if made is None:
            why = (
                self._thread.waiting
                or f"the reading under way did not pause within {wait_s:g} s, try again in a moment"
            )
            raise IndexBusy(f"{document.name} stays as it is: {why}")
        return made

    # The index

    def run(self, work: Callable[[], str | None], what: str) -> None:
        """A piece of care for the index, done when no file is being read; `Summary.task_result` says what came of it.

        `work` may return that, in words; `what` names it: Compacting. Raises IndexBusy while another is under way.
        """
        self._errands.take(work, what)

    def _documents(self, doc_ids: Sequence[str]) -> list[Document]:
        known = {document.doc_id: document for document in self._store.documents()}
        unknown = [doc_id for doc_id in doc_ids if doc_id not in known]
        if unknown:
            raise NotFound(
                f"no document {clean(unknown[0])!r}: it may have been removed meanwhile; load the list again"
            )
        return [known[doc_id] for doc_id in dict.fromkeys(doc_ids)]

    def _check_free(self, document: Document) -> None:
        for other in self._store.documents():
            if other.doc_id != document.doc_id and document.name in (other.name, other.doc_id):
                raise BadChange(f"{document.name!r} is the name of another document: choose one that is free")
        if self._table.waits(document.name, document.uri):
            raise BadChange(
                f"{document.name!r} is the name of a file that waits to be read: choose one that is free"
            )

    def _queue(self, asked: Iterable[tuple[Path, bool, str, Sequence[str]]]) -> int:
        rows, count = (_file(*each) for each in asked), 0
        while files := list(islice(rows, ADDED_AT_ONCE)):
            self._table.add(files)
            self._wake.set()
            count += len(files)
        return count


def _file(path: Path, again: bool, collection: str, tags: Sequence[str]) -> File:
    try:
        size = path.stat().st_size
    except OSError:  # reading it will say what is wrong
        size = 0
    return File(path.absolute().as_uri(), clean(path.name), size, again, collection, json.dumps(list(tags)))
