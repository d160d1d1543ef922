"""MCP tools at `/mcp` (streamable HTTP): search_pages, get_page, list_documents.

They stand in the same app as everything else, so that the same login guards them and the same queue serves
them. Gradio's own MCP server calls itself over HTTP without credentials, and so fails behind a login.
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

from retrieval.errors import FolioscopeError
from retrieval.types import Filter, SearchRequest
from ui.api.render import highlighted_jpeg
from ui.api.responses import page_response, search_response
from ui.api.rest.common import client_of
from ui.service.service import Service

Tool = TypeVar("Tool", bound=Callable[..., Awaitable[Any]])

MOST = 50  # pages of one answer: they are read by a model
TEXT = 20_000  # characters of a page
LISTED = 500  # documents of one answer


@dataclass(frozen=True)
class McpTools:
    server: MCPServer[Any]
    routes: list[BaseRoute]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.server.session_manager.run():
            yield


def _told(tool: Tool) -> Tool:
    """What is wrong is said to the model that asked, in our words; other errors stay in the server's log."""

    @wraps(tool)
    async def telling(*given: Any, **named: Any) -> Any:
        try:
            return await tool(*given, **named)
        except FolioscopeError as error:
            raise ToolError(error.message) from error

    return telling  # type: ignore[return-value]


def tools(service: Service) -> McpTools:
    server: MCPServer[Any] = MCPServer(
        "folioscope",
        instructions="Finds the page that answers a question in a library of PDFs, scans, tables and charts. "
        "Search first; then look at the pages that are promising. Cite pages as report.pdf#page=12.",
        log_level="WARNING",
    )

    @server.tool()
    @_told
    async def search_pages(
        context: Context[Any, Any],
        query: Annotated[str, Field(description="A question, in full.", max_length=20_000)],
        top: Annotated[int, Field(ge=1, le=MOST, description="Pages in the answer.")] = 10,
        documents: Annotated[list[str], Field(description="Only these file names or doc_ids.")] = [],  # noqa: B006
        collections: list[str] = [],  # noqa: B006
        tags: list[str] = [],  # noqa: B006
        since: Annotated[str, Field(description="Only documents from this date on: 2024, 2024-01-31.")] = "",
        until: str = "",
        scanned: Annotated[bool | None, Field(description="Only scanned, or only digital pages.")] = None,
    ) -> dict[str, Any]:
        """Find the pages that answer a question, best first, with the passage that matches."""
        where = Filter(tuple(documents), tuple(collections), tuple(tags), since, until, scanned)
        result = await service.search(SearchRequest(query, where), _client(context))
        out = await service.aside(lambda: search_response(service.library, result, top), _client(context))
        return {
            "pages": [
                {
                    "page": hit.page_name, "doc_id": hit.doc_id, "number": hit.page, "of": hit.pages,
                    "title": hit.title, "date": hit.date, "scanned": hit.scanned, "rank": hit.rank,
                    "confidence": hit.confidence,
                    "passage": "".join(text for text, _ in hit.snippet),
                }
                for hit in out.hits
            ],
            "decision": out.decision,
            "notes": out.notes,
        }  # fmt: skip

    @server.tool(structured_output=False)
    @_told
    async def get_page(
        context: Context[Any, Any],
        document: Annotated[str, Field(description="doc_id or file name.")],
        number: Annotated[int, Field(ge=1, description="Page number, from 1.")],
        query: Annotated[str, Field(description="Light up what matches this question.")] = "",
        image: Annotated[bool, Field(description="Whether to send the page as a picture, too.")] = True,
    ) -> list[Any]:
        """Look at one page: its text and its picture, with what matches the question lit up."""
        library = service.library

        def looked() -> list[Any]:
            page = library.store.page(document, number)
            out = page_response(library, query, page.doc_id, number)
            cut = f"\n[cut: {len(out.text) - TEXT:,} more characters]" if len(out.text) > TEXT else ""
            note = f"\n[{out.note}]" if out.note else ""
            text = f"{page.name} (page {number} of {out.pages})\n\n{out.text[:TEXT]}{cut}{note}"
            if not image:
                return [text]
            highlight = library.searcher.highlight(query, [page])[0] if query.strip() else None
            picture = library.store.contents([page])[0].image()
            return [text, Image(data=highlighted_jpeg(picture, highlight), format="jpeg")]

        return await service.with_model(query, _client(context), looked)

    @server.tool()
    @_told
    async def list_documents(
        find: Annotated[str, Field(description="Part of a name or title; empty for all.")] = "",
    ) -> dict[str, Any]:
        """What is in the library."""
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

    # Foreign hosts and origins are refused by the app's own middleware.
    anyone = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(
        streamable_http_path="/mcp", stateless_http=True, json_response=True, transport_security=anyone
    )
    return McpTools(server, list(app.routes))


def _client(context: Context[Any, Any]) -> str:
    request = context.request_context.request
    return client_of(request) if isinstance(request, Request) else "mcp"
