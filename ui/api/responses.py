"""Turns search results, pages and documents into the JSON of `ui.api.schemas`: the only place that does.

REST, MCP, exports and the command line's `--json` all take their hits from here, so that a field has one name.
"""

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from retrieval.highlight import snippet_pieces
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.text import one_line
from retrieval.types import (
    Answer,
    Document,
    Heat,
    Highlight,
    Hit,
    PageContent,
    Region,
    SearchResult,
    TermMatch,
)
from ui.api import schemas
from ui.api.addresses import image_url, original, original_url, page_link

if TYPE_CHECKING:
    from ui.service.library import Library

REGIONS = 150
"""The most regions of one word, and of a page, strongest first."""


def search_response(
    searcher: Searcher,
    store: Store,
    result: SearchResult,
    top: int | None = None,
    *,
    for_server: bool = False,
    regions: bool = False,
    candidates: bool = False,
    grades: Mapping[str, int] | None = None,
) -> schemas.SearchOut:
    """Return the first `top` hits (None: all) with snippets. Blocks: it reads pages from the index.

    for_server: with addresses, which only mean something to clients of a server. regions: with all places that match,
    not only those of the answer. candidates: with every candidate. grades: this user's judgements by page_id. Hits and
    answers whose document has been removed since the search are left out.
    """
    documents = {document.doc_id: document for document in store.documents()}
    ranked = [hit for hit in result.hits if hit.page.doc_id in documents]
    highlighted = (
        searcher.highlight_present(
            result.query, [hit.page for hit in ranked[:top]], read=result.decision.reranked
        )
        if ranked
        else {}
    )
    hits = [hit for hit in ranked[:top] if hit.page.page_id in highlighted]
    return schemas.SearchOut(
        query=result.query,
        answers=[
            _answer(answer, result.query, documents[answer.page.doc_id], for_server)
            for answer in result.answers
            if answer.page.doc_id in documents
        ],
        hits=[
            _hit(
                result,
                hit,
                documents[hit.page.doc_id],
                *highlighted[hit.page.page_id],
                for_server,
                regions,
                grades or {},
            )
            for hit in hits
        ],
        found=len(result.candidates),
        searched=next((stage.pages for stage in result.stages if stage.name == "recall"), 0),
        provisional=result.decision.kind == "pending",
        stages=[
            schemas.StageOut(
                name=stage.name, ms=round(stage.seconds * 1000, 2), pages=stage.pages, note=stage.note
            )
            for stage in result.stages
        ],
        reranked=result.decision.reranked,
        decision=schemas.DecisionOut(
            kind=result.decision.kind,
            text=_sentence(result.decision.reason),
            read=result.decision.read,
            shortlist=result.decision.shortlist,
        ),
        notes=[schemas.NoteOut(kind=note.kind, text=note.text) for note in result.notes],
        candidates=[_candidate(hit, documents[hit.page.doc_id], for_server) for hit in ranked]
        if candidates
        else [],
    )


def page_response(library: "Library", query: str, doc_id: str, number: int, who: str = "") -> schemas.PageOut:
    """Return one page and what on it matches `query`; a number past the end means the last page.

    who: the user whose judgement is shown. Raises NotFound, BadQuery.
    """
    document = library.store.document(doc_id)
    page = library.store.page(document.doc_id, max(1, min(number, document.pages)))
    highlight, heat = None, None
    if query.strip():
        content, highlight, heat = library.searcher.inspect_page(query, page)
    else:
        (content,) = library.store.contents([page])
    return schemas.PageOut(
        doc_id=document.doc_id,
        document=document.name,
        title=document.title,
        page=page.number,
        pages=document.pages,
        page_name=page.name,
        width=page.width or 595,
        height=page.height or 842,
        scanned=content.source == "ocr",
        image=image_url(document, page.number),
        around=[
            image_url(document, near)
            for near in (page.number + 1, page.number - 1)
            if 1 <= near <= document.pages
        ],
        original=original_url(document),
        query=query,
        answer=_answer(highlight.answer, query, document, for_server=True)
        if highlight and highlight.answer
        else None,
        regions=[_region(region) for region in highlight.regions[:REGIONS]] if highlight else [],
        terms=[_term(term, highlight) for term in highlight.terms] if highlight else [],
        heat=_heat(heat) if heat else None,
        note=highlight.note if highlight else "",
        text=content.text,
        words=[(word.text, *(round(edge, 4) for edge in word.box)) for word in content.words],  # type: ignore[misc]
        judged=library.judgements.of(one_line(query), who).get(page.page_id) if highlight else None,
    )


