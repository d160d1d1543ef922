"""The page's own files: each component is a fixed piece of HTML and the script that fills it.

Gradio runs the *rendered* template of a `gr.HTML` through JavaScript's template strings, so `${...}` in a
file name or in a page's text would be executed, however well its angle brackets are escaped. Hence the rule
of this page: templates hold no placeholder, and values are drawn by scripts as text nodes.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

STATIC = Path(__file__).parent.parent / "static"


@cache
def read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def digest(name: str) -> str:
    """Changes with the file: browsers may keep what they fetched under it for ever."""
    return hashlib.blake2b(read(name).encode(), digest_size=6).hexdigest()


def component(name: str, value: Any = None, **props: Any) -> Any:
    """A `gr.HTML` of static/`name`.html, filled by static/`name`.js from `value` and `props`."""
    template = read(f"{name}.html")
    if "${" in template or "{{" in template:
        raise ValueError(f"static/{name}.html holds a placeholder: its values would be run as JavaScript")
    return gr.HTML(
        value=value,
        html_template=template,
        js_on_load=read("dom.js") + read(f"{name}.js"),
        apply_default_css=False,
        elem_id=name,
        **props,
    )
