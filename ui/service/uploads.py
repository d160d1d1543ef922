"""Files dropped on the page: one file a request, streamed into the uploads folder.

Pages of other sites cannot add documents: `ui.web.security.SameOrigin` refuses their requests.
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
PART = ".upload-"  # what the names of files that are still arriving begin with
SPARE = 512 * 2**20  # bytes that uploads leave free on the disk: the index must grow, too
STALE = 3600  # seconds without a byte, after which a part has been left behind by a server that was ended
WRITTEN_AT_ONCE = 2**20  # bytes that are collected before a thread writes them
RESERVED_AT_ONCE = 16 * 2**20  # bytes by which the reservation of an upload of unknown length grows
PROGRESS = 16 * 2**10  # bytes that count as progress: one byte a minute does not
RETRY_S = 5  # seconds after which one who is turned away should come again
T = TypeVar("T")
_placing = threading.Lock()  # between the choice of a free name and its use


class Refused(Exception):
    """Why an upload was not taken: an HTTP status, and a message for whoever sent it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Uploads:
    """Receives files, several at once; what they may hold together is reserved before it is written.

    most_file: bytes of one file. most_gb: GiB of all uploads together, 0 for no limit but the disk's. at_once: uploads
    that may arrive at the same time. idle_s: seconds in which an upload must have made progress.
    """

    def __init__(self, *, most_file: int, most_gb: float, at_once: int, idle_s: float) -> None:
        self._most_file = most_file
        self._most_gb = most_gb
        self._at_once = at_once
        self._idle_s = idle_s
        self._arriving = 0  # touched by the event loop only
        self._reserved: dict[
            str, tuple[int, int]
        ] = {}  # by the part's name: bytes reserved, bytes written of them
        self._lock = threading.Lock()  # of what is reserved, and of the moment when a part becomes a file
        self._pool = ThreadPoolExecutor(min(8, at_once), thread_name_prefix="upload")

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def receive(self, request: Request, folder: Path, name: str) -> Path:
        """Keep the request's body in `folder`, under a cleaned `name`, and return its path.

        Another file of that name is left as it is: this one becomes `name (2).pdf`. The same bytes under the same name
        are stored once. The file is on the disk, synced, when this returns. Raises Refused: 408 without progress, 413
        for a file past the limit, 429 when too many arrive already, 507 when there is no room.
        """
        if self._arriving >= self._at_once:
            raise Refused(
                429,
                f"{self._arriving} uploads are arriving, as many as the server takes at once: try again in a moment.",
            )
        self._arriving += 1
        try:
            return await self._received(request, folder, file_name(name))
        finally:
            self._arriving -= 1

    async def _received(self, request: Request, folder: Path, name: str) -> Path:
        announced = request.headers.get("content-length", "")
        size = int(announced) if announced.isdecimal() else 0
        self._check_size(size)
        file = await self._aside(lambda: self._begun(folder, size))
        digest, length, held = hashlib.sha256(), 0, bytearray()

        def write(data: bytes) -> None:
            self._cover(file, folder, file.tell() + len(data))
            digest.update(data)
            file.write(data)

        try:
            async for chunk in _in_time(request.stream(), self._idle_s):
                length += len(chunk)
                self._check_size(length)
                held += chunk
                if len(held) >= WRITTEN_AT_ONCE:
                    data, held = bytes(held), bytearray()
                    await self._aside(partial(write, data))
            await self._aside(partial(write, bytes(held)))
            return await self._aside(lambda: self._placed(file, folder, name, digest.digest()))
        except BaseException:  # also when the browser has gone
            await self._aside(lambda: self._abandon(file))
            raise

    def _check_size(self, size: int) -> None:
        if size > self._most_file:
            raise Refused(
                413, f"The file has more than {self._most_file / 2**20:,.0f} MiB, the limit of one file."
            )

    async def _aside(self, work: Callable[[], T]) -> T:
        """Run work with the disk in a thread. It is waited for, even if whoever sent the upload has gone."""
        working = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])
            raise

    def _begun(self, folder: Path, size: int) -> IO[bytes]:
        """An empty part with `size` bytes reserved. Raises Refused when there is no room for them."""
        file = NamedTemporaryFile(dir=folder, prefix=PART, delete=False)  # noqa: SIM115 (closed by _placed, _abandon)
        try:
            self._reserve(file, folder, size)
        except BaseException:
            self._abandon(file)
            raise
        return file

    def _cover(self, file: IO[bytes], folder: Path, size: int) -> None:
        """Grow the reservation if the file is about to be longer than what was announced. Raises Refused."""
        name = Path(file.name).name
        reserved, _ = self._reserved[name]
        if size > reserved:
            self._reserve(file, folder, size, RESERVED_AT_ONCE)
        else:
            self._reserved[name] = reserved, size

    def _reserve(self, file: IO[bytes], folder: Path, size: int, spare: int = 0) -> None:
        """Reserve `size` bytes for the file in all, and up to `spare` more. Raises Refused when there is no room."""
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
                        f"The uploads may hold {self._most_gb:g} GiB together (serve.max_library_gb)",
                    )
            if size > room:
                raise Refused(
                    507,
                    f"{full}, and there is room for {max(0, room) / 2**20:,.0f} MiB more: remove some first.",
                )
            self._reserved[name] = min(size + spare, max(size, room)), written

    def _placed(self, file: IO[bytes], folder: Path, name: str, digest: bytes) -> Path:
        file.flush()
        os.fsync(file.fileno())
        file.close()
        part = Path(file.name)
        with _placing:  # comparing with a file of that name may read 2 GB
            path = _free(part, folder, name, digest)
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
    """The chunks. Raises Refused when PROGRESS bytes, or the end, do not come within `idle_s` seconds of waiting."""
    left, got = idle_s, 0
    while True:
        began = time.monotonic()
        try:
            chunk = await asyncio.wait_for(anext(chunks), left)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(
                408,
                f"The upload made no progress for {idle_s:g} seconds and was given up: send the file again.",
            ) from None
        left, got = left - (time.monotonic() - began), got + len(chunk)
        if got >= PROGRESS:
            left, got = idle_s, 0
        yield chunk


def sweep(folder: Path) -> None:
    """Delete what uploads that never ended have left."""
    for part in folder.glob(f"{PART}*"):
        if time.time() - part.stat().st_mtime > STALE:
            part.unlink()


def file_name(given: str) -> str:
    """A name that is safe on every system and still the one that the user knows: its last part, cleaned."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", given)[-1])
    name = "".join("_" if c in '<>:"|?*' or unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") else c
                   for c in name)  # fmt: skip
    name = name.strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot or len(suffix) > 8:
        stem, suffix = name, ""
    while len((stem + dot + suffix).encode()) > LONGEST_NAME * 2 or len(stem) > LONGEST_NAME:
        stem = stem[:-1]
    return (stem or "document") + (f".{suffix}" if suffix else "")


def _bytes_in(folder: Path, without: set[str]) -> int:
    """Bytes of the files in the folder, but for those of these names. Files may go while they are counted."""
    size = 0
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            if entry.name not in without and entry.is_file():
                size += entry.stat().st_size
    return size


def _sync_folder(folder: Path) -> None:
    """Make the names in the folder outlast a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _free(part: Path, folder: Path, name: str, digest: bytes) -> Path:
    path, count = folder / name, 1
    size = part.stat().st_size
    while path.exists() and (path.stat().st_size != size or _digest(path) != digest):
        count += 1
        path = folder / f"{Path(name).stem} ({count}){Path(name).suffix}"
    return path


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
