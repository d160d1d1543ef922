"""Makes files and folders inaccessible, even if the tests run as root, who may ignore mode bits."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

VERSION_3 = 0x20080522  # of capget(2)
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2
"""The capabilities that let root ignore the mode bits of files and folders."""


@contextmanager
def shut(path: Path) -> Iterator[None]:
    """Deny reading of this file, or listing and entering of this folder, within the body.

    The denial binds this thread, and those that it starts in the body, even as root. Skips the test if it cannot.
    """
    with _bound_by_mode_bits():
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            if os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
                pytest.skip("mode bits do not stop this user, and its capabilities cannot be dropped")
            yield
        finally:
            path.chmod(mode)


@contextmanager
def _bound_by_mode_bits() -> Iterator[None]:
    """Drop root's capabilities to ignore mode bits from this thread within the body."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or not hasattr(libc, "capset"):
        yield
        return
    header = (ctypes.c_uint32 * 2)(VERSION_3, 0)  # 0: the calling thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    libc.capget(header, sets)
    before = sets[0]
    sets[0] &= ~(1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = before
        libc.capset(header, sets)
