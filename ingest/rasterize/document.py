"""Opens a document for rasterizing: PDFs with PyMuPDF or poppler, images with Pillow, all behind one small protocol.

`open_document` decides by the file's content, never by its suffix, and explains why a file cannot be read.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from PIL import Image

from ingest.read.titles import title_of
from retrieval.errors import MissingExtra, UnreadableDocument

Renderer = Literal["pymupdf", "poppler", "pillow"]

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive, or an Office document"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"),
    (b"%!PS", "PostScript"),
    (b"{\\rtf", "rich text"),
    (b"GIF8", "a GIF image"),
)
"""First bytes of the formats that are rejected by name."""
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+", b"BM")
"""First bytes of PNG, JPEG, TIFF (also BigTIFF) and BMP. WebP is a RIFF file and recognised separately."""


class Rasterizer(Protocol):
    """An open document. Pages are numbered from 1; a size is (width, height) in points (1/72 inch), as displayed."""

    @property
    def renderer(self) -> Renderer: ...
    @property
    def pages(self) -> int: ...
    @property
    def meta(self) -> Mapping[str, str]:
        """The file's own metadata: title, author, created (ISO date) and others; no value is empty."""
        ...

    def size(self, number: int) -> tuple[float, float]: ...

    def render(self, number: int, dpi: int, max_pixels: int) -> Image.Image:
        """Return the page as displayed, RGB, at `dpi`, or at a lower resolution that keeps it within `max_pixels`.

        Raises UnreadableDocument if the page cannot be rendered.
        """
        ...

    def close(self) -> None: ...


def open_document(
    path: Path,
    *,
    first: Literal["pymupdf", "poppler"] = "pymupdf",
    password: str = "",
    max_pages: int = 20_000,
    max_pixels: int = 50_000_000,
    max_file_mb: int = 2_000,
    seconds: float = 60.0,
) -> Rasterizer:
    """Open the document with the renderer `first`, else with the other one; `.renderer` says which one opened it.

    `seconds` limits each call of poppler's programs. Raises UnreadableDocument, with its reason, if no renderer opens
    the file or it exceeds a limit, and MissingExtra if the renderer `first` is not installed.
    """
    head = _head(path, max_file_mb)
    if b"%PDF-" not in head:
        document = _open_image(path, head, max_pixels)
    else:
        document = _open_pdf(path, first, password, seconds)
    if document.pages == 0:
        document.close()
        raise UnreadableDocument("no pages", f"{path.name} has no pages")
    if document.pages > max_pages:
        document.close()
        raise UnreadableDocument(
            "too many pages",
            f"{path.name} has {document.pages:,} pages, more than max_pages ({max_pages:,}): "
            "split it, or raise max_pages",
        )
    return document


def open_with_other_renderer(
    document: Rasterizer, path: Path, password: str = "", seconds: float = 60.0
) -> Rasterizer | None:
    """Open the same PDF with the other renderer; returns None if that renderer cannot open it, or for an image."""
    match document.renderer:
        case "pymupdf":
            kind: Literal["pymupdf", "poppler"] = "poppler"
        case "poppler":
            kind = "pymupdf"
        case "pillow":
            return None
    try:
        return _open_with(kind, path, password, seconds)
    except (UnreadableDocument, MissingExtra):
        return None


def title_and_date(document: Rasterizer, path: Path) -> tuple[str, str]:
    """Return the title and the ISO date of the document; "" for one that is missing or meaningless."""
    return title_of(document.meta.get("title", ""), path), document.meta.get("created", "")


def _head(path: Path, max_file_mb: int) -> bytes:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise UnreadableDocument("unreadable", f"{path.name} cannot be read: {error.strerror}") from error
    if size == 0:
        raise UnreadableDocument("empty file", f"{path.name} is empty (0 bytes)")
    if size > max_file_mb * 2**20:
        raise UnreadableDocument(
            "too much memory",
            f"{path.name} has {size / 2**20:,.0f} MiB, more than max_file_mb ({max_file_mb:,}): raise max_file_mb",
        )
    return head


def _open_image(path: Path, head: bytes, max_pixels: int) -> Rasterizer:
    from ingest.rasterize.images import ImageDocument

    if head.startswith(IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return ImageDocument(path, max_pixels)
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            raise UnreadableDocument("unsupported", f"{path.name} is {name}: save it as PDF first")
    is_text = not re.search(rb"[\x00-\x08\x0e-\x1f]", head)
    content = "it is text" if is_text else "its first bytes belong to no format that can be ingested"
    raise UnreadableDocument("not a document", f"{path.name} is neither a PDF nor an image: {content}")


def _open_pdf(path: Path, first: Literal["pymupdf", "poppler"], password: str, seconds: float) -> Rasterizer:
    second: Literal["pymupdf", "poppler"] = "poppler" if first == "pymupdf" else "pymupdf"
    try:
        return _open_with(first, path, password, seconds)
    except UnreadableDocument as error:
        if error.reason == "encrypted":
            raise
        failure = error
    try:
        return _open_with(second, path, password, seconds)
    except UnreadableDocument:
        raise failure from None  # the message of the preferred renderer is the better one
    except MissingExtra as extra:
        raise UnreadableDocument(
            failure.reason, f"{failure}; another renderer may read it: {extra}"
        ) from None


def _open_with(kind: Literal["pymupdf", "poppler"], path: Path, password: str, seconds: float) -> Rasterizer:
    match kind:
        case "pymupdf":
            from ingest.rasterize.mupdf import MupdfDocument

            return MupdfDocument(path, password)
        case "poppler":
            from ingest.rasterize.poppler import PopplerDocument

            return PopplerDocument(path, password, seconds)
