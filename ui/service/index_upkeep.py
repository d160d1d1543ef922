"""Refreshes the inverted index while the server runs, in a thread of low priority."""

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
CLOSING_S = 5.0  # training may take longer to notice the end: the thread then ends with its process
NICE = 15  # of 19, so that searches go first


def describe_stats(stats: Stats) -> str:
    """Describes the size of the inverted index."""
    if not stats.vectors:
        return "no inverted index: all pages are scanned"
    scanned = f", {stats.missing:,} more are scanned" if stats.missing else ""
    return (
        f"{stats.pages:,} pages in {stats.centroids:,} inverted lists ({stats.bytes / 1e6:,.1f} MB){scanned}"
    )


class _Closed(Exception):
    """The server is closing."""


class IndexUpkeep:
    """Checks every few seconds whether the index has changed. A refresh takes 5 ms of one core for each new page."""

    def __init__(
        self,
        store: Store,
        settings: Search,
        refreshed: Callable[[], None] = lambda: None,
        every_s: float = EVERY_S,
    ) -> None:
        """refreshed: called after each refresh, to load what the next search needs; every_s: seconds between checks."""
        self._store = store
        self._refreshed = refreshed
        self._settings = settings
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="index upkeep", daemon=True)
        self.doing = ""
        """The current step and its progress; "" while there is nothing to do."""

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; a refresh under way is given up, and the inverted index stays as it was."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=CLOSING_S)

    def _keep(self) -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        seen, logged, pause = -1, "", self._every_s
        while not self._stop.wait(pause):
            try:
                version = self._store.version()
                if version != seen:
                    if factory.refresh_inverted_index(self._store, self._settings, self._report):
                        self._refreshed()
                    seen = version
                pause = self._every_s
            except _Closed:
                return
            except IndexBusy:
                pause = self._every_s
            except (
                Exception
            ) as error:  # searches go on; the same error is logged once, and retried less often
                pause = min(2 * pause, LONGEST_S)
                if logged != (logged := first_line(error)):
                    LOG.warning("the inverted index could not be refreshed: %s", logged)
            self.doing = ""

    def _report(self, what: str, done: int, of: int) -> None:
        if self._stop.is_set():
            raise _Closed
        self.doing = f"Inverted index: {what}, {done:,} of {of:,}"
