"""Uploads: each request streams one file into the uploads folder.

Pages of other sites cannot add documents: `ui.web.security.SameOrigin` rejects their requests.
"""

import asyncio
import hashlib
import os
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, TypeVar

from fastapi import Request

LONGEST_NAME = 120  # characters
PART = ".upload-"  # prefix of the names of files that are still arriving
SPARE = 512 * 2**20  # bytes that uploads leave free on the disk, for the index
STALE = 3600  # seconds without a byte after which a part counts as abandoned by a stopped server
WRITTEN_AT_ONCE = 2**20  # bytes that are collected before a thread writes them
RESERVED_AT_ONCE = 16 * 2**20  # bytes by which the reservation of an upload of unknown length grows
PROGRESS = 16 * 2**10  # bytes that count as progress: one byte per minute does not
RETRY_S = 5  # seconds after which a rejected client should try again
T = TypeVar("T")
_placing = threading.Lock()  # held from the choice of a free name until its use


class UploadRejected(Exception):
    """An upload was rejected. `status` is an HTTP status; the message is for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Uploads:
    """Receives several files at once, and reserves their space before it writes them.

    most_file: bytes of one file. most_gb: GiB of all uploads together, 0 for no limit other than the disk. at_once:
    uploads that may arrive at the same time. idle_s: seconds within which an upload must make progress.
    """

    def __init__(self, *, most_file: int, most_gb: float, at_once: int, idle_s: float) -> None:
        self._most_file = most_file
        self._most_gb = most_gb
        self._at_once = at_once
        self._idle_s = idle_s
        self._arriving = 0  # used by the event loop only
        self._reserved: dict[str, tuple[int, int]] = {}  # by name of the part: bytes reserved, bytes written
        self._lock = threading.Lock()  # guards the reservations, and the moment when a part becomes a file
        self._pool = ThreadPoolExecutor(min(8, at_once), thread_name_prefix="upload")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def receive(self, request: Request, folder: Path, name: str) -> Path:
        """Store the request's body in `folder`, under a cleaned `name`, and return its path.

        If another file has that name, this one becomes `name (2).pdf`; the same bytes under the same name are stored
        once. When this returns, the file has been synced to the disk. Raises UploadRejected: 408 without progress, 413
        for a file above the limit, 429 when too many files are arriving, 507 when there is no room.
        """
        if self._arriving >= self._at_once:
            raise UploadRejected(
                429,
                f"{self._arriving} uploads are arriving, the most that the server accepts at once: "
                "try again in a moment.",
            )
        self._arriving += 1
        try:
            return await self._store(request, folder, file_name(name))
        finally:
            self._arriving -= 1

    async def _store(self, request: Request, folder: Path, name: str) -> Path:
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 0
        self._check_size(size)
        parts: list[IO[bytes]] = []  # one as soon as it exists, so that it is abandoned whatever happens
        digest, length, pending = hashlib.sha256(), 0, bytearray()

        def write(data: bytes) -> None:
            (file,) = parts
            self._extend_reservation(file, folder, file.tell() + len(data))
            digest.update(data)
            file.write(data)

        try:
            await self._in_thread(lambda: parts.append(self._create_part(folder, size)))
            async for chunk in _in_time(request.stream(), self._idle_s):
                length += len(chunk)
                self._check_size(length)
                pending += chunk
                if len(pending) >= WRITTEN_AT_ONCE:
                    data, pending = bytes(pending), bytearray()
                    await self._in_thread(partial(write, data))
            await self._in_thread(partial(write, bytes(pending)))
            return await self._in_thread(
                lambda: self._move_into_place(parts[0], folder, name, digest.digest())
            )
        except BaseException:  # also when the client has disconnected
            for file in parts:
                await self._in_thread(partial(self._abandon, file))
            raise

    def _check_size(self, size: int) -> None:
        if size > self._most_file:
            raise UploadRejected(
                413, f"The file has more than {self._most_file / 2**20:,.0f} MiB, the limit for one file."
            )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run work on the disk in a thread, and wait for it even if the client has disconnected."""
        working = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            raise

    def _create_part(self, folder: Path, size: int) -> IO[bytes]:
        """Returns an empty part with `size` bytes reserved. Raises UploadRejected if there is no room for them."""
        file = NamedTemporaryFile(dir=folder, prefix=PART, delete=False)  # noqa: SIM115 (closed by _move_into_place, _abandon)
        try:
            self._reserve(file, folder, size)
        except BaseException:
            self._abandon(file)
            raise
        return file

    def _extend_reservation(self, file: IO[bytes], folder: Path, size: int) -> None:
        """Grow the reservation if the file is about to become longer than announced. Raises UploadRejected."""
        name = Path(file.name).name
        reserved, _ = self._reserved[name]
        if size > reserved:
            self._reserve(file, folder, size, RESERVED_AT_ONCE)
        else:
            self._reserved[name] = reserved, size

    def _reserve(self, file: IO[bytes], folder: Path, size: int, spare: int = 0) -> None:
        """Reserve `size` bytes in total for the file, and up to `spare` more. Raises UploadRejected without room."""
        name, written = Path(file.name).name, file.tell()
        with self._lock:
            others = [each for other, each in self._reserved.items() if other != name]
            free = shutil.disk_usage(folder).free + written
            room, full = free - SPARE - sum(r - w for r, w in others), "The server's disk is nearly full"
            if self._most_gb:
                placed = _bytes_in(folder, without={name, *self._reserved})
                left = int(self._most_gb * 2**30) - placed - sum(r for r, _ in others)
                if left < room:
                    room, full = (
                        left,
                        f"All uploads together may have {self._most_gb:g} GiB",
                    )
            if size > room:
                raise UploadRejected(
                    507,
                    f"{full}, and there is room for {max(0, room) / 2**20:,.0f} MiB more: remove documents first.",
                )
            self._reserved[name] = min(size + spare, max(size, room)), written

    def _move_into_place(self, file: IO[bytes], folder: Path, name: str, digest: bytes) -> Path:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        part = Path(file.name)
        with _placing:  # comparing with an existing file of that name may read 2 GB
            path = _free_path(part, folder, name, digest)
            with self._lock:
                part.replace(path)
                del self._reserved[part.name]
        _sync_folder(folder)
        return path

    def _abandon(self, file: IO[bytes]) -> None:
        file.close()
        with self._lock:
            Path(file.name).unlink(missing_ok=True)
            self._reserved.pop(Path(file.name).name, None)


