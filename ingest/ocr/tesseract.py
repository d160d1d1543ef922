"""OCR by the `tesseract` program."""

import csv
import io
import os
import shutil
import subprocess
from collections.abc import Sequence

from PIL import Image

from ingest.boxes import clip, covered
from ingest.ocr.result import POOR, OcrResult, Rotation, rotated_image
from retrieval.errors import MissingExtra, UnreadableDocument
from retrieval.types import Box, Word

MIN_CONFIDENCE = 0.2
"""Words below this confidence are dropped."""


class Tesseract:
    """The `tesseract` program with its English model and its own page segmentation, on one thread.

    If the confidence is poor, the page is read again at the other rotations. `seconds` limits one run of the program.
    Raises MissingExtra if the program is not installed.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        if shutil.which("tesseract") is None:
            raise MissingExtra(
                "the tesseract program is not on the path: apt install tesseract-ocr (Debian, Ubuntu), "
                "brew install tesseract (macOS), or choose ocr: rapidocr"
            )
        self._seconds = seconds

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), rotate: bool = True) -> OcrResult:
        """Implements `Ocr.read`. Raises UnreadableDocument if the program fails or takes too long."""
        upright = self._read(image, skip)
        if not rotate or upright.confidence >= POOR:
            return upright
        rotations: tuple[Rotation, ...] = (180, 90, 270)
        for rotation in rotations:
            result = self._read(rotated_image(image, rotation), ())
            if result.confidence >= POOR and len(result.words) >= len(upright.words):
                return OcrResult(result.words, rotation, result.confidence)
        return upright

    def _read(self, image: Image.Image, skip: Sequence[Box]) -> OcrResult:
        words: list[Word] = []
        confidences: list[float] = []
        for row in csv.DictReader(io.StringIO(self._run(image)), delimiter="\t", quoting=csv.QUOTE_NONE):
            confidence = float(row["conf"]) / 100
            if row["level"] != "5" or not row["text"].strip() or confidence < MIN_CONFIDENCE:  # 5: a word
                continue
            x, y, w, h = (int(row[key]) for key in ("left", "top", "width", "height"))
            box = clip((x / image.width, y / image.height, (x + w) / image.width, (y + h) / image.height))
            if covered(box, skip) < 0.5:
                words.append(Word(row["text"].strip(), box))
                confidences.append(confidence)
        return OcrResult(tuple(words), 0, sum(confidences) / max(len(confidences), 1))

    def _run(self, image: Image.Image) -> str:
        """Return the program's table in TSV: one row per block, paragraph, line and word."""
        file = io.BytesIO()
        image.convert("L").save(file, "BMP")
        try:
            run = subprocess.run(
                ["tesseract", "stdin", "stdout", "--psm", "3", "--dpi", "150", "tsv"],
                input=file.getvalue(),
                capture_output=True,
                timeout=self._seconds,
                check=True,
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise UnreadableDocument("too slow", f"tesseract took longer than {self._seconds:g} s") from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines()
            raise UnreadableDocument(
                "damaged", f"tesseract failed: {lines[-1] if lines else error}"
            ) from error
        return run.stdout.decode()
