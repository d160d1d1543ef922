"""Ingest with an encoder on a GPU, from prepared pages to the rows that are stored.

400 pages of 20 documents, half of them scans, arrive as workers send them: image, thumbnail and words. They go through
`ingest.embed` and become the tables that LanceDB gets, written to an Arrow file on disk. Rasterizing, OCR and LanceDB
itself are left out: they run on processors, and are measured there.
"""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from benchmarks.gpu import fla, tuning
from benchmarks.gpu.encoders import FLA_SETTINGS, encoder_of, family_of, linear_attention, on_device
from benchmarks.gpu.measure import Bench
from benchmarks.gpu.models import Model, random_model
from benchmarks.gpu.pages import DRAWN, image_bytes, pages
from ingest.embed import Embedded, embed
from ingest.sources import Source
from ingest.workers.messages import Finished, PreparedPage, WorkerEvent
from retrieval.encoders.vision import VisionEncoder
from retrieval.store.schema import PageRecord, image_rows, page_rows, pages_schema
from retrieval.types import Page, PageContent, Word

DOCUMENTS, PAGES = 20, 20
AT_ONCE = 8  # pages of a batch, whose time on the device is compared with the whole
WORDS = tuple(Word(f"word{k}", (0.1, k / 400, 0.2, (k + 1) / 400)) for k in range(300))


def measure(spec: Model, bench: Bench) -> None:
    """Measures the ingest with one encoder, and puts its numbers in the bench's row."""
    model, processor = random_model(spec, bench.placement, bench.tiny)
    family = family_of(model, processor, bench)
    encoder = encoder_of(spec, family)
    documents = 2 if bench.tiny else DOCUMENTS
    each = 2 if bench.tiny else PAGES

    def run(count: int) -> float:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            stored = _ingest(encoder, count, each, bench.tiny, Path(folder))
        if stored != count * each:
            raise RuntimeError(f"{stored} of {count * each} pages were stored")
        return time.perf_counter() - began

    tuning.limit("fla", FLA_SETTINGS)
    with linear_attention(model, fla.available()):
        run(2)
        rate = documents * each / run(documents)
        bench.put(pages=documents * each)
        bench.put_as("pages/s", round(rate, 1))
        prepared = [
            on_device(family, family.page(page.image()), bench) for page in pages(AT_ONCE, bench.tiny)
        ]
        ms, _ = bench.device_ms(lambda: family.encode(prepared))
    bench.put_as("GPU busy", round(rate * ms / len(prepared) / 1000, 3))


def _ingest(encoder: VisionEncoder, documents: int, each: int, small: bool, folder: Path) -> int:
    """Returns the number of pages that were embedded and written."""
    schema = pages_schema(encoder.fingerprint)
    stored = 0
    with pa.OSFile(str(folder / "pages.arrow"), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for event in embed(_events(documents, each, small), encoder, _content):
            if isinstance(event, Embedded):
                records = [
                    PageRecord(p.content.page, p.content.words, p.content.source, "", p.embedding,
                               p.prepared.image, p.prepared.thumbnail)
                    for p in event.pages
                ]  # fmt: skip
                writer.write_table(page_rows(records, schema))
                image_rows(records)
                stored += len(records)
    return stored


def _events(documents: int, each: int, small: bool) -> Iterator[WorkerEvent]:
    for d in range(documents):
        path = Path(f"made{d}.pdf")
        source = Source(path, f"file:///{path}", 0, datetime(2026, 1, 1, tzinfo=UTC))
        for k in range(each):
            image = image_bytes((d + k) % DRAWN, small)
            yield PreparedPage(
                source=source, number=k + 1, width=595.0, height=842.0, words=WORDS,
                text_source="ocr" if (d + k) % 2 else "text layer", image=image, thumbnail=image[:4000],
            )  # fmt: skip
        yield Finished(source)


def _content(prepared: PreparedPage) -> PageContent:
    name = prepared.source.path.name
    page = Page(f"{name:0>16}", prepared.number, name, prepared.width, prepared.height)
    return PageContent(page, prepared.words, prepared.text_source, lambda: prepared.image)
