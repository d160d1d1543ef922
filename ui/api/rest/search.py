"""Searching, looking at pages, and taking results along."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from retrieval.errors import FolioscopeError
from retrieval.store.store import Store
from retrieval.text import words
from retrieval.types import Filter, Page, SearchRequest, SearchResult
from ui.api import export, schemas
from ui.api.json_text import json_text
from ui.api.problems import unexpected
from ui.api.render import highlighted_page
from ui.api.responses import page_response, search_response
from ui.api.rest.common import ERRORS, answer_of, client_of, user_of
from ui.service.service import Service

NDJSON = "application/x-ndjson"
MOST = 1000  # hits of one answer
DRAWN = 3000  # pixels of a picture's longer side, at most: larger ones are drawn smaller
NEVER = {"Cache-Control": "no-store"}
NONE: list[str] = []
LOOK_S = 0.25  # between two looks at whether a reader is still there
T = TypeVar("T")


def asked(
    q: Annotated[str, Query(description="A question, in your own words.", max_length=20_000)],
    document: Annotated[list[str], Query(description="Only these documents: doc_ids or file names.")] = NONE,
    collection: Annotated[list[str], Query(description="Only these collections.")] = NONE,
    tag: Annotated[list[str], Query(description="Only documents with one of these tags.")] = NONE,
    since: Annotated[
        str, Query(description="Only documents from this date on: 2024, 2024-01, 2024-01-31.")
    ] = "",
    until: Annotated[str, Query(description="Only documents up to this date.")] = "",
    scanned: Annotated[bool | None, Query(description="Only scanned, or only digital pages.")] = None,
    rerank: Annotated[bool, Query(description="Whether the cross-encoder may read the best pages.")] = True,
    budget_ms: Annotated[int | None, Query(ge=1, le=600_000, description="Milliseconds it may take.")] = None,
    min_confidence: Annotated[
        float | None,
        Query(ge=0, le=1, description="Only pages this likely to answer, where the index is calibrated."),
    ] = None,
) -> SearchRequest:
    where = Filter(tuple(document), tuple(collection), tuple(tag), since, until, scanned)
    return SearchRequest(q, where, rerank, budget_ms, min_confidence)


SearchQuery = Annotated[SearchRequest, Depends(asked)]
Top = Annotated[int, Query(ge=1, le=MOST, description="Pages in the answer, at most.")]


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["search"], responses=ERRORS)

    @router.get(
        "/search",
        response_model=schemas.SearchOut,
        responses={200: {"content": {NDJSON: {}}, "description": "With `Accept: application/x-ndjson`: a line with "
                         "the first stage's order as soon as it is there, then one with the final order."}},
    )  # fmt: skip
    async def search(
        request: Request,
        ask: SearchQuery,
        top: Top = 10,
        candidates: Annotated[bool, Query(description="Also list every candidate, with both ranks.")] = False,
    ) -> Response:
        """The pages that answer a question, best first."""

        async def shown(result: SearchResult) -> bytes:
            def body() -> bytes:
                grades = service.library.judgements.of(result.query, user_of(request))
                out = search_response(service.library, result, top, candidates=candidates, grades=grades)
                return out.model_dump_json().encode()

            return await service.aside(body, client_of(request))

        if NDJSON in request.headers.get("accept", ""):
            lines = _lines(request, _ahead(service.steps(ask, client_of(request))), shown)
            first = await _unless_gone(request, anext(lines))  # what fails before it is an answer of its own
            return StreamingResponse(_after(first, lines), media_type=NDJSON, headers=NEVER)
        result = await _unless_gone(request, service.search(ask, client_of(request)))
        return Response(await shown(result), media_type="application/json", headers=NEVER)

    @router.get("/export", response_class=Response)
    async def save(
        request: Request,
        ask: SearchQuery,
        format: Annotated[Literal["csv", "json", "pdf"], Query()] = "csv",
        top: Top = 50,
    ) -> Response:
        """The result list as CSV or JSON, or its pages as one PDF, in rank order.

        Where images stand for pages of a PDF that could not be copied, `X-Folioscope-Notes` says why (URL-encoded).
        """
        library = service.library

        async def aside(work: Callable[[], T]) -> T:
            return await _unless_gone(request, service.aside(work, client_of(request)))

        whole = await _unless_gone(request, service.search(ask, client_of(request)))
        result, notes = replace(whole, hits=whole.hits[:top]), tuple[str, ...]()
        if format == "csv":
            body, kind = (
                (await aside(lambda: export.as_csv(result, library.store))).encode("utf-8-sig"),
                "text/csv",
            )
        elif format == "json":
            out = await aside(lambda: export.as_json(result, library.store))
            body, kind = json_text(out, indent=1).encode(), "application/json"
        else:
            pages, kind = [hit.page for hit in result.hits], "application/pdf"
            body, notes = await aside(lambda: _pdf(pages, library.store, result.query))
        name = f"folioscope-{'-'.join(words(result.query)[:6]) or 'results'}.{format}"
        disposition = f"attachment; filename*=UTF-8''{quote(name)}"
        headers = {**NEVER, "Content-Disposition": disposition}
        if notes:
            headers["X-Folioscope-Notes"] = quote("; ".join(notes), safe=" ,;:()")
        return Response(body, media_type=kind, headers=headers)

    @router.get("/documents/{doc_id}/pages/{number}", response_model=schemas.PageOut)
    async def page(
        request: Request, doc_id: str, number: int, q: Annotated[str, Query(max_length=20_000)] = ""
    ) -> schemas.PageOut:
        """One page: its words, and what of it matches the question."""
        library = service.library
        return await service.with_model(
            q, client_of(request), lambda: page_response(library, q, doc_id, number, user_of(request))
        )

    @router.get("/documents/{doc_id}/pages/{number}/highlights", response_model=schemas.HighlightsOut)
    async def highlights(
        request: Request, doc_id: str, number: int, q: Annotated[str, Query(min_length=1, max_length=20_000)]
    ) -> schemas.HighlightsOut:
        """Only what of a page matches the question: boxes for each of its words, and a heat map."""
        library = service.library
        out = await service.with_model(
            q, client_of(request), lambda: page_response(library, q, doc_id, number, user_of(request))
        )
        return schemas.HighlightsOut(**out.model_dump(include=set(schemas.HighlightsOut.model_fields)))

    @router.get("/documents/{doc_id}/pages/{number}/image", response_class=Response)
    async def image(
        request: Request,
        doc_id: str,
        number: int,
        q: Annotated[str, Query(max_length=20_000, description="Light up what matches this question.")] = "",
        format: Annotated[Literal["webp", "png"], Query()] = "webp",
    ) -> Response:
        """The page's image, at the resolution it was ingested with."""
        library = service.library

        def drawn() -> bytes:
            page = library.store.page(doc_id, number)
            if not q.strip() and format == "webp":
                return library.store.image(page.page_id)
            picture = library.store.contents([page])[0].image()
            picture.thumbnail((DRAWN, DRAWN))
            if q.strip():
                picture = highlighted_page(picture, library.searcher.highlight(q, [page])[0])
            buffer = io.BytesIO()
            picture.save(buffer, format.upper())
            return buffer.getvalue()

        body = await _unless_gone(request, service.with_model(q, client_of(request), drawn))
        return Response(body, media_type=f"image/{format}", headers=NEVER)

    return router


