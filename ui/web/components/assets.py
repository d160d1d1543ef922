"""The page's own files: each component is a fixed piece of HTML and an ES module that fills it.

Gradio evaluates the *rendered* template of a `gr.HTML` as a JavaScript template string, so `${...}` in a file name or
in a page's text would be executed, however well its angle brackets are escaped. Therefore templates contain no
placeholders, and the modules draw values as text nodes.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

STATIC = Path(__file__).parent.parent / "static"
FOREVER = "public, max-age=31536000, immutable"
TYPES = {".css": "text/css", ".js": "text/javascript"}


@cache
def read(name: str) -> str:
    """Returns the text of static/`name`."""
    return (STATIC / name).read_text(encoding="utf-8")


@cache
def digest() -> str:
    """Returns one digest of all modules and styles, which import each other: browsers cache files under it forever."""
    files = sorted(path for path in STATIC.iterdir() if path.suffix in TYPES)
    return hashlib.blake2b(b"\0".join(path.read_bytes() for path in files), digest_size=6).hexdigest()


def address(name: str) -> str:
    """Returns the address relative to the page's own, so that it is valid behind a proxy's prefix."""
    return f"folio/{digest()}/{name}"


def component(name: str) -> Any:
    """Returns a `gr.HTML` of static/`name`.html, which the browser passes to `mount` of static/`name`.js."""
    template = read(f"{name}.html")
    if any(sign in template for sign in ("${", "{{", "\\", "`")):
        raise ValueError(
            f"static/{name}.html contains a placeholder or an escape, which JavaScript would evaluate"
        )
    place = address(f"{name}.js")
    return gr.HTML(
        html_template=template,
        js_on_load=f"import(new URL('{place}', document.baseURI)).then((module) => module.mount(element));",
        apply_default_css=False,
        elem_id=name,
    )


def routes() -> APIRouter:
    """Returns the route of the modules and styles."""
    router = APIRouter()
    names = {path.name for path in STATIC.iterdir() if path.suffix in TYPES}

    @router.api_route("/folio/{version}/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    def file(version: str, name: str) -> Response:
        if name not in names:
            return PlainTextResponse("There is no such file.", 404)
        caching = (
            FOREVER if version == digest() else "no-store"
        )  # a page of another version requests other files
        return Response(read(name), media_type=TYPES[Path(name).suffix], headers={"Cache-Control": caching})

    return router
