"""One index put in the place of another, such that a power cut at any moment leaves a whole index there."""

import ctypes
import errno
import os
import shutil
import sys
from pathlib import Path

from retrieval.store.locks import locked

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2(2), Linux
RENAME_SWAP = 2  # of renamex_np(2), macOS
NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}
"""What a system or a file system says that cannot exchange two names in one step."""


def neighbours(place: Path) -> tuple[Path, Path]:
    """Where the index that shall replace the one at `place` is built, and where the replaced one is kept."""
    return place.with_name(f"{place.name}.reembedding"), place.with_name(f"{place.name}.before")


def put_in_place(place: Path) -> None:
    """Put the index that was built beside `place` there, and keep the old one as NAME.before; an older one is deleted.

    The caller holds the write lock of the old one. Cut short, it leaves the old index at `place`, or there for
    `recover`; or the new one.
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
    """Put the old index back where a replacement that took two steps was cut short between them.

    Nothing happens in any other state: an index that somebody has moved away is not brought back. Raises IndexBusy
    while another process is replacing it just now.
    """
    fresh, before = neighbours(place)
    if place.exists() or not (fresh.is_dir() and before.is_dir()):
        return
    busy = f"another process is putting another index in the place of {place}: try again"
    with locked(before / ".writer", busy):
        if not place.exists():
            before.rename(place)


def exchange(one: Path, other: Path) -> bool:
    """Exchange the names of two folders in one step; False, and nothing is done, where the system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
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
    raise OSError(number, os.strerror(number), str(one), None, str(other))
