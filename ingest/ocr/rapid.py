"""PP-OCRv6 on one thread, without padding: RapidOCR's detector, and its recogniser quantised by us.

The package's own pipeline pads every batch of lines to its widest and at least 320 pixels; on one thread a
batch is no faster than its lines one by one, so here each line is recognised at its own width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.boxes import clip, covered
from ingest.ocr.reading_order import reading_order
from ingest.ocr.result import POOR, OcrResult, Rotation
from retrieval.errors import MissingExtra
from retrieval.models.onnx import ModelFolder
from retrieval.types import Box, Word

try:
    import cv2
    import onnxruntime
    import rapidocr
    from rapidocr.ch_ppocr_det.utils import DBPostProcess
except ImportError as error:
    raise MissingExtra("RapidOCR is not installed: pip install rapidocr onnxruntime") from error

MODELS = Path(rapidocr.__file__).parent / "models"
RECOGNISER = "ocr-1"
DETECTION_SIDE = 960
"""Longest side, in pixels, of the image that lines are looked for in."""
LINE_HEIGHT = 48
"""Height of the recogniser's input, in pixels."""
STEP = 8
"""Pixels of width per step of its output."""
MAX_LINE_WIDTH = 3_200
MIN_CONFIDENCE = 0.5
UPENDED = 1.5
"""A line so many times as tall as wide runs up or down."""
SAMPLE = 6
"""Lines that decide which way up the page is."""

Pixels = NDArray[np.uint8]
Quad = NDArray[np.float32]  # (4, 2): top left, top right, bottom right, bottom left, in pixels


@dataclass(frozen=True, slots=True)
class Line:
    pieces: list[tuple[str, float, float]]  # words, with where they start and end along the quad, in [0, 1]
    confidence: float  # in [0, 1]
    quad: Quad  # its corners in the order of reading


