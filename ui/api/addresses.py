"""Addresses of pages, images and files on the server, and the file that a document was read from.

All addresses are relative to the page's own, so that they hold behind a proxy that adds a prefix.
"""

from pathlib import Path
from urllib.parse import urlencode, urlsplit

from ingest.sources import path_of, state_of
from retrieval.types import Document, Page


def image_url(document: Document, number: int, *, thumb: bool = False) -> str:
    """Return the address of a page's image, or of its thumbnail. The time of ingest in it separates cached versions."""
    kind = ".thumb" if thumb else ""
    return f"media/{document.doc_id}/{number}{kind}.webp?v={document.added_at.timestamp():.0f}"


def page_link(query: str, page: Page) -> str:
    """Return the address of the web page that shows `page` with what matches `query`."""
    question = {"q": query} if query else {}
    return "?" + urlencode({**question, "doc": page.doc_id, "p": page.number})


def original_url(document: Document) -> str:
    """Return the address of the file that was ingested; "" if the file no longer exists."""
    return f"media/{document.doc_id}/original" if original(document) else ""


def original(document: Document) -> Path | None:
    """Return the path of the file that was ingested; None if it does not exist or its folder may not be entered."""
    path = path_of(document.uri)
    return path if urlsplit(document.uri).scheme == "file" and state_of(path) == "file" else None
