"""Runs PP-OCRv6 on one thread: RapidOCR's line detector, and its line recogniser quantized by `ingest.train`.

RapidOCR's own pipeline pads every batch of lines to the widest line and to at least 320 pixels. On one thread a batch
is no faster than its lines one by one, so this module recognises each line at its own width, without padding.
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
"""Longest side, in pixels, of the image in which lines are detected."""
LINE_HEIGHT = 48
"""Height of the recogniser's input, in pixels."""
STEP = 8
"""Pixels of width per step of the recogniser's output."""
MAX_LINE_WIDTH = 3_200
"""Pixels; wider lines are squeezed to this width."""
MIN_CONFIDENCE = 0.5
"""Lines below this confidence are dropped."""
VERTICAL = 1.5
"""A line at least this many times as tall as wide runs up or down."""
SAMPLE = 6
"""Number of lines that decide the rotation of a page."""

Pixels = NDArray[np.uint8]
Quad = NDArray[np.float32]  # (4, 2): top left, top right, bottom right, bottom left, in pixels


@dataclass(frozen=True, slots=True)
class Line:
    """A recognised line of text."""

    pieces: list[tuple[str, float, float]]  # words, each with its start and end along the quad, in [0, 1]
    confidence: float  # in [0, 1]
    quad: Quad  # the corners in the direction of reading


