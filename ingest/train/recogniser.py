"""Quantizes the line recogniser of PP-OCRv6 to int8, which halves its time and keeps the words that it reads.

Three steps change the ONNX file that comes with RapidOCR, without further training. Each GELU, written out as five
operations, becomes a single operation. Convolutions are quantized statically (uint8 activations, int8 weights per
channel). Matrix products are quantized dynamically, among them the head over 18,710 characters. Weights keep 7 bits,
so that processors without VNNI do not overflow (ONNX Runtime, "Quantize ONNX models").

The ranges of the activations come from pages that this module typesets from passages of the training data, in several
scripts, typefaces and colours, and degrades like scans. No page of the samples or of a benchmark is among them.

    python -m ingest.train.recogniser ../shared/data/train models/ocr-1
"""

import argparse
import gzip
import html
import io
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pymupdf
from numpy.typing import NDArray
from onnx import helper, version_converter
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image, ImageFilter

from ingest.ocr.rapid import MODELS, RapidOcr, session
from retrieval.models.onnx import write_manifest

PUBLISHED = MODELS / "PP-OCRv6_rec_small.onnx"
STRIPS = 96
"""Lines from which the ranges are taken; the memory of the calibration grows with their number."""
PASSAGES_PER_PAGE = 5
"""The number of passages in one page."""
LANGUAGES = {"en": 6, "de": 6, "es": 6, "zh": 10, "ro": 6, "tr": 6, "vi": 6}
"""Passages of XQuAD, by language."""
ENGLISH = 90
"""Passages of the English training data."""
COLOURS = (
    *[("#000", "#fff")] * 6,
    ("#fff", "#24476b"),
    ("#333", "#e8e4d8"),
    ("#777", "#fff"),
    ("#a11", "#fff"),
)
"""Ink and paper; 6 of 10 texts are black on white."""

Strip = NDArray[np.float32]  # (1, 3, height, width), BGR in [-1, 1]


