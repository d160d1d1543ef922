"""What a worker process does: open, rasterize, read, compress; within its limits of time and memory."""

import io
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

import configs.settings as configs
from ingest.mupdf import MupdfDocument
from ingest.ocr import Ocr, Reading, load, turned_image
from ingest.prepared import Chunk, ChunkDone, Failed, FailedPage, Opened, Prepared, PreparedPage, Task
from ingest.rasterize import Rasterizer, info, open_document, open_other
from ingest.read import PageText, read_page
from retrieval.errors import FolioscopeError, MissingExtra, UnreadableDocument
from retrieval.types import Box

PAGES_AT_ONCE = 8
"""Pages in a chunk: few enough to share a document out, enough to make opening it again cheap."""
OCR_DPI = 150
WEBP_METHOD = 0
"""libwebp's fastest effort."""


def run(connection: "Connection[Any, Any]", settings: configs.Ingest, words: bool) -> None:
    """Answer chunks until the parent closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it ends its workers
    if hasattr(os, "setsid"):
        os.setsid()  # poppler's and tesseract's processes die with this group
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    _limit_memory(settings.memory_mb)
    worker = _Worker(settings, words)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            chunk = connection.recv()
            for answer in worker.prepare(chunk):
                connection.send(answer)
                if isinstance(answer, Failed) and answer.error.reason == "too much memory":
                    return  # what is left of this process is not worth trusting
            connection.send(ChunkDone())


class _Worker:
    def __init__(self, settings: configs.Ingest, words: bool) -> None:
        self._settings = settings
        self._words = words
        self._ocr = None if settings.ocr == "off" else _Engine(settings)
        self._open: tuple[int, Rasterizer, MupdfDocument | None] | None = None
        self._other: Rasterizer | None = None

    def prepare(self, chunk: Chunk) -> Iterator[Prepared | FolioscopeError]:
        source = chunk.task.source
        try:
            with time_limit(self._settings.seconds_per_page):
                document, layer = self._opened(chunk.document, chunk.task)
            last = chunk.last
            if not last:
                last = min(PAGES_AT_ONCE, document.pages)
                title, date = info(document, source.path)
                meta = {key: value for key, value in document.meta.items() if key not in {"title", "created"}}
                yield Opened(source, document.pages, title, date, document.renderer, meta)
            for number in range(chunk.first, last + 1):
                try:
                    with time_limit(self._settings.seconds_per_page):
                        page = self._page(chunk.task, document, layer, number)
                except UnreadableDocument as error:
                    if error.reason != "damaged":
                        raise
                    yield FailedPage(source, number, str(error))
                else:
                    yield page
        except UnreadableDocument as error:
            yield Failed(source, error)
        except MissingExtra as error:
            yield error
        except Exception as error:
            yield Failed(source, _unexpected(source.path, error, self._settings.memory_mb))

    def _opened(self, key: int, task: Task) -> tuple[Rasterizer, MupdfDocument | None]:
        if self._open and self._open[0] == key:
            return self._open[1], self._open[2]
        self._close()
        settings, path, password = self._settings, task.source.path, task.password or ""
        document = open_document(
            path, first=settings.renderer, password=password, max_pages=settings.max_pages,
            max_pixels=settings.max_pixels, max_file_mb=settings.max_file_mb, seconds=settings.seconds_per_page,
        )  # fmt: skip
        layer: MupdfDocument | None = None
        if isinstance(document, MupdfDocument):
            layer = document
        elif document.renderer == "poppler" and self._words:
            with suppress(UnreadableDocument):
                layer = MupdfDocument(path, password)
        self._open = (key, document, layer)
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
        text = PageText((), "none")
        if self._words:
            text = read_page(
                layer.page(number) if layer else None,
                lambda: image if self._settings.dpi >= OCR_DPI else self._sharper(renderer, number, image),
                self._ocr,
            )
        if text.turn:
            image = turned_image(image, text.turn)
            width, height = (height, width) if text.turn in {90, 270} else (width, height)
        return PreparedPage(
            task.source, number, width, height, text.words, text.source,
            _webp(image, 80), _webp(_thumbnail(image, self._settings.thumbnail_px), 70),
        )  # fmt: skip

    def _render(
        self, task: Task, document: Rasterizer, number: int, dpi: int
    ) -> tuple[Image.Image, tuple[float, float], Rasterizer]:
        """The page by the document's renderer, else by the other one."""
        try:
            return document.render(number, dpi, self._settings.max_pixels), document.size(number), document
        except UnreadableDocument as error:
            if error.reason != "damaged":
                raise
            limits = self._settings
            if self._other is None:
                self._other = open_other(
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
        try:
            return renderer.render(number, OCR_DPI, self._settings.max_pixels)
        except UnreadableDocument:
            return image


class _Engine:
    """The OCR engine, loaded when the first page needs it."""

    def __init__(self, settings: configs.Ingest) -> None:
        self._settings = settings
        self._engine: Ocr | None = None

    def read(self, image: Image.Image, *, skip: Sequence[Box] = (), turn: bool = True) -> Reading:
        if self._engine is None:
            self._engine = load(self._settings.ocr, self._settings.seconds_per_page)
        return self._engine.read(image, skip=skip, turn=turn) if self._engine else Reading(())


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """The system ends this process if what is inside takes longer: no Python is needed for it to happen.

    Only where there are such timers; elsewhere the parent's watch has to do.
    """
    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit_memory(megabytes: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # Windows has no such limits, macOS does not keep them
        import resource

        limit = psutil.Process().memory_info().vms + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _unexpected(path: Path, error: Exception, memory_mb: int) -> UnreadableDocument:
    text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if isinstance(error, MemoryError) or "alloc" in text.lower() or "insufficient memory" in text.lower():
        return UnreadableDocument(
            "too much memory",
            f"{path.name} needs more than {memory_mb:,} MiB (memory_mb): raise it, or leave it out",
        )
    return UnreadableDocument("damaged", f"{path.name} cannot be read ({text})")


def _thumbnail(image: Image.Image, width: int) -> Image.Image:
    height = max(1, round(image.height * width / image.width))
    return image.resize((width, min(height, 16 * width)), Image.Resampling.BOX, reducing_gap=2.0)


def _webp(image: Image.Image, quality: int) -> bytes:
    if max(image.size) > 16_383:  # the format's limit
        image = image.copy()
        image.thumbnail((16_383, 16_383))
    file = io.BytesIO()
    image.save(file, "WEBP", quality=quality, method=WEBP_METHOD)
    return file.getvalue()
