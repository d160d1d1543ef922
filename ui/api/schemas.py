"""The JSON that REST, MCP, exports and `--json` exchange with programs: field names, types and meanings.

Boxes are [x0, y0, x1, y1], page-relative in [0, 1], origin at the top left of the page as displayed. Pages count from
1. Addresses are relative to the root of the server; they are empty on the command line and in exports.
"""

from typing import Literal

from pydantic import BaseModel, Field

from retrieval.types import DecisionKind, NoteKind, RegionKind, StageName


class StageOut(BaseModel):
    """What one stage of the search did."""

    name: StageName
    ms: float = Field(description="milliseconds")
    pages: int = Field(description="pages that the stage looked at")
    note: str = Field(default="", description="details for people")


class DecisionOut(BaseModel):
    """Whether the reranker read pages for this question, and why."""

    kind: DecisionKind = Field(
        description="reranked; reranked_in_part: the budget ended first; pending: the reranked order follows; "
        "off: not asked for; no_reranker: the profile has none; too_few_candidates: there is only one order; "
        "gate: the first stage's best page leads clearly; failed: the reranker did not answer; "
        "removed: the candidates were removed from the index"
    )
    text: str = Field(description="the same in one sentence, with numbers")
    read: int = Field(description="pages of the shortlist that the reranker read")
    shortlist: int = Field(
        description="pages that it was to read; if it read fewer, a larger `budget_ms` reads the rest"
    )


class NoteOut(BaseModel):
    """Something that the reader of the result should know."""

    kind: NoteKind
    text: str


class RegionOut(BaseModel):
    """A place on a page that matches the question."""

    box: tuple[float, float, float, float]
    strength: float = Field(description="in (0, 1], relative to the question")
    kind: RegionKind = Field(
        description="answer: the words that answer, or the sentence or row that does if the words are not sure; "
        "passage: the sentence or row around the words; head: a head of the table's column or row in which they stand; "
        "word: a word of the question; near: a passage close in meaning"
    )


class AnswerOut(BaseModel):
    """Words of a page that answer the question, verbatim: never generated, never joined from several places."""

    doc_id: str
    document: str = Field(description="file name")
    page: int = Field(description="page number, from 1")
    page_name: str = Field(description="as in report.pdf#page=12")
    text: str = Field(description="as on the page")
    probability: float = Field(description="that these words answer")
    passage: list[tuple[str, bool]] = Field(
        description="pieces of the sentence or the table's row, each with whether it is the answer; MCP: one text"
    )
    boxes: list[tuple[float, float, float, float]] = Field(description="of the answer, one for each line")
    passage_boxes: list[tuple[float, float, float, float]] = Field(
        description="of the passage, one for each line"
    )
    link: str = Field(
        default="",
        description="address of the web page that shows it; empty on the command line and in exports",
    )


class HitOut(BaseModel):
    """One page of a result, the same in REST, MCP, exports and `folioscope search --json`."""

    doc_id: str = Field(description="the first 16 hex digits of the sha256 of the document's file")
    document: str = Field(description="file name")
    title: str = Field(description="of the document; empty if unknown")
    page: int = Field(description="page number, from 1")
    pages: int = Field(description="number of pages of the document")
    page_name: str = Field(description="document and page in one, as in report.pdf#page=12")
    date: str = Field(description="of the document, ISO; empty if unknown")
    collection: str = Field(description="of the document")
    tags: list[str] = Field(description="of the document")
    scanned: bool = Field(description="whether the page was read by OCR")
    width: float = Field(description="of the page as displayed, in points; 0 if unknown")
    height: float = Field(description="of the page as displayed, in points; 0 if unknown")
    rank: int = Field(description="in this result, from 1")
    first_rank: int = Field(description="rank in the first stage, from 1")
    moved: int | None = Field(
        description="ranks gained by reranking, negative if lost; null if the result was not reranked"
    )
    score: float = Field(
        description="from the last stage that ordered this page; comparable within this result only"
    )
    scores: dict[str, float] = Field(
        description="by evidence: vectors (MaxSim), text (BM25), place (page or figure named in the question), "
        "first (fused), rerank"
    )
    reranked: bool = Field(description="whether the reranker read this page")
    confidence: float | None = Field(
        default=None,
        description="probability that this page answers; null if the index is not calibrated, or if the reranker "
        "did not read this page",
    )
    answer: str = Field(default="", description="words of this page that answer; empty if none do well")
    same: list[str] = Field(default=[], description="page names of near-duplicates folded into this hit")
    snippet: list[tuple[str, bool]] = Field(
        description="pieces of text around the best match, each with whether it matches; MCP and CSV: one text"
    )
    note: str = Field(default="", description="says so if nothing on the page stands out")
    regions: list[RegionOut] = Field(
        default=[],
        description="places that match, strongest first; on the command line all, in REST those of the answer: "
        "the others are at /highlights",
    )
    thumb: str = Field(
        default="", description="address of the thumbnail; empty on the command line and in exports"
    )
    image: str = Field(default="", description="address of the page's image; empty likewise")
    link: str = Field(default="", description="address of the web page that shows this hit; empty likewise")
    judged: int | None = Field(
        default=None, description="this user's judgement: 1 thumb up, 0 thumb down, null if there is none"
    )


