"""The server: the web page (Gradio), REST, MCP, health and metrics, mounted in one FastAPI app behind one door.

`serve` runs it, `create_app` makes it. Everything it loads comes from this server.
"""

import logging
import resource
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse

from configs.settings import Settings
from retrieval.errors import EncoderMismatch, FolioscopeError
from retrieval.lru import LRU
from ui.api import media
from ui.api.mcp import tools
from ui.api.problems import RequestIds, TrustedHosts
from ui.api.rest import description, documents, library, search
from ui.api.rest.common import add_handlers, unmatched
from ui.service.library import uploads_folder
from ui.service.service import Service, service_for
from ui.web import auth
from ui.web.auth import Authentication
from ui.web.components import assets
from ui.web.page import mount_page
from ui.web.security import Bounded, SameOrigin, SecurityHeaders

BACKLOG = 2048  # connections that wait for the server to take them; uvicorn's own number
EVERYWHERE = ("", "0.0.0.0", "::")
REPEAT_S = 10.0  # seconds
REMEMBERED = 100  # messages
MOST_FILES = 8192  # that this process asks the system for
GRACE = 3  # seconds that open pages keep the server from ending
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def serve(
    uri: str,
    settings: Settings,
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    token: str = "",
    users: Path | None = None,
    folders: Sequence[Path] = (),
    proxy: str = "",
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the library at `uri`, made if it is not there yet, until interrupted.

    Calls `on_listening` with its address as soon as it listens; the models load meanwhile. Port 0 takes a free one.
    token, users: who may come in, as `doors.open_doors` reads them. folders: what may be ingested from the
    page. proxy: the address whose X-Forwarded-For is believed.

    Raises FolioscopeError if the port is taken, if the address is public and there is no login, and what
    opening the library raises.
    """
    # Before the MCP server sets up a handler of its own, which opens files to speak.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("asyncio").addFilter(RepeatFilter())
    guard = auth.open_authentication(uploads_folder(uri), token=token, users=users)
    auth.require_authentication(host, guard)
    with _bound(host, port) as bound:
        service = service_for(uri, settings, roots=folders)
        app = create_app(service, guard, host=host, has_proxy=bool(proxy))
        bound.listen(BACKLOG)
        shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        if on_listening:
            on_listening(f"http://{shown}:{bound.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
            backlog=BACKLOG,
            limit_concurrency=_connections(),
            proxy_headers=bool(proxy),
            forwarded_allow_ips=proxy or None,
        )
        server = uvicorn.Server(config)

        def failed() -> None:
            if isinstance(service.failure, EncoderMismatch):  # the page says so, and offers the remedy
                print(f"folioscope: {service.failure}", file=sys.stderr, flush=True)  # noqa: T201
            else:
                server.should_exit = True

        service.start(failed)
        try:
            server.run(sockets=[bound])
        except KeyboardInterrupt:
            return
        if service.failure and not isinstance(service.failure, EncoderMismatch):
            raise service.failure
        if not server.started:
            raise FolioscopeError("the web page did not start: what is printed above says why")


def create_app(
    service: Service, guard: Authentication | None = None, *, host: str = "", has_proxy: bool = False
) -> FastAPI:
    """The whole as an ASGI app; whoever made the service starts it. `host` is what it will be bound to: on a
    loopback address it answers only to that machine's own names, so that no foreign site reaches it by DNS.
    """
    return mount_page(server(service, guard, host, has_proxy=has_proxy))


def server(
    service: Service, guard: Authentication | None = None, host: str = "", *, has_proxy: bool = False
) -> FastAPI:
    """All but the screens."""
    mcp = tools(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.running():
            yield
        service.close()

    app = FastAPI(
        title="Folioscope",
        version=description.VERSION,
        docs_url=None,  # these three are ui.api.rest.description's
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    if guard:
        app.add_middleware(auth.Guard, doors=guard, has_proxy=has_proxy)
    app.add_middleware(Bounded)
    app.add_middleware(SameOrigin)
    app.add_middleware(SecurityHeaders)
    if auth.is_loopback(host):
        app.add_middleware(TrustedHosts, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    app.add_middleware(RequestIds)
    add_handlers(app)
    _add_health(app, service)
    if guard:
        app.include_router(auth.routes(guard), include_in_schema=False)
    app.include_router(assets.routes())
    app.include_router(media.routes(service))
    for part in (search, documents, library):
        app.include_router(part.routes(service), prefix="/api/v1")
    app.include_router(description.routes(app))
    app.router.routes.extend(mcp.routes)
    app.router.routes.extend(unmatched(app))
    return app


class RepeatFilter(logging.Filter):
    """Says the same once in REPEAT_S: where no more connections can be taken, asyncio says so for each of thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._said: LRU[str, float] = LRU(REMEMBERED)  # by message: when, in seconds since the epoch

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()[:200]
        if record.created - (self._said.get(message) or 0.0) < REPEAT_S:
            return False
        self._said.put(message, record.created)
        return True


def _add_health(app: FastAPI, service: Service) -> None:
    @app.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False)
    async def health() -> dict[
        str, str
    ]:  # in the event loop: it needs none of the threads, which may all be busy
        return {"status": "ok"}

    @app.api_route("/ready", methods=["GET", "HEAD"], include_in_schema=False)
    def ready() -> Response:
        """Ready when the models are loaded and the index answers."""
        try:
            documents = service.library.store.documents()
        except Exception as error:
            return JSONResponse({"ready": False, "problem": str(error)}, 503)
        encoder = str(service.library.store.fingerprint)
        return JSONResponse({"ready": True, "documents": len(documents), "encoder": encoder})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=PROMETHEUS)


def _connections() -> int:
    """Connections at once that leave files to open: as many as the system lets this process have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(64, (most if soft == resource.RLIM_INFINITY else soft) // 2)


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise FolioscopeError(
            f"port {port} of {host} cannot be used ({getattr(error, 'strerror', None) or error}): "
            "choose another with --port; --port 0 takes a free one"
        ) from error
    return bound
