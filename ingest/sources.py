"""Finding the files to ingest from files, folders and glob patterns, as people type them."""

import glob
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes, urlsplit

from retrieval.errors import BadSource

SUFFIXES = frozenset({".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})
"""Files that are ingested from a folder or pattern. A file that is named itself is ingested whatever its suffix."""

FileState = Literal["file", "folder", "other", "gone", "unreachable"]


@dataclass(frozen=True, slots=True)
class Source:
    """One file to ingest. `size` is in bytes, `modified` in UTC; both are 0 or the epoch if unknown."""

    path: Path
    uri: str  # the absolute path as a file:// URI: ASCII, whatever bytes the name is made of
    size: int
    modified: datetime


def discover(
    paths: Sequence[str | Path], unreadable: Callable[[Path, str], None] | None = None
) -> Iterator[Source]:
    """Yield the files that `paths` name, each once, in the order given; a folder's files in the order of their paths.

    A path is a file, a folder (with all subfolders, without hidden files and folders; a link to a folder is followed
    once) or a glob pattern (`reports/**/*.pdf`). A subfolder that cannot be read is skipped, and `unreadable` is called
    with it and the reason. Raises BadSource for a path that does not exist, cannot be read or matches nothing, after
    yielding the files of the paths before it.
    """
    seen: set[str] = set()
    for given in paths:
        has_files = False
        for path in _files(Path(given).expanduser(), unreadable or _ignore):
            has_files = True
            real = os.path.realpath(path)  # unlike resolve(), does not fail for a link to itself
            if real not in seen:
                seen.add(real)
                yield _source(path)
        if not has_files:
            raise BadSource(_why_nothing(Path(given)))


def content_id(path: Path) -> str:
    """Return the first 16 hex digits of the sha256 of the file's bytes. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def state_of(path: Path) -> FileState:
    """Return what is at `path`, following links. Never raises, unlike `Path.exists` and `Path.is_file`.

    "gone": the file system says that nothing is there. "unreachable": it does not say, as for a folder without
    permission, a disk with errors, or a link to itself. "other": a device or a pipe.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "gone"
    except OSError:
        return "unreachable"
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def path_of(uri: str) -> Path:
    """Return the path that a source's `uri` names."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(uri).path)))


def _ignore(folder: Path, reason: str) -> None:
    pass


def _files(path: Path, unreadable: Callable[[Path, str], None]) -> Iterator[Path]:
    try:
        is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
    except OSError as error:  # no permission for one of the folders above it
        raise BadSource(f"{path} cannot be read: {error.strerror}") from error
    if is_folder:
        yield from _folder(path, path, set(), unreadable)
    elif exists:  # for a broken link, the error of opening it says what is wrong
        yield path
    elif glob.has_magic(str(path)):
        for name in sorted(glob.glob(str(path), recursive=True)):  # noqa: PTH207 (absolute patterns too)
            match = Path(name)
            if state_of(match) == "folder":
                continue
            if match.suffix.lower() in SUFFIXES or "*" not in path.name:
                yield match


def _folder(
    folder: Path, named: Path, entered: set[tuple[int, int]], unreadable: Callable[[Path, str], None]
) -> Iterator[Path]:
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if folder == named:
            raise BadSource(f"{folder} cannot be read: {error.strerror}") from error
        unreadable(folder, error.strerror or str(error))
        return
    if (status.st_dev, status.st_ino) in entered:  # a link back up, or the same folder by two names
        return
    entered.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path = Path(entry.path)
        if _is_folder(entry):
            yield from _folder(path, named, entered, unreadable)
        elif path.suffix.lower() in SUFFIXES:
            yield path


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder without permission
        return False


def _source(path: Path) -> Source:
    try:
        status = path.stat()
        size, modified = status.st_size, datetime.fromtimestamp(status.st_mtime, UTC)
    except OSError:
        size, modified = 0, datetime.fromtimestamp(0, UTC)
    return Source(path=path, uri=_absolute(path).as_uri(), size=size, modified=modified)


def _absolute(path: Path) -> Path:
    """Return the absolute path without `..`, so that a file has one URI; links are not resolved."""
    plain = Path(os.path.abspath(path))  # noqa: PTH100 (absolute() keeps `..`, resolve() follows links)
    # `..` after a link leads to the folder above the link's target, where `plain` does not.
    is_another_file = ".." in path.parts and os.path.realpath(plain) != os.path.realpath(path)
    return path.absolute() if is_another_file else plain


def _why_nothing(path: Path) -> str:
    if state_of(path.expanduser()) == "folder":
        return f"{path}: no document in this folder (documents are {', '.join(sorted(SUFFIXES))})"
    if glob.has_magic(str(path)):
        return f"{path}: this pattern matches no document"
    return f"{path}: no such file or folder"
