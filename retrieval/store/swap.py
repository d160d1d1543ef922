"""Replacing one index by another, such that a power cut at any moment leaves a complete index in place."""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from retrieval.errors import IndexBusy
from retrieval.store.locks import locked

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2), Linux
RENAME_SWAP = 2  # of renamex_np(2), macOS
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
"""Errors of a system or file system that cannot exchange two names in one step."""


def neighbours(place: Path) -> tuple[Path, Path]:
    """Return where the replacement of the index at `place` is built, and where the replaced index is kept."""
    return place.with_name(f"{place.name}.reembedding"), place.with_name(f"{place.name}.before")


def put_in_place(place: Path) -> None:
    """Replace the index at `place` by the one built beside it, keep the old one as NAME.before, delete an older one.

    The caller holds the write lock of the old index. If interrupted, `place` has the old or the new index, or none, in
    which case `recover` brings back the old one.
    """
    fresh, before = neighbours(place)
    if before.exists():
        shutil.rmtree(before)
    fresh.rename(before)
    if not exchange(before, place):
        before.rename(fresh)
        place.rename(before)
        fresh.rename(place)


def recover(place: Path) -> None:
    """Put the old index back if a replacement in two steps was interrupted between them.

    Does nothing in any other state: an index that somebody has moved away is not brought back. Raises IndexBusy while
    another process is replacing the index.
    """
    fresh, before = neighbours(place)
    if place.exists() or not (fresh.is_dir() and before.is_dir()):
        return
    busy = IndexBusy(
        "another process is replacing the index; try again in a moment", remedy=f"the index is {place}"
    )
    with locked(before / ".writer", busy):
        if not place.exists():
            before.rename(place)


def exchange(first: Path, second: Path) -> bool:
    """Exchange the names of two folders in one step. Returns False, with nothing done, if the system cannot.

    Raises OSError for any other failure.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(first), os.fsencode(second)
    if sys.platform == "darwin":
        failed = libc.renamex_np(*names, RENAME_SWAP)
    elif hasattr(libc, "renameat2"):
        failed = libc.renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE)
    else:  # musl before 1.2.6
        return False
    if not failed:
        return True
    if (number := ctypes.get_errno()) in NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
