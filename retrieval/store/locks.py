"""Locks between processes, which end with the process that holds them."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import IndexBusy


def is_remote(uri: str) -> bool:
    """Whether the index is in an object store, where no lock is possible, and not in a folder."""
    return "://" in uri


@contextmanager
def write_lock(uri: str) -> Iterator[None]:
    """Hold the lock of the index's only writer. Raises IndexBusy if another process holds it.

    Does nothing for a remote index: LanceDB's commits are atomic there too.
    """
    if is_remote(uri):
        yield
        return
    busy = IndexBusy(
        "another process is writing to the index; you can search meanwhile",
        remedy=f"wait until it is done, or stop the process that writes to {uri}",
    )
    with locked(Path(uri) / ".writer", busy):
        yield


@contextmanager
def locked(path: Path, busy: IndexBusy) -> Iterator[None]:
    """Hold the lock of this file. Raises `busy` if another process holds it.

    The lock is flock itself rather than the library `filelock`: on systems without flock, that library uses a lock
    file, which a killed process leaves behind. Here such a system raises OSError.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy from None
        yield
