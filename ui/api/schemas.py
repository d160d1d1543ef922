"""What REST and MCP answer with. Boxes are [x0, y0, x1, y1], page-relative, origin at the top left; pages from 1."""

from typing import Literal

from pydantic import BaseModel, Field


class StageOut(BaseModel):
    name: str = Field(description="encode query, recall or rerank")
    ms: float
    pages: int = Field(description="pages that the stage looked at")
    note: str = ""


class HitOut(BaseModel):
    doc_id: str
    document: str = Field(description="file name")
    title: str
    page: int
    pages: int = Field(description="of the document")
    page_name: str = Field(description="report.pdf#page=12")
    date: str = Field(description="of the document, ISO; empty if unknown")
    scanned: bool = Field(description="read by OCR")
    wide: bool = Field(description="wider than high")
    rank: int
    first_rank: int = Field(description="rank in the first stage")
    moved: int | None = Field(description="places gained by reranking; null where it was not reranked")
    score: float = Field(
        description="of the last stage that ordered this page; comparable within this list only"
    )
    scores: dict[str, float] = Field(
        description="vectors (MaxSim), text (BM25), place (what the question names), first (fused), rerank"
    )
    reranked: bool
    confidence: float | None = Field(
        default=None, description="probability that this page answers; null where the index is not calibrated"
    )
    same: list[str] = Field(default=[], description="pages that say nearly the same, folded into this one")
    share: float = Field(description="the score between the least (0) and the best (1) of this list")
    snippet: list[tuple[str, bool]] = Field(description="pieces of text, each with whether it matches")
    thumb: str = Field(description="address of the thumbnail, relative to the server's root")
    image: str
    link: str = Field(description="address that shows this page, lit up, relative to the server's root")
    judged: int | None = Field(default=None, description="1 thumb up, 0 thumb down, by this user")


class CandidateOut(BaseModel):
    """One page in both orders, for comparing them."""

    doc_id: str
    document: str
    page: int
    rank: int
    first_rank: int
    first: float = Field(description="score of the first stage")
    rerank: float | None = Field(
        description="the cross-encoder's own score; null where it did not read the page"
    )
    thumb: str


class SearchOut(BaseModel):
    query: str
    hits: list[HitOut]
    found: int = Field(description="candidates of the first stage: `top` may be raised up to this")
    searched: int = Field(description="pages that were searched")
    provisional: bool = Field(description="true for the first stage's order while the reranker reads")
    stages: list[StageOut]
    reranked: bool
    decision: str = Field(description="whether the cross-encoder was spent, and why")
    notes: list[str]
    candidates: list[CandidateOut] = []


class TermOut(BaseModel):
    term: str
    count: int = Field(description="places on this page")
    exact: bool = Field(description="the word itself stands there; false: passages near in meaning")
    regions: list[tuple[float, float, float, float, float]] = Field(
        description="boxes with a strength in (0, 1]"
    )


class HeatOut(BaseModel):
    """Compact: `boxes` base64 of uint16 (n, 4), 65535 is the page's far edge; `values` base64 of uint8 (terms, n)."""

    terms: list[str]
    boxes: str
    values: str


class PageOut(BaseModel):
    doc_id: str
    document: str
    title: str
    page: int
    pages: int
    width: float = Field(description="points")
    height: float = Field(description="points")
    scanned: bool
    image: str
    around: list[str] = Field(description="images of the next and the previous page")
    original: str = Field(description="address of the original file; empty where it is gone")
    query: str
    terms: list[TermOut]
    heat: HeatOut | None
    note: str = Field(description="says so where nothing stands out")
    text: str
    words: list[tuple[str, float, float, float, float]]
    judged: int | None = None


class HighlightsOut(BaseModel):
    doc_id: str
    page: int
    query: str
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
    left_out: str = Field(description="numbers of pages that could not be rendered")
    original: bool = Field(description="the file it was read from is still there")
    leaving: bool = Field(description="is about to be removed; may be taken back for a few seconds")


class DocumentsOut(BaseModel):
    documents: list[DocumentOut]
    total: int = Field(description="documents that match")
    pages: int = Field(description="of those documents")


class JobOut(BaseModel):
    id: int
    name: str
    state: Literal["queued", "reading", "done", "skipped", "failed", "cancelled", "removing"]
    read: int = Field(description="pages rasterized and read")
    page: int = Field(description="pages embedded")
    pages: int = Field(description="0 until it is known")
    size: int = Field(description="bytes")
    reason: str
    message: str
    seconds: float


class RunOut(BaseModel):
    """An ingest that was started on the command line."""

    state: str
    files: int
    files_ended: int
    failed: int
    pages_done: int
    pages_per_second: float
    names: list[str]
    message: str


class JobsOut(BaseModel):
    jobs: list[JobOut] = Field(description="those under way first; not all, if there are many")
    counts: dict[str, int]
    busy: bool
    pages_per_second: float
    seconds_left: float | None
    waiting: str = Field(description="why nothing moves")
    task: str = Field(description="index care under way")
    task_result: str
    command_line: RunOut | None


class LibraryOut(BaseModel):
    state: Literal["loading", "ready", "failed"]
    message: str = ""
    kind: str = Field(default="", description="of the failure")
    documents: int = 0
    pages: int = 0
    scanned_pages: int = 0
    collections: dict[str, int] = Field(default={}, description="documents of each")
    tags: dict[str, int] = {}
    samples: int = Field(default=0, description="sample files that may be added")
    questions: list[str] = Field(default=[], description="examples to ask")
    reranks: bool = False
    device: str = ""
    busy: bool = Field(default=False, description="files are being added")
    folders: bool = Field(default=False, description="folders of the server may be ingested")
    undo_s: float = 10
    user: str = ""


class IndexOut(BaseModel):
    documents: int
    pages: int
    encoder: str
    reranker: str
    disk: dict[str, int] = Field(description="bytes by table")
    tables: list[tuple[str, dict[str, str | int]]]
    recall: str = Field(description="the recall lists, or what is being done about them")


class FolderOut(BaseModel):
    id: str
    name: str
    documents: int


class FoldersOut(BaseModel):
    id: str
    name: str
    parent: str
    documents: int = Field(description="readable files in it")
    folders: list[FolderOut]
    note: str = ""


class LiftOut(BaseModel):
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
    lift: list[LiftOut] = Field(description="by measure; empty while no page is judged relevant")
    judged: list[JudgedOut]
    enough: int = Field(description="judged questions below which the interval says little")


class Problem(BaseModel):
    kind: str
    message: str
    request_id: str | None = Field(None, description="of an unforeseen error: the server's log has it, too")


class AnswerOut(BaseModel):
    doc_id: str
    document: str
    page: int


class ExampleOut(BaseModel):
    """A question of the samples, and the pages that are known to answer it."""

    query: str
    answers: list[AnswerOut]


class UploadOut(BaseModel):
    name: str = Field(description="the name it is kept under")


class Done(BaseModel):
    message: str


class ErrorOut(BaseModel):
    error: Problem


# What is asked


class JudgeIn(BaseModel):
    query: str = Field(max_length=4000)
    doc_id: str
    page: int
    grade: Literal[0, 1] | None = Field(description="1 thumb up, 0 thumb down, null takes it back")


class ChangeIn(BaseModel):
    """What is left out stays as it is."""

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
