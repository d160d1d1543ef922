"""The login page and its routes: GET and POST /login, POST /logout."""

import html
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.requests import HTTPConnection

from ui.service.users import LONGEST_NAME
from ui.web.auth import Authentication
from ui.web.connection import client_address, path_prefix, route_path
from ui.web.failures import TooManyAttempts
from ui.web.sessions import COOKIE, SESSION

LONGEST_FORM = 8192  # bytes
LONGEST_NEXT = 2000  # characters
LOGIN_PAGE = Path(__file__).parent / "static" / "login.html"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
NO_STORE = {"Cache-Control": "no-store"}
UNEXPECTED_FORM = "This is not what the login form sends. Reload this page and log in again."


def routes(authentication: Authentication) -> APIRouter:
    """Returns the routes of the login. They are open to everyone."""
    router = APIRouter(include_in_schema=False)

    @router.get("/login")
    async def show_login(request: Request) -> Response:
        next_url = _checked_next(request.query_params.get("next", ""), path_prefix(request))
        if authentication.sessions.user(request):
            return RedirectResponse(next_url, 303, headers=NO_STORE)
        return _page(authentication, next_url)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        home = path_prefix(request) + "/"
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return _page(authentication, home, UNEXPECTED_FORM, 415)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST_FORM:
                too_long = (
                    f"The form is longer than {LONGEST_FORM:,} bytes: enter a shorter name or password."
                )
                return _page(authentication, home, too_long, 413)
        try:
            name, password, next_url = _fields(body)
        except ValueError:
            return _page(authentication, home, UNEXPECTED_FORM, 400)
        next_url = _checked_next(next_url, path_prefix(request))
        try:
            user = await authentication.check(name, password, client_address(request))
        except TooManyAttempts as error:
            retry = {"Retry-After": str(error.seconds)}
            return _page(authentication, next_url, str(error), 429, name=name, headers=retry)
        if not user:
            incorrect = "The user name or password is incorrect."
            challenge = {"WWW-Authenticate": "Bearer"}
            return _page(authentication, next_url, incorrect, 401, name=name, headers=challenge)
        response = RedirectResponse(next_url, 303, headers=NO_STORE)
        response.set_cookie(
            COOKIE, authentication.sessions.issue(user), max_age=SESSION, **_cookie_options(request)
        )
        return response

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        response = RedirectResponse(f"{path_prefix(request)}/login", 303, headers=NO_STORE)
        response.delete_cookie(COOKIE, **_cookie_options(request))
        return response

    return router


def redirect_to_login(connection: HTTPConnection) -> Response:
    """Returns a redirect to the login page, which returns to the requested page after the login."""
    scope, prefix = connection.scope, path_prefix(connection)
    query = scope.get("query_string", b"").decode("latin-1")
    requested = prefix + quote(route_path(scope)) + (f"?{query}" if query else "")
    next_url = quote(_checked_next(requested, prefix), safe="/")
    return RedirectResponse(f"{prefix}/login?next={next_url}", 303, headers=NO_STORE)


def _page(
    authentication: Authentication,
    next_url: str,
    message: str = "",
    status: int = 200,
    *,
    name: str = "",
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    hint = (
        "To log in with a token, leave the user name empty and enter the token as the password."
        if authentication.has_token
        else ""
    )
    page = _template()
    for part, value in {
        "message": message,
        "hint": hint,
        "name": name[:LONGEST_NAME],
        "next": next_url,
    }.items():
        page = page.replace(f"<!--{part}-->", html.escape(value))  # escaping leaves no "<!--" in a value
    return HTMLResponse(page, status, {"Content-Security-Policy": POLICY, **NO_STORE, **(headers or {})})


@cache
def _template() -> str:
    return LOGIN_PAGE.read_text(encoding="utf-8")


def _fields(body: bytes) -> tuple[str, str, str]:
    """Returns the name, the password and the next URL. Raises ValueError for a body that our form cannot send."""
    fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=8)
    if any(len(values) > 1 for values in fields.values()):
        raise ValueError("a field was sent twice")
    name, password, next_url = (fields.get(field, [""])[0] for field in ("name", "password", "next"))
    return name.strip(), password, next_url


def _checked_next(requested: str, prefix: str) -> str:
    """Returns `requested` if it is the address of a page of this site, else the first page.

    Browsers take "//", and a backslash instead of a slash, as the start of another site's name, and skip control
    characters. A path that a browser has written is in ASCII.
    """
    is_local = requested.startswith("/") and not requested.startswith("//") and len(requested) <= LONGEST_NEXT
    is_plain = all("!" <= c <= "~" and c != "\\" for c in requested)
    return requested if is_local and is_plain else f"{prefix}/"


def _cookie_options(connection: HTTPConnection) -> dict[str, Any]:
    forwarded = connection.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    secure = "https" in (connection.scope.get("scheme"), forwarded)
    return {"path": "/", "secure": secure, "httponly": True, "samesite": "lax"}
