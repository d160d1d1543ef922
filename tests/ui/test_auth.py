"""Authentication and the guard, in front of an app that serves everyone, as Gradio's mount does."""

import asyncio
import base64
import json
import socket
import stat
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.routing import Match, Route
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from retrieval.errors import FolioscopeError
from ui.service.users import hash_password
from ui.web.auth import (
    KNOWN,
    PAUSE,
    WAITING,
    Authentication,
    open_authentication,
    require_authentication,
)
from ui.web.connection import is_loopback, route_path
from ui.web.failures import ADDRESSES, FAILURES, WINDOW, TooManyAttempts
from ui.web.guard import Guard
from ui.web.login import routes
from ui.web.sessions import COOKIE, SESSION, read_secret

TOKEN = "a-token-of-a-good-length"
PASSWORD = "correct horse: bätt€ry"
HASH = hash_password(PASSWORD)
STYLE = "/folio/0123456789ab/folioscope.css"
HTML = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def opened(folder: Path, *lines: str, token: str = TOKEN, clock: Clock | None = None) -> Authentication:
    users = folder / "users.txt"
    users.write_text("\n".join(("# the users", "", *lines)), encoding="utf-8")
    made = open_authentication(folder, token=token, users=users, clock=clock or Clock())
    assert made is not None
    return made


def site(authentication: Authentication) -> FastAPI:
    """An app in which every address answers with the user's name, whatever the method."""
    app = FastAPI(openapi_url=None)
    app.add_middleware(Guard, authentication=authentication)
    app.include_router(routes(authentication))

    @app.api_route("/health", methods=["GET", "HEAD"])
    def health() -> str:
        return "ok"

    @app.api_route("/folio/{version}/{name}", methods=["GET", "HEAD"])
    def style(version: str, name: str) -> PlainTextResponse:
        return PlainTextResponse("body {}")

    @app.get("/stream")
    def stream(request: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[str]:
            for part in ("inside ", request.state.user, " ", "end"):
                yield part

        return StreamingResponse(parts(), media_type="text/plain")

    @app.websocket("/socket")
    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(f"inside {socket.state.user}")
        await socket.close()

    @app.api_route("/{path:path}", methods=METHODS)
    def anything(path: str, request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"inside {request.state.user}", headers={"X-Inside": "yes"})

    return app


def visitor(
    authentication: Authentication, *, root_path: str = "", base_url: str = "http://folio.example"
) -> TestClient:
    return TestClient(site(authentication), base_url=base_url, root_path=root_path, follow_redirects=False)


def basic(name: str, password: str, encoding: str = "utf-8") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode(encoding)).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def log_in(client: TestClient, name: str = "ada", password: str = PASSWORD, onward: str = "/") -> Any:
    return client.post("/login", data={"name": name, "password": password, "next": onward})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ours(tmp_path: Path, clock: Clock) -> Authentication:
    return opened(tmp_path, f"ada:{HASH}", clock=clock)


@pytest.fixture
def client(ours: Authentication) -> TestClient:
    return visitor(ours)


