"""What the web page has been asked to add or remove, done one after the other by one thread of the server.

The list lives in SQLite beside the uploads, so that a reload of the page and a restart of the server lose
nothing: what was waiting or under way is taken up again.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from ingest.progress import Progress
from ingest.sources import path_of
from retrieval.errors import BadSource, FolioscopeError, IndexBusy
from retrieval.store import Store

State = Literal["queued", "reading", "done", "skipped", "failed", "removing"]
ENDED: tuple[State, ...] = ("done", "skipped", "failed")
BUSY_RETRY = (
    2.0  # seconds between two looks at an index that another process is writing to, or at a full disk
)

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY, uri TEXT UNIQUE NOT NULL, name TEXT NOT NULL, state TEXT NOT NULL,
    page INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '',
    doc_id TEXT NOT NULL DEFAULT '')
"""


class Ingest(Protocol):
    """`ingest.pipeline.ingest` with its store, encoder and settings filled in."""

    def __call__(self, paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]: ...


@dataclass(frozen=True, slots=True)
class Job:
    """One file on its way into the index, or (`removing`) one document on its way out."""

    id: int
    uri: str
    name: str
    state: State
    page: int  # pages read so far
    pages: int  # of the document; 0 until it is known
    message: str
    doc_id: str  # of the document to remove, when the file has been read if it is waiting for that; else ""


