"""Folders of the server that a browser may ingest from: the roots given on the command line and the folders below them.

A browser names a folder by an id that it has received in a listing, so no path from a browser reaches the file system.
Links that lead out of the roots are ignored, and so are hidden files and folders.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ingest.read.titles import printable
from ingest.sources import SUFFIXES, discover
from retrieval.errors import BadSource, NotFound

SHOWN = 2_000
"""Folders in one listing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of one folder, without the folders below; if `id` is empty, the list of the roots."""

    id: str
    name: str  # as shown, for example archive/2023
    parent: str  # id of the parent folder
    folders: tuple[tuple[str, str, int], ...]  # (id, name, documents directly inside), sorted by name
    documents: int  # files in it that can be read
    note: str = ""  # a sentence if the listing is incomplete


class Folders:
    """Raises BadSource for a root that is not a folder. Ids are valid as long as this object exists."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots: dict[Path, str] = {}  # resolved paths, and the names under which they are shown
        for root in roots:
            try:
                self._roots[root.expanduser().resolve(strict=True)] = ""
            except OSError as error:
                raise BadSource(
                    f"{root}: no such folder ({error.strerror}): give an existing folder"
                ) from error
            if not root.expanduser().is_dir():
                raise BadSource(f"{root} is a file, not a folder: give the folder that contains it")
        names = Counter(root.name for root in self._roots)
        for root in self._roots:
            is_unique = root.name and names[root.name] == 1
            self._roots[root] = printable(root.name if is_unique else str(root))
        self._key = secrets.token_bytes(32)
        self._known: dict[str, Path] = {}  # by id: the folders that have been listed

    @property
    def any(self) -> bool:
        """Whether there are any roots."""
        return bool(self._roots)

    def listing(self, folder_id: str = "") -> Listing:
        """List the folder with this id, or the roots. Raises NotFound, and BadSource if the folder cannot be read."""
        if not folder_id:
            listed = [
                (self._id(root), name, len(self._documents(root))) for root, name in self._roots.items()
            ]
            return Listing("", "", "", tuple(listed), 0)
        folder = self._folder(folder_id)
        inside = {entry.name: real for entry in _entries(folder) if (real := self._real_folder(entry))}
        folders = sorted(inside, key=lambda name: (name.casefold(), name))
        note = ""
        if len(folders) > SHOWN:
            note = f"The first {SHOWN:,} of {len(folders):,} folders are shown; adding this folder adds them all."
        return Listing(
            folder_id,
            self._name(folder),
            "" if folder in self._roots else self._id(folder.parent),
            tuple(
                (self._id(inside[name]), printable(name), len(self._documents(inside[name])))
                for name in folders[:SHOWN]
            ),
            len(self._documents(folder)),
            note,
        )

    def files(self, folder_id: str, deep: bool = True) -> Iterator[Path]:
        """Returns the files that can be read in the folder with this id; if `deep`, also in all folders below it.

        Raises NotFound for an unknown id, BadSource if there is nothing to read.
        """
        folder = self._folder(folder_id)
        return self._below(folder) if deep else iter(sorted(self._documents(folder)))

    def holds(self, path: Path) -> bool:
        """Whether `path` is in one of the roots after its links are resolved."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)

    def has_escaped(self, path: Path) -> bool:
        """Whether `path` is below one of the roots by its name, but outside of all of them after links are resolved."""
        return any(path.is_relative_to(root) for root in self._roots) and not self.holds(path)

    def _below(self, folder: Path) -> Iterator[Path]:
        try:
            for source in discover([folder]):
                if self.holds(source.path) and os.path.isfile(source.path):  # noqa: PTH113 (False without permission)
                    yield source.path
        except BadSource as error:
            raise BadSource(
                f"{self._name(folder)}: no document in this folder, or it cannot be read"
            ) from error

    def _folder(self, folder_id: str) -> Path:
        folder = self._known.get(folder_id)
        if folder is None or not os.path.isdir(folder) or not self.holds(folder):  # noqa: PTH112 (as above)
            raise NotFound("this folder is unknown or no longer exists: open the list of folders again")
        return folder

    def _id(self, folder: Path) -> str:
        folder_id = blake2b(os.fsencode(folder), key=self._key, digest_size=16).hexdigest()
        self._known[folder_id] = folder
        return folder_id

    def _documents(self, folder: Path) -> list[Path]:
        """Returns the files directly inside that can be read; none if the folder itself cannot be read."""
        try:
            return [
                Path(entry.path)
                for entry in _entries(folder)
                if Path(entry.name).suffix.lower() in SUFFIXES
                and _is_file(entry)
                and (not entry.is_symlink() or self.holds(Path(entry.path)))
            ]
        except BadSource:
            return []

    def _name(self, folder: Path) -> str:
        root = max(
            (root for root in self._roots if folder.is_relative_to(root)), key=lambda root: len(root.parts)
        )
        return (
            "/".join([self._roots[root].rstrip("/"), *map(printable, folder.relative_to(root).parts)]) or "/"
        )

    def _real_folder(self, entry: "os.DirEntry[str]") -> Path | None:
        """Returns the folder that an entry is or links to; None if it is not a folder within the roots."""
        try:
            if not entry.is_dir():
                return None
        except OSError:  # a link to itself, or to a place that we may not read
            return None
        real = Path(os.path.realpath(entry.path)) if entry.is_symlink() else Path(entry.path)
        return real if self.holds(real) else None


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Yields the entries that are not hidden. Raises BadSource."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise BadSource(f"{printable(folder.name)} cannot be read: {error.strerror}") from error


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
