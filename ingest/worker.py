"""Documents prepared in worker processes: whatever a file does to a worker, it costs that file and no other.

A document is shared out in chunks of pages, so that a long one keeps all workers busy; its pages still come
in order. Only a bounded number of pages waits for the caller: a slow one slows the workers down.
"""

import multiprocessing
import os
import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import configs.settings as configs
from ingest.child import PAGES_AT_ONCE
from ingest.crew import Crew, Ended, Lost
from ingest.ocr import check
from ingest.prepared import (
    Chunk,
    ChunkDone,
    Failed,
    FailedPage,
    Finished,
    Opened,
    Prepared,
    PreparedPage,
    Task,
)
from retrieval.errors import FolioscopeError

__all__ = ["Failed", "FailedPage", "Finished", "Opened", "Prepared", "PreparedPage", "Task", "prepare"]

WAITING = 32
"""Events that may wait for the caller."""


def prepare(tasks: Iterable[Task], settings: configs.Ingest, *, words: bool = True) -> Iterator[Prepared]:
    """Rasterize and read documents, several at once.

    Events of one document come in order: Opened, then PreparedPage or FailedPage for each page by number, then
    Finished; or Failed at any point, which ends it. Events of different documents are mixed. `tasks` is
    drawn from in the caller's thread, a few ahead of what is being read. Without `words`, pages are not read.

    Closing the generator, or an exception in the caller such as KeyboardInterrupt, ends the workers at once.
    Raises MissingExtra where the OCR engine of the settings is not installed.
    """
    check(settings.ocr)
    workers = settings.workers or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    dispatch = _Dispatch(settings, words, workers)
    thread = threading.Thread(target=dispatch.run, name="folioscope-workers", daemon=True)
    thread.start()
    remaining = iter(tasks)
    try:
        while True:
            while not dispatch.no_more and len(dispatch.tasks) < 2 * workers:
                if (task := next(remaining, None)) is None:
                    dispatch.no_more = True
                else:
                    dispatch.tasks.append(task)
            try:
                event = dispatch.events.get(timeout=0.05)
            except queue.Empty:
                continue
            if event is None:
                return
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        dispatch.stop.set()
        thread.join()