def _pdf(pages: Sequence[Page], store: Store, title: str) -> tuple[bytes, tuple[str, ...]]:
    with TemporaryDirectory(prefix="folioscope-") as folder:
        target = Path(folder) / "pages.pdf"
        notes = export.as_pdf(pages, store, target, title=title)
        return target.read_bytes(), notes


async def _unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """The answer, unless whoever asked goes away before: then it is given up, and its turn is the next one's."""
    working = asyncio.ensure_future(answer)
    try:
        while not (await asyncio.wait([working], timeout=LOOK_S))[0]:
            if await request.is_disconnected():
                raise HTTPException(499, "whoever asked has gone")
        return working.result()
    finally:
        if not working.done():
            working.cancel()
            await asyncio.wait([working])


async def _ahead(steps: AsyncGenerator[SearchResult, None]) -> AsyncGenerator[SearchResult, None]:
    """The same results, each fetched while the one before is being used: the reranker does not wait for a reader."""
    try:
        held: SearchResult | None = await anext(steps, None)
        while held is not None:
            following = asyncio.ensure_future(anext(steps, None))
            try:
                yield held
                held = await following
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait([following])
    finally:
        await steps.aclose()


async def _lines(
    request: Request,
    steps: AsyncGenerator[SearchResult, None],
    shown: Callable[[SearchResult], Awaitable[bytes]],
) -> AsyncGenerator[bytes, None]:
    """An error after the first line is a line, for its status has been sent."""
    begun = False
    async with aclosing(steps):
        try:
            async for result in steps:
                yield await shown(result) + b"\n"
                begun = True
        except FolioscopeError as error:
            if not begun:
                raise
            yield bytes(answer_of(error).body) + b"\n"
        except Exception as error:
            if not begun:
                raise
            failed = unexpected(request.scope, error, "The reranked order could not be made")
            yield bytes(failed.body) + b"\n"


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line