def document_response(document: Document, leaving: frozenset[str]) -> schemas.DocumentOut:
    """Return a document's JSON. leaving: doc_ids of the documents that are about to be removed."""
    return schemas.DocumentOut(
        doc_id=document.doc_id,
        name=document.name,
        title=document.title,
        pages=document.pages,
        scanned_pages=document.scanned_pages,
        collection=document.collection,
        tags=list(document.tags),
        date=document.date,
        added_at=document.added_at.isoformat(timespec="seconds"),
        thumb=image_url(document, 1, thumb=True),
        left_out=document.meta.get("failed_pages", ""),
        original=original(document) is not None,
        leaving=document.doc_id in leaving,
    )


def snippet_text(hit: schemas.HitOut) -> str:
    """Return the snippet as one text, without the marks of what matches."""
    return "".join(text for text, _ in hit.snippet)


def passage_pieces(answer: Answer) -> list[tuple[str, bool]]:
    """Return the passage in pieces, each with whether it is the answer; one piece if the answer is not in it."""
    if answer.start < 0:
        return [(answer.passage, False)] if answer.passage else []
    end = answer.start + len(answer.text)
    pieces = ((answer.passage[: answer.start], False), (answer.text, True), (answer.passage[end:], False))
    return [piece for piece in pieces if piece[0]]


def _hit(
    result: SearchResult,
    hit: Hit,
    document: Document,
    content: PageContent,
    highlight: Highlight,
    for_server: bool,
    regions: bool,
    grades: Mapping[str, int],
) -> schemas.HitOut:
    page = content.page
    return schemas.HitOut(
        doc_id=page.doc_id,
        document=document.name,
        title=document.title,
        page=page.number,
        pages=document.pages,
        page_name=page.name,
        date=document.date,
        collection=document.collection,
        tags=list(document.tags),
        scanned=content.source == "ocr",
        width=page.width,
        height=page.height,
        rank=hit.rank,
        first_rank=hit.first_rank,
        moved=hit.first_rank - hit.rank if result.decision.reranked else None,
        score=round(hit.score, 6),
        scores={name: round(score, 6) for name, score in hit.scores.items()},
        reranked=hit.reranked,
        confidence=None if hit.confidence is None else round(hit.confidence, 4),
        answer=highlight.answer.text if highlight.answer else "",
        same=list(hit.same),
        snippet=snippet_pieces(highlight),
        note=highlight.note,
        regions=[
            _region(region)
            for region in highlight.regions
            if regions or (for_server and region.kind == "answer")
        ],
        thumb=image_url(document, page.number, thumb=True) if for_server else "",
        image=image_url(document, page.number) if for_server else "",
        link=page_link(result.query, page) if for_server else "",
        judged=grades.get(page.page_id),
    )


def _candidate(hit: Hit, document: Document, for_server: bool) -> schemas.CandidateOut:
    return schemas.CandidateOut(
        doc_id=hit.page.doc_id,
        document=document.name,
        page=hit.page.number,
        page_name=hit.page.name,
        rank=hit.rank,
        first_rank=hit.first_rank,
        first=round(hit.scores.get("first", hit.score), 6),
        rerank=round(hit.scores["rerank"], 6) if "rerank" in hit.scores else None,
        thumb=image_url(document, hit.page.number, thumb=True) if for_server else "",
    )


def _answer(answer: Answer, query: str, document: Document, for_server: bool) -> schemas.AnswerOut:
    return schemas.AnswerOut(
        doc_id=answer.page.doc_id,
        document=document.name,
        page=answer.page.number,
        page_name=answer.page.name,
        text=answer.text,
        probability=round(answer.probability, 4),
        passage=passage_pieces(answer),
        boxes=list(answer.boxes),
        passage_boxes=list(answer.passage_boxes),
        link=page_link(query, answer.page) if for_server else "",
    )


def _region(region: Region) -> schemas.RegionOut:
    return schemas.RegionOut(box=region.box, strength=region.strength, kind=region.kind)


def _term(term: TermMatch, highlight: Highlight) -> schemas.TermOut:
    strengths = {region.box: region.strength for region in highlight.regions}
    regions = sorted(
        ((*region.box, strengths[region.box]) for region in term.regions if region.box in strengths),
        key=lambda region: -region[4],
    )[:REGIONS]
    return schemas.TermOut(
        term=term.term,
        count=len(term.regions),
        kind=("word" if any(region.kind == "word" for region in term.regions) else "near")
        if term.regions
        else None,
        regions=[
            (round(x0, 5), round(y0, 5), round(x1, 5), round(y1, 5), round(strength, 5))
            for x0, y0, x1, y1, strength in regions
        ],
    )


def _heat(heat: Heat) -> schemas.HeatOut | None:
    if not heat.terms:
        return None
    boxes = np.rint(np.clip(heat.boxes, 0, 1) * 65535).astype("<u2")
    values = np.rint(heat.values * 255).astype(np.uint8)
    return schemas.HeatOut(
        terms=list(heat.terms),
        boxes=base64.b64encode(boxes.tobytes()).decode(),
        values=base64.b64encode(values.tobytes()).decode(),
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
