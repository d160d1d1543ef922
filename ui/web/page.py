"""The screens Search, Compare and Library, as Gradio components that talk to REST.

Gradio provides the frame: tabs, theme, reconnection. The content consists of `gr.HTML` components, because results,
viewer and plots need layouts that stock components lack, and responses within tens of milliseconds.
"""

import re

import gradio as gr
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ui.web.components import assets
from ui.web.connection import route_path

NEEDED = re.compile(r"/(config/?|theme\.css|favicon\.ico|robots\.txt|(assets|static|svelte)/.*)?")
"""The paths of Gradio that the page uses. Gradio's own API, uploads, queue, monitoring and login are not among them."""
READS = frozenset({"GET", "HEAD"})


class NeededPathsOnly:
    """ASGI app: Gradio's app, restricted to NEEDED, so that routes which a later version adds stay closed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in READS and NEEDED.fullmatch(route_path(scope)):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("There is no such address here.", status_code=404)(scope, receive, send)
        else:
            await WebSocketClose()(scope, receive, send)


def mount_page(app: FastAPI) -> FastAPI:
    """Mount the page at the root of `app` and return it."""
    style = "".join(
        f'<link rel="stylesheet" href="{assets.address(name)}">'
        for name in ("folioscope.css", "answer-panel.css")
    )
    keys = f'<script type="module" src="{assets.address("keys.js")}"></script>'
    preload = "".join(
        f'<link rel="modulepreload" href="{assets.address(path.name)}">'
        for path in sorted(assets.STATIC.glob("*.js"))
    )
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        screens(),
        path="/",
        theme=_theme(),
        head=style + preload + keys,
        run_history=False,
        footer_links=[],
        show_error=False,
        max_file_size="1mb",  # limit of Gradio's own uploads, which this page does not use
        pwa=False,
        ssr_mode=False,
    )
    mount = mounted.routes[-1]
    if not isinstance(mount, Mount):
        raise TypeError(f"Gradio is expected to be the last route, as a mount, not {mount!r}")
    mount.app = NeededPathsOnly(mount.app)
    return mounted


def screens() -> gr.Blocks:
    """Returns the three screens below the header."""
    with gr.Blocks(title="Folioscope", fill_width=True, analytics_enabled=False) as blocks:
        assets.component("header")
        with gr.Tabs(elem_id="screens"):
            with gr.Tab("Search", id="search"):
                assets.component("ask")
                with gr.Row(elem_id="panes", equal_height=False):
                    with gr.Column(scale=5, min_width=320, elem_id="found"):
                        assets.component("results")
                    with gr.Column(scale=7, min_width=320, elem_id="lit"):
                        assets.component("viewer")
            with gr.Tab("Compare", id="compare"):
                assets.component("compare")
            with gr.Tab("Library", id="library"):
                assets.component("library")
    return blocks


def _theme() -> gr.themes.Base:
    """Returns a theme with the fonts of the reader's machine and colours with a contrast of at least 4.5 to 1."""
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