async def _in_time(chunks: AsyncIterator[bytes], idle_s: float) -> AsyncIterator[bytes]:
    """Yields the chunks. Raises UploadRejected unless PROGRESS bytes or the end arrive within `idle_s` seconds."""
    left, received = idle_s, 0
    while True:
        began = time.monotonic()
        try:
            chunk = await asyncio.wait_for(anext(chunks), left)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise UploadRejected(
                408,
                f"The upload made no progress for {idle_s:g} seconds and was stopped: send the file again.",
            ) from None
        left, received = left - (time.monotonic() - began), received + len(chunk)
        if received >= PROGRESS:
            left, received = idle_s, 0
        yield chunk


def sweep(folder: Path) -> None:
    """Delete the parts of uploads that never ended."""
    for part in folder.glob(f"{PART}*"):
        if time.time() - part.stat().st_mtime > STALE:
            part.unlink()


def file_name(path: str) -> str:
    """Returns the last part of `path`, cleaned: safe on every system, and still the name that the user knows."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", path)[-1])
    unprintable = ("Cc", "Cf", "Cs", "Co", "Cn")
    name = "".join("_" if c in '<>:"|?*' or unicodedata.category(c) in unprintable else c for c in name)
    name = name.strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 8:
        stem, suffix = name, ""
    while len((stem + dot + suffix).encode()) > LONGEST_NAME * 2 or len(stem) > LONGEST_NAME:
        stem = stem[:-1]
    return (stem or "document") + (f".{suffix}" if suffix else "")


def _bytes_in(folder: Path, without: set[str]) -> int:
    """Returns the bytes of the files in the folder, except those named. Files may disappear while they are counted."""
    size = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            if entry.name not in without and entry.is_file():
                size += entry.stat().st_size
    return size


def _sync_folder(folder: Path) -> None:
    """Sync the folder, so that the names in it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free_path(part: Path, folder: Path, name: str, digest: bytes) -> Path:
    """Returns the first of `name`, `name (2)`, ... that is free or already has the same bytes."""
    path, count = folder / name, 1
    size = part.stat().st_size
    while path.exists() and (path.stat().st_size != size or _digest(path) != digest):
        count += 1
        path = folder / f"{Path(name).stem} ({count}){Path(name).suffix}"
    return path


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
