"""Reads a PDF page's text layer: the words that a reader of the page sees, or those that an OCR program put there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pymupdf
from PIL import Image

from ingest import boxes
from ingest.read.titles import printable
from retrieval.types import Box, Word

MIN_SIZE = 1.5
"""Points; smaller text is meant for machines."""
LIGHT = 225
"""Text whose red, green and blue are all at least this (of 255) may be white on white."""
CONTRAST = 24
"""A box has visible text if its lightest and darkest pixel are at least this many grey values apart."""
FILLED, STROKED = 16, 32  # PyMuPDF's char_flags


def read_layer(page: Any, image: Callable[[], Image.Image]) -> tuple[list[Word], list[Box]]:
    """Return the words of PyMuPDF's `page`, in the file's order of blocks and lines, and the boxes of its pictures.

    Boxes are relative to the page as displayed. Leaves out text outside the page, tiny text, and text in the colour
    of its background. Keeps invisible text (render mode 3) unless most of the words are visible: on a scan, invisible
    text is the result of OCR. `image` renders the page; it is called only to look at light text.
    """
    textpage = page.get_textpage(flags=pymupdf.TEXTFLAGS_WORDS & ~pymupdf.TEXT_PRESERVE_LIGATURES)
    place = _page_relative(page)
    words = [Word(printable(text), place(box)) for *box, text, _, _, _ in textpage.extractWORDS()]
    unreadable, invisible = _hidden_text(textpage, place, image)
    words = [word for word in words if boxes.area(word.box) > 0 and word.text.strip()]
    if unreadable:
        words = [word for word in words if not _is_inside(word.box, unreadable)]
    if invisible:
        visible = [word for word in words if not _is_inside(word.box, invisible)]
        if (
            len(visible) > len(words) / 2
        ):  # This is no scan; the invisible words are keywords for search engines.
            words = visible
    pictures = [place(item["bbox"]) for item in page.get_image_info()]
    return words, [picture for picture in pictures if boxes.area(picture) > 0]


def _page_relative(page: Any) -> Callable[[Sequence[float]], Box]:
    """Return a function from points on the unrotated page to a box relative to the page as displayed."""
    matrix, rect = page.rotation_matrix, page.rect
    width, height = max(rect.width, 1e-6), max(rect.height, 1e-6)

    def place(box: Sequence[float]) -> Box:
        x0, y0, x1, y1 = pymupdf.Rect(box) * matrix
        return boxes.clip((x0 / width, y0 / height, x1 / width, y1 / height))

    return place


def _hidden_text(
    textpage: Any, place: Callable[[Sequence[float]], Box], image: Callable[[], Image.Image]
) -> tuple[list[Box], list[Box]]:
    """Return the boxes of text that is painted but not visible to a reader, and of text that is not painted."""
    unreadable: list[Box] = []
    invisible: list[Box] = []
    for span in _spans(textpage):
        box = place(span["bbox"])
        if span["size"] < MIN_SIZE:
            unreadable.append(box)
        elif not span["char_flags"] & (FILLED | STROKED) or span["alpha"] == 0:
            invisible.append(box)
        elif _is_light(span["color"]) and boxes.area(box) > 0 and not _has_contrast(image(), box):
            unreadable.append(box)
    return unreadable, invisible


def _spans(textpage: Any) -> Iterator[dict[str, Any]]:
    for block in textpage.extractDICT()["blocks"]:
        for line in block.get("lines", ()):
            for span in line["spans"]:
                if span["text"].strip():
                    yield span


def _is_light(colour: int) -> bool:
    return min(colour >> 16 & 255, colour >> 8 & 255, colour & 255) >= LIGHT


def _has_contrast(image: Image.Image, box: Box) -> bool:
    x0, y0, x1, y1 = box
    left, top = int(x0 * image.width), int(y0 * image.height)
    cut = image.crop(
        (left, top, max(left + 1, round(x1 * image.width)), max(top + 1, round(y1 * image.height)))
    )
    values = np.asarray(cut.convert("L"))
    return bool(int(values.max()) - int(values.min()) >= CONTRAST)


def _is_inside(box: Box, spans: Sequence[Box]) -> bool:
    """Return whether the middle of `box` lies in one of the spans."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in spans)
