"""Prepares documents in worker processes: whatever a file does to a worker costs that file only.

A document is shared out in chunks of pages, so that a long one keeps all workers busy; its pages still come in order.
A bounded number of events waits for the caller, so that a slow caller slows the workers down.
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
    PAGES_PER_CHUNK,
    Chunk,
    ChunkDone,
    Failed,
    Finished,
    Idle,
    Opened,
    Task,
    WorkerEvent,
)
from ingest.workers.pool import Lost, WorkerPool
from retrieval.errors import FolioscopeError

MAX_WAITING = 32
"""Events that may wait for the caller."""
IDLE_AFTER = 0.1
"""Seconds without an event after which the caller receives `Idle`."""
WATCH_EVERY = 0.5
"""Seconds between two checks of the workers' time and memory while none of them answers."""


def prepare(tasks: Iterable[Task], settings: configs.Ingest) -> Generator[WorkerEvent, None, None]:
    """Rasterize and read documents, several at once, and yield events as they happen.

    Events of one document come in order: Opened, then a PreparedPage or FailedPage for each page by number, then
    Finished. Failed may come at any point instead and is the document's last event. Events of different documents are
    mixed. Idle comes repeatedly while no worker answers. `tasks` is consumed in the caller's thread, a few tasks ahead
    of the documents that are being read.

    Closing the generator, or an exception in the caller such as KeyboardInterrupt, ends the workers at once.
    Raises MissingExtra if the OCR engine of the settings is not installed.
    """
    check_ocr(settings.ocr)
    dispatcher = _Dispatcher(settings, settings.workers or available_cores())
    thread = threading.Thread(target=dispatcher.run, name="folioscope-workers", daemon=True)
    thread.start()
    remaining = iter(tasks)
    try:
        while True:
            while dispatcher.wants_tasks():
                dispatcher.put_task(next(remaining, None))
            if dispatcher.wait_for_event(IDLE_AFTER):
                event = dispatcher.take_event()
                if event is None:
                    return
                if isinstance(event, BaseException):
                    raise event
                yield event
            elif not dispatcher.wants_tasks():
                yield Idle()
    finally:
        dispatcher.stop()
        thread.join()
        dispatcher.close()


