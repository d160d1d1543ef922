"""Folders of files that are derived from an index (inverted index, sparse lists): where they are, and who may write."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import IndexBusy
from retrieval.store.locks import is_remote, locked

LOCK = ".upkeep"
"""The lock file of a folder. It is never removed."""


def derived_folder(uri: str, name: str) -> Path:
    """Return the folder `name` of the index at `uri`: inside it or, for an object store, on this machine."""
    if is_remote(uri):
        return (
            Path(f"~/.cache/folioscope/{name}").expanduser() / hashlib.sha256(uri.encode()).hexdigest()[:16]
        )
    return Path(uri) / name


def file_state(path: Path) -> object:
    """Return a value that differs after each replacement of the file; None if there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def live(
    documents: Sequence[tuple[str, str]], page_document: NDArray[np.int32], revisions: Mapping[str, str]
) -> NDArray[np.bool_]:
    """Return (pages,): whether each page is of its document's present revision.

    documents: doc_id and revision. page_document (pages,): index into it. revisions: the present ones, by doc_id.
    """
    alive = [revisions.get(doc_id) == known for doc_id, known in documents]
    mask: NDArray[np.bool_] = np.array(alive, np.bool_)[page_document]
    return mask


@contextmanager
def upkeep(place: Path, sweep: Callable[[Path], None], busy: IndexBusy) -> Iterator[Path]:
    """Hold the lock for changes of the folder; `sweep` it before and after. Raises `busy` if it is held."""
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / LOCK, busy):
        try:
            sweep(place)
            yield place
        finally:
            sweep(place)