class CandidateOut(BaseModel):
    """One candidate in both orders, to compare them."""

    doc_id: str
    document: str = Field(description="file name")
    page: int = Field(description="page number, from 1")
    page_name: str = Field(description="as in report.pdf#page=12")
    rank: int
    first_rank: int
    first: float = Field(description="score of the first stage")
    rerank: float | None = Field(description="the reranker's own score; null if it did not read the page")
    thumb: str = Field(default="", description="address of the thumbnail; empty on the command line")


class SearchOut(BaseModel):
    """The answer to a question, the same in REST, the JSON export and `folioscope search --json`."""

    query: str
    answers: list[AnswerOut] = Field(
        description="what the best pages answer, likeliest first; empty if no page answers well, or if the reranker "
        "finds no answers"
    )
    hits: list[HitOut] = Field(description="best first; a document removed since the search is left out")
    found: int = Field(description="candidates of the first stage: `top` may be raised up to this")
    searched: int = Field(description="pages that were searched")
    provisional: bool = Field(description="true for the first stage's order, which a reranked one follows")
    stages: list[StageOut] = Field(description="in the order in which they ran")
    reranked: bool = Field(description="whether the reranker read any page")
    decision: DecisionOut
    notes: list[NoteOut]
    candidates: list[CandidateOut] = Field(default=[], description="every candidate, if asked for")


class TermOut(BaseModel):
    """The places on a page that match one word of the question."""

    term: str
    count: int = Field(
        description="places on this page; those of a negation that stand apart from the other words have no region"
    )
    kind: Literal["word", "near"] | None = Field(
        description="word: the word itself is there; near: passages close in meaning; null: neither is"
    )
    regions: list[tuple[float, float, float, float, float]] = Field(
        description="boxes, each with a strength in (0, 1], strongest first"
    )


class HeatOut(BaseModel):
    """A heat map: how close each region is to each word that was found on the page, or how much each line answers.

    On a page with an answer there is one map, and its only term is "answer".
    `boxes` is base64 of little-endian uint16 (n, 4), where 65535 is the page's far edge; `values` is base64 of uint8
    (terms, n), where 255 is the strongest.
    """

    terms: list[str]
    boxes: str
    values: str


class PageOut(BaseModel):
    """One page of a document, with what matches a question if there is one."""

    doc_id: str
    document: str = Field(description="file name")
    title: str
    page: int = Field(description="page number, from 1")
    pages: int = Field(description="number of pages of the document")
    page_name: str = Field(description="as in report.pdf#page=12")
    width: float = Field(description="points")
    height: float = Field(description="points")
    scanned: bool = Field(description="whether the page was read by OCR")
    image: str = Field(description="address of the page's image")
    around: list[str] = Field(description="addresses of the images of the next and the previous page")
    original: str = Field(description="address of the original file; empty if the file is gone")
    query: str
    answer: AnswerOut | None = Field(description="what this page answers; null if it does not answer well")
    regions: list[RegionOut] = Field(description="places that match the question as a whole, strongest first")
    terms: list[TermOut]
    heat: HeatOut | None
    note: str = Field(description="says so if nothing stands out")
    text: str
    words: list[tuple[str, float, float, float, float]] = Field(
        description="each word with its box, in reading order"
    )
    judged: int | None = Field(
        default=None, description="this user's judgement: 1 thumb up, 0 thumb down, null if there is none"
    )


class HighlightsOut(BaseModel):
    """What on one page matches a question."""

    doc_id: str
    page: int
    query: str
    answer: AnswerOut | None = Field(description="what this page answers; null if it does not answer well")
    regions: list[RegionOut] = Field(description="places that match the question as a whole, strongest first")
    terms: list[TermOut]
    heat: HeatOut | None
    note: str


class DocumentOut(BaseModel):
    doc_id: str
    name: str
    title: str
    pages: int
    scanned_pages: int
    collection: str
    tags: list[str]
    date: str
    added_at: str
    thumb: str
    left_out: str = Field(description="numbers of the pages that could not be rendered, separated by commas")
    original: bool = Field(description="whether the file that was ingested still exists")
    leaving: bool = Field(
        description="whether it is about to be removed; for a few seconds `undo` brings it back"
    )


