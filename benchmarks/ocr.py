"""Measures OCR engines on pages degraded like scans: CPU seconds per page, and the recall of words and of numbers.

The pages are born digital, so their text layer is the ground truth. They are rasterized, skewed, blurred, shaded,
made noisy and compressed, in the same way each time for the same seed.

    python -m benchmarks.ocr --pdfs samples/pdfs --pages 12
"""

import argparse
import io
import json
import platform
import random
import re
import resource
import statistics
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ingest.ocr.engine import load_ocr
from ingest.rasterize.mupdf import MupdfDocument
from ingest.read.page_text import read_page
from retrieval.errors import FolioscopeError

RESULTS = Path(__file__).parent / "results" / "ocr.json"
MIN_WORDS, MAX_WORDS = 350, 750
"""Words of the pages that are chosen."""

Engine = Callable[[Image.Image], list[str]]
"""From an image to its words."""


def degrade(page: Image.Image, seed: int) -> Image.Image:
    """Return the page in grey with up to 1 degree of skew, blur, uneven light, noise, and JPEG at quality 55 to 75."""
    rng = np.random.default_rng(seed)
    grey = page.convert("L").rotate(rng.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor=255)
    grey = grey.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.8)))
    values = np.asarray(grey).astype(np.float32)
    height, width = values.shape
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    light = 1 - rng.uniform(0.03, 0.12) * down - rng.uniform(0.0, 0.08) * across
    degraded = (values * 0.88 + 12) * light + rng.normal(0, rng.uniform(3, 7), values.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(degraded, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=int(rng.integers(55, 76))
    )
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def report_pages(folder: Path, count: int, seed: int) -> list[tuple[Path, int, list[str]]]:
    """Return up to `count` pages of text and tables without pictures, at most a quarter of them from one file.

    Each is a file, a page number from 1, and the words of its text layer.
    """
    files = sorted(folder.rglob("*.pdf"))
    random.Random(seed).shuffle(files)
    pages: list[tuple[Path, int, list[str]]] = []
    for path in files:
        document = MupdfDocument(path)
        numbers = list(range(1, document.pages + 1))
        random.Random(seed).shuffle(numbers)
        taken = 0
        for number in numbers:
            if taken >= max(2, count // 4) or len(pages) >= count:
                break
            page = document.page(number)
            if any(abs(item["bbox"][2] - item["bbox"][0]) > 100 for item in page.get_image_info()):
                continue
            words = [word.text for word in read_page(page, _no_image, None).words]
            if MIN_WORDS <= len(words) <= MAX_WORDS:
                pages.append((path, number, words))
                taken += 1
        document.close()
    return pages


def _no_image() -> Image.Image:
    return Image.new("RGB", (8, 8), "white")


def tokens(words: list[str]) -> Counter[str]:
    """Count the words, regardless of case, of the encoding of accents and of the punctuation around them."""
    text = (
        unicodedata.normalize("NFKC", " ".join(words)).lower().replace("\u2019", "'").replace("\u2013", "-")
    )
    stripped = (re.sub(r"^\W+|\W+$", "", word) for word in text.split())
    return Counter(word for word in stripped if word)


def recall(truth: Counter[str], read: Counter[str]) -> tuple[int, int]:
    """Return the number of words of `truth` that were read, and the number of its words."""
    return sum((truth & read).values()), sum(truth.values())


def only_numbers(words: Counter[str]) -> Counter[str]:
    """Return the words that contain a digit."""
    return Counter({word: n for word, n in words.items() if any(c.isdigit() for c in word)})


def cpu_seconds() -> float:
    """Return the CPU seconds that this process and its ended children have used."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def engines(names: list[str]) -> Iterator[tuple[str, Engine]]:
    """Load the named engines; prints and skips an engine that is not installed."""
    for name in names:
        try:
            match name:
                case "rapidocr defaults":
                    yield name, _rapidocr()
                case "ours":
                    rapid = load_ocr("rapidocr")
                    assert rapid is not None
                    yield name, lambda image, engine=rapid: [w.text for w in engine.read(image).words]  # type: ignore[misc]
                case "ours, published weights":
                    from ingest.ocr.rapid import MODELS, RapidOcr, session

                    published = RapidOcr(session(MODELS / "PP-OCRv6_rec_small.onnx"))
                    yield name, lambda image, engine=published: [w.text for w in engine.read(image).words]  # type: ignore[misc]
                case "tesseract":
                    tesseract = load_ocr("tesseract")
                    assert tesseract is not None
                    yield name, lambda image, engine=tesseract: [w.text for w in engine.read(image).words]  # type: ignore[misc]
        except FolioscopeError as error:
            print(f"{name} is skipped: {error}")


def _rapidocr() -> Engine:
    """Load RapidOCR's own pipeline with its defaults, on one thread."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "error",
        }
    )

    def read(image: Image.Image) -> list[str]:
        result = engine(np.asarray(image)[:, :, ::-1])
        return " ".join(result.txts or ()).split()

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pdfs", type=Path, default=Path("samples/pdfs"))
    parser.add_argument("--pages", type=int, default=12)
    parser.add_argument("--dpi", type=int, nargs="+", default=[150, 200])
    parser.add_argument(
        "--engines", nargs="+", default=["rapidocr defaults", "ours, published weights", "ours", "tesseract"]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()

    pages = report_pages(options.pdfs, options.pages, options.seed)
    words = statistics.mean(len(text) for _, _, text in pages)
    print(f"{len(pages)} pages of {len({path for path, _, _ in pages})} files, {words:.0f} words a page")
    loaded = list(engines(options.engines))
    rows: list[dict[str, Any]] = []
    for dpi in options.dpi:
        scans = []
        for k, (path, number, text) in enumerate(pages):
            document = MupdfDocument(path)
            scans.append((degrade(document.render(number, dpi, 50_000_000), options.seed + k), tokens(text)))
            document.close()
        for name, read in loaded:
            read(scans[0][0].crop((0, 0, 600, 300)))  # so that lazy loading is not measured
            seconds: list[float] = []
            of_words = np.zeros(2, int)  # read, and in all
            of_numbers = np.zeros(2, int)
            for image, truth in scans:
                began = cpu_seconds()
                result = tokens(read(image))
                seconds.append(cpu_seconds() - began)
                of_words += recall(truth, result)
                of_numbers += recall(only_numbers(truth), only_numbers(result))
            row = {
                "engine": name,
                "dpi": dpi,
                "cpu_seconds_per_page": round(statistics.mean(seconds), 3),
                "word_recall": round(int(of_words[0]) / int(of_words[1]), 4),
                "number_recall": round(int(of_numbers[0]) / max(int(of_numbers[1]), 1), 4),
            }
            rows.append(row)
            print(
                f"{dpi} dpi  {name:<24} {row['cpu_seconds_per_page']:6.2f} CPU s/page   "
                f"words {row['word_recall']:.4f}   numbers {row['number_recall']:.4f}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "pages": len(pages),
        "words_per_page": round(words),
        "seed": options.seed,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "rows": rows,
    }
    options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
