"""Who may come in: one ASGI middleware before everything that is served, so that no route can be forgotten.

People log in on a page, which gives them a signed cookie for a week. Programs send `Authorization`: Bearer
with the token, or Basic with a name and a password. The users file (`ui.service.users`) is read once, when the server
starts. A session is bound to what it was given for: another password,
another token, or a line taken out of the file end it.
"""

import asyncio
import base64
import hmac
import html
import ipaddress
import logging
import math
import os
import re
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from retrieval.errors import FolioscopeError
from ui.api.problems import problem
from ui.service.users import (
    LONGEST_NAME,
    LONGEST_PASSWORD,
    NEW_LINE,
    TOKEN_USER,
    matches,
    read_users,
    unknown_hash,
)

OPEN = (
    (re.compile(r"/health"), frozenset({"GET", "HEAD"})),
    (re.compile(r"/login"), frozenset({"GET", "POST"})),
    (re.compile(r"/folio/[0-9a-f]{12}/[a-z-]+\.(css|js)"), frozenset({"GET"})),
)
"""What is served to everyone: these methods of these paths and of nothing longer. All of them are routes of ours."""
LOG = logging.getLogger("folioscope")
COOKIE = "folioscope"
SESSION = 7 * 24 * 3600  # seconds
SHORTEST_TOKEN = 20  # characters
LONGEST_FORM = 8192  # bytes
LONGEST_NEXT = 2000  # characters
KNOWN = 300.0  # seconds that a password, once found right, is not computed again
FAILURES, WINDOW = 10, 300.0  # so many in so many seconds, then an address has to wait
ADDRESSES = 10_000  # whose failures are remembered
WAITING = 32  # passwords that wait to be computed; more are turned away
PAUSE = 3  # seconds, for those
LOGIN_PAGE = Path(__file__).parent / "static" / "login.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
NO_STORE = {"Cache-Control": "no-store"}
NEW_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(24))"'


class TooManyAttempts(FolioscopeError):
    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds  # until the next attempt is heard


