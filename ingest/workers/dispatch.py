"""Documents prepared in worker processes: whatever a file does to a worker, it costs that file and no other.

A document is shared out in chunks of pages, so that a long one keeps all workers busy; its pages still come
in order. Only a bounded number of pages waits for the caller: a slow one slows the workers down.
"""

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import configs.settings as configs
from configs.cores import available_cores
from ingest.ocr.engine import check_ocr
from ingest.workers.messages import (
    PAGES_AT_ONCE,
    Chunk,
    ChunkDone,
    Failed,
    FailedPage,
    Finished,
    Idle,
    Opened,
    Prepared,
    PreparedPage,
    Task,
)
from ingest.workers.pool import Lost, WorkerPool
from retrieval.errors import FolioscopeError

__all__ = ["Failed", "FailedPage", "Finished", "Opened", "Prepared", "PreparedPage", "Task", "prepare"]

WAITING = 32
"""Events that may wait for the caller."""
QUIET = 0.1
"""Seconds without an event after which the caller hears of that."""
WATCH = 0.5
"""Seconds between two looks at what the workers use, while none of them says anything."""


def prepare(tasks: Iterable[Task], settings: configs.Ingest) -> Generator[Prepared, None, None]:
    """Rasterize and read documents, several at once.

    Events of one document come in order: Opened, then a PreparedPage or FailedPage for each page by number,
    then Finished; or Failed at any point, which ends it. Events of different documents are mixed, and Idle comes again
    and again while no worker says anything. `tasks` is
    drawn from in the caller's thread, a few ahead of what is being read.

    Closing the generator, or an exception in the caller such as KeyboardInterrupt, ends the workers at once.
    Raises MissingExtra where the OCR engine of the settings is not installed.
    """
    check_ocr(settings.ocr)
    workers = settings.workers or available_cores()
    dispatch = _Dispatch(settings, workers)
    thread = threading.Thread(target=dispatch.run, name="folioscope-workers", daemon=True)
    thread.start()
    remaining = iter(tasks)
    try:
        while True:
            while dispatch.wants_tasks():
                dispatch.put_task(next(remaining, None))
            if dispatch.wait_for_event(QUIET):
                event = dispatch.take_event()
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                yield event
            elif not dispatch.wants_tasks():
                yield Idle()
    finally:
        dispatch.end()
        thread.join()
        dispatch.close()


@dataclass(slots=True)
class _Document:
    """A document under way. Chunks are numbered from 0; `current` is the one whose pages are passed on."""

    task: Task
    pages: int = 0  # 0 until it is open
    given: int = 1  # chunks that workers have or had
    current: int = 0
    held: dict[int, list[Prepared]] = field(default_factory=dict)  # by chunk: what is not yet to be passed on
    complete: set[int] = field(default_factory=set)

    @property
    def chunks(self) -> int:
        return -(-self.pages // PAGES_AT_ONCE)


class _Dispatch:
    """The thread between the workers and the caller's generator."""

    def __init__(self, settings: configs.Ingest, workers: int) -> None:
        self._workers = workers
        self._crew = WorkerPool(settings, workers)
        self._documents: dict[int, _Document] = {}  # by a number of their own, in the order they were begun
        self._begun = 0
        self._changed = threading.Condition()  # of the next four, which both threads use
        self._tasks: deque[Task] = deque()
        self._no_more = False
        self._stopped = False
        self._events: deque[Prepared | BaseException | None] = deque()
        self._wake, self._woken = os.pipe()  # for the time in which the thread listens to its workers
        os.set_blocking(self._woken, False)

    # For the caller's thread

    def wants_tasks(self) -> bool:
        with self._changed:
            return self._wants_tasks()

    def put_task(self, task: Task | None) -> None:
        """One more task; None: there are no more."""
        with self._changed:
            if task is None:
                self._no_more = True
            else:
                self._tasks.append(task)
            self._notify()

    def wait_for_event(self, seconds: float) -> bool:
        """Wait until there is an event, or more tasks are wanted; whether there is an event."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._wants_tasks(), seconds)
            return bool(self._events)

    def take_event(self) -> Prepared | BaseException | None:
        """The next event, or the error that ended the thread; None at the end."""
        with self._changed:
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    def end(self) -> None:
        """Let the thread end its workers, and itself, now."""
        with self._changed:
            self._stopped = True
            self._notify()

    def close(self) -> None:
        """After the thread has ended."""
        os.close(self._wake)
        os.close(self._woken)

    def _wants_tasks(self) -> bool:
        return not self._no_more and len(self._tasks) < 2 * self._workers

    def _notify(self) -> None:
        self._changed.notify_all()
        with suppress(BlockingIOError):  # full: it will be woken all the same
            os.write(self._woken, b".")

    # The thread itself

    def run(self) -> None:
        try:
            while not self._stopped:
                while self._crew.has_room and (chunk := self._next()):
                    self._crew.give(chunk)
                if self._crew.busy:
                    for chunk, answer in self._crew.answers(WATCH, self._wake):
                        self._take(chunk, answer)
                elif not self._wait_for_task():
                    break
        except BaseException as error:  # whatever it is, the caller must hear of it
            self._put(error)
        else:
            self._put(None)
        finally:
            self._crew.end()

    def _wait_for_task(self) -> bool:
        """Wait until there is something to read; False if there will be nothing."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._no_more or self._stopped)
            return bool(self._tasks) and not self._stopped

    def _next(self) -> Chunk | None:
        """The next chunk of the document begun first whose pages would not wait long; else a new document."""
        for key, document in self._documents.items():
            if document.given < document.chunks and document.given <= document.current + self._workers:
                first = document.given * PAGES_AT_ONCE + 1
                document.given += 1
                return Chunk(key, document.task, first, min(first + PAGES_AT_ONCE - 1, document.pages))
        with self._changed:
            if not self._tasks or len(self._documents) > self._workers:
                return None
            task = self._tasks.popleft()
            self._changed.notify_all()
        self._begun += 1
        self._documents[self._begun] = _Document(task)
        return Chunk(self._begun, self._documents[self._begun].task, 1, 0)

    def _take(self, chunk: Chunk, answer: Prepared | ChunkDone | Lost | FolioscopeError) -> None:
        if isinstance(answer, FolioscopeError):
            raise answer
        if isinstance(answer, ChunkDone):
            self._crew.done(chunk)
        document = self._documents.get(chunk.document)
        if document is None:  # it has failed meanwhile
            return
        number = (chunk.first - 1) // PAGES_AT_ONCE
        match answer:
            case Lost():
                self._fail(chunk, Failed(chunk.task.source, answer.error))
                return
            case Failed():
                self._fail(chunk, answer)
                return
            case ChunkDone():
                document.complete.add(number)
            case Opened():
                document.pages = answer.pages
                self._put(answer)
            case _:
                document.held.setdefault(number, []).append(answer)
        self._pass_on(chunk.document, document)

    def _pass_on(self, key: int, document: _Document) -> None:
        while True:
            for event in document.held.pop(document.current, []):
                self._put(event)
            if document.current not in document.complete:
                return
            document.current += 1
            if document.current == document.chunks:
                del self._documents[key]
                self._put(Finished(document.task.source))
                return

    def _fail(self, chunk: Chunk, event: Failed) -> None:
        del self._documents[chunk.document]
        self._put(event)

    def _put(self, event: Prepared | BaseException | None) -> None:
        """Hand an event to the caller, as soon as not too many wait for it."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) < WAITING or self._stopped)
            if not self._stopped:
                self._events.append(event)
                self._changed.notify_all()
