"""What holds for every request and every answer: other sites change nothing here, and nothing of theirs is loaded.

Gradio's mount answers cross-site questions (CORS) for the whole app and grants them off a loopback address;
`SameOrigin` stands before it.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
}
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
        if scope["type"] == "http" and scope["method"] not in READS:
            headers = Headers(scope=scope)
            origin, host = headers.get("origin"), headers.get("host", "")
            if origin is not None and not _same(origin, host):
                refusal = PlainTextResponse(
                    f"Refused: this request comes from {origin}, and only pages of {host} may change something "
                    "here. (Is there a proxy in between? Then it must pass the Host header on unchanged.)",
                    status_code=403,
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
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _same(origin: str, host: str) -> bool:
    scheme, _, place = origin.lower().partition("://")
    return bool(place) and place == host.lower().removesuffix(DEFAULT_PORTS.get(scheme, ""))
