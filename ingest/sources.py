"""Which files to ingest: files, folders and glob patterns, as people type them."""

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from retrieval.errors import BadSource

SUFFIXES = frozenset({".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
"""What is taken from a folder or a pattern. A file that is named itself is taken whatever it is called."""


@dataclass(frozen=True, slots=True)
class Source:
    """One file to ingest. `size` is in bytes, `modified` in UTC; both are 0 or the epoch if unknown."""

    path: Path
    uri: str  # the absolute path as a file:// URI
    size: int
    modified: datetime


def discover(paths: Sequence[str | Path]) -> Iterator[Source]:
    """The files that `paths` name, each once, in the order given; a folder's in order of their paths.

    A path is a file, a folder (searched to the bottom; hidden files and folders are left out, a link to a
    folder is followed once) or a glob pattern (`reports/**/*.pdf`). Raises BadSource, naming the path, where
    one does not exist or matches nothing; paths before it have been yielded by then.
    """
    seen: set[Path] = set()
    for given in paths:
        found = False
        for path in _files(Path(given).expanduser()):
            found = True
            real = path.resolve()
            if real not in seen:
                seen.add(real)
                yield _source(path)
        if not found:
            raise BadSource(_nothing(Path(given)))


def content_id(path: Path) -> str:
    """The first 16 hex digits of the sha256 of the file's bytes. Raises OSError as opening the file does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def path_of(uri: str) -> Path:
    """The path that a source's `uri` names."""
    return Path(unquote(urlsplit(uri).path))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from _folder(path, set())
    elif path.exists() or path.is_symlink():  # a broken link was named: let opening it say what is wrong
        yield path
    elif glob.has_magic(str(path)):
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 (absolute patterns too)
            match = Path(name)
            if match.is_dir():
                continue
            if match.suffix.lower() in SUFFIXES or "*" not in path.name:
                yield match


def _folder(folder: Path, entered: set[tuple[int, int]]) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError as error:
        raise BadSource(f"{folder} cannot be read: {error.strerror}") from error
    if (status.st_dev, status.st_ino) in entered:  # a link back up, or the same folder by two names
        return
    entered.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if entry.is_dir():
            yield from _folder(path, entered)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _source(path: Path) -> Source:
    try:
        status = path.stat()
        size, modified = status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)
    except OSError:
        size, modified = 0, datetime.fromtimestamp(0, UTC)
    return Source(path, path.absolute().as_uri(), size, modified)


def _nothing(path: Path) -> str:
    if path.expanduser().is_dir():
        return f"{path}: no document in this folder (looked for {', '.join(sorted(SUFFIXES))})"
    if glob.has_magic(str(path)):
        return f"{path}: this pattern matches no document"
    return f"{path}: no such file or folder"
