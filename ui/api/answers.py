"""The JSON of a written answer and of its events, the same in REST, MCP and `folioscope ask --json`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from retrieval.answering.types import (
    Citation,
    CitedAnswer,
    Delta,
    Event,
    GivenPage,
    Match,
    NoteKind,
    PagesChosen,
    Problem,
    Reason,
    Status,
)
from retrieval.types import Document, Filter, Page, SearchRequest
from ui.api.addresses import image_url, page_link


class AnswerIn(BaseModel):
    """A question to answer from the pages that match it."""

    query: str = Field(max_length=20_000, description="a question, in your own words")
    documents: list[str] = Field(default=[], description="only these documents: doc_ids or file names")
    collections: list[str] = Field(default=[], description="only these collections")
    tags: list[str] = Field(default=[], description="only documents with one of these tags")
    since: str = Field(
        default="", description="only documents of this date or later: 2024, 2024-01, 2024-01-31"
    )
    until: str = Field(default="", description="only documents of this date or earlier")
    scanned: bool | None = Field(default=None, description="only scanned, or only digital pages")
    rerank: bool = Field(
        default=True, description="whether the reranker scores the pages first, which the gate needs"
    )
    stream: bool = Field(default=False, description="whether to send events as they come, or one JSON object")

    def request(self) -> SearchRequest:
        where = Filter(
            tuple(self.documents),
            tuple(self.collections),
            tuple(self.tags),
            self.since,
            self.until,
            self.scanned,
        )
        return SearchRequest(self.query, where, self.rerank)


class GivenPageOut(BaseModel):
    """A page that the model was given, or would have been given."""

    n: int = Field(description="its name in citations, from 1")
    doc_id: str
    document: str = Field(description="file name")
    page: int = Field(description="page number, from 1")
    page_name: str = Field(description="as in report.pdf#page=12")
    score: float
    confidence: float | None = Field(
        description="probability that the page answers; null if the index is not calibrated"
    )
    thumb: str = Field(
        default="", description="address of the thumbnail; empty on the command line and in MCP"
    )
    link: str = Field(default="", description="address of the web page that shows it; empty likewise")


class CoverageOut(BaseModel):
    searched: int = Field(description="pages that were searched")
    found: int = Field(description="candidates among them")


class PagesOut(BaseModel):
    """The event `pages`: sent first, before the model has read them."""

    id: str = Field(description="of the answer, for GET /answer/{id}; empty on the command line")
    pages: list[GivenPageOut]
    coverage: CoverageOut


class DeltaOut(BaseModel):
    """The event `delta`: more of the answer's text."""

    text: str


class CitationOut(BaseModel):
    """The event `citation`: one quote behind a sentence of the answer, as it was found on its page."""

    start: int = Field(description="the sentence is characters [start, end) of the answer's text")
    end: int
    n: int | None = Field(description="the page among those given; null if the sentence names none of them")
    doc_id: str = Field(description="empty if there is no such page")
    document: str = Field(description="file name")
    page: int | None = Field(description="page number, from 1")
    page_name: str
    cited_text: str = Field(description="as on the page; as the model gave it if it was not found")
    match: Match = Field(
        description="exact; fuzzy: filler words or letters that OCR confuses differ; image_only: the place has no "
        "words, the boxes are a region by similarity; none: not found on the page"
    )
    boxes: list[tuple[float, float, float, float]] = Field(
        description="one for each line; none without a match"
    )
    verified: bool = Field(description="whether the quote is on the page and supports the sentence")
    problems: list[Problem] = Field(
        description="not_found, no_quote, no_such_page; number: a number of the sentence is not in its quotes; "
        "negation: sentence and quote differ in a negation; unchecked: the place has no words to compare with"
    )
    link: str = Field(
        default="", description="address of the web page that shows it; empty on the command line"
    )


class AnswerNoteOut(BaseModel):
    kind: NoteKind
    text: str


