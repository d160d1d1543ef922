"""What other threads ask of the one that writes to the index: edits, which they wait for, and care of the index."""

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
    """`wake` is called where there is something new to do; `do_edits` and `do_task` are for the thread that writes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.task = ""
        """What the piece of care is that waits or is under way."""
        self.task_result = ""
        """What came of the last one, in words."""
        self._wake = wake
        self._lock = threading.Lock()
        self._edits: deque[tuple[Future[Document], Edit]] = deque()
        self._work: Task | None = None

    @property
    def edits_wait(self) -> bool:
        return any(not asked.cancelled() for asked, _ in list(self._edits))

    @property
    def any(self) -> bool:
        return self.edits_wait or self._work is not None

    def ask(self, edit: Edit, wait_s: float) -> Document | None:
        """Have it made; None if that did not begin within `wait_s` seconds: then it never is. Raises as it does."""
        asked: Future[Document] = Future()
        self._edits.append((asked, edit))
        self._wake()
        if not wait([asked], wait_s).done and asked.cancel():
            return None
        return asked.result()

    def do_edits(self) -> None:
        while self._edits:
            asked, edit = self._edits.popleft()
            if not asked.set_running_or_notify_cancel():
                continue
            try:
                asked.set_result(edit())
            except Exception as error:
                asked.set_exception(_ours(error))

    def take(self, work: Task, what: str) -> None:
        """Have `work` done once; what it returns is the result, in words. Raises IndexBusy while another waits."""
        with self._lock:
            if self.task:
                raise IndexBusy(f"{self.task} is under way: ask for {what} when it is done")
            self.task, self.task_result, self._work = what, "", work
        self._wake()

    def do_task(self) -> None:
        work, self._work = self._work, None
        if work is None:
            return
        began = time.perf_counter()
        try:
            result = work() or f"{self.task}: done in {time.perf_counter() - began:.1f} s"
        except Exception as error:
            result = f"{self.task} failed: {in_words(error)}"
        self._task_ended(result)

    def refuse(self, error: Exception) -> None:
        """Nothing of what waits can be done."""
        while self._edits:
            asked, _ = self._edits.popleft()
            if asked.set_running_or_notify_cancel():
                asked.set_exception(_ours(error))
        if self._work:
            self._work = None
            self._task_ended(f"{self.task} failed: {in_words(error)}")

    def _task_ended(self, result: str) -> None:
        with self._lock:
            self.task, self.task_result = "", result


def _ours(error: Exception) -> FolioscopeError:
    if isinstance(error, FolioscopeError):
        return error
    ours = FolioscopeError(f"it could not be changed: {in_words(error)}")
    ours.__cause__ = error
    return ours


def in_words(error: Exception) -> str:
    if isinstance(error, FolioscopeError):
        return str(error)
    return f"stopped by an unexpected error ({type(error).__name__}: {first_line(error)})"
