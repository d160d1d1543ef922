"""Images as documents: PNG, JPEG, TIFF (each frame a page), WebP, BMP."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from retrieval.errors import UnreadableDocument

FALLBACK_DPI = 150
REFUSED = 8
"""An image with more than this many times max_pixels is not decoded at all."""


class ImageDocument:
    """An image file. Raises UnreadableDocument: damaged, or page too large (more than 8 times `max_pixels`)."""

    renderer: Literal["pillow"] = "pillow"

    def __init__(self, path: Path, max_pixels: int = 50_000_000) -> None:
        self._path = path
        self._limit = REFUSED * max_pixels
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's on bombs (the limit is ours) and on odd metadata
                # Pillow's own bomb error is global and not ours to switch off: it is read as the same refusal.
                self._image = Image.open(path, formats=("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP"))
                # Only a TIFF's frames are pages: a JPEG's are previews, a WebP's or PNG's an animation.
                self._pages = int(getattr(self._image, "n_frames", 1)) if self._image.format == "TIFF" else 1
        except Image.DecompressionBombError as error:
            raise self._too_large(str(error)) from error
        except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
            raise UnreadableDocument("damaged", f"{path.name} is damaged: it does not open as an image") from error

    @property
    def pages(self) -> int:
        return self._pages

    @property
    def meta(self) -> Mapping[str, str]:
        taken = str(self._image.getexif().get(306, ""))  # "2023:05:17 10:22:01"
        date = taken[:10].replace(":", "-")
        real = len(date) == 10 and date[:4].isdigit() and date[:4] > "1970"
        return {"created": date} if real else {}

    def size(self, number: int) -> tuple[float, float]:
        width, height = self._frame(number)
        dpi = self._dpi(width, height)
        if self._image.getexif().get(274, 1) in {5, 6, 7, 8}:  # turned by a quarter
            width, height = height, width
        return width * 72 / dpi, height * 72 / dpi

    def render(self, number: int, dpi: int, max_pixels: int) -> Image.Image:
        width, height = self._frame(number)
        scale = min(1.0, dpi / self._dpi(width, height), math.sqrt(max_pixels / (width * height)) * 0.999)
        wanted = (max(1, round(width * scale)), max(1, round(height * scale)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if self._image.format == "JPEG":
                    self._image.draft(None, wanted)  # decodes at a half, a quarter or an eighth
                self._image.load()
                image = flatten(ImageOps.exif_transpose(self._image))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise UnreadableDocument(
                "damaged", f"{self._path.name}, page {number} is damaged: the image ends early or cannot be decoded"
            ) from error
        if image.width * image.height > 1.1 * wanted[0] * wanted[1]:
            turned = (image.width > image.height) != (width > height)
            image = image.resize(wanted[::-1] if turned else wanted, Image.Resampling.BOX, reducing_gap=2.0)
        return image

    def close(self) -> None:
        self._image.close()

    def _frame(self, number: int) -> tuple[int, int]:
        try:
            self._image.seek(number - 1)
        except (OSError, EOFError, ValueError, SyntaxError) as error:
            raise UnreadableDocument("damaged", f"{self._path.name}, page {number} cannot be read") from error
        width, height = self._image.size
        if width * height > self._limit:
            raise self._too_large(f"page {number} has {width:,} x {height:,} pixels")
        return width, height

    def _dpi(self, width: int, height: int) -> float:
        """What the file says if the page then has the size of a page, else what makes it a letter's length."""
        said = self._image.info.get("dpi", (0, 0))
        try:
            dpi = float(said[0])
        except (TypeError, ValueError, IndexError, ZeroDivisionError):
            dpi = 0.0
        longest = max(width, height)
        if 50 <= dpi <= 2_400 and 2 <= longest / dpi <= 50:
            return dpi
        return max(FALLBACK_DPI, longest / 11)

    def _too_large(self, found: str) -> UnreadableDocument:
        return UnreadableDocument(
            "page too large", f"{self._path.name}: {found}; the limit is {self._limit:,} (8 times max_pixels)"
        )


def flatten(image: Image.Image) -> Image.Image:
    """RGB: transparency on white, 16-bit and float values scaled to 8 bits, CMYK converted."""
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
