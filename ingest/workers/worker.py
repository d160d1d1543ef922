"""The work of a worker process: open, rasterize, read and compress pages within limits of time and memory."""

import io
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

import configs.settings as configs
from ingest.ocr.engine import load_ocr
from ingest.ocr.result import Ocr, OcrResult, rotated_image
from ingest.rasterize.document import Rasterizer, open_document, open_with_other_renderer, title_and_date
from ingest.rasterize.mupdf import MissingContent, MupdfDocument, out_of_memory
from ingest.read.page_text import read_page
from ingest.read.titles import printable
from ingest.workers.limits import die_with, limit_memory, time_limit
from ingest.workers.messages import (
    PAGES_PER_CHUNK,
    Chunk,
    ChunkDone,
    Failed,
    FailedPage,
    Opened,
    PreparedPage,
    Task,
    WorkerEvent,
)
from retrieval.errors import FolioscopeError, MissingExtra, UnreadableDocument
from retrieval.types import Box, Word

OCR_DPI = 150
"""Pages rasterized at fewer dots per inch are rasterized again at this resolution for OCR."""
WEBP_METHOD = 2
"""libwebp's effort, 0 to 6: 2 takes 1.2 times the time of 1 for five sixths of the bytes; 4 takes 2.6 times as long."""


def run_worker(connection: "Connection[Any, Any]", settings: configs.Ingest) -> None:
    """Answer chunks until the parent closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends its workers
    os.setsid()  # poppler's and tesseract's processes die with this group
    threading.Thread(target=die_with, args=(os.getppid(),), daemon=True).start()
    limit_memory(settings.memory_mb)
    worker = _Worker(settings)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            chunk = connection.recv()
            for answer in worker.prepare(chunk):
                connection.send(answer)
                if isinstance(answer, Failed) and answer.error.reason == "too much memory":
                    return  # the state of this process can no longer be trusted
            connection.send(ChunkDone())


class _Worker:
    """Prepares chunks, and keeps the last document open for the next chunk."""

    def __init__(self, settings: configs.Ingest) -> None:
        self._settings = settings
        self._ocr = None if settings.ocr == "off" else _LazyOcr(settings)
        self._open: tuple[int, Rasterizer, MupdfDocument | None] | None = None
        self._other: Rasterizer | None = None

    def prepare(self, chunk: Chunk) -> Iterator[WorkerEvent | FolioscopeError]:
        """Yield the events of the chunk; a FolioscopeError that ends the whole ingest is yielded, not raised."""
        source = chunk.task.source
        try:
            with time_limit(self._settings.seconds_per_page):
                document, layer = self._opened(chunk.document, chunk.task)
            last = chunk.last
            if not last:
                last = min(PAGES_PER_CHUNK, document.pages)
                title, date = title_and_date(document, source.path)
                meta = {
                    key: printable(value)
                    for key, value in document.meta.items()
                    if key not in {"title", "created"}
                }
                yield Opened(source, document.pages, title, date, document.renderer, meta)
            for number in range(chunk.first, last + 1):
                try:
                    with time_limit(self._settings.seconds_per_page):
                        page = self._page(chunk.task, document, layer, number)
                except UnreadableDocument as error:
                    if error.reason != "damaged":
                        raise
                    yield FailedPage(source, number, printable(str(error)))
                else:
                    yield page
        except UnreadableDocument as error:
            yield Failed(source, UnreadableDocument(error.reason, printable(str(error))))
        except MissingExtra as error:
            yield error
        except Exception as error:
            yield Failed(source, _unexpected(printable(source.path.name), error, self._settings.memory_mb))

    def _opened(self, number: int, task: Task) -> tuple[Rasterizer, MupdfDocument | None]:
        """Return the document, and PyMuPDF's view of it for the text layer; None if PyMuPDF does not open it."""
        if self._open and self._open[0] == number:
            return self._open[1], self._open[2]
        self._close()
        settings, path, password = self._settings, task.source.path, task.password or ""
        document = open_document(
            path,
            first=settings.renderer,
            password=password,
            max_pages=settings.max_pages,
            max_pixels=settings.max_pixels,
            max_file_mb=settings.max_file_mb,
            seconds=settings.seconds_per_page,
        )
        layer: MupdfDocument | None = None
        if isinstance(document, MupdfDocument):
            layer = document
        elif document.renderer == "poppler":
            with suppress(UnreadableDocument):
                layer = MupdfDocument(path, password)
        self._open = (number, document, layer)
        return document, layer

    def _close(self) -> None:
        if self._open:
            self._open[1].close()
            if self._open[2] and self._open[2] is not self._open[1]:
                self._open[2].close()
        if self._other:
            self._other.close()
        self._open = self._other = None

    def _page(
        self, task: Task, document: Rasterizer, layer: MupdfDocument | None, number: int
    ) -> PreparedPage:
        image, (width, height), renderer = self._render(task, document, number, self._settings.dpi)
        text = read_page(
            layer.page(number) if layer else None,
            lambda: image if self._settings.dpi >= OCR_DPI else self._sharper(renderer, number, image),
            self._ocr,
        )
        if text.rotation:
            image = rotated_image(image, text.rotation)
            width, height = (height, width) if text.rotation in {90, 270} else (width, height)
        return PreparedPage(
            task.source,
            number,
            width,
            height,
            text.words,
            text.source,
            image=_webp(image, 80),
            thumbnail=_webp(_thumbnail(image, self._settings.thumbnail_px), 70),
        )

    def _render(
        self, task: Task, document: Rasterizer, number: int, dpi: int
    ) -> tuple[Image.Image, tuple[float, float], Rasterizer]:
        """Render the page with the document's renderer, else the other one; returns image, size (points), renderer."""
        try:
            return document.render(number, dpi, self._settings.max_pixels), document.size(number), document
        except UnreadableDocument as error:
            if error.reason != "damaged" or isinstance(error, MissingContent):
                raise
            limits = self._settings
            if self._other is None:
                self._other = open_with_other_renderer(
                    document, task.source.path, task.password or "", limits.seconds_per_page
                )
            if self._other is None or number > self._other.pages:
                raise
            try:
                return (
                    self._other.render(number, dpi, limits.max_pixels),
                    self._other.size(number),
                    self._other,
                )
            except UnreadableDocument:
                raise error from None

    def _sharper(self, renderer: Rasterizer, number: int, image: Image.Image) -> Image.Image:
        """Render the page at OCR_DPI; returns `image`, the page at the settings' resolution, if that fails."""
        try:
            return renderer.render(number, OCR_DPI, self._settings.max_pixels)
        except UnreadableDocument:
            return image