@dataclass(slots=True)
class _Document:
    """A document that is being prepared. Its chunks are numbered from 0; only events of `current` are passed on."""

    task: Task
    pages: int = 0  # 0 until a worker has opened it
    assigned: int = 1  # chunks that have been given to workers
    current: int = 0
    waiting: dict[int, list[WorkerEvent]] = field(default_factory=dict)  # by chunk: events of later chunks
    complete: set[int] = field(default_factory=set)  # chunks

    @property
    def chunks(self) -> int:
        return -(-self.pages // PAGES_PER_CHUNK)


class _Dispatcher:
    """Connects the caller's generator with the worker pool, which runs in a thread of its own."""

    def __init__(self, settings: configs.Ingest, workers: int) -> None:
        self._workers = workers
        self._pool = WorkerPool(settings, workers)
        self._documents: dict[int, _Document] = {}  # by a running number, in the order in which they began
        self._last_number = 0
        self._changed = threading.Condition()  # guards the next four, which both threads use
        self._tasks: deque[Task] = deque()
        self._no_more = False
        self._stopped = False
        self._events: deque[WorkerEvent | BaseException | None] = deque()
        self._woken, self._wake = os.pipe()  # interrupts the thread while it waits for the workers' answers
        os.set_blocking(self._wake, False)

    # Called in the caller's thread

    def wants_tasks(self) -> bool:
        with self._changed:
            return self._wants_tasks()

    def put_task(self, task: Task | None) -> None:
        """Add a task; None means that there are no more."""
        with self._changed:
            if task is None:
                self._no_more = True
            else:
                self._tasks.append(task)
            self._notify()

    def wait_for_event(self, seconds: float) -> bool:
        """Wait until there is an event or more tasks are wanted; returns whether there is an event."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._wants_tasks(), seconds)
            return bool(self._events)

    def take_event(self) -> WorkerEvent | BaseException | None:
        """Return the next event, or the error that ended the thread; None at the end."""
        with self._changed:
            event = self._events.popleft()
            self._changed.notify_all()
            return event

    def stop(self) -> None:
        """Have the thread end its workers and itself now."""
        with self._changed:
            self._stopped = True
            self._notify()

    def close(self) -> None:
        """Close the pipe. Call it after the thread has ended."""
        os.close(self._wake)
        os.close(self._woken)

    def _wants_tasks(self) -> bool:
        return not self._no_more and len(self._tasks) < 2 * self._workers

    def _notify(self) -> None:
        self._changed.notify_all()
        with suppress(BlockingIOError):  # The pipe is full, so the thread wakes anyway.
            os.write(self._wake, b".")

    # Called in the dispatcher's own thread

    def run(self) -> None:
        """Share out the tasks and collect the answers, until there are no more tasks or `stop` is called."""
        try:
            while not self._stopped:
                while self._pool.has_room and (chunk := self._next_chunk()):
                    self._pool.assign(chunk)
                if self._pool.busy:
                    for chunk, answer in self._pool.receive(WATCH_EVERY, self._woken):
                        self._take(chunk, answer)
                elif not self._wait_for_task():
                    break
        except BaseException as error:  # whatever it is, the caller must receive it
            self._put(error)
        else:
            self._put(None)
        finally:
            self._pool.kill_all()

    def _wait_for_task(self) -> bool:
        """Wait until there is a task; returns False if there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._no_more or self._stopped)
            return bool(self._tasks) and not self._stopped

    def _next_chunk(self) -> Chunk | None:
        """Return the next chunk of the oldest document whose pages would not wait long, else of a new document."""
        for number, document in self._documents.items():
            if document.assigned < document.chunks and document.assigned <= document.current + self._workers:
                first = document.assigned * PAGES_PER_CHUNK + 1
                document.assigned += 1
                return Chunk(number, document.task, first, min(first + PAGES_PER_CHUNK - 1, document.pages))
        with self._changed:
            if not self._tasks or len(self._documents) > self._workers:
                return None
            task = self._tasks.popleft()
            self._changed.notify_all()
        self._last_number += 1
        self._documents[self._last_number] = _Document(task)
        return Chunk(self._last_number, task, 1, 0)

    def _take(self, chunk: Chunk, answer: WorkerEvent | ChunkDone | Lost | FolioscopeError) -> None:
        if isinstance(answer, FolioscopeError):
            raise answer
        if isinstance(answer, ChunkDone):
            self._pool.release(chunk)
        document = self._documents.get(chunk.document)
        if document is None:  # it has failed in the meantime
            return
        index = (chunk.first - 1) // PAGES_PER_CHUNK
        match answer:
            case Lost():
                self._fail(chunk, Failed(chunk.task.source, answer.error))
                return
            case Failed():
                self._fail(chunk, answer)
                return
            case ChunkDone():
                document.complete.add(index)
            case Opened():
                document.pages = answer.pages
                self._put(answer)
            case _:
                document.waiting.setdefault(index, []).append(answer)
        self._pass_on(chunk.document, document)

    def _pass_on(self, number: int, document: _Document) -> None:
        """Hand on the events of the current chunk, and of those after it once it is complete."""
        while True:
            for event in document.waiting.pop(document.current, []):
                self._put(event)
            if document.current not in document.complete:
                return
            document.current += 1
            if document.current == document.chunks:
                del self._documents[number]
                self._put(Finished(document.task.source))
                return

    def _fail(self, chunk: Chunk, event: Failed) -> None:
        del self._documents[chunk.document]
        self._put(event)

    def _put(self, event: WorkerEvent | BaseException | None) -> None:
        """Hand an event to the caller, after waiting until fewer than MAX_WAITING events wait."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._events) < MAX_WAITING or self._stopped)
            if not self._stopped:
                self._events.append(event)
                self._changed.notify_all()
