"""Words from page images: RapidOCR's models, or the Tesseract program, behind one small protocol."""

import csv
import importlib.util
import io
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from ingest.read.boxes import clip, covered
from retrieval.errors import MissingExtra, UnreadableDocument
from retrieval.types import Box, Word

Turn = Literal[0, 90, 180, 270]
POOR = 0.8
"""Mean confidence under which the page may stand on its head or lie on its side."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read. The boxes refer to the image once it has been turned by `turn` degrees clockwise."""

    words: tuple[Word, ...]  # in reading order
    turn: Turn = 0
    confidence: float = 0.0  # mean over the words, in [0, 1]; 0 where there are none


class Ocr(Protocol):
    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> Reading:
        """The words of an RGB image.

        Lines that lie mostly under one of `skip` (boxes relative to the image) are not read. Only with `turn`
        is text looked for that stands on its head or runs up or down.
        """
        ...


def load(kind: Literal["rapidocr", "tesseract", "off"], seconds: float = 60.0) -> Ocr | None:
    """The engine, or None for "off". `seconds` limits one run of Tesseract.

    Raises MissingExtra where the engine is not installed.
    """
    match kind:
        case "rapidocr":
            from ingest.ocr.rapid import RapidOcr

            return RapidOcr()
        case "tesseract":
            return Tesseract(seconds)
        case "off":
            return None


def check(kind: Literal["rapidocr", "tesseract", "off"]) -> None:
    """Raises MissingExtra where the engine is not installed, without loading it."""
    if kind == "tesseract":
        Tesseract()
    if kind == "rapidocr" and importlib.util.find_spec("rapidocr") is None:
        raise MissingExtra(
            "RapidOCR is not installed: pip install rapidocr onnxruntime, or choose another ocr"
        )


class Tesseract:
    """The `tesseract` program, English, with its own page segmentation; one thread.

    Upside-down and sideways pages are found by its orientation detection where the first reading is poor.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        if shutil.which("tesseract") is None:
            raise MissingExtra(
                "the tesseract program is not on the path: apt install tesseract-ocr (Debian, Ubuntu), "
                "brew install tesseract (macOS), or choose ocr: rapidocr"
            )
        self._seconds = seconds

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> Reading:
        reading = self._read(image, skip)
        if not turn or reading.confidence >= POOR:
            return reading
        angles: tuple[Turn, ...] = (180, 90, 270)
        for angle in angles:
            turned = self._read(turned_image(image, angle), ())
            if turned.confidence >= POOR and len(turned.words) >= len(reading.words):
                return Reading(turned.words, angle, turned.confidence)
        return reading

    def _read(self, image: Image.Image, skip: Sequence[Box]) -> Reading:
        file = io.BytesIO()
        image.convert("L").save(file, "BMP")
        try:
            run = subprocess.run(
                ["tesseract", "stdin", "stdout", "--psm", "3", "--dpi", "150", "tsv"],
                input=file.getvalue(), capture_output=True, timeout=self._seconds, check=True,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise UnreadableDocument("too slow", f"tesseract took longer than {self._seconds:g} s") from error
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines()
            raise UnreadableDocument("damaged", f"tesseract failed: {said[-1] if said else error}") from error
        words: list[Word] = []
        confidences: list[float] = []
        for row in csv.DictReader(io.StringIO(run.stdout.decode()), delimiter="\t", quoting=csv.QUOTE_NONE):
            confidence = float(row["conf"]) / 100
            if row["level"] != "5" or not row["text"].strip() or confidence < 0.2:
                continue
            x, y, w, h = (int(row[key]) for key in ("left", "top", "width", "height"))
            box = clip((x / image.width, y / image.height, (x + w) / image.width, (y + h) / image.height))
            if covered(box, skip) < 0.5:
                words.append(Word(row["text"].strip(), box))
                confidences.append(confidence)
        return Reading(tuple(words), 0, sum(confidences) / max(len(confidences), 1))


def turned_image(image: Image.Image, turn: Turn) -> Image.Image:
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
