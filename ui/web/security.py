"""Rules for every request and response: no other site changes anything here, nothing from other sites is loaded, and
request bodies have a size limit.

Gradio's mount answers cross-origin requests (CORS) for the whole app, and allows them unless the address is a loopback
address; `SameOrigin` therefore comes before it.
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
LONGEST_BODY = 2**20  # bytes of a request other than an upload
UPLOAD = "/api/v1/upload/"
READS = frozenset({"GET", "HEAD"})
# Browsers omit the default port in Origin; some proxies add it to Host.
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class SameOrigin:
    """ASGI middleware: a request that is not a read, including its preflight (OPTIONS), must come from this site.

    Browsers send `Origin` with every such request; other programs need not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_embedded_elsewhere(Headers(scope=scope)):
            refusal = _refusal(scope, 403, "Rejected: this request comes from a page of another site.")
            await refusal(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] not in READS:
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host", "")
            if origin is not None and not _is_same_origin(origin, host):
                refusal = _refusal(
                    scope,
                    403,
                    f"Rejected: this request comes from {origin}, and only pages of {host} may change something "
                    "here. (If there is a proxy in between, it must pass the Host header on unchanged.)",
                )
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SecurityHeaders:
    """ASGI middleware: adds HEADERS to every response. A header that a route sets itself stays."""

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
                    del headers[name]  # Gradio's mount allows other sites more than this page needs
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class BodyLimit:
    """ASGI middleware: limits request bodies to LONGEST_BODY bytes, except for uploads."""

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
        received, has_started = 0, False

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LONGEST_BODY:
                raise _TooLong
            return message

        async def send_and_note_start(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            await self._app(scope, receive_and_count, send_and_note_start)
        except _TooLong:
            if not has_started:
                await _too_long(scope)(scope, receive, send)


class _TooLong(BaseException):
    """Not an Exception, so that no handler of the app catches it on its way."""


def _too_long(scope: Scope) -> Response:
    return _refusal(
        scope, 413, f"A request may have at most {LONGEST_BODY / 2**20:g} MiB; only uploads may be longer."
    )


def _refusal(scope: Scope, status: int, message: str) -> Response:
    """Returns text for a browser, JSON for a program."""
    if scope["path"].startswith("/api/"):
        return problem(status, "Refused" if status == 403 else "TooLong", message)
    return PlainTextResponse(message, status_code=status)


def _is_embedded_elsewhere(headers: Headers) -> bool:
    """Whether a page of another site embeds this resource. Following a link from another site is allowed."""
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"


def _is_same_origin(origin: str, host: str) -> bool:
    scheme, _, origin_host = origin.lower().partition("://")
    return bool(origin_host) and origin_host == host.lower().removesuffix(DEFAULT_PORTS.get(scheme, ""))
