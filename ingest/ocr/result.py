"""What every OCR engine returns, and the protocol of an engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from retrieval.types import Box, Word

Rotation = Literal[0, 90, 180, 270]
POOR = 0.8
"""Mean confidence under which the page may stand on its head or lie on its side."""


@dataclass(frozen=True, slots=True)
class OcrResult:
    """What was read. The boxes refer to the image once it has been turned by `turn` degrees clockwise."""

    words: tuple[Word, ...]  # in reading order
    turn: Rotation = 0
    confidence: float = 0.0  # mean over the words, in [0, 1]; 0 where there are none


class Ocr(Protocol):
    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> OcrResult:
        """The words of an RGB image.

        Lines that lie mostly under one of `skip` (boxes relative to the image) are not read. Only with `turn`
        is text looked for that stands on its head or runs up or down.
        """
        ...


def turned_image(image: Image.Image, turn: Rotation) -> Image.Image:
    """The image turned clockwise by `turn` degrees."""
    match turn:
        case 0:
            return image
        case 90:
            return image.transpose(Image.Transpose.ROTATE_270)
        case 180:
            return image.transpose(Image.Transpose.ROTATE_180)
        case 270:
            return image.transpose(Image.Transpose.ROTATE_90)
