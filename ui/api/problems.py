"""Answers errors under /api: one JSON shape for every status, and a request id that the server's log has too."""

import logging
import re
from collections.abc import Mapping, Sequence
from uuid import uuid4

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.api.schemas import ErrorOut, Problem

LOG = logging.getLogger("folioscope")
REQUEST_ID = "X-Request-ID"
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A client's own request id is used only if it matches: it is written into the log and into a header."""


def problem(
    status: int,
    kind: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> JSONResponse:
    """Return the answer `{"error": {"kind", "message"}}`, with `request_id` if the log has more about the error."""
    error = ErrorOut(error=Problem(kind=kind, message=message, request_id=request_id))
    return JSONResponse(
        error.model_dump(exclude_none=True), status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def request_id_of(scope: Scope) -> str:
    """Return the id that `RequestIds` gave to this request; "" without that middleware."""
    return str(scope.get("state", {}).get("request_id", ""))


def log_error(scope: Scope, error: BaseException) -> str:
    """Log the error with its traceback and the request's id; return the id."""
    request_id = request_id_of(scope)
    LOG.error("request %s failed: %s %s", request_id, scope["method"], scope["path"], exc_info=error)
    return request_id


def unexpected(scope: Scope, error: BaseException, what: str = "The server failed to answer") -> JSONResponse:
    """Log an unexpected error with its traceback and the request's id; return the answer to the client."""
    request_id = log_error(scope, error)
    message = (
        f"{what} because of an unexpected error. Try again; if it happens again, give whoever runs the server the "
        f"request id {request_id}: the server's log has the details."
    )
    return problem(500, "InternalError", message, request_id=request_id)


def is_api(path: str) -> bool:
    return path == "/api" or path.startswith("/api/")


class TrustedHosts:
    """ASGI middleware: Starlette's TrustedHostMiddleware, whose refusals have the shape of all errors under /api."""

    def __init__(self, app: ASGIApp, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._allowed_hosts = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_trusted = False

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal is_trusted
            is_trusted = True
            await self._app(scope, receive, send)

        async def send_unless_refused(message: Message) -> None:
            if is_trusted or not is_api(scope["path"]):
                await send(message)

        await TrustedHostMiddleware(app, self._allowed_hosts)(scope, receive, send_unless_refused)
        if not is_trusted and is_api(scope["path"]):
            refusal = problem(
                400, "ForeignHost", f"Refused: this server answers at {', '.join(self._allowed_hosts)} only."
            )
            await refusal(scope, receive, send)


class RequestIds:
    """ASGI middleware: gives every request an id, every answer a header with it, and every unexpected error a 500.

    It is the outermost middleware, so that errors of the others are answered too. An error after the first bytes of an
    answer is logged and closes the connection, because the status has been sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = given if SANE_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        has_begun = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            LOG.debug("request %s ended: the client has gone", request_id)
        except Exception as error:
            answer = unexpected(scope, error)
            if has_begun:
                raise
            await answer(scope, receive, send_with_id)