class _LazyOcr:
    """Loads the OCR engine when the first page needs it, and cleans its words."""

    def __init__(self, settings: configs.Ingest) -> None:
        self._settings = settings
        self._engine: Ocr | None = None

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), rotate: bool = True) -> OcrResult:
        if self._engine is None:
            self._engine = load_ocr(self._settings.ocr, self._settings.seconds_per_page)
        result = self._engine.read(image, skip=skip, rotate=rotate) if self._engine else OcrResult(())
        return replace(result, words=tuple(Word(printable(word.text), word.box) for word in result.words))


def _unexpected(name: str, error: Exception, memory_mb: int) -> UnreadableDocument:
    """Return the error of a document in which a library raised an error of its own."""
    text = printable(f"{type(error).__name__}: {error}".splitlines()[0][:200])
    if out_of_memory(error):
        return UnreadableDocument(
            "too much memory",
            f"{name} needs more than {memory_mb:,} MiB (memory_mb): raise the limit, or leave the file out",
        )
    return UnreadableDocument("damaged", f"{name} cannot be read ({text})")


def _thumbnail(image: Image.Image, width: int) -> Image.Image:
    """Scale the page to `width` pixels; a thumbnail is at most 16 times as tall as wide."""
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, min(height, 16 * width)), Image.Resampling.BOX, reducing_gap=2.0)


def _webp(image: Image.Image, quality: int) -> bytes:
    if max(image.size) > 16_383:  # the format's limit
        image = image.copy()
        image.thumbnail((16_383, 16_383))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=WEBP_METHOD)
    return file.getvalue()
