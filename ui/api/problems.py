"""How an error is answered: one JSON shape for every status, and a request id that the server's log has too."""

import logging
import re
from collections.abc import Mapping
from uuid import uuid4

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.api.schemas import ErrorOut, Problem

LOG = logging.getLogger("folioscope")
REQUEST_ID = "X-Request-ID"
SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""A client's own request id is used if it looks like this: it is written into the log and into a header."""


def problem(
    status: int,
    kind: str,
    message: str,
    headers: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> JSONResponse:
    """The answer `{"error": {"kind", "message"}}`; with `request_id` where the log has more about it."""
    error = ErrorOut(error=Problem(kind=kind, message=message, request_id=request_id))
    return JSONResponse(
        error.model_dump(exclude_none=True), status, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def request_id_of(scope: Scope) -> str:
    """The id that `RequestIds` gave to this request; "" outside of it."""
    return str(scope.get("state", {}).get("request_id", ""))


def logged(scope: Scope, error: BaseException) -> str:
    """Log the error with its traceback and the request's id; return the id."""
    request_id = request_id_of(scope)
    LOG.error("request %s failed: %s %s", request_id, scope["method"], scope["path"], exc_info=error)
    return request_id


def unexpected(scope: Scope, error: BaseException, what: str = "The server failed to answer") -> JSONResponse:
    """Log an error that nobody foresaw, with its traceback and the request's id; return the answer to the client."""
    request_id = logged(scope, error)
    message = (
        f"{what}, for a reason that nobody foresaw. Try again; if it happens again, whoever runs the "
        f"server the request id {request_id}: its log has the details."
    )
    return problem(500, "InternalError", message, request_id=request_id)


class RequestIds:
    """ASGI middleware: gives every request an id, every answer a header with it, and every unforeseen error a 500.

    The outermost one, so that errors of the other middlewares are answered as well. An error after the first bytes
    of an answer is logged and closes the connection: its status has been sent.
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
            LOG.info("request %s ended: the client has gone", request_id)
        except Exception as error:
            answer = unexpected(scope, error)
            if has_begun:
                raise
            await answer(scope, receive, send_with_id)
