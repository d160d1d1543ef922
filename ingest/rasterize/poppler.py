"""Opens PDFs with poppler's programs through pdf2image: the second renderer, in processes of its own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from PIL import Image

from ingest.rasterize.mupdf import encrypted, zoom_for
from retrieval.errors import MissingExtra, UnreadableDocument

try:
    import pdf2image
    from pdf2image import exceptions
except ImportError as error:
    raise MissingExtra("pdf2image is not installed: pip install pdf2image") from error

MISSING = (
    "poppler's programs (pdfinfo, pdftoppm) are not on the path: apt install poppler-utils (Debian, Ubuntu) "
    "or brew install poppler (macOS)"
)
WRONG_PASSWORD = "Command Line Error: Incorrect password"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class PopplerDocument:
    """A PDF read by poppler's programs. `seconds` limits each call of a program.

    Raises MissingExtra if poppler is not installed, and UnreadableDocument: encrypted, damaged, too slow.
    """

    renderer: Literal["poppler"] = "poppler"

    def __init__(self, path: Path, password: str = "", seconds: float = 60.0) -> None:
        self._path, self._password, self._seconds = path, password, seconds
        self._info = self._pdfinfo(None)
        self._sizes: dict[int, tuple[float, float]] = {}

    @property
    def pages(self) -> int:
        return int(self._info.get("Pages", "0"))

    @property
    def meta(self) -> Mapping[str, str]:
        meta = {
            key.lower(): value[:500]
            for key in ("Title", "Author", "Subject", "Keywords", "Producer")
            if (value := " ".join(self._info.get(key, "").split()))
        }
        if created := _date(self._info.get("CreationDate", "")):
            meta["created"] = created
        return meta

    def size(self, number: int) -> tuple[float, float]:
        if number not in self._sizes:
            info = self._pdfinfo(number)
            fields = info.get(f"Page {number:4d} size", "").split()  # "595.32 x 841.92 pts (A4)"
            width, height = (float(fields[0]), float(fields[2])) if len(fields) > 2 else (612.0, 792.0)
            if info.get(f"Page {number:4d} rot", "0").strip() in {"90", "270"}:
                width, height = height, width
            self._sizes[number] = (width, height)
        return self._sizes[number]

    def render(self, number: int, dpi: int, max_pixels: int) -> Image.Image:
        width, height = self.size(number)
        zoom = zoom_for(width, height, dpi, max_pixels)
        try:
            images = pdf2image.convert_from_path(
                self._path,
                first_page=number,
                last_page=number,
                dpi=zoom * 72,
                userpw=self._password or None,
                timeout=max(1, round(self._seconds)),
                use_cropbox=True,
            )
        except exceptions.PDFPopplerTimeoutError as error:
            raise self._too_slow() from error
        except (exceptions.PDFPageCountError, exceptions.PDFSyntaxError, OSError, ValueError) as error:
            raise self._damaged(f"page {number} cannot be rendered") from error
        if not images:
            raise self._damaged(f"page {number} cannot be rendered")
        image: Image.Image = images[0].convert("RGB")
        return image

    def close(self) -> None:
        """Does nothing: no file stays open between calls."""

    def _pdfinfo(self, number: int | None) -> dict[str, str]:
        try:
            raw = pdf2image.pdfinfo_from_path(
                self._path,
                userpw=self._password or None,
                timeout=max(1, round(self._seconds)),
                first_page=number,
                last_page=number,
            )
        except exceptions.PDFInfoNotInstalledError as error:
            raise MissingExtra(MISSING) from error
        except exceptions.PDFPopplerTimeoutError as error:
            raise self._too_slow() from error
        except (exceptions.PDFPageCountError, OSError, ValueError) as error:
            if (
                WRONG_PASSWORD in str(error).splitlines()
            ):  # a whole line, because other lines may name the file
                raise UnreadableDocument("encrypted", encrypted(self._path, self._password)) from error
            raise self._damaged("no page could be recovered from it") from error
        return {str(key): str(value) for key, value in raw.items()}

    def _damaged(self, damage: str) -> UnreadableDocument:
        return UnreadableDocument("damaged", f"{self._path.name} is damaged: {damage}")

    def _too_slow(self) -> UnreadableDocument:
        return UnreadableDocument(
            "too slow", f"{self._path.name}: poppler took longer than {self._seconds:g} s"
        )


def _date(value: str) -> str:
    """Return pdfinfo's date, such as `Fri Feb 12 08:55:00 2016 UTC`, as 2016-02-12; "" for anything else."""
    fields = value.split()
    if len(fields) < 5 or fields[1] not in MONTHS or not fields[4].isdigit() or not fields[2].isdigit():
        return ""
    return f"{fields[4]}-{MONTHS.index(fields[1]) + 1:02d}-{int(fields[2]):02d}"
