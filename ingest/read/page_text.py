"""Reads the words of a page: from its text layer if that is sane, else by OCR, and by OCR from pictures with text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from ingest import boxes
from ingest.ocr.result import Ocr, Rotation
from ingest.read.sanity import is_garbled
from ingest.read.text_layer import read_layer
from retrieval.types import Box, TextSource, Word

FEW_WORDS = 10
"""A layer with fewer words than this may be a stamp or a page number on a page that is a picture."""
SPARE_INK = 0.003
"""A page with few words goes to OCR if ink outside those words covers more than this share of the page."""
MIN_PICTURE = 0.04
"""Pictures smaller than this share of the page are taken for logos and portraits, and are not read."""
MAX_PICTURES = 6
"""The largest pictures of a page, at most this many, are read."""
FLAT = 12.0
"""A picture whose grey values have a smaller standard deviation than this is a plain background."""


@dataclass(frozen=True, slots=True)
class PageText:
    """The words of a page. Their boxes refer to the page after a rotation by `rotation`, which makes it upright."""

    words: tuple[Word, ...]  # in reading order
    source: TextSource
    rotation: Rotation = 0


def read_page(layer: Any, image: Callable[[], Image.Image], ocr: Ocr | None) -> PageText:
    """Read one page.

    `layer` is PyMuPDF's page, or None if there is no text layer to read (the file is an image, or a PDF that only
    poppler opens). `image` renders the page as displayed, RGB; it is called at most once, and only if needed. If
    `ocr` is None, a garbled layer is dropped, and a scan has no words.
    """
    image = cache(image)
    words: Sequence[Word] = ()
    pictures: list[Box] = []
    if layer is not None:
        words, pictures = read_layer(layer, image)
    garbled = is_garbled([word.text for word in words])
    if ocr is None:
        return _page_text(() if garbled else words)
    if garbled or (len(words) < FEW_WORDS and _spare_ink(image(), words) > SPARE_INK):
        result = ocr.read(image())
        if garbled or len(result.words) > len(words):
            return PageText(result.words, "ocr" if result.words else "none", result.rotation)
        return _page_text(words)
    all_words = list(words)
    for picture in pictures_to_read(pictures, image):
        all_words += _read_picture(image(), picture, [word.box for word in words], ocr)
    return _page_text(all_words)


def pictures_to_read(pictures: Sequence[Box], image: Callable[[], Image.Image]) -> list[Box]:
    """Return the boxes of the pictures that may hold text, largest first; the strips of a sliced picture are joined."""
    joined: list[Box] = []
    for picture in pictures:
        box = boxes.clip(picture)
        for other in [other for other in joined if _touch(box, other)]:
            joined.remove(other)
            box = boxes.union([box, other])
        if boxes.area(box) > 0:
            joined.append(box)
    large = sorted((box for box in joined if boxes.area(box) >= MIN_PICTURE), key=boxes.area, reverse=True)
    return [box for box in large[:MAX_PICTURES] if np.asarray(_cut(image(), box).convert("L")).std() > FLAT]


def _page_text(words: Sequence[Word]) -> PageText:
    return PageText(tuple(words), "text layer" if words else "none")


def _read_picture(image: Image.Image, picture: Box, known: Sequence[Box], ocr: Ocr) -> list[Word]:
    """Return the words in the picture that are not in the text layer, whose boxes are `known`."""
    x0, y0, x1, y1 = picture
    width, height = x1 - x0, y1 - y0
    inside = [boxes.clip(box, picture) for box in known]
    skip = [
        ((a - x0) / width, (b - y0) / height, (c - x0) / width, (d - y0) / height)
        for a, b, c, d in inside
        if (c - a) * (d - b) > 0
    ]
    result = ocr.read(_cut(image, picture), skip=skip, rotate=False)
    return [
        Word(word.text, (x0 + a * width, y0 + b * height, x0 + c * width, y0 + d * height))
        for word in result.words
        for a, b, c, d in [word.box]
    ]


def _spare_ink(image: Image.Image, words: Sequence[Word]) -> float:
    """Return the share of the page that differs from its background, without the boxes of `words`."""
    small = image.convert("L").reduce(max(1, min(image.size) // 400))
    grey = np.asarray(small).astype(np.int16)
    ink = np.abs(grey - np.median(grey)) > 50
    for word in words:
        x0, y0, x1, y1 = word.box
        ink[
            int(y0 * small.height) : int(y1 * small.height) + 1,
            int(x0 * small.width) : int(x1 * small.width) + 1,
        ] = 0
    return float(ink.mean())


def _touch(a: Box, b: Box) -> bool:
    gap = 0.004  # share of the page
    return a[0] <= b[2] + gap and b[0] <= a[2] + gap and a[1] <= b[3] + gap and b[1] <= a[3] + gap


def _cut(image: Image.Image, box: Box) -> Image.Image:
    x0, y0, x1, y1 = box
    left, top = int(x0 * image.width), int(y0 * image.height)
    return image.crop(
        (left, top, max(left + 1, round(x1 * image.width)), max(top + 1, round(y1 * image.height)))
    )
