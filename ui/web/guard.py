"""The guard: one ASGI middleware in front of everything that is served, so that no route can be forgotten."""

import logging
import re

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ui.api.problems import problem
from ui.web.auth import Authentication
from ui.web.connection import client_address, route_path
from ui.web.failures import TooManyAttempts
from ui.web.login import redirect_to_login

OPEN = (
    (re.compile(r"/health"), frozenset({"GET", "HEAD"})),
    (re.compile(r"/login"), frozenset({"GET", "POST"})),
    (re.compile(r"/folio/[0-9a-f]{12}/[a-z-]+\.(css|js)"), frozenset({"GET"})),
)
"""What is served to everyone: exactly these paths with exactly these methods. All of them are our own routes."""
LOG = logging.getLogger("folioscope")


class Guard:
    """ASGI middleware: everything outside OPEN requires a login. Puts the user's name into scope["state"]["user"].

    has_proxy: False logs one warning when a request carries X-Forwarded-For, which the server then ignores.
    """

    def __init__(self, app: ASGIApp, authentication: Authentication, *, has_proxy: bool = False) -> None:
        self._app = app
        self._authentication = authentication
        self._warns = not has_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if self._warns and "x-forwarded-for" in connection.headers:
            self._warns = False
            LOG.warning(
                "ignored X-Forwarded-For in a request from %s: if that is your proxy, start the server with --proxy "
                "and its address. Otherwise all readers count as one address, and ten wrong passwords from one of "
                "them block the login for all.",
                client_address(connection),
            )
        user = ""
        if not _is_open(scope):
            try:
                user = await self._authentication.user(connection)
            except TooManyAttempts as error:
                await _too_many_attempts(connection, error)(scope, receive, send)
                return
            if not user:
                await _login_needed(connection)(scope, receive, send)
                return
        scope.setdefault("state", {})["user"] = user
        await self._app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    if scope["type"] != "http":
        return False
    path = route_path(scope)
    return any(paths.fullmatch(path) and scope["method"] in methods for paths, methods in OPEN)


def _login_needed(connection: HTTPConnection) -> ASGIApp:
    """A browser that opens a page is redirected to the login; every other client gets an error."""
    scope = connection.scope
    message = "Log in first, or send the token: Authorization: Bearer <token>."
    if scope["type"] == "websocket":
        return WebSocketClose(4401, message)
    if scope["method"] == "GET" and "text/html" in ",".join(connection.headers.getlist("accept")).lower():
        return redirect_to_login(connection)
    return problem(401, "LoginNeeded", message, {"WWW-Authenticate": "Bearer"})


def _too_many_attempts(connection: HTTPConnection, error: TooManyAttempts) -> ASGIApp:
    if connection.scope["type"] == "websocket":
        return WebSocketClose(4429, str(error))
    return problem(429, type(error).__name__, str(error), {"Retry-After": str(error.seconds)})
