"""Files dropped on the page: one file a request, streamed into the uploads folder.

Pages of other sites cannot add documents: `ui.headers.SameOrigin` refuses their requests.
"""

import asyncio
import hashlib
import os
import re
import shutil
import threading
import time
import unicodedata
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from fastapi import Request

LONGEST_NAME = 120  # characters
PART = ".upload-"  # what the names of files that are still arriving begin with
SPARE = 512 * 2**20  # bytes that uploads leave free on the disk: the index must grow, too
STALE = 3600  # seconds without a byte, after which a part has been left behind by a server that was ended
_placing = threading.Lock()  # between the choice of a free name and its use


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an upload was not taken: an HTTP status, and words."""

    status: int
    message: str


async def receive(request: Request, folder: Path, name: str, limit: int, most_gb: float) -> Path | Refused:
    """Keep the request's body under a cleaned `name` in `folder`.

    limit: bytes of one file. most_gb: GiB of all uploads together; 0 for no limit but the disk's.
    """
    too_large = f"The file has more than {limit / 2**20:,.0f} MiB, the limit (ingest.max_file_mb)."
    announced = request.headers.get("content-length", "0")
    size = int(announced) if announced.isdecimal() else 0
    if size > limit:
        return Refused(413, too_large)
    room, full = shutil.disk_usage(folder).free - SPARE, "The server's disk is nearly full"
    if most_gb and (left := int(most_gb * 2**30) - _bytes_in(folder)) < room:
        room, full = left, f"The uploads may hold {most_gb:g} GiB (serve.max_library_gb)"
    no_room = Refused(
        507, f"{full}, and there is room for {max(0, room) / 2**20:,.0f} MiB more: remove some first."
    )
    if size > room:
        return no_room
    path = await keep(
        request.stream(), folder, file_name(name), min(limit, room)
    )  # a body may be longer than it says
    return path or (no_room if room < limit else Refused(413, too_large))


async def keep(chunks: AsyncIterator[bytes], folder: Path, name: str, limit: int) -> Path | None:
    """Store the bytes under `name` in `folder`; None, and no file, if there are more than `limit`.

    Another file of that name is left as it is: this one becomes `name (2).pdf`. The same bytes under the
    same name are stored once.
    """
    digest, size = hashlib.sha256(), 0
    with NamedTemporaryFile(dir=folder, prefix=PART, delete=False) as file:
        part = Path(file.name)
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > limit:
                    break
                digest.update(chunk)
                file.write(chunk)
        except BaseException:  # the browser went away
            part.unlink()
            raise
    if size > limit:
        part.unlink()
        return None
    return await asyncio.to_thread(_place, part, folder, name, digest.digest())  # it may read 2 GB to compare


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


def _bytes_in(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in os.scandir(folder) if entry.is_file())


def _place(part: Path, folder: Path, name: str, digest: bytes) -> Path:
    with _placing:
        return part.replace(_free(part, folder, name, digest))


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
