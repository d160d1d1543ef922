"""One page, lit up: its image, and the places that match each word of the question."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from retrieval.errors import FolioscopeError
from retrieval.types import Highlight, TermMatch
from ui.components import assets
from ui.library import Library
from ui.media import image_url, original_url

Value = dict[str, Any]  # what static/viewer.js draws
REGIONS = 150
"""Regions drawn for one word at most, strongest first."""


def viewer(library: Library) -> gr.HTML:
    return assets.component("viewer", server_functions=[page_view(library)])


def page_view(library: Library) -> Callable[[dict[str, Any]], Value]:
    """What the viewer's script calls for each page it shows: {"query", "doc", "page"} in, a Value out."""

    def page_view(asked: dict[str, Any]) -> Value:
        try:
            return view(
                library, str(asked.get("query", "")), str(asked.get("doc", "")), _number(asked.get("page"))
            )
        except FolioscopeError as error:
            return {"problem": str(error)}

    return page_view


def view(library: Library, query: str, doc_id: str, number: int) -> Value:
    """One page of a document; with a question, what of it matches. Raises NotFound, BadQuery."""
    document = library.store.document(doc_id)
    page = library.store.page(document.doc_id, max(1, min(number, document.pages)))
    content = library.store.contents([page])[0]
    value = {
        "query": query,
        "doc": document.doc_id,
        "name": document.name,
        "title": document.title,
        "page": page.number,
        "pages": document.pages,
        "image": image_url(document, page.number),
        "around": [image_url(document, near) for near in (page.number + 1, page.number - 1)
                   if 1 <= near <= document.pages],
        "ratio": page.width / page.height if page.width and page.height else 0.7071,
        "scanned": content.source == "ocr",
        "original": original_url(document),
        "terms": [],
        "note": "",
    }  # fmt: skip
    if query.strip():
        highlight = library.searcher.highlight(query, [page])[0]
        value |= {"terms": [_term(term, highlight) for term in highlight.terms], "note": highlight.note}
    return value


def _term(term: TermMatch, highlight: Highlight) -> dict[str, Any]:
    """Its regions as [x0, y0, x1, y1, strength], page-relative, strongest first."""
    together = {region.box: region.strength for region in highlight.regions}
    regions = sorted(
        ((*region.box, together.get(region.box, region.strength)) for region in term.regions),
        key=lambda region: -region[4],
    )[:REGIONS]
    return {
        "term": term.term,
        "count": len(term.regions),
        "exact": any(region.exact for region in term.regions),
        "regions": [[round(value, 5) for value in region] for region in regions],
    }


def _number(given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError):
        return 1
