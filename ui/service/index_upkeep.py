"""While the server runs, the recall lists follow what is added and removed, in a thread that lets searches go first."""

import logging
import os
import sys
import threading
from collections.abc import Callable

from configs.settings import Search
from retrieval.errors import IndexBusy, first_line
from retrieval.recall.ivf.upkeep import Stats
from retrieval.store.store import Store
from ui import factory

LOG = logging.getLogger("folioscope")
EVERY_S, LONGEST_S = 10.0, 3_600.0
CLOSING_S = 5.0  # training may take longer to hear of it: the thread then ends with its process
NICE = 15  # of 19: a search goes first


def in_words(stats: Stats) -> str:
    """What there is of the recall lists."""
    if not stats.vectors:
        return "no lists: all pages are scanned"
    beside = f", {stats.missing:,} scanned beside them" if stats.missing else ""
    return f"{stats.pages:,} pages in {stats.centroids:,} lists ({stats.bytes / 1e6:,.1f} MB){beside}"


class _Closed(Exception):
    """The server ends."""


class IndexUpkeep:
    """Looks every few seconds whether the index has changed; refreshing takes 5 ms of one core for each new page."""

    def __init__(
        self,
        store: Store,
        settings: Search,
        refreshed: Callable[[], None] = lambda: None,
        every_s: float = EVERY_S,
    ) -> None:
        """refreshed: called after each refresh, so that the next search finds all it needs loaded."""
        self._store = store
        self._refreshed = refreshed
        self._settings = settings
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="recall lists", daemon=True)
        self.doing = ""
        """What is being done, and how far it is; "" while there is nothing to do."""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """What is under way is given up: the lists stay as they were."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=CLOSING_S)

    def _keep(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        seen, told, pause = -1, "", self._every_s
        while not self._stop.wait(pause):
            try:
                version = self._store.version()
                if version != seen:
                    if factory.refresh_inverted_index(self._store, self._settings, self._tell):
                        self._refreshed()
                    seen = version
                pause = self._every_s
            except _Closed:
                return
            except IndexBusy:
                pause = self._every_s
            except (
                Exception
            ) as error:  # searches go on without; the same trouble is told once, and tried less often
                pause = min(2 * pause, LONGEST_S)
                if told != (told := first_line(error)):
                    LOG.warning("the recall lists could not be refreshed: %s", told)
            self.doing = ""

    def _tell(self, what: str, done: int, of: int) -> None:
        if self._stop.is_set():
            raise _Closed
        self.doing = f"Recall lists: {what}, {done:,} of {of:,}"