class DocumentsOut(BaseModel):
    documents: list[DocumentOut]
    total: int = Field(description="documents that match")
    pages: int = Field(description="pages of the documents that match")


class JobOut(BaseModel):
    id: int
    name: str
    state: Literal["queued", "reading", "done", "skipped", "failed", "cancelled", "removing"]
    read: int = Field(description="pages rasterized and read")
    page: int = Field(description="pages embedded")
    pages: int = Field(description="pages of the document; 0 until this is known")
    size: int = Field(description="bytes")
    reason: str
    message: str
    seconds: float


class RunOut(BaseModel):
    """An ingest that was started on the command line and writes to this index."""

    state: str
    files: int
    files_ended: int
    failed: int
    pages_done: int
    pages_per_second: float
    names: list[str]
    message: str


class JobsOut(BaseModel):
    jobs: list[JobOut] = Field(description="the unfinished ones first; not all if there are many")
    counts: dict[str, int]
    busy: bool
    pages_per_second: float
    seconds_left: float | None
    waiting: str = Field(description="why no job makes progress; empty if they do")
    task: str = Field(description="the index maintenance that is running; empty if none is")
    task_result: str
    command_line: RunOut | None


class LibraryOut(BaseModel):
    state: Literal["loading", "ready", "failed"]
    message: str = ""
    kind: str = Field(default="", description="kind of the failure, if the state is failed")
    documents: int = 0
    pages: int = 0
    scanned_pages: int = 0
    collections: dict[str, int] = Field(default={}, description="number of documents by collection")
    tags: dict[str, int] = Field(default={}, description="number of documents by tag")
    samples: int = Field(default=0, description="number of sample documents that can be added")
    questions: list[str] = Field(default=[], description="example questions")
    reranks: bool = False
    answers: str = Field(
        default="", description="name of the model that writes answers; empty if there is none"
    )
    device: str = ""
    busy: bool = Field(default=False, description="whether files are being added")
    folders: bool = Field(default=False, description="whether folders of the server may be ingested")
    undo_s: float = Field(default=10, description="seconds in which a removal can be undone")
    user: str = ""


class IndexOut(BaseModel):
    documents: int
    pages: int
    encoder: str
    reranker: str
    disk: dict[str, int] = Field(description="bytes by table")
    tables: list[tuple[str, dict[str, str | int]]]
    recall: str = Field(description="state of the inverted index")


class FolderOut(BaseModel):
    id: str
    name: str
    documents: int


class FoldersOut(BaseModel):
    id: str
    name: str
    parent: str
    documents: int = Field(description="number of files in it that can be ingested")
    folders: list[FolderOut]
    note: str = ""


class LiftOut(BaseModel):
    """What reranking gained by one measure, with a 95% interval and the wins, ties and losses by question."""

    measure: str
    first: float
    final: float
    difference: float
    low: float
    high: float
    p: float
    wins: int
    ties: int
    losses: int


class JudgedOut(BaseModel):
    query: str
    up: int
    down: int
    first: float = Field(description="nDCG@10 of the first stage")
    final: float = Field(description="nDCG@10 after reranking")


class JudgementsOut(BaseModel):
    lift: list[LiftOut] = Field(description="by measure; empty until a page is judged relevant")
    judged: list[JudgedOut]
    enough: int = Field(description="with fewer judged questions than this the interval says little")


class Problem(BaseModel):
    """Why a request failed."""

    kind: str = Field(description="for programs")
    message: str = Field(description="for people")
    request_id: str | None = Field(None, description="of an unexpected error, as in the server's log")


class RelevantOut(BaseModel):
    doc_id: str
    document: str
    page: int


class ExampleOut(BaseModel):
    """A question about the samples, with the pages that are known to answer it."""

    query: str
    answers: list[RelevantOut]


class UploadOut(BaseModel):
    name: str = Field(description="the name under which the file is stored")


class Done(BaseModel):
    message: str


class ErrorOut(BaseModel):
    error: Problem


# Bodies of requests


class JudgeIn(BaseModel):
    query: str = Field(max_length=4000)
    doc_id: str
    page: int
    grade: Literal[0, 1] | None = Field(description="1 thumb up, 0 thumb down, null removes the judgement")


class ChangeIn(BaseModel):
    """Changes to a document: a field that is left out or null stays as it is."""

    name: str | None = None
    title: str | None = None
    collection: str | None = None
    tags: list[str] | None = None
    date: str | None = None


class DocumentsIn(BaseModel):
    doc_ids: list[str] = Field(max_length=10_000)


class FolderIn(BaseModel):
    id: str
    collection: str = "default"
    tags: list[str] = []
