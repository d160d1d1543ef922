"""Makes documents for the tests: PDFs with PyMuPDF, images with Pillow."""

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image, ImageDraw, ImageFont

from ingest.sources import Source, discover

SENTENCE = (
    "The harbour office counted every ship that came in before noon and wrote the number down in a book "
    "which the keeper of the light signed at the end of each month without reading it"
)
PROSE = SENTENCE.split()


@pytest.fixture
def make_pdf(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes an A4 PDF with one line of text on each page; `save` goes to PyMuPDF."""

    def make(name: str = "made.pdf", pages: int = 1, rotate: int = 0, **save: Any) -> Path:
        document = pymupdf.open()
        for number in range(1, pages + 1):
            page = document.new_page(width=595, height=842)
            page.insert_text((72, 100), f"Page {number} of the harbour report", fontsize=14)
            page.set_rotation(rotate)
        path = tmp_path / name
        document.save(path, **save)
        document.close()
        return path

    return make


def source(path: Path) -> Source:
    """Return the file as the ingest discovers it."""
    return next(discover([path]))


def scan(lines: list[str], size: tuple[int, int] = (1240, 900), font_size: int = 30) -> Image.Image:
    """Return an image of lines of text, black on white. Sizes are in pixels."""
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(font_size)
    for k, line in enumerate(lines):
        draw.text((80, 80 + k * 2 * font_size), line, fill="black", font=font)
    return image


def raw_pdf(content: bytes, filters: str, pages: int = 1) -> bytes:
    """Return a hand-written PDF whose pages share one content stream, which is stored as given."""
    kids = b" ".join(b"%d 0 R" % (4 + k) for k in range(pages))
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 3 0 R /Resources << >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
        b"<< /Length %d /Filter %s >>\nstream\n%s\nendstream" % (len(content), filters.encode(), content),
        *[page] * pages,
    ]
    out = bytearray(b"%PDF-1.5\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        out += b"%010d 00000 n \n" % offset
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def bomb() -> bytes:
    """Return a PDF of some kilobytes whose page expands to 2 GB of drawing operators, deflated three times.

    The inner stream repeats one block that ends in a full flush, so that the stream is quick to make.
    """
    block, count = b"0 0 m 300 300 l S\n" * 60_000, 1_900
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    flushed = raw.compress(block) + raw.flush(zlib.Z_FULL_FLUSH)
    total = 1
    for _ in range(count):
        total = zlib.adler32(block, total)
    inner = b"\x78\xda" + flushed * count + b"\x03\x00" + total.to_bytes(4, "big")
    return raw_pdf(zlib.compress(zlib.compress(inner, 9), 9), "[/FlateDecode /FlateDecode /FlateDecode]")
