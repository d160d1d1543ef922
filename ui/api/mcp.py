"""MCP tools at `/mcp` (streamable HTTP): search_pages, get_page, list_documents, answer.

They are routes of the same app as everything else, so that they share its authentication and its queue. Gradio's own
MCP server calls itself over HTTP without credentials, and so fails behind a login.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field
from starlette.requests import Request
from starlette.routing import BaseRoute

from retrieval.answering.types import CitedAnswer
from retrieval.errors import FolioscopeError
from retrieval.types import Filter, SearchRequest
from ui.api.answers import answer_response
from ui.api.render import highlighted_jpeg
from ui.api.responses import page_response, search_response, snippet_text
from ui.api.rest.common import client_of, user_of
from ui.service.service import Service

Tool = TypeVar("Tool", bound=Callable[..., Awaitable[Any]])

MOST = 50  # hits of one answer, which a model has to read
TEXT = 20_000  # the most characters of a page's text
LISTED = 500  # the most documents of one answer
HIT_FIELDS = {
    "doc_id", "document", "title", "page", "pages", "page_name", "date", "scanned", "rank", "confidence", "answer",
    "same",
}  # fmt: skip
"""Fields of `schemas.HitOut` that a model needs; the snippet comes with them as one text."""
ANSWER_FIELDS = {"doc_id", "document", "page", "page_name", "text", "probability"}
"""Fields of `schemas.AnswerOut` that a model needs; the passage comes with them as one text."""


@dataclass(frozen=True)
class McpTools:
    server: MCPServer[Any]
    routes: list[BaseRoute]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.server.session_manager.run():
            yield


def _answer_errors(tool: Tool) -> Tool:
    """Send a FolioscopeError's message to the model that called the tool; other errors stay in the server's log."""

    @wraps(tool)
    async def answering(*args: Any, **kwargs: Any) -> Any:
        try:
            return await tool(*args, **kwargs)
        except FolioscopeError as error:
            raise ToolError(error.message) from error

    return answering  # type: ignore[return-value]


def tools(service: Service) -> McpTools:
    """Return the MCP server over `service` with its routes."""
    server: MCPServer[Any] = MCPServer(
        "folioscope",
        instructions="Finds the page that answers a question in a library of PDFs, scans, tables and charts. "
        "Search first; then look at the most promising pages. Cite pages as report.pdf#page=12.",
        log_level="WARNING",
    )

    @server.tool()
    @_answer_errors
    async def search_pages(
        context: Context[Any, Any],
        query: Annotated[str, Field(description="A question, in full.", max_length=20_000)],
        top: Annotated[int, Field(ge=1, le=MOST, description="The most hits in the answer.")] = 10,
        documents: Annotated[list[str], Field(description="Only these file names or doc_ids.")] = [],  # noqa: B006
        collections: list[str] = [],  # noqa: B006
        tags: list[str] = [],  # noqa: B006
        since: Annotated[
            str, Field(description="Only documents of this date or later: 2024, 2024-01-31.")
        ] = "",
        until: Annotated[str, Field(description="Only documents of this date or earlier.")] = "",
        scanned: Annotated[bool | None, Field(description="Only scanned, or only digital pages.")] = None,
    ) -> dict[str, Any]:
        """Find the pages that answer a question, best first, with the passage that matches (snippet).

        `answers` are words of these pages that answer it, verbatim, likeliest first; there are none if no page answers
        well. Decision "reranked_in_part": the best of only `read` of `shortlist` pages, for lack of time.
        """
        where = Filter(tuple(documents), tuple(collections), tuple(tags), since, until, scanned)
        result = await service.search(SearchRequest(query, where), _client(context))
        searcher, store = service.library.searcher, service.library.store
        out = await service.run_without_model(
            lambda: search_response(searcher, store, result, top), _client(context)
        )
        return {
            "answers": [
                answer.model_dump(mode="json", include=ANSWER_FIELDS)
                | {"passage": "".join(text for text, _ in answer.passage)}
                for answer in out.answers
            ],
            "hits": [
                hit.model_dump(mode="json", include=HIT_FIELDS) | {"snippet": snippet_text(hit)}
                for hit in out.hits
            ],
            "decision": out.decision.model_dump(mode="json"),
            "notes": [note.model_dump(mode="json") for note in out.notes],
        }

    @server.tool(structured_output=False)
    @_answer_errors
    async def get_page(
        context: Context[Any, Any],
        document: Annotated[str, Field(description="doc_id or file name.")],
        page: Annotated[int, Field(ge=1, description="Page number, from 1.")],
        query: Annotated[str, Field(description="Highlight what matches this question.")] = "",
        image: Annotated[bool, Field(description="Whether to send the page's image as well.")] = True,
    ) -> list[Any]:
        """Get one page: its text and its image, with what matches the question highlighted."""
        library = service.library

        def content() -> list[Any]:
            found = library.store.page(document, page)
            out = page_response(library, query, found.doc_id, page)
            cut = f"\n[cut: {len(out.text) - TEXT:,} more characters]" if len(out.text) > TEXT else ""
            note = f"\n[{out.note}]" if out.note else ""
            answer = f"\n[answers with: {out.answer.text}]" if out.answer else ""
            text = f"{found.name} (page {page} of {out.pages}){answer}\n\n{out.text[:TEXT]}{cut}{note}"
            if not image:
                return [text]
            highlight = library.searcher.highlight(query, [found])[0] if query.strip() else None
            picture = library.store.contents([found])[0].image()
            return [text, Image(data=highlighted_jpeg(picture, highlight), format="jpeg")]

        return await service.run_with_model(query, _client(context), content)

    @server.tool()
    @_answer_errors
    async def list_documents(
        find: Annotated[str, Field(description="Part of a name or title; empty for all.")] = "",
    ) -> dict[str, Any]:
        """List the documents of the library."""
        found = [
            document
            for document in await asyncio.to_thread(service.library.store.documents)
            if find.casefold() in f"{document.name}\n{document.title}".casefold()
        ]
        return {
            "total": len(found),
            "documents": [
                {"doc_id": d.doc_id, "name": d.name, "title": d.title, "pages": d.pages, "date": d.date,
                 "collection": d.collection, "tags": list(d.tags)}
                for d in found[:LISTED]
            ],
        }  # fmt: skip

    @server.tool()
    @_answer_errors
    async def answer(
        context: Context[Any, Any],
        query: Annotated[str, Field(description="A question, in full.", max_length=20_000)],
        documents: Annotated[list[str], Field(description="Only these file names or doc_ids.")] = [],  # noqa: B006
        collections: list[str] = [],  # noqa: B006
        tags: list[str] = [],  # noqa: B006
    ) -> dict[str, Any]:
        """Let the library's own model answer, with a checked quote from its page for every sentence.

        search_pages and get_page are better if you can read the pages yourself. `verified` says of each citation
        whether its quote is on the page; do not repeat sentences whose citations are not verified.
        """
        where = Filter(tuple(documents), tuple(collections), tuple(tags))
        job = await service.answering.start(SearchRequest(query, where), _client(context), _user(context))
        async for event in job.events():
            if isinstance(event, CitedAnswer):
                return answer_response(event, job.id).model_dump(mode="json")
        raise ToolError("the answer was not finished, because the server is stopping: ask again")

    # The app's own middleware refuses foreign hosts and origins.
    no_check = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(
        streamable_http_path="/mcp", stateless_http=True, json_response=True, transport_security=no_check
    )
    return McpTools(server, list(app.routes))


def _client(context: Context[Any, Any]) -> str:
    request = context.request_context.request
    return client_of(request) if isinstance(request, Request) else "mcp"


def _user(context: Context[Any, Any]) -> str:
    request = context.request_context.request
    return user_of(request) if isinstance(request, Request) else ""
