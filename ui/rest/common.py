"""Who asks, and how an error of ours is answered."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from retrieval.errors import (
    BadQuery,
    BadSource,
    EncoderMismatch,
    FolioscopeError,
    IndexBusy,
    NotFound,
    UnreadableDocument,
)
from ui.jobs.queue import BadChange
from ui.schemas import ErrorOut, Problem
from ui.service import NotReady
from ui.turns import Busy

STATUS: dict[type[FolioscopeError], int] = {
    NotFound: 404,
    BadQuery: 422,
    BadChange: 422,
    BadSource: 422,
    UnreadableDocument: 422,
    EncoderMismatch: 409,
    IndexBusy: 409,
    Busy: 429,
    NotReady: 503,
}
RETRY_S = {429: "2", 503: "1"}
ERRORS: dict[int | str, dict[str, Any]] = {
    422: {"model": ErrorOut, "description": "What was asked cannot be answered; the message says why."},
    429: {"model": ErrorOut, "description": "Busy: too many searches wait already. Try again in a moment."},
    503: {"model": ErrorOut, "description": "The models are being loaded."},
}


def user_of(request: Request) -> str:
    """The name of whoever is logged in; "" without a login."""
    return str(request.scope.get("state", {}).get("user", ""))


def client_of(request: Request) -> str:
    """Whose turn it is in the queue: a user's, or, without a login, an address's."""
    return user_of(request) or (request.client.host if request.client else "")


def problem(status: int, kind: str, message: str) -> JSONResponse:
    headers = {"Cache-Control": "no-store"}
    if status in RETRY_S:
        headers["Retry-After"] = RETRY_S[status]
    content = ErrorOut(error=Problem(kind=kind, message=message)).model_dump()
    return JSONResponse(content, status, headers=headers)


def answer_of(error: FolioscopeError) -> JSONResponse:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
    return problem(status, type(error).__name__, str(error))


def add_handlers(app: FastAPI) -> None:
    @app.exception_handler(FolioscopeError)
    def ours(_: Request, error: FolioscopeError) -> JSONResponse:
        return answer_of(error)

    @app.exception_handler(RequestValidationError)
    def wrong_use(_: Request, error: RequestValidationError) -> JSONResponse:
        said = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'][1:]) or 'the request'}: {e['msg']}"
            for e in error.errors()
        )
        return problem(422, "BadRequest", said)
