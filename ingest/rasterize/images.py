"""Opens images as documents: PNG, JPEG, TIFF (each frame is a page), WebP, BMP."""

import math
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from retrieval.errors import UnreadableDocument

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
EXIF_ORIENTATION, EXIF_TAKEN = 274, 306
IMAGE_WIDTH, IMAGE_LENGTH = 256, 257
FALLBACK_DPI = 150
"""The least resolution assumed for an image that does not state a plausible one."""
REJECTED = 8
"""An image with more than this many times max_pixels is not decoded at all."""


class ImageDocument:
    """An image file. Raises UnreadableDocument: damaged, or page too large (more than REJECTED times `max_pixels`)."""

    renderer: Literal["pillow"] = "pillow"

    def __init__(self, path: Path, max_pixels: int = 50_000_000) -> None:
        self._path = path
        self._limit = REJECTED * max_pixels
        with self._opened(1) as image:
            # Only the frames of a TIFF are pages: those of a JPEG are previews, those of a WebP or PNG an animation.
            self._pages = int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
            taken = str(image.getexif().get(EXIF_TAKEN, ""))  # "2023:05:17 10:22:01"
        date = taken[:10].replace(":", "-")
        self._created = date if re.fullmatch(r"(19[7-9]|20)\d+-[01]\d-[0-3]\d", date) else ""

    @property
    def pages(self) -> int:
        return self._pages

    @property
    def meta(self) -> Mapping[str, str]:
        return {"created": self._created} if self._created else {}

    def size(self, number: int) -> tuple[float, float]:
        with self._opened(number) as image:
            width, height = _upright_size(image)
            dpi = _dpi(image)
        return width * 72 / dpi, height * 72 / dpi

    def render(self, number: int, dpi: int, max_pixels: int) -> Image.Image:
        with self._opened(number) as image:
            width, height = image.size
            scale = min(1.0, dpi / _dpi(image), math.sqrt(max_pixels / (width * height)) * 0.999)
            if image.format == "JPEG":
                image.draft(None, (round(width * scale), round(height * scale)))  # decodes at 1/2, 1/4 or 1/8
            image.load()
            scale *= width / image.width
            page: Image.Image = image
            if scale <= 0.5 and image.mode in {"L", "RGB", "RGBA", "CMYK"}:
                page = image.reduce(
                    int(1 / scale)
                )  # before any step that copies the image: it may be enormous
                page.info = image.info
                scale *= int(1 / scale)
            page = flatten(ImageOps.exif_transpose(page))
        if scale < 0.95:
            page = page.resize(
                (max(1, round(page.width * scale)), max(1, round(page.height * scale))), Image.Resampling.BOX
            )
        return page

    @contextmanager
    def _opened(self, number: int) -> Iterator[Image.Image]:
        name = self._path.name if number == 1 else f"{self._path.name}, page {number}"
        pillows_limit, Image.MAX_IMAGE_PIXELS = (
            Image.MAX_IMAGE_PIXELS,
            None,
        )  # our own limit is checked below
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of odd metadata
                with Image.open(self._path, formats=FORMATS) as image:
                    image.seek(number - 1)
                    if image.width * image.height > self._limit:
                        raise UnreadableDocument(
                            "page too large",
                            f"{name} has {image.width:,} x {image.height:,} pixels, more than {self._limit:,} "
                            f"({REJECTED} times max_pixels): reduce it, or raise max_pixels",
                        )
                    yield image
        except (OSError, EOFError, ValueError, SyntaxError, struct.error) as error:
            raise UnreadableDocument(
                "damaged", f"{name} is damaged: the image ends early or cannot be decoded"
            ) from error
        finally:
            Image.MAX_IMAGE_PIXELS = pillows_limit

    def close(self) -> None:
        """Does nothing: no file stays open between calls."""


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) in pixels after the rotation that the image's orientation tag asks for."""
    width, height = image.size
    if isinstance(
        image, TiffImageFile
    ):  # newer versions of Pillow have already rotated `size`, older ones not
        width, height = image.tag_v2[IMAGE_WIDTH], image.tag_v2[IMAGE_LENGTH]
        orientation = image.tag_v2.get(EXIF_ORIENTATION, 1)
    else:
        orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    return (height, width) if orientation in {5, 6, 7, 8} else (width, height)


def _dpi(image: Image.Image) -> float:
    """Return the file's resolution if it makes the page 2 to 50 inches long, else one for at most 11 inches."""
    longest = max(image.size)
    try:
        dpi = float(image.info.get("dpi", (0,))[0])
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        dpi = 0.0
    if 50 <= dpi <= 2_400 and 2 <= longest / dpi <= 50:
        return dpi
    return max(FALLBACK_DPI, longest / 11)


def flatten(image: Image.Image) -> Image.Image:
    """Convert to RGB: transparency on white, 16-bit and float values scaled to 8 bits, CMYK converted."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float32)
        low, high = (0.0, 65_535.0) if values.max(initial=0) > 255 else (0.0, 255.0)
        if image.mode == "F" and values.max(initial=0) <= 1.0:
            high = 1.0
        scaled = np.clip((values - low) / (high - low) * 255, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
