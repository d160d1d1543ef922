"""OCR by the `tesseract` program."""

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Sequence

from PIL import Image

from ingest.boxes import clip, covered
from ingest.ocr.result import POOR, OcrResult, Rotation, turned_image
from retrieval.errors import MissingExtra, UnreadableDocument
from retrieval.types import Box, Word


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

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> OcrResult:
        reading = self._read(image, skip)
        if not turn or reading.confidence >= POOR:
            return reading
        angles: tuple[Rotation, ...] = (180, 90, 270)
        for angle in angles:
            turned = self._read(turned_image(image, angle), ())
            if turned.confidence >= POOR and len(turned.words) >= len(reading.words):
                return OcrResult(turned.words, angle, turned.confidence)
        return reading

    def _read(self, image: Image.Image, skip: Sequence[Box]) -> OcrResult:
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
        return OcrResult(tuple(words), 0, sum(confidences) / max(len(confidences), 1))
