"""The nouns: frozen values that ingest writes, recall and rerankers score, and the screens show.

Boxes are page-relative, (x0, y0, x1, y1) in [0, 1], origin at the top left of the page *as displayed*
(rotation applied). Page numbers count from 1. Scores: higher is better, comparable only within one stage of
one query.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from io import BytesIO
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.errors import BadQuery, ModelBroken

Box = tuple[float, float, float, float]
Vectors = NDArray[np.float32]
Precision = Literal["float16", "int8"]
Stored = NDArray[np.float16] | NDArray[np.int8]
"""Vectors (n, d) as the index stores them: int8 is in proportion to a vector of length 1."""
TextSource = Literal["text layer", "ocr", "none"]


@dataclass(frozen=True, slots=True)
class Document:
    doc_id: str  # the first 16 hex digits of the sha256 of the file's bytes
    name: str  # file name, unique within an index
    uri: str  # where it was read from
    pages: int
    added_at: datetime  # UTC
    title: str = ""  # from its metadata, else from its file name; "" if both are opaque
    collection: str = "default"
    tags: tuple[str, ...] = ()
    date: str = ""  # ISO date of the document itself (metadata, else file time); "" if unknown
    scanned_pages: int = 0
    meta: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    doc_id: str
    number: int  # from 1
    document: str  # the document's file name
    width: float = 0.0  # points (1/72 inch), as displayed
    height: float = 0.0

    @property
    def name(self) -> str:
        """`report.pdf#page=12` (RFC 8118), as people paste it and as runs and qrels name it."""
        return f"{self.document}#page={self.number}"

    @property
    def page_id(self) -> str:
        """The key in the store: it stays the same when the file is renamed."""
        return f"{self.doc_id}#{self.number}"


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    box: Box


@dataclass(frozen=True, slots=True)
class PageContent:
    """What an encoder or a reranker may ask of a page."""

    page: Page
    words: tuple[Word, ...]  # in reading order
    source: TextSource
    read_image: Callable[[], bytes]  # an image file (WebP, PNG, ...) at the resolution it was rasterized with
    title: str = ""
    """The document's title: context for its pages."""
    focus: tuple[Box, ...] = ()
    """Where the first stage found the query, best first: a reranker that reads only a part reads there."""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    def image(self) -> Image.Image:
        """RGB."""
        return Image.open(BytesIO(self.read_image())).convert("RGB")

    def image_key(self) -> str:
        """Names the image by its content: the first 32 hex digits of the sha256 of its file."""
        return hashlib.sha256(self.read_image()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PageEmbedding:
    """vectors (n, d) float32 of unit length; regions (n, 4) float32 boxes, NaN where a vector has no place."""

    vectors: Vectors
    regions: Vectors
    dense: Vectors | None = None  # (e,)


@dataclass(frozen=True, slots=True)
class QueryEmbedding:
    """vectors (q, d) float32 of unit length; one token and one `content` flag for each.

    `content` is false for what is not a word of the question: prompts, augmentation, the question as a whole.
    `weights` (q,) multiply each vector's best match; None means 1 for each, 0 leaves the vector out. A negative one is
    refused with ModelBroken: it would reward a page for having nothing near the vector, which no way of searching
    that looks for near vectors can find, and no model of late interaction means it.
    """

    vectors: Vectors
    tokens: tuple[str, ...]
    content: tuple[bool, ...]
    weights: Vectors | None = None
    dense: Vectors | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and (self.weights < 0).any():
            at = int(np.nanargmin(self.weights))
            raise ModelBroken(
                f"the encoder gave {self.tokens[at]!r} the weight {self.weights[at]:g}; weights are 0 or more: check "
                "its model"
            )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must agree for two sets of vectors to be comparable."""

    kind: str
    model: str
    revision: str
    dim: int
    pooling: str = "none"
    dpi: int = 0  # 0: vectors of pages rasterized at any resolution are comparable

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.model}@{self.revision} ({self.dim}-d, pooling {self.pooling}, {self.dpi} dpi)"
        )


class Encoder(Protocol):
    """Pages and questions to vectors. Its results do not depend on what else is in the batch."""

    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def needs(self) -> frozenset[Literal["images", "words"]]: ...
    @property
    def batch_pages(self) -> int:
        """How many pages are best given at once."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What its user should know of the model that was loaded: where it runs, what its licence forbids."""
        ...

    def expect(self, pages: Sequence[PageContent]) -> None:
        """These pages will be encoded soon: whatever can be done ahead may begin."""
        ...

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]: ...
    def encode_queries(self, queries: Sequence[str]) -> list[QueryEmbedding]: ...


