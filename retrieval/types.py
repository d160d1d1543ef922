"""The values that all packages exchange: ingest writes them, recall and rerankers score them, the screens show them.

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
from typing import Literal, Protocol, runtime_checkable

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
    """The content of a page, as encoders and rerankers read it. The image is read only when it is needed."""

    page: Page
    words: tuple[Word, ...]  # in reading order
    source: TextSource
    read_image: Callable[[], bytes]  # an image file (WebP, PNG, ...) at the resolution it was rasterized with
    title: str = ""
    """The document's title: context for its pages."""
    focus: tuple[Box, ...] = ()
    """Where the first stage found the query, best first: a reranker that reads only a part of the page reads here."""

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    def image(self) -> Image.Image:
        """Return the decoded image, RGB."""
        return Image.open(BytesIO(self.read_image())).convert("RGB")

    def image_key(self) -> str:
        """Return the first 32 hex digits of the sha256 of the image file: equal images have equal keys."""
        return hashlib.sha256(self.read_image()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class PageEmbedding:
    """A page's vectors (n, d), float32 of unit length, and their regions (n, 4), float32 boxes.

    A vector without a place on the page has a region of NaN.
    """

    vectors: Vectors
    regions: Vectors
    dense: Vectors | None = None  # (e,)


@dataclass(frozen=True, slots=True)
class QueryEmbedding:
    """A question's vectors (q, d), float32 of unit length, with one token and one `content` flag for each vector.

    `content` is false for vectors that stand for no word of the question: prompts, augmentation, the whole question.
    `weights` (q,) multiply each vector's best match; None means 1 for each, 0 leaves the vector out. A negative weight
    raises ModelBroken: it would reward a page for having nothing near the vector, which no search for near vectors can
    find, and no late-interaction model intends it.
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
    """Identifies an encoder: vectors are comparable only if their fingerprints are equal."""

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
    """Encodes pages and questions as vectors. A result does not depend on what else is in the batch."""

    @property
    def fingerprint(self) -> Fingerprint: ...
    @property
    def needs(self) -> frozenset[Literal["images", "words"]]: ...
    @property
    def batch_pages(self) -> int:
        """The number of pages for which one call is most efficient."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that users should read about the loaded model: where it runs, what its licence forbids."""
        ...

    def expect(self, pages: Sequence[PageContent]) -> None:
        """Announce pages that will be encoded soon, so that work such as decoding images may begin."""
        ...

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]: ...
    def encode_queries(self, queries: Sequence[str]) -> list[QueryEmbedding]: ...


class Reranker(Protocol):
    """Scores pages for a question. Ordering, ties and cut-offs are its caller's."""

    @property
    def name(self) -> str: ...
    @property
    def batch_pages(self) -> int:
        """The number of pages for which one call is most efficient; the caller checks its budget between calls."""
        ...

    @property
    def listwise(self) -> bool:
        """Whether scores are comparable only within one call: then one call gets all pages."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that users should read about the loaded model, as an Encoder's."""
        ...

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Return one relevance score for each page, in the order given; higher is better."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that a reader has read: the page's words [first, end), and its relevance, a logit."""

    first: int
    end: int
    relevance: float


@dataclass(frozen=True, slots=True)
class PageReading:
    """What a reader says of one page: how well it answers, where the evidence is, and which words are the answer."""

    score: float  # the page's relevance, as `Reranker.score` returns it
    answerable: float = 0.0
    """Logit that the page has an answer."""
    passages: tuple[Passage, ...] = ()  # those that were read, best first
    evidence: tuple[float, ...] = ()
    """For each word of the page the probability that it belongs to the answer's evidence; 0 where nothing was read."""
    spans: tuple[tuple[int, int, float], ...] = ()
    """The likeliest answers, best first: words [first, end), and the probability among all spans that were read."""


@runtime_checkable
class PageReader(Reranker, Protocol):
    """A reranker that also says where a page answers."""

    def read(self, query: str, pages: Sequence[PageContent], *, whole: bool) -> list[PageReading]:
        """Return one reading for each page, in the order given.

        whole: read the page as a whole, as far as it is not very long; otherwise only what `score` reads of it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """Words of a page that answer the query, verbatim: `text` as on the page, never joined from several places."""

    page: Page
    text: str
    boxes: tuple[Box, ...]  # one for each line
    probability: float  # that these words answer
    passage: str  # the sentence, or the cells of the table's row, in which they stand
    passage_boxes: tuple[Box, ...]
    start: int = -1  # of `text` in `passage`, in characters; -1 if it goes beyond it


@dataclass(frozen=True, slots=True)
class Filter:
    """Restricts a search to some pages. Empty fields do not restrict; fields are joined by AND, values by OR.

    Raises BadQuery for a date that is not one.
    """

    documents: tuple[str, ...] = ()  # file names, or doc_ids
    collections: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: str = ""  # the earliest date of the document, inclusive: 2024-01-31, 2024-01 or 2024
    until: str = ""  # the latest date, inclusive
    scanned: bool | None = None  # true: only pages read by OCR; false: only pages with a text layer
    without: frozenset[str] = frozenset()  # doc_ids to leave out

    def __post_init__(self) -> None:
        for day in filter(None, (self.since, self.until)):
            if not is_date(day):
                raise BadQuery(f"{day!r} is not a date: write it as 2024-01-31, 2024-01 or 2024")


def is_date(text: str) -> bool:
    """Return whether `text` is a year, month or day of the calendar in ISO 8601: 2024, 2024-01, 2024-01-31."""
    if not re.fullmatch(r"[0-9]{4}(-[0-9]{2}){0,2}", text):
        return False
    try:
        date(*map(int, [*text.split("-"), "1", "1"][:3]))
    except ValueError:
        return False
    return True


EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One question and how to answer it. Equal requests have equal answers while the index stays the same."""

    query: str
    where: Filter = EVERYTHING
    rerank: bool = True
    """Whether the reranker may score the best candidates."""
    budget_ms: float | None = None
    """Milliseconds that reranking may take; None means the profile's `search.budget_ms`."""
    min_confidence: float | None = None
    """Return only pages that answer with at least this probability, in [0, 1]; needs a calibrated reranker."""


