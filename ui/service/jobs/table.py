"""The table of jobs in SQLite, which survives a restart of the server: next to the uploads, one row for each file.

No query that a screen polls reads more rows than it shows: an index counts the states. The progress within a file is
not stored: the thread that reads the file knows it, and after a restart the file is read from its start.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from ui.service.jobs.types import ENDED, Batch, File, Job, Removal, State
from ui.service.sqlite_file import SQLiteFile

PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
"""A power cut may lose the latest changes, whose files are then read again; it never damages the database."""

SHOWN: tuple[tuple[tuple[State, ...], str], ...] = (
    (("reading",), "since, id"),
    (("failed",), "ended DESC, id DESC"),
    (("queued",), "ended, id"),
    (("done", "skipped", "cancelled"), "ended DESC, id DESC"),
    (("removing",), "ended, id"),
)
"""The order in which a screen shows the states, and the order of the jobs within them."""

COLUMNS = {
    "uri": "TEXT UNIQUE NOT NULL",
    "name": "TEXT NOT NULL",
    "state": "TEXT NOT NULL",
    "page": "INTEGER NOT NULL DEFAULT 0",
    "pages": "INTEGER NOT NULL DEFAULT 0",
    "message": "TEXT NOT NULL DEFAULT ''",
    "doc_id": "TEXT NOT NULL DEFAULT ''",
    # A table of an earlier version lacks the following columns.
    "read": "INTEGER NOT NULL DEFAULT 0",
    "size": "INTEGER NOT NULL DEFAULT 0",
    "reason": "TEXT NOT NULL DEFAULT ''",
    "seconds": "REAL NOT NULL DEFAULT 0",
    "since": "REAL NOT NULL DEFAULT 0",
    "ended": "REAL NOT NULL DEFAULT 0",
    "due": "REAL NOT NULL DEFAULT 0",
    "again": "INTEGER NOT NULL DEFAULT 0",
    "collection": "TEXT NOT NULL DEFAULT 'default'",
    "tags": "TEXT NOT NULL DEFAULT '[]'",
}
INDEXES = (
    "CREATE INDEX IF NOT EXISTS jobs_shown ON jobs (state, ended)",
    "CREATE INDEX IF NOT EXISTS jobs_counted ON jobs (state, size)",
    "CREATE INDEX IF NOT EXISTS jobs_due ON jobs (due) WHERE doc_id != ''",
    "CREATE INDEX IF NOT EXISTS jobs_leaving ON jobs (doc_id) WHERE doc_id != ''",
)
JOB = [field.name for field in fields(Job)]
WAITING = "state IN ('queued', 'reading')"
SECONDS = "CASE since WHEN 0 THEN 0 ELSE MAX(0, :now - since) END"
# `+state` makes SQLite search the few removals instead of all rows of a state, which may be very many.
LEAVING = "doc_id != '' AND +state IN ('removing', 'queued', 'reading')"
DUE = "doc_id != '' AND +state IN ('removing', 'queued')"  # not while the file is being read
CLAIMED = -1.0  # value of `due` for a removal that is under way and can no longer be undone


class JobTable(SQLiteFile):
    """Safe to call from several threads. Every method may raise sqlite3.Error, for instance on a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, PRAGMAS)
        with self._writing() as database:
            declared = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
            database.execute(f"CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, {declared})")
            present = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
            for name, kind in COLUMNS.items():
                if name not in present:
                    database.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")
            for index in INDEXES:
                database.execute(index)
        self.requeue()

    # Reading the table

    def first_jobs(self, limit: int) -> list[Job]:
        """Returns at most `limit` jobs, in the order of SHOWN."""
        shown: list[tuple[Any, ...]] = []
        with self._lock:
            for states, order in SHOWN:
                rows = [
                    row
                    for state in states
                    for row in self._database.execute(
                        f"SELECT ended, {', '.join(JOB)} FROM jobs WHERE state = ? ORDER BY {order} LIMIT ?",
                        (state, limit - len(shown)),
                    )
                ]
                if len(states) > 1:
                    rows.sort(key=lambda row: row[:2], reverse=True)  # by end and id
                shown += rows[: limit - len(shown)]
        jobs = [dict(zip(JOB, row[1:], strict=True)) for row in shown]
        return [Job(**job | {"again": bool(job["again"])}) for job in jobs]

    def totals(self) -> dict[State, tuple[int, int]]:
        """Returns (jobs, bytes) for each state that has jobs."""
        with self._lock:
            rows = self._database.execute(
                "SELECT state, COUNT(*), SUM(size) FROM jobs GROUP BY state"
            ).fetchall()
        return {state: (jobs, size) for state, jobs, size in rows}

    def is_busy(self) -> bool:
        """Whether any job is queued, being read or being removed."""
        with self._lock:
            row = self._database.execute(
                f"SELECT 1 FROM jobs WHERE {WAITING} OR state = 'removing' LIMIT 1"
            ).fetchone()
        return row is not None

    def pending_removals(self) -> frozenset[str]:
        """Returns the doc_ids of the documents that are to be removed."""
        with self._lock:
            rows = self._database.execute(f"SELECT doc_id FROM jobs WHERE {LEAVING}").fetchall()
        return frozenset(doc_id for (doc_id,) in rows)

    def has_waiting(self, name: str, uri: str) -> bool:
        """Whether a file named `name`, other than the one at `uri`, is queued or being read."""
        with self._lock:
            row = self._database.execute(
                f"SELECT 1 FROM jobs WHERE {WAITING} AND name = ? AND uri != ? LIMIT 1", (name, uri)
            ).fetchone()
        return row is not None

    # Requests of readers

    def add_files(self, files: Iterable[File]) -> None:
        """Queue files. A file that is in the table starts again, and a pending removal of it is dropped."""
        rows = list(files)
        with self._writing() as database:
            database.executemany(
                f"DELETE FROM jobs WHERE uri = ? AND NOT {WAITING}", [row[:1] for row in rows]
            )
            database.executemany(
                "INSERT INTO jobs (uri, name, size, again, collection, tags, state) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued') ON CONFLICT (uri) DO UPDATE SET doc_id = '', due = 0, "
                "size = excluded.size, again = MAX(again, excluded.again), collection = excluded.collection, "
                "tags = excluded.tags",
                rows,
            )

    def add_removals(self, documents: Iterable[tuple[str, str, str]], due: float) -> None:
        """Schedule the removal of documents, given as (uri, name, doc_id), at `due`, in seconds since 1970."""
        rows = [(*document, due) for document in documents]
        with self._writing() as database:
            database.executemany(
                f"DELETE FROM jobs WHERE uri = ? AND NOT {WAITING}", [row[:1] for row in rows]
            )
            database.executemany(
                "INSERT INTO jobs (uri, name, doc_id, due, state) VALUES (?, ?, ?, ?, 'removing') "
                "ON CONFLICT (uri) DO UPDATE SET doc_id = excluded.doc_id, due = excluded.due",
                rows,
            )

    def undo_removals(self, doc_ids: Iterable[str]) -> int:
        """Drop the removals of these documents, except those that have begun. Returns the number dropped."""
        dropped = 0
        with self._writing() as database:
            for doc_id in doc_ids:
                pending = f"{LEAVING} AND doc_id = ? AND due != {CLAIMED}"
                dropped += database.execute(
                    f"DELETE FROM jobs WHERE {pending} AND +state = 'removing'", (doc_id,)
                ).rowcount
                dropped += database.execute(
                    f"UPDATE jobs SET doc_id = '', due = 0 WHERE {pending}", (doc_id,)
                ).rowcount
        return dropped

    def cancel(self, now: float, job_id: int | None = None) -> bool:
        """Cancel one job that is queued or being read, or all of them. Returns whether any was being read."""
        chosen = f"{WAITING} AND id = {job_id:d}" if job_id is not None else WAITING
        with self._writing() as database:
            reading = database.execute(f"SELECT 1 FROM jobs WHERE {chosen} AND state = 'reading'").fetchone()
            database.execute(
                "UPDATE jobs SET state = CASE doc_id WHEN '' THEN 'cancelled' ELSE 'removing' END, "
                f"seconds = {SECONDS}, ended = :now WHERE {chosen}",
                {"now": now},
            )
        return reading is not None

    def retry(self, states: Sequence[State], job_id: int | None = None) -> None:
        """Queue one job that ended in one of `states` again, or all of them."""
        chosen = f"state IN ({', '.join(repr(state) for state in states)})"
        if job_id is not None:
            chosen += f" AND id = {job_id:d}"
        with self._writing() as database:
            database.execute(
                "UPDATE jobs SET state = CASE doc_id WHEN '' THEN 'queued' ELSE 'removing' END, message = '', "
                f"reason = '', page = 0, read = 0, seconds = 0, since = 0, ended = 0, due = 0 WHERE {chosen}"
            )

    def forget_ended(self) -> list[str]:
        """Delete the jobs that have ended. Returns their uris."""
        ended = f"FROM jobs WHERE state IN {ENDED}"
        with self._writing() as database:
            uris = [uri for (uri,) in database.execute(f"SELECT uri {ended}")]
            database.execute(f"DELETE {ended}")
        return uris

    # The thread that works the jobs off

    def requeue(self) -> None:
        """Queue again what was being read, for instance after a run that was interrupted."""
        with self._writing() as database:
            database.execute(
                "UPDATE jobs SET state = 'queued', page = 0, read = 0, since = 0 WHERE state = 'reading'"
            )

    def next_batch(self, limit: int) -> Batch | None:
        """Returns the oldest files that can be read together, at most `limit`; None if no file is queued."""
        with self._lock:
            first = self._database.execute(
                "SELECT again, collection, tags FROM jobs WHERE state = 'queued' ORDER BY ended, id LIMIT 1"
            ).fetchone()
            if first is None:
                return None
            rows = self._database.execute(
                "SELECT uri, size FROM jobs WHERE state = 'queued' AND again = ? AND collection = ? AND tags = ? "
                "ORDER BY ended, id LIMIT ?",
                (*first, limit),
            ).fetchall()
        again, collection, tags = first
        return Batch(dict(rows), bool(again), collection, tuple(json.loads(tags)))

    def mark_reading(self, uri: str, now: float) -> bool:
        """Mark a file as being read. Returns False if it was cancelled or removed meanwhile."""
        with self._writing() as database:
            return bool(
                database.execute(
                    "UPDATE jobs SET since = CASE state WHEN 'reading' THEN since ELSE ? END, state = 'reading', "
                    f"message = '' WHERE uri = ? AND {WAITING}",
                    (now, uri),
                ).rowcount
            )

    def mark_ended(
        self,
        uris: Iterable[str],
        state: State,
        now: float,
        *,
        reason: str = "",
        message: str = "",
        page: int = 0,
        read: int = 0,
        pages: int = 0,
    ) -> None:
        """Mark files as ended in `state`. A file that is to be removed changes to that state instead.

        A cancelled file stays cancelled, unless it was done before the cancellation took effect.
        """
        values = {
            "state": state,
            "now": now,
            "reason": reason,
            "message": message,
            "page": page,
            "read": read,
            "pages": pages,
        }
        with self._writing() as database:
            database.executemany(
                "UPDATE jobs SET state = CASE doc_id WHEN '' THEN :state ELSE 'removing' END, reason = :reason, "
                f"message = :message, page = :page, read = :read, pages = :pages, seconds = {SECONDS}, ended = :now "
                f"WHERE uri = :uri AND ({WAITING} OR state = 'cancelled' AND :state = 'done')",
                [values | {"uri": uri} for uri in uris],
            )

    def next_due(self) -> float | None:
        """Returns when the next document is to be removed, in seconds since 1970; None without a removal."""
        with self._lock:
            (due,) = self._database.execute(f"SELECT MIN(due) FROM jobs WHERE {DUE}").fetchone()
        return None if due is None else float(due)

    def claim_removals(self, now: float, limit: int) -> list[Removal]:
        """Returns at most `limit` removals that are due, which from now on cannot be undone."""
        with self._lock:
            due = self._database.execute(
                f"SELECT id, uri, doc_id FROM jobs WHERE {DUE} AND due <= ? ORDER BY due LIMIT ?",
                (now, limit),
            ).fetchall()
        if not due:
            return []
        with self._writing() as database:
            return [
                Removal(*row)
                for row in due
                if database.execute(
                    f"UPDATE jobs SET state = 'removing', due = ? WHERE id = ? AND doc_id = ? AND {DUE}",
                    (CLAIMED, row[0], row[2]),
                ).rowcount
            ]

    def delete_removals(self, removals: Iterable[Removal]) -> None:
        """Delete the rows of documents that have been removed."""
        with self._writing() as database:
            database.executemany("DELETE FROM jobs WHERE id = ?", [removal[:1] for removal in removals])

    def fail_removals(self, removals: Iterable[Removal], now: float, message: str) -> None:
        """Mark removals as failed."""
        with self._writing() as database:
            database.executemany(
                "UPDATE jobs SET state = 'failed', reason = 'not removed', message = ?, ended = ? WHERE id = ?",
                [(message, now, removal.job) for removal in removals],
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, which is rolled back on an error."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:  # a full disk may already have ended the transaction
                    self._database.execute("ROLLBACK")
                raise
