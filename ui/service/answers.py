"""Written answers: each is a job that goes on if its reader leaves, and is stored, so that a reload finds it again.

A stored answer belongs to the user who asked. It is deleted when a document that it cites is no longer in the library.
"""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from retrieval.answering.types import CitedAnswer, Event
from retrieval.errors import NotFound
from retrieval.text import one_line
from retrieval.types import Filter, SearchRequest
from ui.service.sqlite_file import SQLiteFile

MOST = 5_000
"""Stored answers; the oldest are deleted."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    id TEXT PRIMARY KEY, who TEXT NOT NULL, question TEXT NOT NULL, documents TEXT NOT NULL, body TEXT NOT NULL,
    at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS answers_by_question ON answers (who, question, at);
"""
_JSON = TypeAdapter(CitedAnswer)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    id: str
    at: str  # ISO, UTC
    answer: CitedAnswer


@dataclass(frozen=True, slots=True)
class Present:
    """What the library has: answers that cite other documents are deleted, those that cite leaving ones are hidden."""

    documents: frozenset[str]  # doc_ids
    leaving: frozenset[str] = frozenset()  # doc_ids of those whose removal can still be undone


def question_key(request: SearchRequest) -> str:
    """Return a text that is equal for requests which ask the same question of the same documents."""
    where: Filter = request.where
    fields = {name: value for name, value in asdict(where).items() if name != "without"}
    return json.dumps([one_line(request.query), fields], sort_keys=True, default=list)


class Answers(SQLiteFile):
    """The stored answers in one SQLite file. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def add(self, id: str, who: str, request: SearchRequest, answer: CitedAnswer) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        cited = {citation.page.doc_id for citation in answer.citations if citation.page}
        documents = sorted(cited | {given.page.doc_id for given in answer.pages})
        row = (id, who, question_key(request), json.dumps(documents), _JSON.dump_json(answer).decode(), at)
        with self._lock, closing(self._database.cursor()) as cursor:
            cursor.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?)", row)
            cursor.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY at DESC LIMIT -1 OFFSET ?)",
                (MOST,),
            )

    def get(self, id: str, who: str, present: Present) -> StoredAnswer:
        """Return an answer that `who` asked for. Raises NotFound."""
        for answer in self._select("id = ? AND who = ?", (id, who), present):
            return answer
        raise NotFound(
            "there is no such answer: it may have been deleted with a document that it cites; ask again"
        )

    def of(self, request: SearchRequest, who: str, present: Present) -> list[StoredAnswer]:
        """Return the answers of `who` to this question about the same documents, newest first."""
        return self._select(
            "who = ? AND question = ? ORDER BY at DESC", (who, question_key(request)), present
        )

    def _select(self, condition: str, values: Sequence[str], present: Present) -> list[StoredAnswer]:
        answers = []
        with self._lock:
            statement = f"SELECT id, at, documents, body FROM answers WHERE {condition}"
            for id, at, documents, body in self._database.execute(statement, values).fetchall():
                based_on = frozenset(json.loads(documents))
                if not based_on <= present.documents:
                    self._database.execute("DELETE FROM answers WHERE id = ?", (id,))
                elif not based_on & present.leaving:
                    answers.append(StoredAnswer(id, at, _JSON.validate_json(body)))
        return answers


@dataclass(slots=True)
class AnswerJob:
    """An answer that is being written. Belongs to one event loop; `add` may be called from any thread."""

    id: str
    who: str
    request: SearchRequest
    loop: asyncio.AbstractEventLoop
    stop: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    is_done: bool = False
    _events: list[Event] = field(default_factory=list)
    _waiting: list["asyncio.Future[None]"] = field(default_factory=list)

    def add(self, event: Event) -> None:
        self.loop.call_soon_threadsafe(self._append, event)

    def end(self, failure: Exception | None = None) -> None:
        """Must be called in the event loop, after the last `add`."""
        self.failure, self.is_done = failure, True
        self._wake()

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield all events from the first one on, waiting for those that are still to come. Raises `failure`."""
        at = 0
        while True:
            while at < len(self._events):
                yield self._events[at]
                at += 1
            if self.is_done:
                break
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._waiting.append(waiter)
            await waiter
        if self.failure:
            raise self.failure

    def _append(self, event: Event) -> None:
        self._events.append(event)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
