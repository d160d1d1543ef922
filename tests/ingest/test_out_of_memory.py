"""Errors are recognised as out of memory by class and code, never by a word in a message with a file's name."""

import errno
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from pymupdf import mupdf

from ingest.rasterize.mupdf import _page_error, out_of_memory
from ingest.rasterize.poppler import PopplerDocument
from ingest.workers.worker import _unexpected
from retrieval.errors import UnreadableDocument

ALLOCATIONS: dict[str, Callable[[], object]] = {
    "MuPDF": lambda: mupdf.FzBuffer(10**15),  # bytes: more than any machine has
    "OpenCV": lambda: cv2.resize(np.zeros((10, 10, 3), np.uint8), (2**30, 2**20)),
    "NumPy": lambda: np.zeros(10**15),
}


def error_of(act: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (each library has its own class)
        act()
    return caught.value


@pytest.mark.parametrize("library", ALLOCATIONS)
def test_the_out_of_memory_error_of_each_library_is_recognised(library: str) -> None:
    assert out_of_memory(error_of(ALLOCATIONS[library]))


def test_an_error_caused_by_an_out_of_memory_error_is_recognised() -> None:
    def wrapped() -> None:
        try:
            np.zeros(10**15)
        except MemoryError as error:
            raise RuntimeError("the engine failed") from error

    assert out_of_memory(error_of(wrapped))
    assert out_of_memory(OSError(errno.ENOMEM, "Cannot allocate memory"))


def test_a_file_name_that_mentions_allocation_is_not_out_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "malloc (8 bytes) failed" / "allocation-2023.pdf"
    path.parent.mkdir()
    path.symlink_to(path)  # a link to itself cannot be opened, and the error message names it
    for error in (error_of(path.read_bytes), error_of(lambda: mupdf.fz_open_file(str(path)))):
        assert "alloc" in str(error)
        assert not out_of_memory(error)
        assert _page_error(path, 1, error).reason == "damaged"
        assert _unexpected(path.name, error, 1_500).reason == "damaged"


def test_a_file_name_that_mentions_passwords_is_not_an_encrypted_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument) as caught:
        PopplerDocument(tmp_path / "Incorrect password.pdf")  # does not exist: poppler's message names it
    assert caught.value.reason == "damaged"
