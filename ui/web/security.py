"""What holds for every request and every answer: other sites change nothing here, and nothing of theirs is loaded;
bodies have a bound.

Gradio's mount answers cross-site questions (CORS) for the whole app and grants them off a loopback address;
`SameOrigin` stands before it.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.api.problems import problem

CONTENT_SECURITY_POLICY = "; ".join((
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio evaluates the scripts of gr.HTML
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "connect-src 'self'",
    "worker-src 'self' blob:",
    "frame-ancestors 'self'",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PRIVATE = ("/api/", "/metrics", "/ready", "/config")
LONGEST_BODY = 2**20  # bytes of a request that is no upload
UPLOAD = "/api/v1/upload/"
READS = frozenset({"GET", "HEAD"})
DEFAULT_PORTS = {
    "http": ":80",
    "https": ":443",
}  # browsers leave them out of Origin, some proxies add them to Host


class SameOrigin:
    """ASGI middleware: a request that is not a read, or asks leave for one (OPTIONS), must come from this site.

    Browsers send `Origin` with every such request; other programs need not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _from_elsewhere(Headers(scope=scope)):
            refusal = _refusal(scope, 403, "Refused: a page of another site asked for this.")
            await refusal(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] not in READS:
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host", "")
            if origin is not None and not _same(origin, host):
                refusal = _refusal(
                    scope,
                    403,
                    f"Refused: this request comes from {origin}, and only pages of {host} may change something "
                    "here. (Is there a proxy in between? Then it must pass the Host header on unchanged.)",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SecurityHeaders:
    """ASGI middleware; a route that sets one of these headers itself keeps its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"] == "/" or scope["path"].startswith(PRIVATE):
                    headers.setdefault("Cache-Control", "private, no-store")
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]  # Gradio's mount grants other sites more than this page needs
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class Bounded:
    """ASGI middleware: bodies of at most LONGEST_BODY, except for uploads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"] == "PUT" and scope["path"].startswith(UPLOAD)):
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > LONGEST_BODY:
            await _too_long(scope)(scope, receive, send)
            return
        got, begun = 0, False

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > LONGEST_BODY:
                raise _TooLong
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, noted)
        except _TooLong:
            if not begun:
                await _too_long(scope)(scope, receive, send)


class _TooLong(BaseException):
    """Passes what catches every Exception on its way."""


def _too_long(scope: Scope) -> Response:
    return _refusal(scope, 413, f"A request may have {LONGEST_BODY / 2**20:g} MiB; only uploads are longer.")


def _refusal(scope: Scope, status: int, message: str) -> Response:
    """In words for a browser, as JSON for a program."""
    if scope["path"].startswith("/api/"):
        return problem(status, "Refused" if status == 403 else "TooLong", message)
    return PlainTextResponse(message, status_code=status)


def _from_elsewhere(headers: Headers) -> bool:
    """Browsers say so; a link on another site that leads here is welcome, what it embeds is not."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def _same(origin: str, host: str) -> bool:
    scheme, _, place = origin.lower().partition("://")
    return bool(place) and place == host.lower().removesuffix(DEFAULT_PORTS.get(scheme, ""))
