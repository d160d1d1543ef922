"""Requests of other threads to the thread that writes to the index: edits, and one maintenance task at a time.

Whoever submits an edit waits for it; the result of a maintenance task is shown later.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

from retrieval.errors import FolioscopeError, IndexBusy, first_line
from retrieval.types import Document

Edit = Callable[[], Document]
Task = Callable[[], str | None]


class PendingRequests:
    """Calls `wake` when a request arrives; the writing thread then calls `run_edits` and `run_task`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.task = ""
        """The name of the maintenance task that waits or is under way."""
        self.task_result = ""
        """The result of the last task, as a sentence."""
        self._wake = wake
        self._lock = threading.Lock()
        self._edits: deque[tuple[Future[Document], Edit]] = deque()
        self._work: Task | None = None

    def has_edits(self) -> bool:
        return any(not future.cancelled() for future, _ in list(self._edits))

    def has_any(self) -> bool:
        return self.has_edits() or self._work is not None

    def submit_edit(self, edit: Edit, wait_s: float) -> Document | None:
        """Returns the result of `edit`, and raises its errors.

        Returns None if the edit did not start within `wait_s` seconds; then it is dropped.
        """
        future: Future[Document] = Future()
        self._edits.append((future, edit))
        self._wake()
        if not wait([future], wait_s).done and future.cancel():
            return None
        return future.result()

    def run_edits(self) -> None:
        while self._edits:
            future, edit = self._edits.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(edit())
            except Exception as error:
                future.set_exception(_as_folioscope_error(error))

    def submit_task(self, work: Task, name: str) -> None:
        """Schedule `work` to run once; it may return its result as a sentence. Raises IndexBusy during another task."""
        with self._lock:
            if self.task:
                raise IndexBusy(f"{self.task} is under way: start {name} when it is done")
            self.task, self.task_result, self._work = name, "", work
        self._wake()

    def run_task(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        began = time.perf_counter()
        try:
            result = work() or f"{self.task}: done in {time.perf_counter() - began:.1f} s"
        except Exception as error:
            result = f"{self.task} failed: {in_words(error)}"
        self._end_task(result)

    def fail_all(self, error: Exception) -> None:
        """End every waiting request with `error`."""
        while self._edits:
            future, _ = self._edits.popleft()
            if future.set_running_or_notify_cancel():
                future.set_exception(_as_folioscope_error(error))
        if self._work:
            self._work = None
            self._end_task(f"{self.task} failed: {in_words(error)}")

    def _end_task(self, result: str) -> None:
        with self._lock:
            self.task, self.task_result = "", result


def in_words(error: Exception) -> str:
    """Returns what a reader of the web page learns of an error, without the server's commands and paths."""
    if isinstance(error, FolioscopeError):
        return error.message
    # The text of an OSError ends with its path.
    reason = error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
    return f"stopped by an unexpected error ({type(error).__name__}: {reason})"


def _as_folioscope_error(error: Exception) -> FolioscopeError:
    if isinstance(error, FolioscopeError):
        return error
    converted = FolioscopeError(f"the document could not be edited: {in_words(error)}")
    converted.__cause__ = error
    return converted
