"""The result that every OCR engine returns, and the protocol of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from retrieval.types import Box, Word

Rotation = Literal[0, 90, 180, 270]
"""Degrees clockwise."""
POOR = 0.8
"""An engine tries other rotations of a page when its mean confidence is below this."""


@dataclass(frozen=True, slots=True)
class OcrResult:
    """The words of an image. Their boxes refer to the image after a rotation by `rotation`, which makes it upright."""

    words: tuple[Word, ...]  # in reading order
    rotation: Rotation = 0
    confidence: float = 0.0  # mean over the words, in [0, 1]; 0 if there are no words


class Ocr(Protocol):
    """An OCR engine."""

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), rotate: bool = True) -> OcrResult:
        """Return the words of an RGB image.

        The engine skips lines that lie mostly under one of the boxes in `skip` (relative to the image). It looks for
        an upside-down or sideways page only if `rotate` is true; otherwise the result's rotation is 0.
        """
        ...


def rotated_image(image: Image.Image, rotation: Rotation) -> Image.Image:
    """Return the image rotated clockwise by `rotation` degrees."""
    match rotation:
        case 0:
            return image
        case 90:
            return image.transpose(Image.Transpose.ROTATE_270)
        case 180:
            return image.transpose(Image.Transpose.ROTATE_180)
        case 270:
            return image.transpose(Image.Transpose.ROTATE_90)
