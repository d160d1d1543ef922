"""How fast pages come in, and how much memory that takes: born-digital pages, then scans, by each OCR engine.

The born-digital pages are those of the PDFs given that have a text layer; the scans are the same pages, degraded as
`benchmarks.ocr` does it, in PDFs without a text layer. Memory is the peak of the whole process tree.

    python -m benchmarks.ingest_speed --pdfs FOLDER --pages 200 --scans 24 --work FOLDER
"""

import argparse
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pymupdf
from PIL import Image

import configs.settings as configs
import retrieval.encoders
from benchmarks.ocr import degrade
from configs.cores import available_cores
from ingest.pipeline import ingest
from retrieval.store.store import Store

RESULTS = Path(__file__).parent / "results"
MIN_WORDS = 150  # of a page that counts as born digital
PER_FILE = 20


def born_digital(folder: Path, out: Path, count: int) -> list[Path]:
    """Up to `count` pages with a text layer, in files of PER_FILE pages."""
    pages = []
    for path in sorted(folder.glob("*.pdf")):
        with pymupdf.open(path) as document:
            pages += [(path, page.number) for page in document if len(page.get_text("words")) >= MIN_WORDS]
    step = max(1, len(pages) // count)
    chosen = pages[::step][:count]
    files = []
    for first in range(0, len(chosen), PER_FILE):
        target = pymupdf.open()
        for path, number in chosen[first : first + PER_FILE]:
            with pymupdf.open(path) as document:
                target.insert_pdf(document, from_page=number, to_page=number)
        files.append(out / f"digital-{first:04}.pdf")
        target.save(files[-1], garbage=3, deflate=True)
    return files


def scanned(digital: Sequence[Path], out: Path, count: int) -> list[Path]:
    """The first `count` pages, rasterized at 200 dpi and degraded, as image-only PDFs of six pages."""
    images: list[tuple[pymupdf.Rect, Image.Image]] = []
    for path in digital:
        with pymupdf.open(path) as document:
            for page in document:
                if len(images) < count:
                    images.append(
                        (page.rect, degrade(page.get_pixmap(dpi=200).pil_image(), seed=len(images)))
                    )
    files = []
    for first in range(0, len(images), 6):
        target = pymupdf.open()
        for rect, image in images[first : first + 6]:
            buffer = BytesIO()
            image.convert("L").save(buffer, "JPEG", quality=65)
            target.new_page(width=rect.width, height=rect.height).insert_image(rect, stream=buffer.getvalue())
        files.append(out / f"scan-{first:04}.pdf")
        target.save(files[-1])
    return files


class Peak:
    """The most memory (RSS, bytes) that this process and its children held together, looked at ten times a second."""

    def __enter__(self) -> "Peak":
        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.1):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


def measure(files: Sequence[Path], settings: configs.Settings, index: Path) -> dict[str, Any]:
    shutil.rmtree(index, ignore_errors=True)
    encoder = retrieval.encoders.load_encoder(settings.encoder)
    store = Store.create(str(index), encoder.fingerprint)
    began, pages = time.perf_counter(), 0
    with Peak() as peak:
        for event in ingest(files, store, encoder, settings.ingest):
            pages = event.pages_done
    seconds = time.perf_counter() - began
    return {"pages": pages, "seconds": round(seconds, 1), "pages/s": round(pages / seconds, 2),
            "seconds/page": round(seconds / pages, 2),
            "peak MB": round(peak.bytes / 2**20)}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pdfs", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    digital = born_digital(options.pdfs, options.work, options.pages)
    scans = scanned(digital, options.work, options.scans)
    settings = configs.load_profile("cpu")
    rows = {"born digital": measure(digital, settings, options.work / "digital.lance")}
    engines = ["rapidocr", *(["tesseract"] if shutil.which("tesseract") else [])]
    for engine in engines:
        read = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"ocr": engine})})
        rows[f"scans, {engine}"] = measure(scans, read, options.work / f"{engine}.lance")
    for name, row in rows.items():
        print(f"{name:20}", row)
    text = json.dumps({"cores": available_cores(), "load before": os.getloadavg()[0], **rows}, indent=1)
    (RESULTS / "ingest_speed.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
