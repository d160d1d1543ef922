"""Files dropped on the page: `PUT /upload/{name}`, one file a request, streamed into the uploads folder.

Pages of other sites cannot add documents: `ui.headers.SameOrigin` refuses their requests.
"""

import asyncio
import hashlib
import re
import threading
import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ui.jobs import Jobs

LONGEST_NAME = 120  # characters
PART = ".upload-"  # what the names of files that are still arriving begin with
STALE = 3600  # seconds without a byte, after which a part has been left behind by a server that was ended
_placing = threading.Lock()  # between the choice of a free name and its use


def routes(jobs: Jobs, max_file_mb: int) -> APIRouter:
    router = APIRouter()

    @router.put("/upload/{name:path}", include_in_schema=False)
    async def upload(name: str, request: Request) -> JSONResponse:
        limit = max_file_mb * 2**20
        too_large = f"The file has more than {max_file_mb:,} MiB, the limit (ingest.max_file_mb)."
        if int(request.headers.get("content-length", 0)) > limit:
            return JSONResponse({"message": too_large}, 413)
        path = await keep(request.stream(), jobs.folder, file_name(name), limit)
        if path is None:
            return JSONResponse({"message": too_large}, 413)
        jobs.add([path])
        return JSONResponse({"name": path.name}, 201)

    return router


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


def _place(part: Path, folder: Path, name: str, digest: bytes) -> Path:
    with _placing:
        return part.replace(_free(folder, name, digest))


def _free(folder: Path, name: str, digest: bytes) -> Path:
    path, count = folder / name, 1
    while path.exists() and _digest(path) != digest:
        count += 1
        path = folder / f"{Path(name).stem} ({count}){Path(name).suffix}"
    return path


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