class Jobs:
    """Safe to call from several threads. `start` begins the work, `close` ends it soon."""

    def __init__(self, folder: Path, store: Store, ingest: Ingest) -> None:
        self.folder = folder
        """Where uploads are kept; a document that is removed takes its file here with it."""
        folder.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._ingest = ingest
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            folder / ".jobs.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.execute(SCHEMA)
        self._database.execute("UPDATE jobs SET state = 'queued', page = 0 WHERE state = 'reading'")
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ingest", daemon=True)

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._database.close()

    def add(self, paths: Iterable[Path]) -> None:
        """Queue files; one that is in the list already starts anew, and stays if it was to be removed."""
        with self._database_locked() as database:
            for path in paths:
                uri = path.absolute().as_uri()
                database.execute(
                    "DELETE FROM jobs WHERE uri = ? AND state NOT IN ('queued', 'reading')", (uri,)
                )
                database.execute(
                    "INSERT INTO jobs (uri, name, state) VALUES (?, ?, 'queued') "
                    "ON CONFLICT (uri) DO UPDATE SET doc_id = ''",
                    (uri, path.name),
                )
        self._wake.set()

    def remove(self, doc_id: str) -> None:
        """Queue a document's removal; while its file is waiting or being read, for after that. Raises NotFound."""
        document = self._store.document(doc_id)
        with self._database_locked() as database:
            database.execute(
                "DELETE FROM jobs WHERE uri = ? AND state NOT IN ('queued', 'reading')", (document.uri,)
            )
            database.execute(
                "INSERT INTO jobs (uri, name, state, doc_id) VALUES (?, ?, 'removing', ?) "
                "ON CONFLICT (uri) DO UPDATE SET doc_id = excluded.doc_id",
                (document.uri, document.name, document.doc_id),
            )
        self._wake.set()

    def retry(self, job_id: int) -> None:
        with self._database_locked() as database:
            database.execute(
                "UPDATE jobs SET state = CASE doc_id WHEN '' THEN 'queued' ELSE 'removing' END, "
                "message = '', page = 0 WHERE id = ? AND state = 'failed'",
                (job_id,),
            )
        self._wake.set()

    def clear(self) -> None:
        """Forget what has ended, and delete the uploads among it that no document was made of."""
        kept = {document.uri for document in self._store.documents()}
        with self._database_locked() as database:
            ended = "FROM jobs WHERE state IN ('done', 'skipped', 'failed')"
            for (uri,) in database.execute(f"SELECT uri {ended}").fetchall():
                if uri not in kept:
                    self._delete_upload(uri)
            database.execute(f"DELETE {ended}")

    def list(self) -> list[Job]:
        """In the order they were asked for."""
        with self._database_locked() as database:
            rows = database.execute(
                "SELECT id, uri, name, state, page, pages, message, doc_id FROM jobs ORDER BY id"
            ).fetchall()
        return [Job(*row) for row in rows]

    def busy(self) -> bool:
        return any(job.state not in ENDED for job in self.list())

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                self._work_off()
            except sqlite3.Error:  # the list itself cannot be read or written, as on a full disk
                self._stop.wait(BUSY_RETRY)
                self._wake.set()

    def _work_off(self) -> None:
        while not self._stop.is_set() and (waiting := [job for job in self.list() if job.state not in ENDED]):
            removing = [job for job in waiting if job.state == "removing"]
            adding = [job for job in waiting if job.state != "removing"]
            try:
                for work, jobs in ((self._remove, removing), (self._add, adding)):
                    try:
                        work(jobs)
                    except (IndexBusy, sqlite3.Error):
                        raise
                    except Exception as error:
                        self._fail(jobs, error)
            except IndexBusy as error:
                self._tell([job.uri for job in waiting], f"Waiting: {error}")
                self._stop.wait(BUSY_RETRY)

    def _remove(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        uris, asked = {job.uri for job in jobs}, {job.doc_id for job in jobs}
        # A file that changed and was read again since has become another document.
        now = {document.doc_id for document in self._store.documents() if document.uri in uris}
        with self._store.writing():
            self._store.remove(asked | now)
            self._store.forget(uris)
        for uri in uris:
            self._delete_upload(uri)
        with self._database_locked() as database:
            database.executemany("DELETE FROM jobs WHERE id = ?", [(job.id,) for job in jobs])

    def _add(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        waiting = [job.uri for job in jobs]
        self._tell(waiting, "")
        self._update(waiting[0], "reading")
        try:
            for progress in self._ingest([path_of(uri) for uri in waiting], stop=self._stop):
                if progress.event == "page":
                    self._update(progress.uri, "reading", progress.page, progress.pages)
                elif progress.event in ("done", "skipped", "failed") and progress.uri in waiting:
                    self._end(progress)
                    waiting.remove(progress.uri)
                    if waiting:
                        self._update(waiting[0], "reading")
        except IndexBusy:
            for uri in waiting:
                self._update(uri, "queued")
            raise
        except BadSource:  # one of the files has gone since: the others start again without it
            for uri in [uri for uri in waiting if not path_of(uri).exists()]:
                self._update(uri, "failed", message="The file is no longer there: add it again.")
        else:
            if not self._stop.is_set():
                for uri in (
                    waiting
                ):  # the pipeline tells the end of every file; were one left, it would wait for ever
                    self._update(uri, "failed", message="The ingest ended without a word on this file.")

    def _end(self, progress: Progress) -> None:
        state: State = (
            "done" if progress.event == "done" else "skipped" if progress.event == "skipped" else "failed"
        )
        self._update(progress.uri, state, progress.page, progress.pages, progress.message)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        """Those of the jobs that have not ended."""
        message = str(error)
        if not isinstance(error, FolioscopeError):
            message = f"Stopped by an unexpected error ({type(error).__name__}: {error})"
        with self._database_locked() as database:
            database.executemany(
                "UPDATE jobs SET state = 'failed', message = ? WHERE id = ? AND state = 'removing'",
                [(f"Not removed. {message}", job.id) for job in jobs if job.state == "removing"],
            )
        reading = {job.id for job in self.list() if job.state in ("queued", "reading")}
        for job in jobs:
            if job.state != "removing" and job.id in reading:
                self._update(job.uri, "failed", message=message)

    def _update(self, uri: str, state: State, page: int = 0, pages: int = 0, message: str = "") -> None:
        """A file that has been read, and was to be removed meanwhile, goes on to be removed."""
        with self._database_locked() as database:
            database.execute(
                "UPDATE jobs SET state = CASE WHEN doc_id != '' AND ? THEN 'removing' ELSE ? END, "
                "page = MAX(?, page * (? = 'reading')), "
                "pages = MAX(?, pages), message = ? WHERE uri = ?",
                (state in ENDED, state, page, state, pages, message, uri),
            )

    def _tell(self, uris: Sequence[str], message: str) -> None:
        with self._database_locked() as database:
            database.executemany(
                "UPDATE jobs SET message = ? WHERE uri = ?", [(message, uri) for uri in uris]
            )

    def _delete_upload(self, uri: str) -> None:
        """Nothing happens to a file that was ingested where it lies."""
        path = path_of(uri)
        if path.parent == self.folder.absolute():
            path.unlink(missing_ok=True)

    @contextmanager
    def _database_locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._database