# Without a login


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "path", ["/", "/media/a/1.webp", "/upload/a.pdf", "/gradio_api/queue/join", "/stream", "/login/", "/api"]
)
def test_strangers_get_nothing(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"
    error = json.loads(answer.text or client.get(path).text)["error"]  # a response to HEAD has no body
    assert error["kind"] == "LoginNeeded"
    assert "Bearer" in error["message"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/health", {"GET", "HEAD"}), ("/login", {"GET", "POST"}), (STYLE, {"GET"})],
)
def test_three_addresses_are_open_to_everyone_for_the_methods_they_need(
    client: TestClient, path: str, methods: set[str]
) -> None:
    refused = {method for method in METHODS if "www-authenticate" in client.request(method, path).headers}
    assert refused == set(METHODS) - methods


@pytest.mark.parametrize(
    "path",
    [
        "/health/", "/health/../api", "/health%2F..%2Fapi", "/health%2f%2e%2e%2fapi", "/health%252F..%252Fapi",
        "/health;/api", "/health%00", "/health%0A", "/health%20", "/health.", "/HEALTH", "/health/x", "//health",
        "/./health", "/api/../health", "/api/%2e%2e/health", "/healthz",
        "/login/", "//login", "///login", "/login/..;/", "/login;x", "/login/../media/x", "/login%2F", "/login%0A",
        "/login%5C..%5Capi", "\\login", "/Login", "/login/callback",
        "/folio/", "/folio", "/folio/../media/x", "/folio/%2e%2e/media/x", "/folio%2F..%2Fmedia%2Fx", "/folio/x.js",
        "/folio/folioscope.css", f"{STYLE}/", f"{STYLE}/../../../media/x", f"{STYLE}%0A", f"{STYLE}%3Fv=1",
        f"/x{STYLE}", "/folio/0123456789ab/../x.js", "/folio/0123456789ab/..%2Fx.js", "/folio/0123456789ab//x.js",
        "/folio/0123456789AB/x.js", "/folio/0123456789ab/x.html", "/folio/0123456789ab/.js", "/folio/../x/y.js",
        "/media/health", "/api/login", "?/health", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_no_spelling_of_an_open_address_gets_past_the_guard(
    ours: Authentication, method: str, path: str
) -> None:
    assert send_unchanged(ours, method, path) == "refused"


def send_unchanged(authentication: Authentication, method: str, target: str) -> str:
    """Returns what the guard does with this request line: parsed as uvicorn does, and not tidied by a client."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http", "method": method, "path": unquote(path), "raw_path": path.encode(), "headers": [],
        "query_string": query.encode(), "root_path": "", "scheme": "http", "client": ("192.0.2.7", 1),
    }  # fmt: skip
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(site(authentication)(scope, receive, send))
    headers = dict(sent[0]["headers"])
    assert b"x-inside" not in headers
    return "refused" if sent[0]["status"] == 401 and b"www-authenticate" in headers else "open"


def test_an_encoded_letter_is_the_same_address(client: TestClient) -> None:
    assert client.get("/%68ealth").json() == "ok"
    assert client.get("/%6cogin").status_code == 200
    assert client.get("/health?x=1/../api").json() == "ok"


def test_a_browser_that_opens_a_page_is_redirected_to_the_login_and_back(client: TestClient) -> None:
    answer = client.get("/a b?q=tides&doc=%C3%A4&p=2", headers=HTML)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/a%2520b%3Fq%3Dtides%26doc%3D%25C3%25A4%26p%3D2"
    assert answer.headers["cache-control"] == "no-store"
    page = client.get(answer.headers["location"])
    assert 'name="next" value="/a%20b?q=tides&amp;doc=%C3%A4&amp;p=2"' in page.text
    onward = log_in(client, onward="/a%20b?q=tides&doc=%C3%A4&p=2")
    assert (onward.status_code, onward.headers["location"]) == (303, "/a%20b?q=tides&doc=%C3%A4&p=2")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "image/webp", "text/event-stream", ""])
def test_only_pages_are_redirected_to_the_login(client: TestClient, accept: str) -> None:
    assert client.get("/", headers={"Accept": accept}).status_code == 401
    assert client.post("/", headers=HTML).status_code == 401


def test_a_websocket_is_closed_before_it_is_accepted(client: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/socket"):
        pass
    assert refused.value.code == 4401
    for open_path in ("/health", "/login", STYLE):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(open_path):
            pass


def test_the_guard_passes_lifespan_events_through(ours: Authentication) -> None:
    with TestClient(site(ours)) as client:
        assert client.get("/health").status_code == 200


# With the token, or a name and a password


def test_the_token_lets_programs_in(client: TestClient) -> None:
    assert client.get("/x", headers=bearer(TOKEN)).text == "inside token"
    assert client.put("/x", headers={"Authorization": f"bearer  {TOKEN} "}).text == "inside token"
    assert client.get("/x", headers=basic("", TOKEN)).text == "inside token"


def test_name_and_password_let_programs_in(client: TestClient) -> None:
    assert client.get("/x", headers=basic("ada", PASSWORD)).text == "inside ada"
    assert "set-cookie" not in client.get("/x", headers=basic("ada", PASSWORD)).headers


def test_a_password_may_be_encoded_in_latin_1_or_decomposed(tmp_path: Path) -> None:
    client = visitor(opened(tmp_path, f"ada:{hash_password('Bär')}"))
    assert client.get("/", headers=basic("ada", "Bär", "latin-1")).text == "inside ada"
    assert client.get("/", headers=basic("ada", "Ba\u0308r")).text == "inside ada"


@pytest.mark.parametrize(
    "value",
    [
        b"", b"Bearer", b"Bearer ", b"Bearer " + TOKEN.encode()[:-1], b"Bearer " + TOKEN.encode() + b"x",
        b"Bearer " + TOKEN.upper().encode(), TOKEN.encode(), b"Token " + TOKEN.encode(), b"Bearer \xff\xfe\xe4",
        b"\xff\xff", b"Basic", b"Basic \xff\xff\xff\xff", b"Basic !!!", b"Basic YWRh", b"Basic Og==",
        b"Basic " + base64.b64encode(b"\xff\xfe:\xff"), b"Basic " + base64.b64encode(b"ada:"),
        b"Basic " + base64.b64encode(b"token:" + TOKEN.encode()), b"Basic " + base64.b64encode(HASH.encode()),
        b"Basic " + base64.b64encode(f"Ada:{PASSWORD}".encode()), b"Basic " + base64.b64encode(b"ada:" + b"x" * 5000),
        b"Basic " + base64.b64encode(f"ada:{HASH}".encode()), b"Bearer " + b"x" * 50_000, b"Digest username=ada",
        b"Basic " + base64.b64encode(b"a" * 5000 + b":x"), b"Bearer\t" + TOKEN.encode(), b"Bearer \xc2\xa0",
    ],
)  # fmt: skip
def test_a_slightly_wrong_authorization_lets_nobody_in(client: TestClient, value: bytes) -> None:
    answer = client.get("/x", headers=[(b"authorization", value)])
    assert (answer.status_code, answer.json()["error"]["kind"]) == (401, "LoginNeeded")


def test_two_authorization_headers_let_nobody_in(client: TestClient) -> None:
    right, wrong = ((b"authorization", bearer(token)["Authorization"].encode()) for token in (TOKEN, "wrong"))
    for pair in ([right, wrong], [wrong, right], [right, right]):
        assert client.get("/x", headers=pair).status_code == 401


def test_a_server_without_a_token_rejects_the_empty_token(tmp_path: Path) -> None:
    client = visitor(opened(tmp_path, f"ada:{HASH}", token=""))
    for headers in (bearer(""), basic("", ""), basic("token", "")):
        assert client.get("/", headers=headers).status_code == 401
    assert log_in(client, "", "").status_code == 401


def test_the_hash_of_a_right_password_is_not_computed_again_for_five_minutes(
    ours: Authentication, clock: Clock, client: TestClient
) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert client.get("/", headers=basic("ada", PASSWORD)).text == "inside ada"
        return time.perf_counter() - began

    first = seconds()
    again = min(seconds() for _ in range(5))
    clock.now += KNOWN
    assert again < first / 2
    assert again < seconds() / 2
    assert client.get("/", headers=basic("ada", PASSWORD + "x")).status_code == 401
    assert PASSWORD not in repr(vars(ours))


def test_an_unknown_name_takes_as_long_as_a_wrong_password(ours: Authentication) -> None:
    def seconds(name: str, address: str) -> float:
        async def once() -> float:
            began = time.perf_counter()
            assert await ours.check(name, "wrong", address) == ""
            return time.perf_counter() - began

        return min(asyncio.run(once()) for _ in range(4))

    known, unknown = seconds("ada", "192.0.2.1"), seconds("bob", "192.0.2.2")
    assert 1 / 3 < unknown / known < 3  # without the hash it would be a thousandth


def test_users_can_open_streams_and_websockets(ours: Authentication, client: TestClient) -> None:
    with client.stream("GET", "/stream", headers=bearer(TOKEN)) as answer:
        assert "".join(answer.iter_text()) == "inside token end"
    with client.websocket_connect("/socket", headers=bearer(TOKEN)) as chat:
        assert chat.receive_text() == "inside token"
    with client.websocket_connect("/socket", headers=session_of(ours)) as chat:
        assert chat.receive_text() == "inside ada"


# Sessions


def test_logging_in_gives_a_cookie_that_scripts_and_other_sites_cannot_use(client: TestClient) -> None:
    answer = log_in(client)
    cookie = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert cookie == {"httponly", "path=/", "samesite=lax", f"max-age={SESSION}"}
    assert client.get("/x").text == "inside ada"
    assert client.get("/login", params={"next": "/x?q=1"}).headers["location"] == "/x?q=1"


@pytest.mark.parametrize(
    ("address", "forwarded", "secure"),
    [
        ("https://folio.example", "", True),
        ("http://folio.example", "https", True),
        ("http://folio.example", "HTTPS, http", True),
        ("http://folio.example", "http, https", False),
        ("http://folio.example", "", False),
    ],
)
def test_the_cookie_of_a_secure_page_stays_on_secure_pages(
    ours: Authentication, address: str, forwarded: str, secure: bool
) -> None:
    client = visitor(ours, base_url=address)
    headers = {"X-Forwarded-Proto": forwarded} if forwarded else {}
    answer = client.post("/login", data={"password": TOKEN}, headers=headers)
    assert answer.status_code == 303
    assert ("Secure" in answer.headers["set-cookie"]) is secure


def test_the_token_can_be_entered_at_the_login_without_a_name(client: TestClient) -> None:
    assert "leave the user name empty" in client.get("/login").text
    assert log_in(client, "", TOKEN).status_code == 303
    assert client.get("/x").text == "inside token"


def test_logging_out_clears_the_cookie(client: TestClient) -> None:
    assert client.post("/logout").status_code == 401
    log_in(client)
    assert (
        client.get("/logout").text == "inside ada"
    )  # a link cannot log out: GET /logout is an address of the app
    answer = client.post("/logout")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert client.get("/x").status_code == 401


def session_of(authentication: Authentication, user: str = "ada") -> dict[str, str]:
    return {"Cookie": f"{COOKIE}={authentication.sessions.issue(user)}"}


def test_a_session_ends_after_a_week(ours: Authentication, client: TestClient, clock: Clock) -> None:
    cookie = session_of(ours)
    clock.now += SESSION - 1
    assert client.get("/x", headers=cookie).text == "inside ada"
    clock.now += 1
    assert client.get("/x", headers=cookie).status_code == 401


def test_a_session_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    cookie = session_of(opened(tmp_path, f"ada:{HASH}"))
    assert visitor(opened(tmp_path, f"ada:{HASH}")).get("/x", headers=cookie).text == "inside ada"


def test_a_session_ends_when_its_password_user_or_token_changes(tmp_path: Path) -> None:
    before = opened(tmp_path, f"ada:{HASH}", f"bob:{HASH}")
    ada, bob, token = (session_of(before, user) for user in ("ada", "bob", "token"))
    changed = visitor(opened(tmp_path, f"ada:{hash_password(PASSWORD)}", f"bob:{HASH}"))
    assert changed.get("/x", headers=ada).status_code == 401
    assert changed.get("/x", headers=bob).text == "inside bob"
    removed = visitor(opened(tmp_path, f"ada:{HASH}", token="another-token-of-good-length"))
    assert removed.get("/x", headers=bob).status_code == 401
    assert removed.get("/x", headers=token).status_code == 401
    without = visitor(opened(tmp_path, f"ada:{HASH}", token=""))
    assert without.get("/x", headers=token).status_code == 401


def test_a_forged_or_changed_session_is_rejected(
    ours: Authentication, client: TestClient, tmp_path: Path
) -> None:
    good = ours.sessions.issue("ada")
    text, mac = good.split(".")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    foreign = opened(elsewhere, f"ada:{HASH}")
    other = bytes.fromhex(text).replace(b"ada|", b"token|").hex()
    later = bytes.fromhex(text).replace(b"|18", b"|98").hex()
    tampered = [
        "", ".", "..", text, f"{text}.", f".{mac}", f"{other}.{mac}", f"{later}.{mac}", f"{text}.{mac[:-2]}",
        f"{text}.{mac}00", f"{good}.{mac}", f"{text}.{'0' * 64}", foreign.sessions.issue("ada"),
        ours.sessions.issue("nobody"), ours.sessions.issue(""), "é" * 9, f"{text}.{mac[:-1]}g", "0" * 60_000,
        "x.y", f'"{good}"',
    ]  # fmt: skip
    for value in tampered:
        cookie = [(b"cookie", f"{COOKIE}={value}".encode("latin-1"))]
        assert client.get("/x", headers=cookie).status_code == 401, value
    assert client.get("/x", headers={"Cookie": f"{COOKIE}={good}"}).text == "inside ada"


def test_the_session_is_found_among_other_cookies(ours: Authentication, client: TestClient) -> None:
    good = f"{COOKIE}={ours.sessions.issue('ada')}".encode()
    assert (
        client.get("/x", headers=[(b"cookie", b"a=1; folioscope2=x;" + good + b"; b=2")]).text == "inside ada"
    )
    assert client.get("/x", headers=[(b"cookie", b"folioscope=x"), (b"cookie", good)]).text == "inside ada"
    assert client.get("/x", headers=[(b"cookie", b"x" + good)]).status_code == 401


def test_a_session_is_valid_despite_a_wrong_authorization_header(
    ours: Authentication, client: TestClient
) -> None:
    for _ in range(FAILURES + 1):
        assert client.get("/x", headers=session_of(ours) | bearer("wrong")).text == "inside ada"


# The login page


HOSTILE = [
    "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "\t//evil.example",
    "/\n/evil.example", "https://evil.example", "https:evil.example", "javascript:alert(1)", "data:text/html,x",
    "evil.example", "", "?q=1", " /x", "/x y", "/x\r\nSet-Cookie: a=b", "/x\x00", "/\u2028x", "/é", "/" + "x" * 5000,
    "/x\\y", "@evil.example", "http:/evil.example", "/\x7f/evil",
]  # fmt: skip


@pytest.mark.parametrize("onward", HOSTILE)
def test_the_login_never_redirects_to_another_site(client: TestClient, onward: str) -> None:
    assert 'name="next" value="/"' in client.get("/login", params={"next": onward}).text
    answer = log_in(client, "", TOKEN, onward)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert client.get("/login", params={"next": onward}).headers["location"] == "/"


def test_the_login_does_not_return_to_a_page_whose_address_looks_like_another_site(
    ours: Authentication,
) -> None:
    client = visitor(ours)
    answer = client.get("http://folio.example//evil.example/x", headers=HTML)
    assert answer.headers["location"] == "/login?next=/"


@pytest.mark.parametrize(
    "onward", ["/", "/x/y.webp?v=1&a=//b", "/?q=%E2%82%AC&doc=http://x", "/%5Cx", "/a:b@c"]
)
def test_the_login_returns_to_pages_of_this_site(client: TestClient, onward: str) -> None:
    assert log_in(client, "", TOKEN, onward).headers["location"] == onward


def test_behind_a_prefix_every_redirect_keeps_the_prefix(ours: Authentication) -> None:
    client = visitor(ours, root_path="/team/folio")
    answer = client.get("/x?q=1", headers=HTML)
    assert answer.headers["location"] == "/team/folio/login?next=/team/folio/x%3Fq%3D1"
    assert client.get("/team/folio/x", headers=HTML).headers["location"].endswith("next=/team/folio/x")
    assert client.get("/team/folio/login").status_code == 200
    assert client.get("/team/foliologin").status_code == 401
    assert log_in(client, "", TOKEN, "//evil").headers["location"] == "/team/folio/"
    assert client.post("/logout").headers["location"] == "/team/folio/login"


def test_a_failed_login_says_so_and_keeps_the_name_and_the_next_page(client: TestClient) -> None:
    answer = log_in(client, '<b>"ada', "wrong", "/x?a=1&b=2")
    assert answer.status_code == 401
    assert "The user name or password is incorrect." in answer.text
    assert 'value="&lt;b&gt;&quot;ada"' in answer.text
    assert 'value="/x?a=1&amp;b=2"' in answer.text
    assert "wrong" not in answer.text
    assert "set-cookie" not in answer.headers


def test_the_login_page_loads_nothing_runs_nothing_and_is_not_cached(client: TestClient) -> None:
    answer = client.get("/login")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["cache-control"] == "no-store"
    assert "<title>Log in – Folioscope</title>" in answer.text
    assert "<!--" not in answer.text
    assert "<script" not in answer.text


def form(client: TestClient, body: bytes, kind: str = "application/x-www-form-urlencoded") -> int:
    return client.post("/login", content=body, headers={"Content-Type": kind}).status_code


def test_the_login_reads_only_what_its_form_sends(client: TestClient) -> None:
    assert form(client, b"{}", "application/json") == 415
    assert form(client, b"password=x", "multipart/form-data; boundary=x") == 415
    assert (
        form(client, f"password={TOKEN}".encode(), "application/X-www-form-urlencoded; charset=utf-8") == 303
    )
    assert form(client, b"") == 401
    assert form(client, b"password=%ff") == 400
    assert form(client, b"password=\xff") == 400
    assert form(client, f"password=x&password={TOKEN}".encode()) == 400
    assert form(client, b"&".join(b"a%d=1" % n for n in range(100))) == 400
    assert form(client, b"password=" + b"x" * 8183) == 401
    assert form(client, b"password=" + b"x" * 8184) == 413


def test_the_login_stops_reading_a_body_that_is_too_long(client: TestClient) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post("/login", content=(b"x" * 1000 for _ in range(1000)), headers=headers)
    assert answer.status_code == 413


def test_passwords_have_up_to_1024_characters(tmp_path: Path) -> None:
    client = visitor(opened(tmp_path, f"ada:{hash_password('x' * 1024)}"))
    assert log_in(client, " ada ", "x" * 1024).status_code == 303
    assert log_in(client, "ada", "x" * 1025).status_code == 401
    for wrong in ("", "x" * 1025):
        with pytest.raises(FolioscopeError, match="1 to 1,024 characters"):
            hash_password(wrong)


# Too many attempts


@pytest.mark.parametrize("way", ["form", "basic", "bearer"])
def test_after_ten_failures_an_address_waits(way: str, client: TestClient, clock: Clock) -> None:
    def attempt(right: bool) -> Any:
        if way == "form":
            return log_in(client, "ada", PASSWORD if right else "wrong")
        if way == "basic":
            return client.get("/x", headers=basic("ada", PASSWORD if right else "wrong"))
        return client.get("/x", headers=bearer(TOKEN if right else "wrong"))

    for _ in range(FAILURES):
        assert attempt(right=False).status_code == 401
        clock.now += 1
    refused = attempt(right=True)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, str(int(WINDOW) - FAILURES))
    assert "try again in 5 min" in refused.text
    assert client.get("/x", headers=bearer(TOKEN)).status_code == 429  # accepting it would reveal the token
    assert client.get("/x").status_code == 401  # a request without a password is no attempt
    assert client.get("/login").status_code == 200
    clock.now += WINDOW - FAILURES
    assert attempt(right=True).status_code in (200, 303)


def test_a_websocket_counts_as_an_attempt(client: TestClient) -> None:
    for _ in range(FAILURES):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket", headers=bearer("wrong")):
            pass
    with pytest.raises(WebSocketDisconnect) as refused:
        client.websocket_connect("/socket", headers=bearer("wrong")).__enter__()
    assert refused.value.code == 4429


def test_old_failures_do_not_count(client: TestClient, clock: Clock) -> None:
    for _ in range(3 * FAILURES):
        assert client.get("/x", headers=bearer("wrong")).status_code == 401
        clock.now += WINDOW / FAILURES + 1


def test_a_blocked_address_blocks_neither_other_addresses_nor_sessions(ours: Authentication) -> None:
    app = site(ours)
    bad = TestClient(app, client=("192.0.2.1", 1))
    for _ in range(FAILURES):
        bad.get("/x", headers=bearer("wrong"))
    assert bad.get("/x", headers=bearer("wrong")).status_code == 429
    assert bad.get("/x", headers=bearer(TOKEN)).status_code == 429
    assert bad.get("/x", headers=session_of(ours)).text == "inside ada"
    assert TestClient(app, client=("192.0.2.2", 1)).get("/x", headers=bearer(TOKEN)).status_code == 200


@pytest.mark.parametrize(
    ("failing", "asking", "status"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 429),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 401),
        ("::ffff:192.0.2.1", "192.0.2.1", 429),
        ("fe80::1%eth0", "fe80::2%eth0", 429),
        ("testclient", "testclient", 429),
    ],
)
def test_an_ipv6_network_counts_as_one_address(
    ours: Authentication, failing: str, asking: str, status: int
) -> None:
    app = site(ours)
    for _ in range(FAILURES):
        TestClient(app, client=(failing, 1)).get("/x", headers=bearer("wrong"))
    assert TestClient(app, client=(asking, 1)).get("/x", headers=bearer("wrong")).status_code == status


def test_an_ignored_proxy_header_is_logged_once(
    ours: Authentication, caplog: pytest.LogCaptureFixture
) -> None:
    forwarded = {"X-Forwarded-For": "192.0.2.7"}
    client = TestClient(site(ours), client=("127.0.0.1", 1))
    client.get("/health")
    assert not caplog.records
    for _ in range(3):
        client.get("/health", headers=forwarded)
    (record,) = caplog.records
    assert "X-Forwarded-For in a request from 127.0.0.1" in record.getMessage()
    assert "--proxy" in record.getMessage()
    caplog.clear()
    believed = FastAPI()
    believed.add_middleware(Guard, authentication=ours, has_proxy=True)
    TestClient(believed).get("/health", headers=forwarded)
    assert not caplog.records


@pytest.mark.parametrize(
    ("root", "path", "seen"),
    [
        ("", "/health", "/health"),
        ("/x", "/x/health", "/health"),
        ("/x", "/x", ""),
        ("/x", "/xhealth", "/xhealth"),
        ("/x", "/health", "/health"),
        ("/x", "/X/health", "/X/health"),
        ("/x", "/x//health", "//health"),
        ("/x/", "/x/health", "/x/health"),
    ],
)
def test_the_guard_sees_the_path_that_the_router_matches(root: str, path: str, seen: str) -> None:
    scope = {"type": "http", "method": "GET", "path": path, "root_path": root}
    assert route_path(scope) == seen
    if seen:
        assert Route(seen, lambda _: None).matches(scope)[0] is Match.FULL
    assert seen == "/health" or Route("/health", lambda _: None).matches(scope)[0] is Match.NONE


def test_failures_are_remembered_for_a_limited_number_of_addresses(ours: Authentication) -> None:
    async def fail(addresses: int) -> None:
        for number in range(addresses):
            await ours.check("", "wrong", f"address {number}")

    asyncio.run(fail(ADDRESSES + 5))
    assert len(ours._failures._times) == ADDRESSES
    assert "address 4" not in ours._failures._times


def test_simultaneous_attempts_are_counted_one_by_one(ours: Authentication) -> None:
    async def flood() -> list[str | BaseException]:
        attempts = (ours.check("ada", f"guess {n}", "192.0.2.1") for n in range(25))
        return await asyncio.gather(*attempts, return_exceptions=True)

    answers = asyncio.run(flood())
    assert answers[:FAILURES] == [""] * FAILURES
    assert all(isinstance(answer, TooManyAttempts) for answer in answers[FAILURES:])


def test_simultaneous_logins_with_the_same_right_password_compute_one_hash(ours: Authentication) -> None:
    async def many() -> tuple[list[str], float, float]:
        began = time.perf_counter()
        await ours.check("ada", "wrong", "192.0.2.1")
        one = time.perf_counter()
        users = await asyncio.gather(*(ours.check("ada", PASSWORD, "192.0.2.1") for _ in range(WAITING)))
        return users, one - began, time.perf_counter() - one

    users, one, all_of_them = asyncio.run(many())
    assert users == ["ada"] * WAITING
    assert all_of_them < one * WAITING / 4


def test_a_flood_from_many_addresses_is_rejected_while_the_server_keeps_responding(
    ours: Authentication,
) -> None:
    async def flood() -> tuple[list[str | BaseException], float, float]:
        attempts = [
            asyncio.create_task(ours.check("ada", "guess", f"192.0.2.{n}")) for n in range(WAITING + 20)
        ]
        began, slowest = time.perf_counter(), 0.0
        while not attempts[WAITING - 1].done():
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            slowest = max(slowest, time.perf_counter() - before)
        answers = await asyncio.gather(*attempts, return_exceptions=True)
        return answers, slowest, time.perf_counter() - began

    answers, slowest, whole = asyncio.run(flood())
    turned_away = [answer for answer in answers if isinstance(answer, TooManyAttempts)]
    assert (answers.count(""), len(turned_away)) == (WAITING, 20)
    assert turned_away[0].seconds == PAUSE
    assert slowest < whole / 4


# Opening the authentication


def test_with_neither_token_nor_users_there_is_no_authentication(tmp_path: Path) -> None:
    assert open_authentication(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "token",
    ["short", "fifteen-letters", " " * 20, "a token with spaces", "tökentökentökentöken", "a-token-and-its-newline\n"],
)  # fmt: skip
def test_a_token_that_can_be_guessed_or_cannot_be_sent_is_rejected(tmp_path: Path, token: str) -> None:
    with pytest.raises(FolioscopeError, match=r"20 or more.*secrets.token_urlsafe") as refused:
        open_authentication(tmp_path, token=token)
    assert token not in str(refused.value)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ada", "not a hash"),
        ("ada:secret", "not a hash"),
        (f"ada:{HASH[:-4]}", "not a hash"),
        (f"ada:{HASH} # boss", "not a hash"),
        (f"ada:{HASH.replace('16384', '1024')}", "not a hash"),
        (f"ada:{HASH.replace('scrypt', 'bcrypt')}", "not a hash"),
        (f":{HASH}", "a user name has"),
        (f"{'a' * 65}:{HASH}", "a user name has"),
        (f"a\x01b:{HASH}", "a user name has"),
        (f"token:{HASH}", "choose another name"),
        (f"bob:{HASH}", "has a line already"),
    ],
    ids=(f"line {number}" for number in count(1)),  # the hash differs each time
)
def test_an_error_in_the_users_file_names_the_line_without_its_text(
    tmp_path: Path, line: str, problem: str
) -> None:
    with pytest.raises(FolioscopeError, match=rf"line 4 of .*users.txt: .*{problem}") as broken:
        opened(tmp_path, f"bob:{HASH}", line)
    assert "secret" not in str(broken.value)
    assert HASH not in str(broken.value)


def test_an_empty_or_missing_users_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FolioscopeError, match=r"names no user.*folioscope user NAME"):
        opened(tmp_path, "# nobody yet", token="")
    with pytest.raises(FolioscopeError, match=r"users file .*none.txt cannot be read"):
        open_authentication(tmp_path, users=tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(FolioscopeError, match=r"bad.txt cannot be read"):
        open_authentication(tmp_path, users=tmp_path / "bad.txt")
    assert visitor(opened(tmp_path)).get("/", headers=bearer(TOKEN)).status_code == 200


def test_the_same_password_gets_a_different_hash_each_time() -> None:
    assert hash_password("x") != hash_password("x")
    assert hash_password("x").startswith("scrypt$16384$8$1$")


def test_the_secret_is_created_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    made = [open_authentication(folder, token=TOKEN) for _ in range(2)]
    (secret,) = folder.iterdir()
    assert (secret.name, stat.S_IMODE(secret.stat().st_mode)) == (".secret", 0o600)
    assert len(secret.read_bytes()) == 32
    assert len({each._secret for each in made if each}) == 1


def test_servers_that_start_together_share_one_secret(tmp_path: Path) -> None:
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(read_secret(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {(tmp_path / ".secret").read_bytes()}
    assert [path.name for path in tmp_path.iterdir()] == [".secret"]


def test_a_damaged_secret_and_an_unusable_folder_are_reported(tmp_path: Path) -> None:
    (tmp_path / ".secret").write_bytes(b"short")
    with pytest.raises(FolioscopeError, match=r"has 5 bytes, not 32: delete it"):
        open_authentication(tmp_path, token=TOKEN)
    with pytest.raises(FolioscopeError, match=r"cannot create or read"):
        open_authentication(tmp_path / ".secret", token=TOKEN)


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("localhost", True), ("LOCALHOST", True),
     ("0.0.0.0", False), ("::", False), ("", False), ("192.168.1.2", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_an_address_that_other_machines_can_reach_requires_a_login(
    ours: Authentication, host: str, alone: bool
) -> None:
    assert is_loopback(host) is alone
    require_authentication(host, ours)
    if alone:
        require_authentication(host, None)
        return
    with pytest.raises(
        FolioscopeError, match=r"refuses to listen on .* without a login.*--users.*127\.0\.0\.1"
    ):
        require_authentication(host, None)


# A real server


@pytest.fixture
def address(ours: Authentication) -> Iterator[str]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(site(ours), log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_a_browser_logs_in_looks_around_and_logs_out(address: str) -> None:
    with httpx.Client(base_url=address, headers=HTML, follow_redirects=True) as browser:
        page = browser.get("/x?q=tides")
        assert (page.url.path, page.status_code) == ("/login", 200)
        fields = {"name": "ada", "password": PASSWORD, "next": "/x?q=tides"}
        inside = browser.post("/login", data=fields)
        assert (str(inside.url), inside.text) == (f"{address}/x?q=tides", "inside ada")
        assert browser.get("/stream").text == "inside ada end"
        assert browser.post("/logout").url.path == "/login"
        assert browser.get("/x").url.path == "/login"


def test_no_malformed_request_line_gets_past_the_guard(address: str) -> None:
    host, port = address.removeprefix("http://").split(":")
    targets = ["/health/../x", "//login", "/login/..;/", "/folio/../x", "/folio/%2e%2e/x", "/login%0a", "/%2flogin",
               "http://folio.example/x", "http://folio.example//health", "*", "/health%2f..%2fx", "/é"]  # fmt: skip
    for target in targets:
        for method in ("GET", "HEAD", "OPTIONS", "BREW", "get"):
            with socket.create_connection((host, int(port))) as line:
                request = f"{method} {target} HTTP/1.1\r\nHost: folio.example\r\nConnection: close\r\n\r\n"
                line.sendall(request.encode())
                answer = b"".join(iter(lambda: line.recv(65536), b""))
            assert answer.split(b" ")[1] in (b"400", b"401"), (method, target)
            assert b"inside" not in answer


def test_odd_bytes_and_long_headers_are_rejected_over_http(address: str) -> None:
    odd = [quote("é"), "Bearer \xff", "Basic \xe4\xf6", "Bearer " + "x" * 30_000]
    for value in odd:
        headers = [(b"Authorization", value.encode("latin-1"))]
        assert httpx.get(f"{address}/x", headers=headers).status_code == 401
    assert httpx.get(f"{address}/x", headers=bearer(TOKEN)).text == "inside token"
    assert httpx.get(f"{address}/x", auth=("ada", PASSWORD)).text == "inside ada"