class Authentication:
    """Decides who asks. Everything it remembers is bounded; no password is kept."""

    def __init__(
        self, secret: bytes, token: str, users: Mapping[str, str], clock: Callable[[], float] = time.time
    ) -> None:
        """`users`: names and their hashes. `clock`: seconds since 1970."""
        self.has_token = bool(token)
        self._secret = secret
        self._token = token
        self._users = users
        # Computed for names that are not there, so that they take as long; no password has this digest.
        self._nobody = unknown_hash()
        self._clock = clock
        self._failures = _Failures(clock)
        self._known: dict[str, tuple[bytes, float]] = {}  # by user: digest of the right password, until when
        self._waiting = 0
        self._computing = ThreadPoolExecutor(1, thread_name_prefix="password")  # one at a time: memory, cores

    async def user(self, connection: HTTPConnection) -> str:
        """The name of who asks, "" for nobody. Raises TooManyAttempts.

        The session comes first: a proxy may ask for a Basic password of its own, which browsers then send
        here with every request.
        """
        if user := self.session_user(connection):
            return user
        given = connection.headers.getlist("authorization")
        scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        match scheme.lower():
            case "bearer":
                return await self.check("", value.strip(), _address(connection))
            case "basic":
                pair = _name_and_password(value.strip())
                return await self.check(*pair, _address(connection)) if pair else ""
            case _:
                return ""

    async def check(self, name: str, password: str, address: str) -> str:
        """The user's name where the password is right, else "". Without a name, the password is the token.

        Raises TooManyAttempts where this address has failed too often, or too many passwords wait. The right token is
        refused then as well: an answer to it would let a blocked address go on guessing.
        """
        self._failures.refuse(address)
        if not name:
            return self._noted(TOKEN_USER if self._is_token(password) else "", address)
        if len(name) > LONGEST_NAME or len(password) > LONGEST_PASSWORD:
            return self._noted("", address)
        if self._is_known(name, password):
            return name
        if self._waiting >= WAITING:
            raise TooManyAttempts(f"Many logins at once: try again in {PAUSE} seconds.", PAUSE)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._computing, self._compute, name, password, address)
        finally:
            self._waiting -= 1

    def session(self, user: str) -> str:
        """The cookie's value: signed, for a week from now."""
        expiry = int(self._clock()) + SESSION
        text = f"{user}|{expiry}|{self._credential(user)}".encode()
        return f"{text.hex()}.{self._mac('session', text).hex()}"

    def session_user(self, connection: HTTPConnection) -> str:
        """Whose session the request's cookie is, "" for nobody's."""
        pairs = (pair.partition("=") for pair in ";".join(connection.headers.getlist("cookie")).split(";"))
        given = [value.strip() for name, _, value in pairs if name.strip() == COOKIE]
        return next(filter(None, map(self._opened, given[:4])), "")  # other sites of the domain may add some

    def _opened(self, cookie: str) -> str:
        try:
            text, mac = (bytes.fromhex(half) for half in cookie.split("."))
        except ValueError:
            return ""
        if not hmac.compare_digest(mac, self._mac("session", text)):
            return ""
        user, expiry, credential = text.decode().rsplit("|", 2)
        stands = credential and credential == self._credential(user) and int(expiry) > self._clock()
        return user if stands else ""

    def _compute(self, name: str, password: str, address: str) -> str:
        self._failures.refuse(address)  # once more: while this one waited, others have failed,
        if self._is_known(name, password):  # or have found the same password right
            return name
        right = matches(password, self._users.get(name, self._nobody))
        if right:
            self._known[name] = self._mac("known", password.encode()), self._clock() + KNOWN
        return self._noted(name if right else "", address)

    def _noted(self, user: str, address: str) -> str:
        if not user:
            self._failures.add(address)
        return user

    def _is_known(self, name: str, password: str) -> bool:
        digest, until = self._known.get(name, (b"", 0.0))
        return self._clock() < until and hmac.compare_digest(digest, self._mac("known", password.encode()))

    def _is_token(self, given: str) -> bool:
        same = hmac.compare_digest(
            self._mac("token", given.encode()), self._mac("token", self._token.encode())
        )
        return same and self.has_token

    def _credential(self, user: str) -> str:
        """Changes with the user's password; "" for one who is not there (any more)."""
        stored = self._token if user == TOKEN_USER else self._users.get(user, "")
        return self._mac("credential", stored.encode()).hex()[:32] if stored else ""

    def _mac(self, purpose: str, data: bytes) -> bytes:
        return hmac.digest(self._secret, purpose.encode() + b"|" + data, "sha256")


class Guard:
    """ASGI middleware: what is not OPEN is for users only. Their name is put into scope["state"]["user"]."""

    def __init__(self, app: ASGIApp, doors: Authentication, *, has_proxy: bool = False) -> None:
        self._app = app
        self._doors = doors
        self._warns = not has_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if self._warns and "x-forwarded-for" in connection.headers:
            self._warns = False
            LOG.warning(
                "a request from %s has X-Forwarded-For, which is not believed: if that is a proxy of yours, start the "
                "server with --proxy and its address. Without it all readers count as one address, and ten wrong "
                "passwords of one of them close the login for all.",
                _address(connection),
            )
        user = ""
        if not _is_open(scope):
            try:
                user = await self._doors.user(connection)
            except TooManyAttempts as error:
                await _turned_away(connection, error)(scope, receive, send)
                return
            if not user:
                await _to_login(connection)(scope, receive, send)
                return
        scope.setdefault("state", {})["user"] = user
        await self._app(scope, receive, send)