class CitedAnswerOut(BaseModel):
    """A written answer; also the event `done`."""

    id: str = Field(description="empty on the command line, where answers are not stored")
    at: str = Field(
        default="", description="when it was stored: ISO, UTC; empty in the event and on the command line"
    )
    query: str
    text: str = Field(description="sentences; in an extractive answer, lines of the pages")
    status: Status = Field(
        description="grounded: every sentence has a quote on its page; partly: some have none that supports them; "
        "refused: there is no answer; extractive: no model wrote, the text consists of words of the pages"
    )
    reason: Reason = Field(description="why there is no answer, or only a part of one; empty otherwise")
    message: str = Field(description="status and reason in one sentence")
    pages: list[GivenPageOut]
    coverage: CoverageOut
    citations: list[CitationOut] = Field(description="in the order of the text; a sentence may have several")
    notes: list[AnswerNoteOut]
    model: str = Field(description="that wrote the text; empty if none did")
    usage: dict[str, int] = Field(description="tokens, as the model's server reports them")
    seconds: float


class AnswersOut(BaseModel):
    """The answers of one user to one question."""

    answers: list[CitedAnswerOut] = Field(description="newest first")
    running: list[str] = Field(description="ids of answers that are being written, newest first")


def answer_response(
    answer: CitedAnswer, id: str = "", at: str = "", documents: Mapping[str, Document] | None = None
) -> CitedAnswerOut:
    """Return the JSON of an answer. documents: by doc_id, for addresses, which only clients of a server need."""
    pages = pages_response(answer.chosen, answer.query, id, documents)
    return CitedAnswerOut(
        id=id,
        at=at,
        query=answer.query,
        text=answer.text,
        status=answer.status,
        reason=answer.reason,
        message=answer.message,
        pages=pages.pages,
        coverage=pages.coverage,
        citations=[_citation(citation, answer.query, documents) for citation in answer.citations],
        notes=[AnswerNoteOut(kind=note.kind, text=note.text) for note in answer.notes],
        model=answer.model,
        usage=dict(answer.usage),
        seconds=round(answer.seconds, 3),
    )


def pages_response(
    chosen: PagesChosen, query: str, id: str = "", documents: Mapping[str, Document] | None = None
) -> PagesOut:
    return PagesOut(
        id=id,
        pages=[_given(given, query, documents) for given in chosen.pages],
        coverage=CoverageOut(searched=chosen.searched, found=chosen.found),
    )


def event_response(
    event: Event, query: str, id: str = "", documents: Mapping[str, Document] | None = None
) -> tuple[str, BaseModel]:
    """Return an event's name and its JSON."""
    match event:
        case PagesChosen():
            return "pages", pages_response(event, query, id, documents)
        case Delta():
            return "delta", DeltaOut(text=event.text)
        case Citation():
            return "citation", _citation(event, query, documents)
        case CitedAnswer():
            return "done", answer_response(event, id, documents=documents)


def _given(given: GivenPage, query: str, documents: Mapping[str, Document] | None) -> GivenPageOut:
    return GivenPageOut(
        n=given.n,
        **_names(given.page),
        score=round(given.score, 6),
        confidence=None if given.confidence is None else round(given.confidence, 4),
        thumb=_thumb(given.page, documents),
        link=page_link(query, given.page) if documents is not None else "",
    )


def _citation(citation: Citation, query: str, documents: Mapping[str, Document] | None) -> CitationOut:
    page = citation.page
    return CitationOut(
        start=citation.start,
        end=citation.end,
        n=citation.n,
        **(_names(page) if page else {"doc_id": "", "document": "", "page": None, "page_name": ""}),
        cited_text=citation.cited_text,
        match=citation.match,
        boxes=[(round(x0, 5), round(y0, 5), round(x1, 5), round(y1, 5)) for x0, y0, x1, y1 in citation.boxes],
        verified=citation.verified,
        problems=list(citation.problems),
        link=page_link(query, page) if page and documents is not None else "",
    )


def _names(page: Page) -> dict[str, Any]:
    return {"doc_id": page.doc_id, "document": page.document, "page": page.number, "page_name": page.name}


def _thumb(page: Page, documents: Mapping[str, Document] | None) -> str:
    document = (documents or {}).get(page.doc_id)
    return image_url(document, page.number, thumb=True) if document else ""
