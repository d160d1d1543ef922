"""MCP over real HTTP, by the protocol's own client: with and without a login."""

import asyncio
import csv
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.ui.conftest import DOC, HOSTILE, filled, serving
from ui.service.service import Service
from ui.web.auth import Authentication, open_authentication
from ui.web.server import server

TOKEN = "a-token-that-is-long-enough"


def running(service: Service, guard: Authentication | None) -> Iterator[str]:
    """The server closes the service when it ends."""
    app = server(service, guard, "127.0.0.1")
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        uv = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=uv.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        while not uv.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{place.getsockname()[1]}"
        uv.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def url(uri: str) -> Iterator[str]:
    yield from running(serving(uri), None)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    uri = filled(tmp_path_factory.mktemp("locked"))
    yield from running(serving(uri), open_authentication(tmp_path_factory.mktemp("doors"), token=TOKEN))


def call(url: str, name: str, arguments: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    async def calling() -> Any:
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client,
        ):
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert tools == ["search_pages", "get_page", "list_documents", "answer"]
            return await client.call_tool(name, arguments)

    return asyncio.run(calling())


def test_a_search_returns_hits_with_their_snippets(url: str) -> None:
    found = call(url, "search_pages", {"query": "harbour seals", "top": 2}).structured_content
    best = found["hits"][0]
    assert (best["page_name"], best["page"], best["pages"]) == (f"{HOSTILE}#page=1", 1, 1)
    assert "seals" in best["snippet"]
    assert found["decision"]["kind"] == "reranked"
    only = call(
        url, "search_pages", {"query": "harbour", "documents": ["tides.pdf"], "top": 50}
    ).structured_content
    assert {hit["doc_id"] for hit in only["hits"]} == {DOC}


def test_a_hit_has_the_same_fields_in_rest_mcp_exports_and_on_the_command_line(url: str, uri: str) -> None:
    question = "harbour fees of the seals"
    params: dict[str, Any] = {"q": question, "top": 3}
    rest = httpx2.get(f"{url}/api/v1/search", params=params, timeout=60).json()
    mcp = call(url, "search_pages", {"query": question, "top": 3}).structured_content
    exported = httpx2.get(f"{url}/api/v1/export", params={**params, "format": "json"}, timeout=60).json()
    csv_file = httpx2.get(f"{url}/api/v1/export", params={**params, "format": "csv"}, timeout=60).content
    table = list(csv.DictReader(io.StringIO(csv_file.decode("utf-8-sig"), newline="")))
    command = [
        sys.executable,
        "-m",
        "ui.cli",
        "search",
        question,
        "-k",
        "3",
        "-i",
        uri,
        "-p",
        "smoke",
        "--json",
    ]
    printed = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    assert len(rest["hits"]) == 3
    addresses = {"thumb", "image", "link"}
    for hit, exported_hit, printed_hit in zip(rest["hits"], exported["hits"], printed["hits"], strict=True):
        assert all(hit[name] for name in addresses)
        assert hit | dict.fromkeys(addresses, "") == exported_hit
        assert exported_hit | {"regions": printed_hit["regions"]} == printed_hit
    assert printed["hits"][0]["regions"][0]["kind"] == "word"
    for other in (exported, printed):
        assert other.keys() == rest.keys()
        for name in ("query", "found", "searched", "provisional", "reranked", "notes", "candidates"):
            assert other[name] == rest[name]
        assert other["decision"]["kind"] == rest["decision"]["kind"]
        assert [stage["name"] for stage in other["stages"]] == [stage["name"] for stage in rest["stages"]]

    for hit, mcp_hit, row in zip(rest["hits"], mcp["hits"], table, strict=True):
        snippet = "".join(text for text, _ in hit["snippet"])
        assert mcp_hit == {name: hit[name] for name in mcp_hit} | {"snippet": snippet}
        assert {"page", "page_name", "doc_id", "rank"} < mcp_hit.keys()
        flat = hit | {"snippet": snippet, "tags": "; ".join(hit["tags"]), "same": "; ".join(hit["same"])}
        flat |= {f"scores.{name}": score for name, score in hit["scores"].items()}
        assert row == {name: "" if flat[name] is None else str(flat[name]) for name in row}
    assert mcp["decision"] == rest["decision"]
    assert mcp["notes"] == rest["notes"]


def test_a_page_is_returned_as_text_and_image(url: str) -> None:
    text, picture = call(url, "get_page", {"document": DOC, "page": 2, "query": "fees"}).content
    assert text.text.startswith("tides.pdf#page=2 (page 2 of 3)\n\nharbour fees")
    assert (picture.type, picture.mime_type) == ("image", "image/jpeg")
    (alone,) = call(url, "get_page", {"document": DOC, "page": 2, "image": False}).content
    assert alone.type == "text"


def test_documents_are_listed(url: str) -> None:
    listed = call(url, "list_documents", {"find": "TIDES"}).structured_content
    assert (listed["total"], listed["documents"][0]["name"]) == (1, "tides.pdf")


def test_the_model_gets_the_message_of_an_error(url: str) -> None:
    answer = call(url, "get_page", {"document": "nothing.pdf", "page": 1})
    assert answer.is_error
    assert "no document 'nothing.pdf'" in answer.content[0].text
    answer = call(url, "search_pages", {"query": "harbour", "since": "2024-13"})
    assert answer.is_error
    assert "'2024-13' is not a date: write it as 2024-01-31, 2024-01 or 2024" in answer.content[0].text


def test_with_authentication_only_the_right_token_is_accepted(locked: str) -> None:
    found = call(locked, "search_pages", {"query": "harbour"}, {"Authorization": f"Bearer {TOKEN}"})
    assert len(found.structured_content["hits"]) == 4
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx2.post(f"{locked}/mcp", json=body).status_code == 401
    wrong = httpx2.post(f"{locked}/mcp", json=body, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, "search_pages" in wrong.text) == (401, False)


def test_requests_from_other_sites_are_refused(url: str) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx2.post(f"{url}/mcp", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx2.post(f"{url}/mcp", json=body, headers={"Host": "evil.example"}).status_code == 400


def test_the_users_file_is_written_and_used_to_authenticate(tmp_path: Path) -> None:
    from retrieval.errors import FolioscopeError
    from ui.service.users import remove_user, set_password

    users = tmp_path / "users.txt"
    set_password(users, "ada", "correct horse")
    set_password(users, "bob", "battery staple")
    set_password(users, "ada", "another horse")
    assert [line.partition(":")[0] for line in users.read_text().splitlines()] == ["bob", "ada"]
    assert users.stat().st_mode & 0o777 == 0o600
    left = tmp_path / ".users.txt.part"  # by a command that was interrupted, and readable for all
    left.touch(mode=0o644)
    set_password(users, "ada", "another horse")
    assert users.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FolioscopeError, match="has 5 characters, 8 are the least"):
        set_password(users, "eve", "short")
    with pytest.raises(FolioscopeError, match="colon"):
        set_password(users, "a:b", "long enough")
    remove_user(users, "bob")
    with pytest.raises(FolioscopeError, match="no user 'bob'"):
        remove_user(users, "bob")
    assert open_authentication(tmp_path, users=users) is not None
