"""The server: the web page (Gradio), REST, MCP, health and metrics in one FastAPI app, behind one login.

`create_app` builds the app, `serve` runs it. The page loads everything from this server.
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
from ui.api.rest import answers, description, documents, library, search
from ui.api.rest.common import add_handlers, unmatched
from ui.service.library import uploads_folder
from ui.service.service import Service, service_for
from ui.web import login
from ui.web.auth import Authentication, open_authentication, require_authentication
from ui.web.components import assets
from ui.web.connection import is_loopback
from ui.web.guard import Guard
from ui.web.page import mount_page
from ui.web.security import BodyLimit, SameOrigin, SecurityHeaders

LOG = logging.getLogger("folioscope")
BACKLOG = 2048  # connections that wait to be accepted; uvicorn's default
EVERYWHERE = ("", "0.0.0.0", "::")
REPEAT_S = 10.0  # seconds within which the same log message appears once
REMEMBERED = 100  # log messages that are compared with new ones
MOST_FILES = 8192  # open files that this process requests from the system
GRACE = 3  # seconds for which open pages may delay the end of the server
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
    """Serve the library at `uri`, which is created if it is missing, until interrupted.

    Calls `on_listening` with the server's address as soon as it listens, while the models still load. Port 0 chooses a
    free port. token, users: see `open_authentication`. folders: folders of the server that may be ingested from the
    page. proxy: the address of a proxy whose X-Forwarded-For is trusted.

    Raises FolioscopeError if the port is in use, if the address is public and there is no login, and the errors of
    opening the library.
    """
    # This must come before the MCP server sets up its own log handler, which opens files to write.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("asyncio").addFilter(RepeatFilter())
    authentication = open_authentication(uploads_folder(uri), token=token, users=users)
    require_authentication(host, authentication)
    with _listening_socket(host, port) as listener:
        service = service_for(uri, settings, roots=folders)
        app = create_app(service, authentication, host=host, has_proxy=bool(proxy))
        listener.listen(BACKLOG)
        shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        if on_listening:
            on_listening(f"http://{shown}:{listener.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            log_level="warning",
            timeout_graceful_shutdown=GRACE,
            backlog=BACKLOG,
            limit_concurrency=_max_connections(),
            proxy_headers=bool(proxy),
            forwarded_allow_ips=proxy or None,
        )
        server = uvicorn.Server(config)

        def print_or_stop() -> None:
            if isinstance(service.failure, EncoderMismatch):  # the page reports it too, and offers a remedy
                print(f"folioscope: {service.failure}", file=sys.stderr, flush=True)  # noqa: T201
            else:
                server.should_exit = True

        service.start(print_or_stop)
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            return
        if service.failure and not isinstance(service.failure, EncoderMismatch):
            raise service.failure
        if not server.started:
            raise FolioscopeError("the web page did not start: see the messages above")


def create_app(
    service: Service, authentication: Authentication | None = None, *, host: str = "", has_proxy: bool = False
) -> FastAPI:
    """Returns the complete server as an ASGI app. The caller starts the service.

    host: the address that the server will listen on. On a loopback address it responds only to requests for a name of
    this machine, so that no other site reaches it through DNS. has_proxy: whether a trusted proxy is in front of it.
    """
    return mount_page(server(service, authentication, host, has_proxy=has_proxy))


def server(
    service: Service, authentication: Authentication | None = None, host: str = "", *, has_proxy: bool = False
) -> FastAPI:
    """Returns the app of `create_app` without the screens."""
    mcp = tools(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.running():
            yield
        service.close()

    app = FastAPI(
        title="Folioscope",
        version=description.VERSION,
        docs_url=None,  # ui.api.rest.description serves these three
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )
    if authentication:
        app.add_middleware(Guard, authentication=authentication, has_proxy=has_proxy)
    app.add_middleware(BodyLimit)
    app.add_middleware(SameOrigin)
    app.add_middleware(SecurityHeaders)
    if is_loopback(host):
        app.add_middleware(TrustedHosts, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    app.add_middleware(RequestIds)
    add_handlers(app)
    _add_health(app, service)
    if authentication:
        app.include_router(login.routes(authentication), include_in_schema=False)
    app.include_router(assets.routes())
    app.include_router(media.routes(service))
    for part in (search, answers, documents, library):
        app.include_router(part.routes(service), prefix="/api/v1")
    app.include_router(description.routes(app))
    app.router.routes.extend(mcp.routes)
    app.router.routes.extend(unmatched(app))
    return app


class RepeatFilter(logging.Filter):
    """Passes the same message once in REPEAT_S: asyncio logs each connection that it cannot accept, maybe thousands."""

    def __init__(self) -> None:
        super().__init__()
        self._logged: LRU[str, float] = LRU(REMEMBERED)  # by message: seconds since 1970

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()[:200]
        if record.created - (self._logged.get(message) or 0.0) < REPEAT_S:
            return False
        self._logged.put(message, record.created)
        return True


def _add_health(app: FastAPI, service: Service) -> None:
    @app.api_route("/health", methods=["GET", "HEAD"], include_in_schema=False)
    async def health() -> dict[str, str]:
        # Runs in the event loop: all threads may be busy.
        return {"status": "ok"}

    @app.api_route("/ready", methods=["GET", "HEAD"], include_in_schema=False)
    def ready() -> Response:
        """Ready when the models are loaded and the index can be read."""
        try:
            documents = service.library.store.documents()
        except FolioscopeError as error:
            return JSONResponse({"ready": False, "problem": error.message}, 503)
        except Exception:
            LOG.exception("the index cannot be read")
            problem = "the index cannot be read: the server's log says why"
            return JSONResponse({"ready": False, "problem": problem}, 503)
        encoder = str(service.library.store.fingerprint)
        return JSONResponse({"ready": True, "documents": len(documents), "encoder": encoder})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=PROMETHEUS)


def _max_connections() -> int:
    """Returns half of the files that this process may open, after raising that limit to MOST_FILES if allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(64, (most if soft == resource.RLIM_INFINITY else soft) // 2)


def _listening_socket(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise FolioscopeError(
            f"port {port} of {host} cannot be used ({getattr(error, 'strerror', None) or error}): "
            "choose another with --port; --port 0 chooses a free one"
        ) from error
    return listener
