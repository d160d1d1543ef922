"""OCR engines on pages degraded like scans: CPU seconds a page, and the share of words and numbers found.

The pages are born digital, so their text layer is the truth. They are rasterized, skewed, blurred, shaded,
made noisy and compressed, always in the same way for the same seed.

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

Engine = Callable[[Image.Image], list[str]]


def degrade(page: Image.Image, seed: int) -> Image.Image:
    """Grey, up to 1 degree of skew, blur, uneven light, noise, JPEG at quality 55 to 75."""
    rng = np.random.default_rng(seed)
    grey = page.convert("L").rotate(rng.uniform(-1, 1), Image.Resampling.BICUBIC, fillcolor=255)
    grey = grey.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 0.8)))
    values = np.asarray(grey).astype(np.float32)
    height, width = values.shape
    down, across = np.linspace(0, 1, height)[:, None], np.linspace(0, 1, width)[None, :]
    light = 1 - rng.uniform(0.03, 0.12) * down - rng.uniform(0.0, 0.08) * across
    shown = (values * 0.88 + 12) * light + rng.normal(0, rng.uniform(3, 7), values.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(shown, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=int(rng.integers(55, 76))
    )
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


def report_pages(folder: Path, count: int, seed: int) -> list[tuple[Path, int, list[str]]]:
    """Pages of running text and tables without pictures, at most a quarter of them from one file."""
    files = sorted(folder.rglob("*.pdf"))
    random.Random(seed).shuffle(files)
    found: list[tuple[Path, int, list[str]]] = []
    for path in files:
        document = MupdfDocument(path)
        numbers = list(range(1, document.pages + 1))
        random.Random(seed).shuffle(numbers)
        taken = 0
        for number in numbers:
            if taken >= max(2, count // 4) or len(found) >= count:
                break
            page = document.page(number)
            if any(abs(item["bbox"][2] - item["bbox"][0]) > 100 for item in page.get_image_info()):
                continue
            words = [word.text for word in read_page(page, _no_image, None).words]
            if MIN_WORDS <= len(words) <= MAX_WORDS:
                found.append((path, number, words))
                taken += 1
        document.close()
    return found


def _no_image() -> Image.Image:
    return Image.new("RGB", (8, 8), "white")


def tokens(words: list[str]) -> Counter[str]:
    """Words without case, accents' encoding and the punctuation around them."""
    text = (
        unicodedata.normalize("NFKC", " ".join(words)).lower().replace("\u2019", "'").replace("\u2013", "-")
    )
    stripped = (re.sub(r"^\W+|\W+$", "", word) for word in text.split())
    return Counter(word for word in stripped if word)


def recall(truth: Counter[str], read: Counter[str]) -> tuple[int, int]:
    return sum((truth & read).values()), sum(truth.values())


def numbers_of(counted: Counter[str]) -> Counter[str]:
    return Counter({word: n for word, n in counted.items() if any(c.isdigit() for c in word)})


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def engines(wanted: list[str]) -> Iterator[tuple[str, Engine]]:
    for name in wanted:
        try:
            match name:
                case "rapidocr defaults":
                    yield name, _rapidocr()
                case "ours":
                    ours = load_ocr("rapidocr")
                    assert ours is not None
                    yield name, lambda image, engine=ours: [w.text for w in engine.read(image).words]  # type: ignore[misc]
                case "ours, published weights":
                    from ingest.ocr.rapid import MODELS, RapidOcr, session

                    published = RapidOcr(session(MODELS / "PP-OCRv6_rec_small.onnx"))
                    yield name, lambda image, engine=published: [w.text for w in engine.read(image).words]  # type: ignore[misc]
                case "tesseract":
                    theirs = load_ocr("tesseract")
                    assert theirs is not None
                    yield name, lambda image, engine=theirs: [w.text for w in engine.read(image).words]  # type: ignore[misc]
        except FolioscopeError as error:
            print(f"{name}: left out, {error}")


def _rapidocr() -> Engine:
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
    ready = list(engines(options.engines))
    rows: list[dict[str, Any]] = []
    for dpi in options.dpi:
        scans = []
        for k, (path, number, text) in enumerate(pages):
            document = MupdfDocument(path)
            scans.append((degrade(document.render(number, dpi, 50_000_000), options.seed + k), tokens(text)))
            document.close()
        for name, read in ready:
            read(scans[0][0].crop((0, 0, 600, 300)))  # loads what is loaded late
            seconds: list[float] = []
            found, of, numbers, of_numbers = 0, 0, 0, 0
            for image, truth in scans:
                began = cpu_seconds()
                got = tokens(read(image))
                seconds.append(cpu_seconds() - began)
                a, b = recall(truth, got)
                c, d = recall(numbers_of(truth), numbers_of(got))
                found, of, numbers, of_numbers = found + a, of + b, numbers + c, of_numbers + d
            rows.append(
                {"engine": name, "dpi": dpi, "cpu_seconds_per_page": round(statistics.mean(seconds), 3),
                 "word_recall": round(found / of, 4), "number_recall": round(numbers / max(of_numbers, 1), 4)}
            )  # fmt: skip
            row = rows[-1]
            print(f"{dpi} dpi  {name:<24} {row['cpu_seconds_per_page']:6.2f} CPU s/page   "
                  f"words {row['word_recall']:.4f}   numbers {row['number_recall']:.4f}", flush=True)  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    facts = {"pages": len(pages), "words_per_page": round(words), "seed": options.seed,
             "machine": platform.machine(), "python": platform.python_version(), "rows": rows}  # fmt: skip
    options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
