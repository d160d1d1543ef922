"""A lock between processes, which dies with the process that holds it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval.errors import IndexBusy


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Holds the file's lock. A kill leaves no lock behind. Raises IndexBusy(busy) where another holds it.

    By flock itself and not by `filelock`: where flock is missing, that library goes on with a lock file, which a
    killed process leaves behind. Here the OSError says so.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise IndexBusy(busy) from None
        yield
