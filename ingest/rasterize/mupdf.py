"""Opens PDFs with PyMuPDF: the faster renderer, and the only one whose text layer is read."""

import errno
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from retrieval.errors import MissingExtra, UnreadableDocument

try:
    import pymupdf
except ImportError as error:
    raise MissingExtra("PyMuPDF is not installed: pip install pymupdf") from error

pymupdf.TOOLS.mupdf_display_errors(False)  # they would appear on stderr for each repaired file
pymupdf.TOOLS.mupdf_display_warnings(False)


MUPDF_NO_MEMORY = re.compile(r"code=2: (m|c|re)alloc \([\d x]+ bytes\) failed")
"""MuPDF's whole message. Its code alone does not suffice: it also stands for files that cannot be read. PyMuPDF's
compiled part raises the message as RuntimeError."""
CV2_NO_MEMORY = -4
"""`cv2.Error.StsNoMem`, written out because importing OpenCV takes a second."""


class MissingContent(UnreadableDocument):
    """A page of a truncated file lacks a part of its content, so no renderer can show all of it."""


class MupdfDocument:
    """A PDF opened by PyMuPDF. Raises UnreadableDocument: encrypted or damaged."""

    renderer: Literal["pymupdf"] = "pymupdf"

    def __init__(self, path: Path, password: str = "") -> None:
        self._path = path
        try:
            self._document: Any = pymupdf.open(str(path), filetype="pdf")
        except Exception as error:
            if out_of_memory(error):
                raise
            raise UnreadableDocument(
                "damaged", f"{path.name} is damaged: no page could be recovered from it ({_plain(error)})"
            ) from error
        if self._document.needs_pass and not self._document.authenticate(password):
            self._document.close()
            raise UnreadableDocument("encrypted", encrypted(path, password))
        try:
            self._pages = int(self._document.page_count)
        except Exception as error:
            raise UnreadableDocument(
                "damaged", f"{path.name}: its pages cannot be counted ({_plain(error)})"
            ) from error
        if self._pages == 0 and (self._document.is_repaired or not _has_page_tree(self._document)):
            raise UnreadableDocument("damaged", f"{path.name} is damaged: no page could be recovered from it")

    @property
    def pages(self) -> int:
        return self._pages

    @property
    def meta(self) -> Mapping[str, str]:
        raw: Mapping[str, str | None] = self._document.metadata or {}
        meta = {
            key: " ".join(value.split())[:500]
            for key in ("title", "author", "subject", "keywords", "producer")
            if (value := (raw.get(key) or "").replace("\x00", ""))
        }
        if created := pdf_date(raw.get("creationDate") or ""):
            meta["created"] = created
        return {key: value for key, value in meta.items() if value}

    def page(self, number: int) -> Any:
        """Return PyMuPDF's own page, for its text layer. Raises UnreadableDocument if its content is incomplete."""
        try:
            page = self._document[number - 1]
            # A truncated file is repaired with holes in it; half a page must not pass for a whole one.
            is_whole = not self._document.is_repaired or all(map(self._has_stream, page.get_contents()))
        except Exception as error:
            raise _page_error(self._path, number, error) from error
        if not is_whole:
            raise MissingContent("damaged", f"{self._path.name}, page {number}: its content is missing")
        return page

    def _has_stream(self, xref: int) -> bool:
        return xref < self._document.xref_length() and bool(self._document.xref_is_stream(xref))

    def size(self, number: int) -> tuple[float, float]:
        rect = self.page(number).rect
        return float(rect.width), float(rect.height)

    def render(self, number: int, dpi: int, max_pixels: int) -> Image.Image:
        page = self.page(number)
        zoom = zoom_for(page.rect.width, page.rect.height, dpi, max_pixels)
        try:
            pixmap = page.get_pixmap(matrix=pymupdf.Matrix(zoom, zoom), colorspace=pymupdf.csRGB, alpha=False)
        except Exception as error:
            raise _page_error(self._path, number, error) from error
        return Image.frombytes("RGB", (pixmap.width, pixmap.height), pixmap.samples)

    def close(self) -> None:
        self._document.close()
        pymupdf.TOOLS.store_shrink(100)  # MuPDF keeps its cache of fonts and images across documents


def encrypted(path: Path, password: str) -> str:
    """Return the message for an encrypted file that `password` ("" for none) does not open."""
    if password:
        return f"{path.name} is encrypted, and this password does not open it"
    return f"{path.name} is encrypted: give its password"


def zoom_for(width: float, height: float, dpi: int, max_pixels: int) -> float:
    """Return the pixels per point that give `dpi`, or fewer if the page would have more than `max_pixels`.

    `width` and `height` are in points.
    """
    zoom = dpi / 72
    points = max(width, 1.0) * max(height, 1.0)
    return min(zoom, math.sqrt(max_pixels / points) * 0.999)


def pdf_date(value: str) -> str:
    """Return the date of a PDF, such as `D:20231231235959Z`, as 2023-12-31; "" for a date that no document can have."""
    match = re.match(r"(?:D:)?((?:19|20)\d\d)(\d\d)(\d\d)", value)
    if not match or not (1 <= int(match[2]) <= 12 and 1 <= int(match[3]) <= 31):
        return ""
    return f"{match[1]}-{match[2]}-{match[3]}"


def _has_page_tree(document: Any) -> bool:
    try:
        kind, _ = document.xref_get_key(document.pdf_catalog(), "Pages")
    except Exception:  # whatever the error is, there is no page tree to read
        return False
    return bool(kind != "null")


def _page_error(path: Path, number: int, error: Exception) -> UnreadableDocument:
    if out_of_memory(error):
        return UnreadableDocument(
            "too much memory", f"{path.name}, page {number}: more memory than memory_mb allows"
        )
    return UnreadableDocument("damaged", f"{path.name}, page {number} cannot be rendered ({_plain(error)})")


def out_of_memory(error: BaseException | None) -> bool:
    """Return whether this error, or an error that caused it, means that memory ran out.

    The error's class and code decide. The text is compared only for a library that has no code for it, and only if
    the text is the library's own: the message of an OSError contains the name of the user's file.
    """
    while error is not None:
        if _is_out_of_memory(error):
            return True
        error = error.__cause__
    return False


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, pymupdf.mupdf.FzErrorSystem | RuntimeError) and MUPDF_NO_MEMORY.fullmatch(
        str(error)
    ):
        return True
    match type(error).__module__.partition(".")[0]:
        case "cv2":
            return getattr(error, "code", 0) == CV2_NO_MEMORY
        case "onnxruntime":  # its messages name operators and sizes, never files
            return "allocate memory" in str(error) or "bad allocation" in str(error)
    return False


def _plain(error: Exception) -> str:
    """Return MuPDF's message without its code and without the folders of this machine."""
    text = re.sub(r"^code=\d+: ", "", str(error)).splitlines()
    return re.sub(r"'[^']*/([^'/]*)'", r"'\1'", text[0])[:200] if text else type(error).__name__
