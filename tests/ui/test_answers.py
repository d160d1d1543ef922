"""Written answers over REST, MCP, the command line and Python: streamed, stored by user, and never from other pages."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

import configs.settings as configs
from tests.chat_server import Answer, ChatServer, chat_server, claims
from tests.ui.conftest import DOC, GONE, SMALL, filled, serving
from tests.ui.test_mcp import running
from ui import open_index
from ui.service.service import Service
from ui.service.users import set_password
from ui.web.auth import open_authentication
from ui.web.server import server

ROOT = Path(__file__).parents[2]
QUESTION = "harbour fees"
GOOD = claims(("There are harbour fees.", 1, "harbour fees"))
ANSWER = "/api/v1/answer"


@pytest.fixture
def chat() -> Iterator[ChatServer]:
    with chat_server() as running:
        running.will_say(GOOD)
        yield running


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return filled(tmp_path)


@pytest.fixture
def service(uri: str, chat: ChatServer) -> Iterator[Service]:
    service = serving(uri, with_model(chat))
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(server(service))


def with_model(chat: ChatServer, **more: Any) -> configs.Settings:
    answer = configs.Answer(url=chat.url, model="seer", retries=0, timeout_s=10, **more)
    return SMALL.model_copy(update={"answer": answer})


def events(text: str) -> list[tuple[str, Any]]:
    """Return the server-sent events of a body as (name, data)."""
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_an_answer_is_one_object_with_quotes_and_their_places(client: TestClient, chat: ChatServer) -> None:
    out = client.post(ANSWER, json={"query": QUESTION}).json()
    assert (out["status"], out["text"], out["model"]) == ("grounded", "There are harbour fees.", "seer")
    (citation,) = out["citations"]
    assert (citation["page_name"], citation["match"], citation["verified"]) == (
        "tides.pdf#page=2",
        "exact",
        True,
    )
    assert citation["boxes"] == [pytest.approx([0.1, 0.1, 0.27, 0.12], abs=1e-4)]
    assert out["text"][citation["start"] : citation["end"]] == "There are harbour fees."
    assert out["pages"][0]["thumb"].startswith(f"media/{DOC}/2.thumb.webp")
    assert out["coverage"] == {"searched": 4, "found": out["coverage"]["found"]}
    assert client.get("/api/v1/library").json()["answers"] == "seer"


def test_events_come_in_their_order_and_the_last_has_everything(client: TestClient) -> None:
    with client.stream("POST", ANSWER, json={"query": QUESTION, "stream": True}) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        got = events(response.read().decode())
    names = [name for name, _ in got]
    assert names[0] == "pages"
    assert names[-1] == "done"
    assert set(names[1:-1]) == {"delta", "citation"}
    done = got[-1][1]
    assert "".join(data["text"] for name, data in got if name == "delta") == done["text"]
    assert [data for name, data in got if name == "citation"] == done["citations"]
    assert got[0][1]["id"] == done["id"]
    assert client.get(f"{ANSWER}/{done['id']}").json() | {"at": ""} == done


def test_answers_are_found_again_by_their_question(client: TestClient, chat: ChatServer) -> None:
    first = client.post(ANSWER, json={"query": QUESTION}).json()
    second = client.post(ANSWER, json={"query": f"  {QUESTION} "}).json()
    client.post(ANSWER, json={"query": QUESTION, "collections": ["ports"]})
    found = client.get("/api/v1/answers", params={"q": QUESTION}).json()
    assert [answer["id"] for answer in found["answers"]] == [second["id"], first["id"]]
    assert found["running"] == []
    of_ports = client.get("/api/v1/answers", params={"q": QUESTION, "collection": "ports"}).json()
    assert len(of_ports["answers"]) == 1
    assert client.get("/api/v1/answers", params={"q": "another"}).json() == {"answers": [], "running": []}
    assert chat.calls == 3


def test_answers_survive_a_restart_but_not_their_documents(uri: str, chat: ChatServer) -> None:
    service = serving(uri, with_model(chat))
    client = TestClient(server(service))
    kept = client.post(ANSWER, json={"query": QUESTION, "documents": [GONE]}).json()["id"]
    based = client.post(ANSWER, json={"query": QUESTION, "documents": [DOC]}).json()["id"]
    service.close()
    service = serving(uri, with_model(chat))
    client = TestClient(server(service))
    assert client.get(f"{ANSWER}/{based}").status_code == 200
    client.post("/api/v1/documents/remove", json={"doc_ids": [DOC]})
    assert (
        client.get(f"{ANSWER}/{based}").status_code == 404
    )  # at once, while the removal can still be undone
    deadline = time.monotonic() + 10
    while service.library.jobs.pending_removals() and time.monotonic() < deadline:
        time.sleep(0.05)
    gone = client.get(f"{ANSWER}/{based}")
    assert (gone.status_code, gone.json()["error"]["kind"]) == (404, "NotFound")
    assert client.get(f"{ANSWER}/{kept}").status_code == 200
    service.close()


def test_only_pages_that_pass_the_filters_are_sent(client: TestClient, chat: ChatServer) -> None:
    out = client.post(ANSWER, json={"query": "harbour", "collections": ["ports"]}).json()
    assert {page["doc_id"] for page in out["pages"]} == {DOC}
    assert "seals" not in chat.text()
    client.post(ANSWER, json={"query": "harbour", "documents": [GONE]})
    assert "fees" not in chat.text()
    client.post("/api/v1/documents/remove", json={"doc_ids": [GONE]})  # hidden at once
    client.post(ANSWER, json={"query": "harbour seals"})
    assert "harbour</script> seals" not in chat.text()
    assert "seals" not in chat.text().rpartition("Question:")[0]


def test_nothing_is_sent_if_nothing_matches(client: TestClient, chat: ChatServer) -> None:
    out = client.post(ANSWER, json={"query": "harbour", "tags": ["none"]}).json()
    assert (out["status"], out["reason"], out["pages"]) == ("refused", "nothing_matches", [])
    assert client.post(ANSWER, json={"query": "  "}).status_code == 422
    assert client.post(ANSWER, json={"query": "a", "since": "yesterday"}).status_code == 422
    assert chat.calls == 0


def test_without_a_model_there_is_a_refusal_and_no_text(uri: str) -> None:
    service = serving(uri)
    out = TestClient(server(service)).post(ANSWER, json={"query": QUESTION}).json()
    assert (out["status"], out["reason"], out["text"], out["model"]) == ("refused", "no_model", "", "")
    assert out["pages"][0]["page_name"] == "tides.pdf#page=2"
    service.close()


def test_a_model_that_fails_is_no_error_of_the_request(client: TestClient, chat: ChatServer) -> None:
    chat.will_say(Answer(status=500, body="out of memory"))
    response = client.post(ANSWER, json={"query": QUESTION})
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["reason"]) == ("refused", "model_unreachable")


def test_another_user_neither_sees_nor_streams_an_answer(uri: str, chat: ChatServer, tmp_path: Path) -> None:
    users = tmp_path / "users.txt"
    set_password(users, "ada", "correct horse")
    set_password(users, "bob", "battery staple")
    chat.will_say(Answer(GOOD, delay_s=0.1))
    for url in running(serving(uri, with_model(chat)), open_authentication(tmp_path, users=users)):
        ada, bob = ("ada", "correct horse"), ("bob", "battery staple")
        with httpx2.stream(
            "POST", f"{url}{ANSWER}", json={"query": QUESTION, "stream": True}, auth=ada
        ) as stream:
            id = events(next(stream.iter_text()))[0][1]["id"]
            assert httpx2.get(f"{url}{ANSWER}/{id}", auth=bob).status_code == 404
            of_bob = httpx2.get(f"{url}/api/v1/answers", params={"q": QUESTION}, auth=bob).json()
            assert of_bob == {"answers": [], "running": []}
            of_ada = httpx2.get(f"{url}/api/v1/answers", params={"q": QUESTION}, auth=ada).json()
            assert of_ada["running"] == [id]
        assert httpx2.get(f"{url}{ANSWER}/{id}").status_code == 401
        assert httpx2.get(f"{url}{ANSWER}/{id}", auth=ada, timeout=20).json()["status"] == "grounded"
        assert httpx2.get(f"{url}{ANSWER}/{id}", auth=bob).status_code == 404


def test_a_reader_who_leaves_and_returns_gets_the_stream_from_its_beginning(
    uri: str, chat: ChatServer
) -> None:
    chat.will_say(Answer(GOOD, delay_s=0.1))
    for url in running(serving(uri, with_model(chat)), None):
        with httpx2.stream("POST", f"{url}{ANSWER}", json={"query": QUESTION, "stream": True}) as stream:
            id = events(next(stream.iter_text()))[0][1]["id"]
        again = httpx2.get(f"{url}{ANSWER}/{id}", headers={"Accept": "text/event-stream"}, timeout=20)
        got = events(again.text)
        assert [got[0][0], got[-1][0]] == ["pages", "done"]
        assert got[-1][1]["status"] == "grounded"
        assert httpx2.get(f"{url}{ANSWER}/{id}").json()["text"] == "There are harbour fees."
    assert chat.calls == 1


def test_the_mcp_tool_returns_the_same_object(uri: str, chat: ChatServer) -> None:
    from tests.ui.test_mcp import call

    for url in running(serving(uri, with_model(chat)), None):
        out = call(url, "answer", {"query": QUESTION}).structured_content
        rest = httpx2.get(f"{url}{ANSWER}/{out['id']}").json()
        ignored = {"at", "pages", "citations"}
        assert {k: v for k, v in out.items() if k not in ignored} == {
            k: v for k, v in rest.items() if k not in ignored
        }
        assert out["citations"][0]["boxes"] == rest["citations"][0]["boxes"]


def test_the_description_has_the_routes_and_their_events(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    answer = described["paths"][ANSWER]["post"]["responses"]["200"]["content"]
    assert set(answer) == {"application/json", "text/event-stream"}
    assert "CitedAnswerOut" in described["components"]["schemas"]
    assert "/api/v1/answers" in described["paths"]
    assert "POST /api/v1/answer" in client.get("/docs").text


def test_python_asks_and_streams(uri: str, chat: ChatServer, tmp_path: Path) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text(
        f"encoder: {{kind: hashing}}\nreranker: {{kind: overlap}}\nanswer: {{url: '{chat.url}', model: seer}}\n"
    )
    index = open_index(uri, str(profile))
    assert index.ask(QUESTION).status == "grounded"
    assert len(list(index.ask_steps(QUESTION))) > 3


@pytest.mark.slow
def test_the_command_line_streams_text_and_marks_and_exits_by_the_model(
    uri: str, chat: ChatServer, tmp_path: Path
) -> None:
    profile = tmp_path / "own.yaml"
    profile.write_text(
        "encoder: {kind: hashing}\nreranker: {kind: overlap}\n"
        f"answer: {{url: '{chat.url}', model: seer, retries: 0}}\n"
    )

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "ui.cli", *arguments, "--profile", str(profile)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    chat.will_say(
        claims(("There are harbour fees.", 1, "harbour fees"), ("They are 7 euros.", 1, "seven euros"))
    )
    plain = run("ask", QUESTION, "--index", uri)
    assert plain.returncode == 0
    lines = plain.stdout.splitlines()
    assert lines[0] == "There are harbour fees. [1] They are 7 euros. [?]"
    assert lines[2].startswith("partly: 1 sentence is not supported")
    assert '  [1] tides.pdf#page=2 "harbour fees"  exact' in lines
    assert '  [1] tides.pdf#page=2 "seven euros"  not found on the page' in lines
    chat.will_say(Answer(status=500, body="boom"))
    failed = run("ask", QUESTION, "--index", uri, "--json")
    assert failed.returncode == 3
    assert json.loads(failed.stdout)["reason"] == "model_unreachable"
    chat.will_say("HERON")
    doctor = run("doctor", "--json")
    checks = {check["message"]: check["state"] for check in json.loads(doctor.stdout)["checks"]}
    assert checks[f"answer seer at {chat.url}: it reads a word in a picture"] == "ok"
    chat.plan.is_blind = True
    blind = run("doctor", "--json")
    assert blind.returncode == 3
    assert "does not see pictures" in blind.stdout


def test_at_most_a_few_answers_are_written_at_once_and_the_queue_is_bounded(
    uri: str, chat: ChatServer
) -> None:
    settings = with_model(chat).model_copy(update={"serve": configs.Serve(waiting=1, waiting_each=1)})
    chat.will_say(Answer(GOOD, delay_s=0.15))
    service = serving(uri, settings)

    async def many() -> list[int]:
        transport = httpx2.ASGITransport(server(service))
        async with httpx2.AsyncClient(transport=transport, base_url="http://test", timeout=60) as http:
            first = await http.post(ANSWER, json={"query": QUESTION})  # the search is cached from here on
            rest = await asyncio.gather(*(http.post(ANSWER, json={"query": QUESTION}) for _ in range(7)))
            return [first.status_code, *(response.status_code for response in rest)]

    codes = asyncio.run(many())
    service.close()
    assert codes[0] == 200
    assert sorted(set(codes)) == [200, 429]
