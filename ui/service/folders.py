"""Folders of the server that a browser may ingest from: the roots given on the command line, and what is below them.

A browser names a folder by an id that it was given before: no path of its own ever comes near the file system. Links
that lead out of the roots are left out, and so are hidden files and folders.
"""

import os
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from ingest.read.titles import clean
from ingest.sources import SUFFIXES, discover
from retrieval.errors import BadSource, NotFound

SHOWN = 2_000
"""Folders of one listing."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What is directly inside one folder; of the roots themselves, where `id` is empty."""

    id: str
    name: str  # as shown: archive/2023
    parent: str  # id of the folder that it is in
    folders: tuple[tuple[str, str, int], ...]  # (id, name, documents directly inside), by name
    documents: int  # files that can be read
    note: str = ""  # what is left out, in words


class Folders:
    """Raises BadSource for a root that is no folder. Ids hold as long as this does."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots: dict[Path, str] = {}  # resolved, with the names that they are shown by
        for root in roots:
            try:
                self._roots[root.expanduser().resolve(strict=True)] = ""
            except OSError as error:
                raise BadSource(
                    f"{root}: no such folder ({error.strerror}): name one to ingest from"
                ) from error
            if not root.expanduser().is_dir():
                raise BadSource(f"{root} is a file, not a folder: name its folder")
        names = Counter(root.name for root in self._roots)
        for root in self._roots:
            alone = root.name and names[root.name] == 1
            self._roots[root] = clean(root.name if alone else str(root))
        self._key = secrets.token_bytes(32)
        self._known: dict[str, Path] = {}  # by id: those handed out

    @property
    def any(self) -> bool:
        return bool(self._roots)

    def listing(self, folder_id: str = "") -> Listing:
        """Of the folder with this id; of the roots without. Raises NotFound, BadSource where it cannot be read."""
        if not folder_id:
            listed = [
                (self._id(root), name, len(self._documents(root))) for root, name in self._roots.items()
            ]
            return Listing("", "", "", tuple(listed), 0)
        folder = self._folder(folder_id)
        found = {entry.name: real for entry in _entries(folder) if (real := self._real_folder(entry))}
        folders = sorted(found, key=lambda name: (name.casefold(), name))
        note = ""
        if len(folders) > SHOWN:
            note = (
                f"The first {SHOWN:,} of {len(folders):,} folders are shown; reading this one reads them all."
            )
        return Listing(
            folder_id,
            self._name(folder),
            "" if folder in self._roots else self._id(folder.parent),
            tuple(
                (self._id(found[name]), clean(name), len(self._documents(found[name])))
                for name in folders[:SHOWN]
            ),
            len(self._documents(folder)),
            note,
        )

    def files(self, folder_id: str, deep: bool = True) -> Iterator[Path]:
        """Files that can be read, in the folder with this id; if `deep`, in all below it too.

        Raises NotFound for an id that is unknown, BadSource where there is nothing to read.
        """
        folder = self._folder(folder_id)
        return self._below(folder) if deep else iter(sorted(self._documents(folder)))

    def holds(self, path: Path) -> bool:
        """Whether `path`, its links resolved, is in one of the roots."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)

    def has_escaped(self, path: Path) -> bool:
        """Whether `path` lies below one of the roots by its name, and outside of all of them by its links."""
        return any(path.is_relative_to(root) for root in self._roots) and not self.holds(path)

    def _below(self, folder: Path) -> Iterator[Path]:
        try:
            for source in discover([folder]):
                if self.holds(source.path) and os.path.isfile(source.path):  # noqa: PTH113 (False where we may not look)
                    yield source.path
        except BadSource as error:
            raise BadSource(
                f"{self._name(folder)}: no document in this folder, or it cannot be read"
            ) from error

    def _folder(self, folder_id: str) -> Path:
        folder = self._known.get(folder_id)
        if folder is None or not os.path.isdir(folder) or not self.holds(folder):  # noqa: PTH112 (as above)
            raise NotFound("this folder is not known here, or has gone: open the list of folders again")
        return folder

    def _id(self, folder: Path) -> str:
        made = blake2b(os.fsencode(folder), key=self._key, digest_size=16).hexdigest()
        self._known[made] = folder
        return made

    def _documents(self, folder: Path) -> list[Path]:
        """Files directly inside that can be read; none where the folder itself cannot."""
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
        return "/".join([self._roots[root].rstrip("/"), *map(clean, folder.relative_to(root).parts)]) or "/"

    def _real_folder(self, entry: "os.DirEntry[str]") -> Path | None:
        """The folder that an entry is or links to, if that is one within the roots."""
        try:
            if not entry.is_dir():
                return None
        except OSError:  # a link to itself, or to where we may not look
            return None
        real = Path(os.path.realpath(entry.path)) if entry.is_symlink() else Path(entry.path)
        return real if self.holds(real) else None


def _entries(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Those that are not hidden. Raises BadSource."""
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise BadSource(f"{clean(folder.name)} cannot be read: {error.strerror}") from error


def _is_file(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
