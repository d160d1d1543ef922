"""The web page: search, the page that answers lit up, and the documents; Gradio mounted in FastAPI.

`serve` runs it, `create_app` makes it. Everything it loads comes from this server.
"""

import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from configs.settings import Settings
from retrieval.errors import FolioscopeError
from ui import media, uploads
from ui.components import assets
from ui.components import results as results_list
from ui.components.documents import documents, documents_value
from ui.components.results import home, results
from ui.components.viewer import viewer
from ui.headers import SameOrigin, SecurityHeaders
from ui.library import SAMPLES, Library, open_library

import gradio as gr  # isort: skip  (after ui.components, which switches its analytics off)

POLL = 1.0  # seconds between two looks at the jobs, while there are any
SEARCHES = 2  # at once; more wait
BACKLOG = 2048  # connections that wait for the server to take them; uvicorn's own number
EVERYWHERE = ("", "0.0.0.0", "::")
GRACE = 3  # seconds that open pages keep the server from ending


def serve(uri: str, settings: Settings, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the page over the index at `uri`, made if it is not there yet, until interrupted.

    Says on standard output where it is, once it is there. Port 0 takes a free one. Raises FolioscopeError
    if the port is taken, before any model is loaded.
    """
    with _bound(host, port) as bound:
        app = create_app(uri, settings, host=host)
        bound.listen(BACKLOG)
        shown = "127.0.0.1" if host in EVERYWHERE else f"[{host}]" if ":" in host else host
        print(f"Folioscope is at http://{shown}:{bound.getsockname()[1]} (Ctrl-C ends it)", flush=True)  # noqa: T201
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE, backlog=BACKLOG)
        )
        try:
            server.run(sockets=[bound])
        except KeyboardInterrupt:
            return
        if not server.started:
            raise FolioscopeError("the web page did not start: what is printed above says why")


def create_app(uri: str, settings: Settings, *, host: str = "", samples: Path = SAMPLES) -> FastAPI:
    """The page as an ASGI app. `host` is what it will be bound to: on a loopback address it then answers only
    to that machine's own names, so that no foreign site can reach it by way of DNS.

    Raises what opening the index and loading the models raise.
    """
    library = open_library(uri, settings, samples)
    app = server(library, settings.ingest.max_file_mb, host)
    blocks = page(library)
    blocks.queue(max_size=64)
    style = f'<link rel="stylesheet" href="folio/folioscope.css?v={assets.digest("folioscope.css")}">'
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=_theme(),
        head=style,
        run_history=False,
        footer_links=[],
        show_error=False,
        max_file_size="1mb",  # of Gradio's own uploads, which this page does not use
        blocked_paths=[str(library.jobs.folder)],
        pwa=False,
        ssr_mode=False,
    )
    return mounted


def server(library: Library, max_file_mb: int, host: str = "") -> FastAPI:
    """All but the screens: health, images, uploads, the jobs' thread, and the headers of every answer."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        uploads.sweep(library.jobs.folder)
        library.jobs.start()
        yield
        library.jobs.close()

    app = FastAPI(title="Folioscope", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.add_middleware(SameOrigin)
    app.add_middleware(SecurityHeaders)
    if _is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1", "[::1]", host])
    _add_health(app, library)
    _add_style(app)
    app.include_router(media.routes(library.store))
    app.include_router(uploads.routes(library.jobs, max_file_mb))
    return app


def page(library: Library) -> gr.Blocks:
    """The screens, and what happens on them."""
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    searches: dict[str, Any] = {"api_visibility": "private", "concurrency_id": "search",
                                "concurrency_limit": SEARCHES, "trigger_mode": "always_last"}  # fmt: skip
    with gr.Blocks(title="Folioscope", fill_width=True, analytics_enabled=False) as blocks:
        header = assets.component("header", value={})
        with gr.Tabs(elem_id="screens") as screens:
            with gr.Tab("Search", id="search"):
                with gr.Row(elem_id="ask"):
                    question = gr.Textbox(
                        label="Question",
                        show_label=False,
                        container=False,
                        max_lines=1,
                        autofocus=True,
                        scale=6,
                        elem_id="question",
                        placeholder="What do you need to know?   ( / )",
                        max_length=4000,
                    )
                    button = gr.Button("Search", variant="primary", scale=0, min_width=110, elem_id="go")
                with gr.Row(elem_id="options"):
                    only = gr.Dropdown(
                        [],
                        multiselect=True,
                        label="Documents",
                        show_label=False,
                        container=False,
                        elem_id="only",
                        scale=4,
                        min_width=240,
                    )
                    rerank = gr.Checkbox(
                        library.reranks,
                        label="Rerank",
                        interactive=library.reranks,
                        scale=0,
                        container=False,
                        min_width=110,
                        elem_id="rerank",
                    )
                with gr.Row(elem_id="panes", equal_height=False):
                    with gr.Column(scale=5, min_width=320, elem_id="found"):
                        found = results()
                    with gr.Column(scale=7, min_width=320, elem_id="lit"):
                        viewer(library)
            with gr.Tab("Documents", id="documents"):
                stock = documents()
        timer = gr.Timer(POLL, active=False)

        def search(question: str, only: list[str], rerank: bool) -> Iterator[results_list.Value]:
            yield from results_list.search(library, question, only, rerank)

        def ask(
            only: list[str], rerank: bool, event: gr.EventData
        ) -> Iterator[tuple[str, results_list.Value]]:
            asked = str(event.question)
            for value in results_list.search(library, asked, only, rerank):
                yield asked, value

        def restore(
            asked: dict[str, Any], only: list[str], rerank: bool
        ) -> Iterator[tuple[str, results_list.Value]]:
            query = str(asked.get("q") or "")
            show = (str(asked["doc"]), _number(asked.get("p"))) if asked.get("doc") else None
            for value in results_list.search(library, query, only, rerank, show=show):
                yield query, value

        def go_back(
            only: list[str], rerank: bool, event: gr.EventData
        ) -> Iterator[tuple[str, results_list.Value]]:
            asked = {"q": event.query, "doc": event.doc, "p": event.page}
            yield from restore(asked, only, rerank)

        def load(only: list[str], rerank: bool, request: gr.Request) -> Iterator[Any]:
            asked = dict(request.query_params)
            if not asked.get("q") and not asked.get("doc"):
                yield gr.skip(), gr.skip()  # nothing may overwrite what has been typed meanwhile
                return
            yield from restore(asked, only, rerank)

        def look(problem: str = "") -> tuple[Any, ...]:
            """Everything that says what is in the library; the timer runs on while there is work."""
            value = documents_value(library, problem)
            newest = sorted(library.store.documents(), key=lambda document: document.added_at)[
                -results_list.CHOICES :
            ]
            names = [(document.name, document.doc_id) for document in newest]
            choices = gr.skip() if value["busy"] else gr.update(choices=names)
            first = home(library)
            return value, first, gr.update(home=first), choices, gr.Timer(active=value["busy"])

        def remove(event: gr.EventData) -> tuple[Any, ...]:
            try:
                library.jobs.remove(str(event.doc))
            except FolioscopeError as error:
                return look(str(error))
            return look()

        def retry(event: gr.EventData) -> tuple[Any, ...]:
            library.jobs.retry(_number(event.job))
            return look()

        def clear() -> tuple[Any, ...]:
            library.jobs.clear()
            return look()

        def add_samples() -> tuple[Any, ...]:
            library.jobs.add(library.sample_files())
            return (*look(), gr.Tabs(selected="documents"))

        state = [stock, header, found, only, timer]
        gr.on(
            [question.submit, button.click, only.input, rerank.input],
            search,
            [question, only, rerank],
            found,
            show_progress="minimal",
            show_progress_on=[found],
            **searches,
        )
        found.ask(ask, [only, rerank], [question, found], show_progress="hidden", **searches)
        found.restore(go_back, [only, rerank], [question, found], show_progress="hidden", **searches)
        found.documents(lambda: gr.Tabs(selected="documents"), None, screens, queue=False, **quiet)
        stock.opened(lambda: gr.Tabs(selected="search"), None, screens, queue=False, **quiet)
        found.samples(add_samples, None, [*state, screens], queue=False, **quiet)
        stock.samples(add_samples, None, [*state, screens], queue=False, **quiet)
        stock.added(look, None, state, queue=False, **quiet)
        stock.remove(remove, None, state, queue=False, **quiet)
        stock.retry(retry, None, state, queue=False, **quiet)
        stock.clear(clear, None, state, queue=False, **quiet)
        timer.tick(look, None, state, queue=False, **quiet)
        blocks.load(look, None, state, queue=False, **quiet)
        blocks.load(load, [only, rerank], [question, found], **quiet)
    return blocks


def _add_health(app: FastAPI, library: Library) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz")
    def readyz() -> Response:
        """Ready when the index answers; the models were loaded before the server began."""
        try:
            documents = library.store.documents()
        except Exception as error:
            return JSONResponse({"ready": False, "problem": str(error)}, 503)
        return JSONResponse(
            {"ready": True, "documents": len(documents), "encoder": str(library.store.fingerprint)}
        )


def _add_style(app: FastAPI) -> None:
    @app.get("/folio/folioscope.css", include_in_schema=False)
    def style() -> Response:
        return Response(
            assets.read("folioscope.css"), media_type="text/css", headers={"Cache-Control": media.FOREVER}
        )


def _theme() -> Any:
    """Fonts of the reader's own machine; colours with a contrast of at least 4.5 to 1."""
    theme = gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", radius_size="md", spacing_size="sm",
        font=["Inter", "system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "DejaVu Sans Mono", "monospace"],
    )  # fmt: skip
    return theme.set(
        button_primary_background_fill="*primary_700", button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_800", button_primary_text_color="white",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400",
    )  # fmt: skip


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


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _number(given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError):
        return 1
