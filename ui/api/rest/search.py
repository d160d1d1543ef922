"""Routes to search, to get pages, and to export results."""

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
MOST = 1000  # the most hits of one answer
DRAWN = 3000  # pixels of an image's longer side: larger images are scaled down
NEVER = {"Cache-Control": "no-store"}
NONE: list[str] = []
POLL_S = 0.25  # seconds between two checks whether the client is still connected
T = TypeVar("T")


def search_request(
    q: Annotated[str, Query(description="A question, in your own words.", max_length=20_000)],
    document: Annotated[list[str], Query(description="Only these documents: doc_ids or file names.")] = NONE,
    collection: Annotated[list[str], Query(description="Only these collections.")] = NONE,
    tag: Annotated[list[str], Query(description="Only documents with one of these tags.")] = NONE,
    since: Annotated[
        str, Query(description="Only documents of this date or later: 2024, 2024-01, 2024-01-31.")
    ] = "",
    until: Annotated[str, Query(description="Only documents of this date or earlier.")] = "",
    scanned: Annotated[bool | None, Query(description="Only scanned, or only digital pages.")] = None,
    rerank: Annotated[bool, Query(description="Whether the reranker may score the best pages.")] = True,
    budget_ms: Annotated[
        int | None, Query(ge=1, le=600_000, description="Milliseconds for the reranker.")
    ] = None,
    min_confidence: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            description="Only pages at least this likely to answer, in a calibrated index.",
        ),
    ] = None,
) -> SearchRequest:
    where = Filter(tuple(document), tuple(collection), tuple(tag), since, until, scanned)
    return SearchRequest(q, where, rerank, budget_ms, min_confidence)


SearchQuery = Annotated[SearchRequest, Depends(search_request)]
Top = Annotated[int, Query(ge=1, le=MOST, description="The most hits in the answer.")]


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["search"], responses=ERRORS)

    @router.get(
        "/search",
        response_model=schemas.SearchOut,
        responses={200: {"content": {NDJSON: {}}, "description": "With `Accept: application/x-ndjson`: one line "
                         "with the first stage's order as soon as it is there, then one with the final order."}},
    )  # fmt: skip
    async def search(
        request: Request,
        ask: SearchQuery,
        top: Top = 10,
        candidates: Annotated[bool, Query(description="Also list every candidate, with both ranks.")] = False,
    ) -> Response:
        """Search: returns the pages that answer a question, best first."""

        async def shown(result: SearchResult) -> bytes:
            def body() -> bytes:
                grades = service.library.judgements.of(result.query, user_of(request))
                out = search_response(
                    service.library.searcher, service.library.store, result, top,
                    for_server=True, candidates=candidates, grades=grades,
                )  # fmt: skip
                return out.model_dump_json().encode()

            return await service.run_without_model(body, client_of(request))

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
        """Export a result as CSV or JSON, or its pages as one PDF in rank order.

        If pages of a PDF could not be copied and are images, `X-Folioscope-Notes` says why (URL-encoded).
        """
        library = service.library

        async def aside(work: Callable[[], T]) -> T:
            return await _unless_gone(request, service.run_without_model(work, client_of(request)))

        result = await _unless_gone(request, service.search(ask, client_of(request)))
        result, notes = replace(result, hits=result.hits[:top]), tuple[str, ...]()
        if format != "pdf":
            response = await aside(lambda: search_response(library.searcher, library.store, result))
            body, kind = (
                (export.as_csv(response).encode("utf-8-sig"), "text/csv")
                if format == "csv"
                else (json_text(response.model_dump(mode="json"), indent=1).encode(), "application/json")
            )
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
        """Return one page: its words, and what matches the question."""
        library = service.library
        return await service.run_with_model(
            q, client_of(request), lambda: page_response(library, q, doc_id, number, user_of(request))
        )

    @router.get("/documents/{doc_id}/pages/{number}/highlights", response_model=schemas.HighlightsOut)
    async def highlights(
        request: Request, doc_id: str, number: int, q: Annotated[str, Query(min_length=1, max_length=20_000)]
    ) -> schemas.HighlightsOut:
        """Return only what on a page matches the question: boxes for each of its words, and a heat map."""
        library = service.library
        out = await service.run_with_model(
            q, client_of(request), lambda: page_response(library, q, doc_id, number, user_of(request))
        )
        return schemas.HighlightsOut(**out.model_dump(include=set(schemas.HighlightsOut.model_fields)))

    @router.get("/documents/{doc_id}/pages/{number}/image", response_class=Response)
    async def image(
        request: Request,
        doc_id: str,
        number: int,
        q: Annotated[str, Query(max_length=20_000, description="Highlight what matches this question.")] = "",
        format: Annotated[Literal["webp", "png"], Query()] = "webp",
    ) -> Response:
        """Return the page's image at the resolution of ingest."""
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

        body = await _unless_gone(request, service.run_with_model(q, client_of(request), drawn))
        return Response(body, media_type=f"image/{format}", headers=NEVER)

    return router


def _pdf(pages: Sequence[Page], store: Store, title: str) -> tuple[bytes, tuple[str, ...]]:
    with TemporaryDirectory(prefix="folioscope-") as folder:
        target = Path(folder) / "pages.pdf"
        notes = export.as_pdf(pages, store, target, title=title)
        return target.read_bytes(), notes


async def _unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """Return the answer, or cancel it when the client disconnects, so that its turn goes to the next in the queue."""
    task = asyncio.ensure_future(answer)
    try:
        while not (await asyncio.wait([task], timeout=POLL_S))[0]:
            if await request.is_disconnected():
                raise HTTPException(499, "the client has disconnected")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _ahead(steps: AsyncGenerator[SearchResult, None]) -> AsyncGenerator[SearchResult, None]:
    """Yield the same results, computing the next one while the client takes this one: the reranker never waits."""
    try:
        result: SearchResult | None = await anext(steps, None)
        while result is not None:
            following = asyncio.ensure_future(anext(steps, None))
            try:
                yield result
                result = await following
            finally:
                if not following.done():
                    following.cancel()
                    await asyncio.wait([following])
                elif not following.cancelled():
                    following.exception()  # retrieved: the client has gone, and nobody else would look at it
    finally:
        await steps.aclose()


async def _lines(
    request: Request,
    steps: AsyncGenerator[SearchResult, None],
    shown: Callable[[SearchResult], Awaitable[bytes]],
) -> AsyncGenerator[bytes, None]:
    """Yield each result as a line of JSON. An error after the first line is a line too: the status has been sent."""
    has_begun = False
    async with aclosing(steps):
        try:
            async for result in steps:
                yield await shown(result) + b"\n"
                has_begun = True
        except FolioscopeError as error:
            if not has_begun:
                raise
            yield bytes(answer_of(error).body) + b"\n"
        except Exception as error:
            if not has_begun:
                raise
            failed = unexpected(request.scope, error, "The reranked order could not be made")
            yield bytes(failed.body) + b"\n"


async def _after(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with aclosing(rest):
        yield first
        async for line in rest:
            yield line