def open_authentication(
    folder: Path, *, token: str = "", users: Path | None = None, clock: Callable[[], float] = time.time
) -> Authentication | None:
    """None where neither a token nor a users file is given: then there is no authentication.

    `folder` keeps the secret that sessions are signed with, so that they outlive the server. Raises
    FolioscopeError where the token is too short, or a file is not what it should be.
    """
    if not token and users is None:
        return None
    if token and (
        len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token
    ):
        raise FolioscopeError(
            f"the token must have {SHORTEST_TOKEN} or more letters, digits or signs, and no spaces: "
            f"make one with {NEW_TOKEN}"
        )
    accounts = {} if users is None else read_users(users)
    if not accounts and not token:
        raise FolioscopeError(f"{users} names no user, so nobody could log in: add one with '{NEW_LINE}'")
    return Authentication(_secret(folder), token, accounts, clock)


def require_authentication(host: str, doors: Authentication | None) -> None:
    """Raises FolioscopeError where other machines could come in and there is no login."""
    if doors is None and not is_loopback(host):
        raise FolioscopeError(
            f"refuses to listen on {host or 'every address'} without a login: everyone on the network could "
            "read and delete the documents; give --users FILE or --token TOKEN, or bind 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """True where only this machine can reach `host`. "" is every address."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def routes(doors: Authentication) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def ask(request: Request) -> Response:
        onward = _onward(request.query_params.get("next", ""), _root(request))
        if doors.session_user(request):
            return RedirectResponse(onward, 303, headers=NO_STORE)
        return _page(doors, onward)

    @router.post("/login")
    async def login(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return _page(doors, _root(request) + "/", "This is not what the form sends.", 415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_FORM:
                return _page(doors, _root(request) + "/", "That is too long.", 413)
        try:
            name, password, onward = _fields(body)
        except ValueError:
            return _page(doors, _root(request) + "/", "This is not what the form sends.", 400)
        onward = _onward(onward, _root(request))
        try:
            user = await doors.check(name, password, _address(request))
        except TooManyAttempts as error:
            retry = {"Retry-After": str(error.seconds)}
            return _page(doors, onward, str(error), 429, name=name, headers=retry)
        if not user:
            wrong = "The user name or the password is not right."
            challenge = {"WWW-Authenticate": "Bearer"}
            return _page(doors, onward, wrong, 401, name=name, headers=challenge)
        answer = RedirectResponse(onward, 303, headers=NO_STORE)
        answer.set_cookie(COOKIE, doors.session(user), max_age=SESSION, **_cookie(request))
        return answer

    @router.post("/logout")
    async def logout(request: Request) -> Response:
        answer = RedirectResponse(f"{_root(request)}/login", 303, headers=NO_STORE)
        answer.delete_cookie(COOKIE, **_cookie(request))
        return answer

    return router


class _Failures:
    """The last failures of each client address. The event loop and the computing thread both use it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # the address that failed last is last
        self._lock = threading.Lock()

    def refuse(self, address: str) -> None:
        """Raises TooManyAttempts until the oldest of the failures that count is old enough."""
        with self._lock:
            times = self._times.get(address)
            left = times[0] + WINDOW - self._clock() if times and len(times) == FAILURES else 0
        if left > 0:
            minutes = math.ceil(left / 60)
            raise TooManyAttempts(
                f"Too many failed logins from this address: try again in {minutes} min.", math.ceil(left)
            )

    def add(self, address: str) -> None:
        with self._lock:
            self._times.setdefault(address, deque(maxlen=FAILURES)).append(self._clock())
            self._times.move_to_end(address)
            if len(self._times) > ADDRESSES:
                self._times.popitem(last=False)


def route_path(scope: Scope) -> str:
    """The path that Starlette's router compares with its routes: without `root_path`, where it begins with that."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if not root or not path.startswith(root) or path[len(root) : len(root) + 1] not in ("", "/"):
        return path
    return path[len(root) :]


def _is_open(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path = route_path(scope)
    return any(paths.fullmatch(path) and scope["method"] in methods for paths, methods in OPEN)


def _to_login(connection: HTTPConnection) -> ASGIApp:
    """A browser that opens a page is sent to the login; everyone else is told."""
    scope = connection.scope
    message = "Log in first, or send the token: Authorization: Bearer <token>."
    if scope["type"] == "websocket":
        return WebSocketClose(4401, message)
    if scope["method"] == "GET" and "text/html" in ",".join(connection.headers.getlist("accept")).lower():
        query = scope.get("query_string", b"").decode("latin-1")
        asked = _root(connection) + quote(route_path(scope)) + (f"?{query}" if query else "")
        onward = quote(_onward(asked, _root(connection)), safe="/")
        return RedirectResponse(f"{_root(connection)}/login?next={onward}", 303, headers=NO_STORE)
    return problem(401, "LoginNeeded", message, {"WWW-Authenticate": "Bearer"})


def _turned_away(connection: HTTPConnection, error: TooManyAttempts) -> ASGIApp:
    if connection.scope["type"] == "websocket":
        return WebSocketClose(4429, str(error))
    return problem(429, type(error).__name__, str(error), {"Retry-After": str(error.seconds)})


def _page(
    doors: Authentication,
    onward: str,
    message: str = "",
    status: int = 200,
    *,
    name: str = "",
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    hint = "With a token: leave the user name empty." if doors.has_token else ""
    page = _template()
    for part, value in {
        "message": message,
        "hint": hint,
        "name": name[:LONGEST_NAME],
        "next": onward,
    }.items():
        page = page.replace(f"<!--{part}-->", html.escape(value))  # which leaves no "<!--" in a value
    return HTMLResponse(page, status, {"Content-Security-Policy": POLICY, **NO_STORE, **(headers or {})})


@cache
def _template() -> str:
    return LOGIN_PAGE.read_text(encoding="utf-8")


def _fields(body: bytes) -> tuple[str, str, str]:
    """Name, password and where to go on. Raises ValueError for what no form of ours sends."""
    fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8)
    if any(len(values) > 1 for values in fields.values()):
        raise ValueError("a field was sent twice")
    name, password, onward = (fields.get(field, [""])[0] for field in ("name", "password", "next"))
    return name.strip(), password, onward


def _onward(asked: str, root: str) -> str:
    """`asked` if it is the address of a page here, else the first page.

    Browsers take "//", and a backslash for a slash, as the start of another site's name, and skip control
    characters; a path that they wrote is in ASCII.
    """
    here = asked.startswith("/") and not asked.startswith("//") and len(asked) <= LONGEST_NEXT
    plain = all("!" <= c <= "~" and c != "\\" for c in asked)
    return asked if here and plain else f"{root}/"


def _root(connection: HTTPConnection) -> str:
    """The prefix that a proxy serves this under, without a slash at its end; mostly ""."""
    return str(connection.scope.get("root_path", "")).rstrip("/")


def _cookie(connection: HTTPConnection) -> dict[str, Any]:
    forwarded = connection.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    secure = "https" in (connection.scope.get("scheme"), forwarded)
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "lax"}


def _address(connection: HTTPConnection) -> str:
    """By which failures are counted: an IPv4 address, or the /64 that a subscriber of IPv6 has."""
    host = connection.client.host if connection.client else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.IPv6Network((address.packed, 64), strict=False))


def _name_and_password(given: str) -> tuple[str, str] | None:
    """Of a Basic header; None where it is none."""
    try:
        raw = base64.b64decode(given, validate=True)
    except ValueError:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # as some programs write it
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def _secret(folder: Path) -> bytes:
    path = folder / ".secret"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with NamedTemporaryFile(dir=folder, prefix=".secret-") as file:  # of mode 0600
                file.write(secrets.token_bytes(32))
                file.flush()
                os.fsync(file.fileno())
                with suppress(FileExistsError):  # of two servers that start together, one is first
                    path.hardlink_to(file.name)  # whole, or not at all
        secret = path.read_bytes()
    except OSError as error:
        raise FolioscopeError(
            f"{path}, with which sessions are signed, cannot be made or read ({error.strerror}): "
            "its folder must be on a local disk, and this user's"
        ) from error
    if len(secret) != 32:
        raise FolioscopeError(
            f"{path} has {len(secret)} bytes, not 32: delete it, a new one is made and everyone logs in again"
        )
    return secret
