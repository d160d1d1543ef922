"""Loads the OCR engine that the settings name: PP-OCR's models through RapidOCR, or the Tesseract program."""

import importlib.util
from typing import Literal

from ingest.ocr.result import Ocr
from ingest.ocr.tesseract import Tesseract
from retrieval.errors import MissingExtra


def load_ocr(kind: Literal["rapidocr", "tesseract", "off"], seconds: float = 60.0) -> Ocr | None:
    """Load the engine; returns None for "off". `seconds` limits one run of Tesseract.

    Raises MissingExtra if the engine is not installed.
    """
    match kind:
        case "rapidocr":
            from ingest.ocr.rapid import RapidOcr

            return RapidOcr()
        case "tesseract":
            return Tesseract(seconds)
        case "off":
            return None


def check_ocr(kind: Literal["rapidocr", "tesseract", "off"]) -> None:
    """Check that the engine is installed, without loading it. Raises MissingExtra if it is not."""
    if kind == "tesseract":
        Tesseract()
    if kind == "rapidocr" and importlib.util.find_spec("rapidocr") is None:
        raise MissingExtra(
            "RapidOCR is not installed: pip install rapidocr onnxruntime, or choose another ocr"
        )