class RapidOcr:
    """PP-OCRv6: Latin scripts, Chinese and Japanese. One instance serves one thread."""

    def __init__(self, recogniser: onnxruntime.InferenceSession | None = None) -> None:
        self._detector = session(MODELS / "PP-OCRv6_det_small.onnx")
        self._recogniser = recogniser or session(ModelFolder(RECOGNISER).file("recogniser.onnx"))
        listed = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = ["", *listed, " "]  # 0 is CTC's blank
        self._boxes = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> OcrResult:
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])  # the models read BGR
        quads = self._detect(pixels)
        if skip:
            quads = [quad for quad in quads if covered(_box(quad, pixels), skip) < 0.5]
        angle: Rotation = 0
        known: dict[int, Line] = {}
        if turn:
            angle, known = self._way_up(pixels, quads)
            if angle:
                pixels = np.ascontiguousarray(np.rot90(pixels, -angle // 90))
                quads, known = self._detect(pixels), {}
        return self._reading(pixels, quads, known, angle)

    def _reading(
        self, pixels: Pixels, quads: list[Quad], known: dict[int, Line], angle: Rotation
    ) -> OcrResult:
        lines = [known.get(i) or self._line(pixels, quad) for i, quad in enumerate(quads)]
        words: list[Word] = []
        confidences: list[float] = []
        for i in reading_order([_box(quad, pixels) for quad in quads]):
            line = lines[i]
            if line.confidence < MIN_CONFIDENCE:
                continue
            for text, start, end in line.pieces:
                words.append(Word(text, _box(_part(line.quad, start, end), pixels)))
                confidences.append(line.confidence)
        return OcrResult(tuple(words), angle, sum(confidences) / max(len(confidences), 1))

    def _detect(self, pixels: Pixels) -> list[Quad]:
        height, width = pixels.shape[:2]
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        sides = (max(32, round(width * scale / 32) * 32), max(32, round(height * scale / 32) * 32))
        small = cv2.resize(pixels, sides).astype(np.float32) / 127.5 - 1.0
        heat = self._detector.run(None, {"x": small.transpose(2, 0, 1)[None]})[0]
        quads, _ = self._boxes(heat, (height, width))
        return [np.asarray(quad, np.float32) for quad in quads]

    def _way_up(self, pixels: Pixels, quads: list[Quad]) -> tuple[Rotation, dict[int, Line]]:
        """How far the page must be turned, and the lines read as they stand, by index, on the way to know."""
        sizes = [_size(quad) for quad in quads]
        longest = sorted(range(len(quads)), key=lambda i: -max(sizes[i]))
        sample = [i for i in longest if max(sizes[i]) <= 24 * min(sizes[i])][:SAMPLE] or longest[:SAMPLE]
        if not sample:
            return 0, {}
        upended = sum(h for w, h in sizes if h >= UPENDED * w)
        if upended > sum(w for w, h in sizes if h < UPENDED * w) and len(quads) >= 3:
            clockwise = [self._recognise(pixels, np.roll(quads[i], 1, axis=0)) for i in sample]
            back = [self._recognise(pixels, np.roll(quads[i], -1, axis=0)) for i in sample]
            return (90 if _mean(clockwise) >= _mean(back) else 270), {}
        known = {i: self._line(pixels, quads[i]) for i in sample}
        if _mean(known.values()) >= POOR:
            return 0, known
        headlong = [self._recognise(pixels, np.roll(quads[i], 2, axis=0)) for i in sample]
        return (180, {}) if _mean(headlong) > _mean(known.values()) + 0.1 else (0, known)

    def _line(self, pixels: Pixels, quad: Quad) -> Line:
        width, height = _size(quad)
        if height < UPENDED * width:
            return self._recognise(pixels, quad)
        upwards = self._recognise(
            pixels, np.roll(quad, 1, axis=0)
        )  # as the label of a chart's axis mostly is
        if upwards.confidence >= POOR:
            return upwards
        downwards = self._recognise(pixels, np.roll(quad, -1, axis=0))
        return max(upwards, downwards, key=lambda line: line.confidence)

    def _recognise(self, pixels: Pixels, quad: Quad) -> Line:
        """Read along the quad's first side."""
        width, height = _size(quad)
        wide = min(max(round(width / height * LINE_HEIGHT / STEP), 2) * STEP, MAX_LINE_WIDTH)
        corners = np.array([[0, 0], [wide, 0], [wide, LINE_HEIGHT], [0, LINE_HEIGHT]], np.float32)
        crop = cv2.warpPerspective(
            pixels, cv2.getPerspectiveTransform(quad, corners), (wide, LINE_HEIGHT),
            flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
        strip = (crop.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
        scores = self._recogniser.run(None, {"x": strip})[0][0]  # (steps, characters), softmax
        best = scores.argmax(axis=1)
        kept = best != 0
        kept[1:] &= best[1:] != best[:-1]
        at = np.flatnonzero(kept)
        if not len(at):
            return Line([], 0.0, quad)
        text = [self._characters[i] for i in best[at]]
        return Line(_words(text, (at + 0.5) / len(best)), float(scores[at, best[at]].mean()), quad)


def _words(text: list[str], at: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    """Words with both ends; `at` is the middle of each character."""
    half = float(np.median(np.diff(at))) / 2 if len(at) > 1 else 0.5
    words: list[tuple[str, float, float]] = []
    first = 0
    for i in range(len(text) + 1):
        if i < len(text) and not text[i].isspace():
            continue
        if i > first:
            start, end = float(at[first]) - half, float(at[i - 1]) + half
            words.append(("".join(text[first:i]), max(start, 0.0), min(end, 1.0)))
        first = i + 1
    return words


def session(path: Path) -> Any:
    """The model in this file, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the cores are shared by whole pages: threads inside one spin and wait
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # every line has a width of its own
    options.log_severity_level = 3
    if not path.is_file():
        raise MissingExtra(f"this version of rapidocr has no {path.name}: pip install 'rapidocr>=3.10,<3.11'")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _size(quad: Quad) -> tuple[float, float]:
    return (
        max(float(np.linalg.norm(quad[0] - quad[1])), float(np.linalg.norm(quad[3] - quad[2])), 1.0),
        max(float(np.linalg.norm(quad[0] - quad[3])), float(np.linalg.norm(quad[1] - quad[2])), 1.0),
    )


def _part(quad: Quad, start: float, end: float) -> Quad:
    """The part of the quad between two places along its first side."""
    top, bottom = quad[1] - quad[0], quad[2] - quad[3]
    return np.stack(
        [quad[0] + top * start, quad[0] + top * end, quad[3] + bottom * end, quad[3] + bottom * start]
    )


def _box(quad: Quad, pixels: Pixels) -> Box:
    height, width = pixels.shape[:2]
    (x0, y0), (x1, y1) = quad.min(axis=0), quad.max(axis=0)
    return clip((float(x0) / width, float(y0) / height, float(x1) / width, float(y1) / height))


def _mean(lines: Iterable[Line]) -> float:
    confidences = [line.confidence for line in lines]
    return sum(confidences) / max(len(confidences), 1)
