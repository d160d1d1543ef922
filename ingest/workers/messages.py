"""What the workers are asked for and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.rasterize.document import Renderer
from ingest.sources import Source
from retrieval.errors import UnreadableDocument
from retrieval.types import TextSource, Word


@dataclass(frozen=True, slots=True)
class Task:
    """One document to prepare."""

    source: Source
    password: str | None = None


@dataclass(frozen=True, slots=True)
class Opened:
    """The document can be read: its pages follow."""

    source: Source
    pages: int
    title: str  # "" if neither metadata nor file name says anything
    date: str  # ISO date of creation; "" if unknown
    renderer: Renderer
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PreparedPage:
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
    """One page that no renderer could render; the document goes on without it."""

    source: Source
    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All pages have come."""

    source: Source


@dataclass(frozen=True, slots=True)
class Failed:
    """The document cannot be read, or not to its end; no more events of it follow."""

    source: Source
    error: UnreadableDocument


@dataclass(frozen=True, slots=True)
class Idle:
    """No worker has said anything for a moment: the caller may do what can wait."""


OfDocument = Opened | PreparedPage | FailedPage | Finished | Failed
Prepared = OfDocument | Idle


PAGES_AT_ONCE = 8
"""Pages in a chunk: few enough to share a document out, enough to make opening it again cheap."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some pages of one document: what a worker does at a time. `last` 0: open it, say so, do the first chunk."""

    document: int
    task: Task
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """A worker asks for more."""