def passages(data: Path, rng: random.Random) -> list[str]:
    """Return passages in English and, fewer, in other languages, in random order.

    `data` is the folder with groups.jsonl.gz and xquad.jsonl.gz.
    """
    with gzip.open(data / "groups.jsonl.gz", "rt", encoding="utf-8") as file:
        chosen = rng.sample([json.loads(line)["pos"] for line in file], ENGLISH)
    by_language: dict[str, set[str]] = {language: set() for language in LANGUAGES}
    with gzip.open(data / "xquad.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            by_language.get(row["lang"], set()).add(row["context"])
    for language, count in LANGUAGES.items():
        chosen += rng.sample(sorted(by_language[language]), count)
    rng.shuffle(chosen)
    return chosen


def typeset(texts: Sequence[str], rng: random.Random) -> Image.Image:
    """Return a page with the texts in various typefaces; a table of numbers replaces a quarter of the texts."""
    with pymupdf.open() as document:
        page = document.new_page(width=595, height=842)
        page.insert_htmlbox(
            pymupdf.Rect(40, 40, 555, 802), "".join(_block(t, rng) for t in texts), scale_low=0
        )
        image: Image.Image = page.get_pixmap(dpi=rng.choice([120, 150, 200])).pil_image()
    return image.convert("RGB")


def _block(text: str, rng: random.Random) -> str:
    ink, paper = rng.choice(COLOURS)
    style = (
        f"font-family:{rng.choice(['serif', 'sans-serif', 'monospace'])};color:{ink};background:{paper};"
        f"font-size:{rng.choice([7, 8, 9, 10, 11, 12, 14, 18])}pt;margin:4pt 0;"
        f"font-weight:{rng.choice(['normal', 'bold'])};font-style:{rng.choice(['normal', 'normal', 'italic'])}"
    )
    inner = (
        _numbers(rng) if rng.random() < 0.25 else html.escape(text.upper() if rng.random() < 0.1 else text)
    )
    return f'<div style="{style}">{inner}</div>'


def _numbers(rng: random.Random) -> str:
    def cell() -> str:
        return f"<td>{rng.uniform(-9_999, 99_999):,.{rng.randrange(3)}f}{rng.choice(['', '%', ' $', ' kg'])}</td>"

    return "<table>" + "".join(f"<tr>{cell()}{cell()}{cell()}{cell()}</tr>" for _ in range(3)) + "</table>"


def degrade(page: Image.Image, rng: random.Random) -> Image.Image:
    """Return a third of the pages unchanged, and the others grey, skewed, blurred, faded, noisy and compressed."""
    if rng.random() < 0.35:
        return page
    grey = page.convert("L").rotate(rng.uniform(-0.8, 0.8), Image.Resampling.BICUBIC, fillcolor=255)
    values = np.asarray(grey.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0)))).astype(np.float32)
    noise = np.random.default_rng(rng.randrange(1 << 30)).normal(0, rng.uniform(1, 9), values.shape)
    faded = values * rng.uniform(0.7, 1.0) + rng.uniform(0, 30) + noise
    file = io.BytesIO()
    Image.fromarray(np.clip(faded, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=rng.randrange(40, 90))
    return Image.open(file).convert("RGB")


class RecordingRecogniser:
    """The published recogniser, which also records every line that it is given."""

    def __init__(self) -> None:
        self._session = session(PUBLISHED)
        self.lines: list[Strip] = []

    def run(self, outputs: None, feed: dict[str, Strip]) -> Any:
        self.lines.append(feed["x"])
        return self._session.run(outputs, feed)

    def get_modelmeta(self) -> Any:
        return self._session.get_modelmeta()


def calibration_lines(data: Path, seed: int) -> list[Strip]:
    """Return STRIPS random lines of degraded pages, as the recogniser receives them."""
    rng = random.Random(seed)
    texts = passages(data, rng)
    recogniser = RecordingRecogniser()
    engine = RapidOcr(recogniser)
    for first in range(0, len(texts), PASSAGES_PER_PAGE):
        engine.read(degrade(typeset(texts[first : first + PASSAGES_PER_PAGE], rng), rng))
    return rng.sample(recogniser.lines, STRIPS)


def fuse_gelu(model: onnx.ModelProto) -> int:
    """Replace each chain x / sqrt(2), Erf, + 1, times x, / 2 by a Gelu, in place; returns the number of chains."""
    makers = {output: node for node in model.graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    fused: dict[str, onnx.NodeProto] = {}  # by the output of the chain that it replaces
    removed: set[str] = set()  # outputs of the five operations
    for erf in [node for node in model.graph.node if node.op_type == "Erf"]:
        chain = [makers[erf.input[0]], erf]
        for _ in range(3):
            (following,) = users[chain[-1].output[0]]
            chain.append(following)
        if [node.op_type for node in chain] != ["Div", "Erf", "Add", "Mul", "Mul"]:
            continue
        source, target = chain[0].input[0], chain[-1].output[0]
        fused[target] = helper.make_node(
            "Gelu", [source], [target], erf.name + "_gelu", domain="com.microsoft"
        )
        removed |= {node.output[0] for node in chain}
    nodes = [
        fused.get(n.output[0], n)
        for n in model.graph.node
        if n.output[0] not in removed or n.output[0] in fused
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return len(fused)


class _LineReader(CalibrationDataReader):
    """Gives the lines to ONNX Runtime's calibration one by one."""

    def __init__(self, rows: Sequence[Strip]) -> None:
        self._rows: Iterator[Strip] = iter(rows)

    def get_next(self) -> dict[str, Strip] | None:
        row = next(self._rows, None)
        return None if row is None else {"x": row}


def quantize(published: Path, rows: Sequence[Strip], out: Path) -> dict[str, Any]:
    """Quantize the model, with ranges from the lines `rows`, and write it to `out`; returns the changes by kind."""
    with tempfile.TemporaryDirectory() as folder:
        current, prepared, static = (Path(folder) / name for name in ("17.onnx", "fused.onnx", "static.onnx"))
        onnx.save(version_converter.convert_version(onnx.load(str(published)), 17), str(current))
        quant_pre_process(current, prepared, skip_symbolic_shape=True)
        model = onnx.load(str(prepared))
        gelus = fuse_gelu(model)
        onnx.save(model, str(prepared))
        shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
        convolutions = [  # Not the depthwise ones: memory limits their speed, and they would lose the most accuracy.
            n.name for n in model.graph.node if n.op_type == "Conv" and shapes.get(n.input[1], [0, 0])[1] > 1
        ]
        products = [n.name for n in model.graph.node if n.op_type == "MatMul" and set(n.input) & set(shapes)]
        quantize_static(
            prepared,
            static,
            _LineReader(rows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=convolutions,
        )
        quantize_dynamic(
            static,
            out,
            nodes_to_quantize=products,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
    return {"gelus": gelus, "convolutions": len(convolutions), "products": len(products)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the recogniser and its manifest in the folder given on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with groups.jsonl.gz and xquad.jsonl.gz")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    changed = quantize(
        PUBLISHED, calibration_lines(options.data, options.seed), options.out / "recogniser.onnx"
    )
    write_manifest(options.out, options.out.name, {"from": PUBLISHED.name})
    print(changed, f"{(options.out / 'recogniser.onnx').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