class RapidOcr:
    """PP-OCRv6, for Latin scripts, Chinese and Japanese. An instance is not safe for use by several threads.

    `recogniser` replaces the recogniser that ships. Raises MissingExtra if a model file is not there.
    """

    def __init__(self, recogniser: onnxruntime.InferenceSession | None = None) -> None:
        self._detector = session(MODELS / "PP-OCRv6_det_small.onnx")
        self._recogniser = recogniser or session(ModelFolder(RECOGNISER).file("recogniser.onnx"))
        alphabet = self._recogniser.get_modelmeta().custom_metadata_map["character"].splitlines()
        self._characters = ["", *alphabet, " "]  # index 0 is CTC's blank
        self._boxes = DBPostProcess(thresh=0.3, box_thresh=0.5, unclip_ratio=1.6, use_dilation=True)

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), rotate: bool = True) -> OcrResult:
        """Implements `Ocr.read`."""
        pixels = np.ascontiguousarray(np.asarray(image.convert("RGB"))[:, :, ::-1])  # the models read BGR
        quads = self._detect(pixels)
        if skip:
            quads = [quad for quad in quads if covered(_box(quad, pixels), skip) < 0.5]
        rotation: Rotation = 0
        recognised: dict[int, Line] = {}
        if rotate:
            rotation, recognised = self._rotation(pixels, quads)
            if rotation:
                pixels = np.ascontiguousarray(np.rot90(pixels, -rotation // 90))
                quads, recognised = self._detect(pixels), {}
        lines = [recognised.get(i) or self._line(pixels, quad) for i, quad in enumerate(quads)]
        order = reading_order([_box(quad, pixels) for quad in quads])
        return _result([lines[i] for i in order], pixels, rotation)

    def _detect(self, pixels: Pixels) -> list[Quad]:
        height, width = pixels.shape[:2]
        scale = min(1.0, DETECTION_SIDE / max(height, width))
        sides = (max(32, round(width * scale / 32) * 32), max(32, round(height * scale / 32) * 32))
        small = cv2.resize(pixels, sides).astype(np.float32) / 127.5 - 1.0
        heat = self._detector.run(None, {"x": small.transpose(2, 0, 1)[None]})[0]
        quads, _ = self._boxes(heat, (height, width))
        return [np.asarray(quad, np.float32) for quad in quads]

    def _rotation(self, pixels: Pixels, quads: list[Quad]) -> tuple[Rotation, dict[int, Line]]:
        """Return the rotation that makes the page upright, and the lines recognised on the way, by index.

        Lines are returned only for rotation 0; after another rotation they must be detected again.
        """
        sizes = [_size(quad) for quad in quads]
        longest = sorted(range(len(quads)), key=lambda i: -max(sizes[i]))
        sample = [i for i in longest if max(sizes[i]) <= 24 * min(sizes[i])][:SAMPLE] or longest[:SAMPLE]
        if not sample:
            return 0, {}
        vertical = sum(h for w, h in sizes if h >= VERTICAL * w)
        if vertical > sum(w for w, h in sizes if h < VERTICAL * w) and len(quads) >= 3:
            upwards = [self._recognise(pixels, _upwards(quads[i])) for i in sample]
            downwards = [self._recognise(pixels, _downwards(quads[i])) for i in sample]
            return (90 if _mean(upwards) >= _mean(downwards) else 270), {}
        recognised = {i: self._line(pixels, quads[i]) for i in sample}
        if _mean(recognised.values()) >= POOR:
            return 0, recognised
        upside_down = [self._recognise(pixels, np.roll(quads[i], 2, axis=0)) for i in sample]
        return (180, {}) if _mean(upside_down) > _mean(recognised.values()) + 0.1 else (0, recognised)

    def _line(self, pixels: Pixels, quad: Quad) -> Line:
        """Recognise a line of an upright page, which may hold vertical lines too."""
        width, height = _size(quad)
        if height < VERTICAL * width:
            return self._recognise(pixels, quad)
        upwards = self._recognise(
            pixels, _upwards(quad)
        )  # first, because most labels of a chart's axis run up
        if upwards.confidence >= POOR:
            return upwards
        downwards = self._recognise(pixels, _downwards(quad))
        return max(upwards, downwards, key=lambda line: line.confidence)

    def _recognise(self, pixels: Pixels, quad: Quad) -> Line:
        """Recognise the line that runs along the quad's first side."""
        width, height = _size(quad)
        wide = min(max(round(width / height * LINE_HEIGHT / STEP), 2) * STEP, MAX_LINE_WIDTH)
        corners = np.array([[0, 0], [wide, 0], [wide, LINE_HEIGHT], [0, LINE_HEIGHT]], np.float32)
        crop = cv2.warpPerspective(
            pixels,
            cv2.getPerspectiveTransform(quad, corners),
            (wide, LINE_HEIGHT),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        strip = (crop.astype(np.float32) / 127.5 - 1.0).transpose(2, 0, 1)[None]
        scores = self._recogniser.run(None, {"x": strip})[0][0]  # (steps, characters), softmax
        best = scores.argmax(axis=1)
        starts = best != 0  # CTC: a character begins at each step that differs from the one before
        starts[1:] &= best[1:] != best[:-1]
        at = np.flatnonzero(starts)
        if not len(at):
            return Line([], 0.0, quad)
        text = [self._characters[i] for i in best[at]]
        return Line(_words(text, (at + 0.5) / len(best)), float(scores[at, best[at]].mean()), quad)


def _result(lines: Iterable[Line], pixels: Pixels, rotation: Rotation) -> OcrResult:
    words: list[Word] = []
    confidences: list[float] = []
    for line in lines:
        if line.confidence < MIN_CONFIDENCE:
            continue
        for text, start, end in line.pieces:
            words.append(Word(text, _box(_part(line.quad, start, end), pixels)))
            confidences.append(line.confidence)
    return OcrResult(tuple(words), rotation, sum(confidences) / max(len(confidences), 1))


def _words(text: list[str], at: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    """Return the words of a line with their start and end. `at` holds the middle of each character, in [0, 1]."""
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
    """Load the model in this file, to run on one thread. Raises MissingExtra if the file is not there."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = (
        1  # each worker process reads its own page: more threads would only spin and wait
    )
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_mem_pattern = False  # useless here, because every line has its own width
    options.log_severity_level = 3
    if not path.is_file():
        raise MissingExtra(f"this version of rapidocr has no {path.name}: pip install 'rapidocr>=3.10,<3.11'")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _upwards(quad: Quad) -> Quad:
    """Return the corners in the direction of reading of a line that runs up the page."""
    return np.roll(quad, 1, axis=0)


def _downwards(quad: Quad) -> Quad:
    """Return the corners in the direction of reading of a line that runs down the page."""
    return np.roll(quad, -1, axis=0)


def _size(quad: Quad) -> tuple[float, float]:
    """Return the length of the quad's longer horizontal and vertical side, in pixels."""
    return (
        max(float(np.linalg.norm(quad[0] - quad[1])), float(np.linalg.norm(quad[3] - quad[2])), 1.0),
        max(float(np.linalg.norm(quad[0] - quad[3])), float(np.linalg.norm(quad[1] - quad[2])), 1.0),
    )


def _part(quad: Quad, start: float, end: float) -> Quad:
    """Return the part of the quad between two positions along its first side, in [0, 1]."""
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
