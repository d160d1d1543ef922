"""Serves page images, thumbnails and original files, each looked up in the store, never by a path of the client's.

A document's id is a digest of its bytes, so the image at an address does not change, and browsers cache it. The address
carries `?v=` with the time of ingest, for the one case in which it does change: a new ingest at another dpi.
"""

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import FileResponse, PlainTextResponse

from ingest.sources import content_id
from retrieval.errors import NotFound
from retrieval.types import Document
from ui.api.addresses import original

if TYPE_CHECKING:
    from ui.service.service import Service

FOREVER = "private, max-age=31536000, immutable"
DOC_ID = re.compile(r"[0-9a-f]{16}")
IMAGE_NAME = re.compile(r"([1-9][0-9]{0,5})(\.thumb)?\.webp")
SHOWN = {".pdf": "application/pdf", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
         ".webp": "image/webp"}  # fmt: skip
"""Types of originals that a browser shows; it downloads all others."""


def verified(document: Document) -> Path | None:
    """Return `original` if it still has the bytes that were ingested: a link may have taken its place."""
    path = original(document)
    if path is None:
        return None
    try:
        status = path.stat()
        seen = path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return path if _content_id(*seen) == document.doc_id else None
    except OSError:  # it was removed just now, or this process may not read it
        return None


@lru_cache(maxsize=4096)
def _content_id(path: Path, *_: int) -> str:
    return content_id(path)


def routes(service: "Service") -> APIRouter:
    """Return the routes /media/DOC_ID/original, /media/DOC_ID/PAGE.webp and /media/DOC_ID/PAGE.thumb.webp."""
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
        # Browsers show PDFs with their own plug-in, which the policy of the page would block.
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
        parts = IMAGE_NAME.fullmatch(name)
        if not DOC_ID.fullmatch(doc_id) or not parts:
            return _missing("Page images are named media/<document>/<page>.webp or <page>.thumb.webp.")
        number, thumb = int(parts[1]), parts[2]
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
