"""The values that pass between the caller of `prepare`, the worker pool and the worker processes.

A document's way through the ingest, and the events of each step:

1. `ingest.workers.dispatch.prepare` takes a `Task` per document and yields `WorkerEvent`s (this module).
2. `ingest.embed.embed` passes these on, with `Embedded` pages in place of each `PreparedPage`.
3. `ingest.pipeline.ingest` writes the pages, and yields `ingest.progress.Progress` for the person who waits; its field
   `event` is one of the words of `ingest.progress.ProgressKind`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.rasterize.document import Renderer
from ingest.sources import Source
from retrieval.errors import UnreadableDocument
from retrieval.types import TextSource, Word

# What `prepare` takes and yields


@dataclass(frozen=True, slots=True)
class Task:
    """One document to prepare."""

    source: Source
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The document can be read; its pages follow."""

    source: Source
    pages: int
    title: str  # "" if neither the metadata nor the file name has a meaningful one
    date: str  # ISO date of creation; "" if unknown
    renderer: Renderer
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreparedPage:
    """A page, rasterized and read. If OCR detects that it is rotated, all fields refer to the upright page."""

    source: Source
    number: int  # from 1
    width: float  # points, as displayed and upright
    height: float
    words: tuple[Word, ...]  # in reading order
    text_source: TextSource
    image: bytes  # WebP, at the resolution of the settings
    thumbnail: bytes  # WebP, `thumbnail_px` wide


@dataclass(frozen=True, slots=True)
class FailedPage:
    """No renderer could render this page; the document goes on without it."""

    source: Source
    number: int  # from 1
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All pages of the document have come."""

    source: Source


@dataclass(frozen=True, slots=True)
class Failed:
    """The document cannot be read, or not to its end; no more events of it follow."""

    source: Source
    error: UnreadableDocument


@dataclass(frozen=True, slots=True)
class Idle:
    """No worker has sent anything for a moment, so that the caller may do other work."""


DocumentEvent = Opened | PreparedPage | FailedPage | Finished | Failed
WorkerEvent = DocumentEvent | Idle


# What the pool sends to a worker process, and what a worker answers besides the events above


PAGES_PER_CHUNK = 8
"""Small enough to share one document among the workers, large enough to make opening it again in each of them cheap."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive pages of one document, the work that a worker is given at a time.

    If `last` is 0, the worker opens the document, answers `Opened`, and prepares the first PAGES_PER_CHUNK pages.
    """

    document: int  # the dispatcher's number of the document
    task: Task
    first: int  # from 1
    last: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """The worker has answered for all pages of its chunk and is free."""
