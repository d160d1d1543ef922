"""What all REST routes share: who the client is, and how Folioscope's errors become HTTP answers."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from retrieval.errors import (
    BadQuery,
    BadSource,
    DeviceMissing,
    EncoderMismatch,
    FolioscopeError,
    IndexBusy,
    IndexDamaged,
    IndexMissing,
    MissingExtra,
    ModelBroken,
    ModelMissing,
    NotFound,
    UnreadableDocument,
)
from ui.api import problems
from ui.api.schemas import ErrorOut
from ui.service.fair_queue import Busy
from ui.service.jobs.queue import BadLabel
from ui.service.service import NotReady

STATUS: dict[type[FolioscopeError], int] = {
    NotFound: 404,
    BadQuery: 422,
    BadLabel: 422,
    BadSource: 422,
    UnreadableDocument: 422,
    EncoderMismatch: 409,
    IndexBusy: 409,
    Busy: 429,
    IndexDamaged: 500,
    IndexMissing: 503,
    MissingExtra: 503,
    ModelBroken: 503,
    ModelMissing: 503,
    DeviceMissing: 503,
    NotReady: 503,
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
RETRY_S = {429: "2", 503: "1"}
ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorOut, "description": "The request cannot be answered; the message says why."},
    429: {"model": ErrorOut, "description": "Busy: too many searches are waiting. Try again in a moment."},
    503: {"model": ErrorOut, "description": "The models are being loaded."},
}


def user_of(request: Request) -> str:
    """Return the name of the user who is logged in; "" without a login."""
    return str(request.scope.get("state", {}).get("user", ""))


def client_of(request: Request) -> str:
    """Return who takes a turn in the queue: the user or, without a login, the address."""
    return user_of(request) or (request.client.host if request.client else "")


def problem(status: int, kind: str, message: str) -> JSONResponse:
    """Return an error's answer, with Retry-After for the statuses of RETRY_S."""
    headers = {"Retry-After": RETRY_S[status]} if status in RETRY_S else {}
    return problems.problem(status, kind, message, headers)


def answer_of(error: FolioscopeError) -> JSONResponse:
    """Return the answer to an error: its message without the remedy, which is for the command line."""
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    return problem(status, type(error).__name__, error.message)


def add_handlers(app: FastAPI) -> None:
    """Answer errors under /api in one JSON shape."""

    @app.exception_handler(FolioscopeError)
    def answer_folioscope_error(request: Request, error: FolioscopeError) -> JSONResponse:
        answer = answer_of(error)
        if answer.status_code == 500:
            problems.log_error(request.scope, error)
        return answer

    @app.exception_handler(RequestValidationError)
    def answer_wrong_request(_: Request, error: RequestValidationError) -> JSONResponse:
        message = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'][1:]) or 'the request'}: {e['msg']}"
            for e in error.errors()
        )
        return problem(422, "BadRequest", message)

    @app.exception_handler(HTTPException)
    async def answer_http_error(request: Request, error: HTTPException) -> Response:
        if not problems.is_api(request.scope["path"]):
            return await http_exception_handler(request, error)
        message = {
            404: f"There is nothing at {request.url.path}: /docs lists what the API has.",
            405: f"{request.url.path} does not take {request.method}; it takes {(error.headers or {}).get('allow')}.",
        }.get(error.status_code, error.detail)
        kind = {404: "NoSuchAddress", 405: "WrongMethod"}.get(error.status_code, "Refused")
        return problems.problem(error.status_code, kind, message, error.headers)


class Unmatched:
    """The last route under `/api`: raises 405 if another route has the path with other methods, otherwise 404.

    Without it the web page's mount, which takes every path, would answer.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = [
            method
            for method in METHODS
            if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in self._routes)
        ]
        if allowed:
            raise HTTPException(405, headers={"allow": ", ".join(allowed)})
        raise HTTPException(404)


def unmatched(app: FastAPI) -> list[BaseRoute]:
    """Return the routes that must come after all others of `/api`."""
    ending = Unmatched(tuple(app.routes))
    return [Route(path, ending, include_in_schema=False) for path in ("/api", "/api/{rest:path}")]