class Reranker(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def batch_pages(self) -> int:
        """How many pages are best given at once; the clock is looked at in between."""
        ...

    @property
    def listwise(self) -> bool:
        """Whether its scores compare only within one call: then it is given all pages at once."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """As an Encoder's."""
        ...

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """One relevance score per page, in the order given; higher is better."""
        ...


@dataclass(frozen=True, slots=True)
class Filter:
    """Which pages may be found. Empty fields do not restrict; fields are joined by AND, values by OR."""

    documents: tuple[str, ...] = ()  # file names, or doc_ids
    collections: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: str = ""  # of the document's date, inclusive: 2024-01-31, 2024-01 or 2024
    until: str = ""
    scanned: bool | None = None  # pages read by OCR, or from their text layer
    without: frozenset[str] = frozenset()  # doc_ids that are left out

    def __post_init__(self) -> None:
        """Raises BadQuery for a date that is none, so that whoever asks, and by whatever way, is told the same."""
        for day in filter(None, (self.since, self.until)):
            if not is_date(day):
                raise BadQuery(f"{day!r} is not a date: write it as 2024-01-31, 2024-01 or 2024")


def is_date(text: str) -> bool:
    """Whether `text` is a year, a month or a day of the calendar as ISO 8601 writes them: 2024, 2024-01, 2024-01-31."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text):
        return False
    try:
        date(*map(int, [*text.split("-"), "1", "1"][:3]))
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage did: 'encode query', 'recall', 'maxsim', 'rerank', 'highlight'."""

    name: str
    seconds: float
    pages: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the cross-encoder was spent on this query, and why."""

    reranked: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Hit:
    page: Page
    score: float  # of the last stage that ordered it
    rank: int  # from 1
    first_rank: int  # from 1, before reranking
    scores: Mapping[str, float] = field(default_factory=dict)
    """By name of the evidence: 'vectors' (MaxSim), 'text' (BM25), 'first' (both fused), 'rerank'."""
    reranked: bool = False
    confidence: float | None = None
    """Probability that this page answers, where the index is calibrated for the reranker and it read the page."""
    same: tuple[str, ...] = ()
    """Names of pages that say nearly the same, folded into this one."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    query: str
    hits: tuple[Hit, ...]
    candidates: tuple[Hit, ...]  # the first stage's whole list, in its own order
    stages: tuple[Stage, ...]
    decision: Decision
    rankings: Mapping[str, tuple[Page, ...]] = field(default_factory=dict)
    """Each kind of first-stage evidence by itself, best first: 'vectors' (MaxSim), 'text' (BM25)."""
    notes: tuple[str, ...] = ()
    """What the reader should know, in words: an unread script, a filter that matches no page."""
    complete: bool = True
    """False if pages that were just added are not searched yet: such a result must not be cached."""


@dataclass(frozen=True, slots=True)
class Region:
    """A place on the page that matched a word of the query. `strength` in (0, 1], relative to the query."""

    box: Box
    strength: float
    exact: bool  # the word itself stands here; false: a passage near in meaning


@dataclass(frozen=True, slots=True)
class TermMatch:
    """Where one word of the query was found on one page; empty if nowhere that stands out."""

    term: str
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Highlight:
    """What to light up on one page for one query. No regions means that nothing stands out; `note` says so."""

    page: Page
    terms: tuple[TermMatch, ...]
    regions: tuple[Region, ...]  # of the query as a whole, strongest first
    snippet: str
    snippet_matches: tuple[tuple[int, int], ...]  # character spans of the snippet to print bold
    note: str = ""


@dataclass(frozen=True, slots=True)
class Heat:
    """How near each region of a page is to each word of the query that was found on it.

    boxes (n, 4) float32 page-relative; values (terms, n) float32 in [0, 1], on one scale for the whole query, so
    that a word of little weight glows little. Words that were not found have no row: a map of theirs would be noise.
    """

    terms: tuple[str, ...]
    boxes: Vectors
    values: Vectors