StageName = Literal["encode query", "recall", "rerank", "rules", "answer"]
DecisionKind = Literal[
    "reranked",  # every page of the shortlist was scored
    "reranked_in_part",  # the budget ended before the shortlist did
    "pending",  # the first stage's order, which a reranked one follows
    "off",  # this search asked for no reranking
    "no_reranker",  # the profile has none
    "too_few_candidates",  # fewer than two pages have only one order
    "gate",  # the first stage's best page leads by enough (`search.gate`)
    "failed",  # the reranker did not answer
    "removed",  # the shortlist was removed from the index before the reranker read it
]
NoteKind = Literal[
    "not_searched_yet",  # pages were just added or changed, and their vectors are still being read
    "unknown_words",  # the encoder knows no word of the question
    "unspaced_script",  # the question is written in a script without spaces, which the encoder was not trained on
    "empty_index",  # the index has no documents
    "filtered_out",  # no page passes the filters and matches
    "no_match",  # no page matches
    "missing_phrase",  # a quoted phrase of the question stands nowhere in the pages that were searched
    "weak_match",  # even the likeliest page is unlikely to answer
    "below_min_confidence",  # no page reaches the `min_confidence` of the request
    "no_confidence",  # a `min_confidence` was given, and the reranker read no page
]


@dataclass(frozen=True, slots=True)
class Stage:
    """What one stage of a search did: how many pages it looked at, and in how many seconds."""

    name: StageName
    seconds: float
    pages: int
    note: str = ""  # for people


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the reranker read pages for this question: `kind` for programs, `reason` in words."""

    kind: DecisionKind
    reason: str
    read: int = 0  # pages of the shortlist that the reranker read
    shortlist: int = 0  # pages that it was to read

    @property
    def reranked(self) -> bool:
        return self.kind in ("reranked", "reranked_in_part")


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the reader of a result should know: `kind` for programs, `text` in words."""

    kind: NoteKind
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A page in a ranking."""

    page: Page
    score: float  # from the last stage that ordered it
    rank: int  # from 1
    first_rank: int  # from 1, before reranking
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores by evidence: 'vectors' (MaxSim), 'text' (BM25), 'first' (both fused), 'rerank'."""
    reranked: bool = False
    confidence: float | None = None
    """The probability that this page answers; None without a calibration, or if the reranker did not read the page."""
    same: tuple[str, ...] = ()
    """Names of near-duplicate pages that were folded into this one."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to one SearchRequest."""

    query: str
    hits: tuple[Hit, ...]
    candidates: tuple[Hit, ...]  # all hits of the first stage, in its order
    stages: tuple[Stage, ...]
    decision: Decision
    rankings: Mapping[str, tuple[Page, ...]] = field(default_factory=dict)
    """The ranking by each kind of first-stage evidence alone, best first: 'vectors' (MaxSim), 'text' (BM25)."""
    notes: tuple[Note, ...] = ()
    complete: bool = True
    """False if pages that were just added are not searched yet: such a result must not be cached."""
    answers: tuple[Answer, ...] = ()
    """What the best pages answer, likeliest first, by a reranker that is a PageReader; none if no page answers well."""


RegionKind = Literal[
    "answer",  # the words that answer, or the passage that does if the words are not sure
    "passage",  # the sentence or table row around the words that answer, or one that may have the answer
    "head",  # the heads of the table's column and row in which the answer stands
    "word",  # a word of the query
    "near",  # a passage close in meaning to a word of the query
]


@dataclass(frozen=True, slots=True)
class Region:
    """A place on the page to light. `strength` in (0, 1], relative to the query."""

    box: Box
    strength: float
    kind: RegionKind


@dataclass(frozen=True, slots=True)
class TermMatch:
    """The places of one word of the query on one page; no regions if none stands out."""

    term: str
    regions: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Highlight:
    """The places to highlight on one page for one query. Without regions nothing stands out, and `note` says so."""

    page: Page
    terms: tuple[TermMatch, ...]
    regions: tuple[Region, ...]  # of the query as a whole, strongest first
    snippet: str
    snippet_matches: tuple[tuple[int, int], ...]  # character spans of the snippet to print bold
    note: str = ""
    answer: Answer | None = None
    """What this page answers; None if no reader has read it, or if it does not answer well."""


@dataclass(frozen=True, slots=True)
class Heat:
    """A heat map of a page: how close each region is to each word of the query that was found on the page.

    boxes (n, 4) float32 page-relative; values (terms, n) float32 in [0, 1], on one scale for the whole query, so
    that an unimportant word stays faint. Words that were not found have no row: their map would be noise.
    """

    terms: tuple[str, ...]
    boxes: Vectors
    values: Vectors
