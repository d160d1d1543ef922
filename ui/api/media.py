"""Page images, thumbnails and original files over HTTP, each looked up in the store, never by a path.

A document's id is a digest of its bytes, so an image never changes under its address: browsers keep it. The
address carries `?v=` with the time of ingest, for the one case where it does (ingested again at another dpi).
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse, PlainTextResponse

from ingest.sources import content_id, path_of, state_of
from retrieval.errors import NotFound
from retrieval.types import Document

if TYPE_CHECKING:
    from ui.service.service import Service

FOREVER = "private, max-age=31536000, immutable"
DOC_ID = re.compile(r"[0-9a-f]{16}")
IMAGE_NAME = re.compile(r"([1-9][0-9]{0,5})(\.thumb)?\.webp")
SHOWN = {".pdf": "application/pdf", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
         ".webp": "image/webp"}  # fmt: skip
"""Originals that a browser shows; all others are downloaded."""


def image_url(document: Document, number: int, *, thumb: bool = False) -> str:
    """Relative to the page's own address, so that it holds behind a proxy's prefix."""
    kind = ".thumb" if thumb else ""
    return f"media/{document.doc_id}/{number}{kind}.webp?v={document.added_at.timestamp():.0f}"


def original_url(document: Document) -> str:
    """The file that was ingested; "" where it is no longer there."""
    path = original(document)
    return f"media/{document.doc_id}/original" if path else ""


def original(document: Document) -> Path | None:
    """The path of the file that was ingested; None if it is not there, or in a folder that may not be entered."""
    path = path_of(document.uri)
    return path if urlsplit(document.uri).scheme == "file" and state_of(path) == "file" else None


def verified(document: Document) -> Path | None:
    """`original`, if it still has the bytes that were ingested: a link may have been put in its place."""
    path = original(document)
    if path is None:
        return None
    try:
        status = path.stat()
        seen = path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return path if _content_id(*seen) == document.doc_id else None
    except OSError:  # it went away just now, or may not be read
        return None


@lru_cache(maxsize=4096)
def _content_id(path: Path, *_: int) -> str:
    return content_id(path)


def routes(service: "Service") -> APIRouter:
    router = APIRouter()

    @router.api_route("/media/{doc_id}/original", methods=["GET", "HEAD"], include_in_schema=False)
    def file(doc_id: str) -> Response:
        try:
            document = service.library.store.document(doc_id if DOC_ID.fullmatch(doc_id) else "")
        except NotFound:
            return _missing("There is no such document in this library: it may have been removed.")
        path = verified(document)
        if path is None:
            return _missing("The file this document was read from has been moved, changed or deleted.")
        media_type = SHOWN.get(path.suffix.lower())
        # Browsers show PDFs with a plug-in of theirs, which the page's own policy would block.
        headers = {"Cache-Control": "private, no-cache", "Content-Security-Policy": "frame-ancestors 'self'"}
        return FileResponse(
            path,
            media_type=media_type or "application/octet-stream",
            headers=headers,
            filename=Path(document.name).name,
            content_disposition_type="inline" if media_type else "attachment",
        )

    @router.api_route("/media/{doc_id}/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    def image(doc_id: str, name: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
        asked = IMAGE_NAME.fullmatch(name)
        if not DOC_ID.fullmatch(doc_id) or not asked:
            return _missing("Page images are named media/<document>/<page>.webp or <page>.thumb.webp.")
        number, thumb = int(asked[1]), asked[2]
        try:
            store = service.library.store
            read = store.thumbnail if thumb else store.image
            data = read(f"{doc_id}#{number}")
        except NotFound:
            return _missing("There is no such page in this library: its document may have been removed.")
        etag = f'"{hashlib.blake2b(data, digest_size=12).hexdigest()}"'
        headers = {"Cache-Control": FOREVER, "ETag": etag}
        if if_none_match and etag in if_none_match:
            return Response(status_code=304, headers=headers)
        return Response(data, media_type="image/webp", headers=headers)

    return router


def _missing(message: str) -> Response:
    return PlainTextResponse(message, status_code=404, headers={"Cache-Control": "no-store"})
