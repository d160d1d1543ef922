"""A PDF page's text layer: what a reader of the page would see, and what an OCR program left there for him."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pymupdf
from PIL import Image

from ingest import boxes
from ingest.read.titles import clean
from retrieval.types import Box, Word

MIN_SIZE = 1.5
"""Points; smaller text is there for machines."""
LIGHT = 225
"""A colour whose red, green and blue are all at least this may be white on white."""
CONTRAST = 24
"""Grey values between the lightest and the darkest pixel of a box that has something written in it."""
FILLED, STROKED = 16, 32  # PyMuPDF's char_flags


def read_layer(page: Any, image: Callable[[], Image.Image]) -> tuple[list[Word], list[Box]]:
    """The words of PyMuPDF's `page`, in the file's order of blocks and lines, and the boxes of its pictures.

    Boxes are relative to the page as displayed. Text outside the page, without size, or in the colour of what
    is behind it is left out; invisible text (render mode 3) is kept where there is no visible text beside it:
    it is a scan's OCR. `image` renders the page; it is called only where light text must be looked at.
    """
    textpage = page.get_textpage(flags=pymupdf.TEXTFLAGS_WORDS & ~pymupdf.TEXT_PRESERVE_LIGATURES)
    place = _placing(page)
    words = [Word(clean(text), place(box)) for *box, text, _, _, _ in textpage.extractWORDS()]
    dropped, invisible = _suspects(textpage, place, image)
    kept = [word for word in words if boxes.area(word.box) > 0 and word.text.strip()]
    if dropped:
        kept = [word for word in kept if not _inside(word.box, dropped)]
    if invisible:
        visible = [word for word in kept if not _inside(word.box, invisible)]
        if len(visible) > len(kept) / 2:  # not a scan: somebody's keywords
            kept = visible
    pictures = [place(item["bbox"]) for item in page.get_image_info()]
    return kept, [picture for picture in pictures if boxes.area(picture) > 0]


def _placing(page: Any) -> Callable[[Sequence[float]], Box]:
    """From points of the page as it lies in the file to shares of the page as displayed."""
    matrix, rect = page.rotation_matrix, page.rect
    width, height = max(rect.width, 1e-6), max(rect.height, 1e-6)

    def place(box: Sequence[float]) -> Box:
        x0, y0, x1, y1 = pymupdf.Rect(box) * matrix
        return boxes.clip((x0 / width, y0 / height, x1 / width, y1 / height))

    return place


def _suspects(
    textpage: Any, place: Callable[[Sequence[float]], Box], image: Callable[[], Image.Image]
) -> tuple[list[Box], list[Box]]:
    """Where text stands that nobody can see although it is painted, and where it is not painted at all."""
    dropped: list[Box] = []
    invisible: list[Box] = []
    for span in _spans(textpage):
        box = place(span["bbox"])
        if span["size"] < MIN_SIZE:
            dropped.append(box)
        elif not span["char_flags"] & (FILLED | STROKED) or span["alpha"] == 0:
            invisible.append(box)
        elif _is_light(span["color"]) and boxes.area(box) > 0 and not _written(image(), box):
            dropped.append(box)
    return dropped, invisible


def _spans(textpage: Any) -> Iterator[dict[str, Any]]:
    for block in textpage.extractDICT()["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                if span["text"].strip():
                    yield span


def _is_light(colour: int) -> bool:
    return min(colour >> 16 & 255, colour >> 8 & 255, colour & 255) >= LIGHT


def _written(image: Image.Image, box: Box) -> bool:
    x0, y0, x1, y1 = box
    left, top = int(x0 * image.width), int(y0 * image.height)
    cut = image.crop(
        (left, top, max(left + 1, round(x1 * image.width)), max(top + 1, round(y1 * image.height)))
    )
    values = np.asarray(cut.convert("L"))
    return bool(int(values.max()) - int(values.min()) >= CONTRAST)


def _inside(box: Box, spans: Sequence[Box]) -> bool:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in spans)
