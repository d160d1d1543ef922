"""The list of pages that a search found: what each card says, and what stands above them."""

from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from retrieval.errors import FolioscopeError
from retrieval.types import Document, Filter, Highlight, Hit, SearchResult
from ui.components import assets
from ui.library import Library
from ui.media import image_url

Value = dict[str, Any]  # what static/results.js draws
CHOICES = 500  # documents to choose from when a search is to keep to some: the newest
LEAST_BAR = 0.08  # of the width: a page in the list has some relevance


def results() -> gr.HTML:
    return assets.component("results", value=nothing(), home={})


def nothing() -> Value:
    """No question yet: the page shows `home` instead."""
    return {"query": ""}


def home(library: Library) -> dict[str, Any]:
    """What to do first: add documents, or ask."""
    documents = library.store.documents()
    return {
        "documents": len(documents),
        "choices": min(len(documents), CHOICES),
        "pages": sum(document.pages for document in documents),
        "questions": library.questions(),
        "samples": len(library.sample_files()),
        "busy": library.jobs.busy(),
    }


def search(
    library: Library,
    query: str,
    documents: Sequence[str],
    rerank: bool,
    *,
    show: tuple[str, int] | None = None,
) -> Iterator[Value]:
    """The first stage's order as soon as it is there, then the reranked order in its place.

    documents: doc_ids to search in, none for all. show: (doc_id, page) to open in place of the best page.
    """
    if not query.strip():
        yield {**nothing(), "show": _shown(show)}
        return
    where = Filter(documents=tuple(documents))
    try:
        if rerank and library.reranks:
            first = library.searcher.search(query, where=where, rerank=False)
            if len(first.candidates) > 1:
                yield _value(library, first, rerank=True, provisional=True)
        result = library.searcher.search(query, where=where, rerank=rerank)
        yield {**_value(library, result, rerank=rerank), "show": _shown(show)}
    except FolioscopeError as error:
        yield {"query": query, "problem": str(error), "cards": []}


def _value(library: Library, result: SearchResult, *, rerank: bool, provisional: bool = False) -> Value:
    pages = [hit.page for hit in result.hits]
    highlights = library.searcher.highlight(result.query, pages)
    sources = [content.source for content in library.store.contents(pages)]
    found = {document.doc_id: document for document in library.store.documents()}
    bars = _bars(result.hits)
    cards = [
        {**_card(hit, found[hit.page.doc_id], highlight, bar), "scanned": source == "ocr",
         "moved": hit.first_rank - hit.rank if result.decision.reranked else None}
        for hit, highlight, bar, source in zip(result.hits, highlights, bars, sources, strict=True)
        if hit.page.doc_id in found
    ]  # fmt: skip
    return {
        "query": result.query,
        "cards": cards,
        "provisional": provisional,
        "status": _status(result),
        "stages": [{"name": stage.name, "ms": round(stage.seconds * 1000, 1), "note": stage.note}
                   for stage in result.stages],
        "decision": "" if provisional else _sentence(result.decision.reason),
        "notes": [] if provisional else list(result.notes),
        "rerank": rerank,
    }  # fmt: skip


def _card(hit: Hit, document: Document, highlight: Highlight, bar: float) -> dict[str, Any]:
    page = hit.page
    return {
        "doc": page.doc_id,
        "page": page.number,
        "pages": document.pages,
        "name": document.name,
        "title": document.title,
        "thumb": image_url(document, page.number, thumb=True),
        "wide": page.width > page.height,
        "rank": hit.rank,
        "first_rank": hit.first_rank,
        "reranked": hit.reranked,
        "bar": bar,
        "scores": [[name, round(score, 3)] for name, score in hit.scores.items()],
        "snippet": _parts(highlight.snippet, highlight.snippet_matches),
    }


def _bars(hits: Sequence[Hit]) -> list[float]:
    """Each hit's score between the least and the best shown; scores of two stages are not compared."""
    scores = [hit.score for hit in hits if hit.reranked] or [hit.score for hit in hits]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    mixed = any(hit.reranked for hit in hits)

    def bar(hit: Hit) -> float:
        if mixed and not hit.reranked:
            return LEAST_BAR
        share = (hit.score - low) / (high - low) if high > low else 1.0
        return round(LEAST_BAR + (1 - LEAST_BAR) * share, 3)

    return [bar(hit) for hit in hits]


def _parts(text: str, bold: Sequence[tuple[int, int]]) -> list[tuple[str, bool]]:
    """The snippet in pieces, each bold or not."""
    parts, at = [], 0
    for start, end in bold:
        parts += [(text[at:start], False), (text[start:end], True)]
        at = end
    return [part for part in [*parts, (text[at:], False)] if part[0]]


def _status(result: SearchResult) -> str:
    count = len(result.hits)
    if not count:
        return "No page found"
    searched = next((stage.pages for stage in result.stages if stage.name == "recall"), 0)
    milliseconds = sum(stage.seconds for stage in result.stages) * 1000
    best = "The best page" if count == 1 else f"The best {count} pages"
    return f"{best} of {searched:,} · {milliseconds:,.0f} ms"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _shown(show: tuple[str, int] | None) -> dict[str, Any] | None:
    return {"doc": show[0], "page": show[1]} if show else None
