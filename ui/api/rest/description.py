"""Describes the REST API: at `/openapi.json` for programs, at `/docs` for people.

FastAPI's own page loads Swagger UI from another host. This page is plain HTML without scripts, so that it works on a
network without internet and under the strictest content security policy.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse, Response

VERSION = "1"
PREFIX = "/api/v1"
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font-family: ui-monospace, monospace; font-size: .875rem }
pre { overflow-x: auto; border: 1px solid #8886; border-radius: 4px; padding: .5rem }
section { border-top: 1px solid #8886; margin-top: 1.5rem }
h3 { margin-bottom: 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8883 }
"""
Schema = Mapping[str, Any]


def routes(app: FastAPI) -> APIRouter:
    """Return the routes that describe `app`'s routes under PREFIX; the description is made on the first request."""
    router = APIRouter(include_in_schema=False)

    @cache
    def described() -> dict[str, Any]:
        description = get_openapi(
            title="Folioscope",
            version=VERSION,
            description="Finds the page that answers a question: in PDFs, scans, tables and charts.",
            routes=app.routes,
        )
        paths = {path: item for path, item in description["paths"].items() if path.startswith(f"{PREFIX}/")}
        return {**description, "paths": paths}

    @router.get("/openapi.json")
    @router.get(f"{PREFIX}/openapi.json")
    def openapi() -> JSONResponse:
        return JSONResponse(described())

    @router.get("/docs")
    def docs() -> Response:
        return HTMLResponse(page(described()), headers={"Content-Security-Policy": POLICY})

    return router


def page(description: Schema) -> str:
    """Return an OpenAPI description as one HTML page: each route with parameters, body and answers, and each schema."""
    info = description["info"]
    title = escape(f"{info['title']} REST API, version {info['version']}")
    operations = [
        (method.upper(), path, operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
    ]
    schemas = description.get("components", {}).get("schemas", {})
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><h1>{title}</h1>',
        f"<p>{escape(info.get('description', ''))}</p>",
        '<p>For programs: <a href="openapi.json">openapi.json</a>. Behind a login, send the token: '
        "<code>Authorization: Bearer TOKEN</code>.</p><h2>Addresses</h2><ul>",
        *(
            f'<li><a href="#{_anchor(method, path)}"><code>{method} {escape(path)}</code></a></li>'
            for method, path, _ in operations
        ),
        "</ul>",
        *(text for each in operations for text in _operation(*each)),
        "<h2>Schemas</h2>",
        *(text for name, schema in schemas.items() for text in _schema(name, schema)),
        "</html>",
    ]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Schema) -> Iterator[str]:
    yield f'<section id="{_anchor(method, path)}"><h3><code>{method} {escape(path)}</code></h3>'
    yield f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>"
    if parameters := operation.get("parameters"):
        yield "<table><tr><th>Parameter</th><th>In</th><th>Type</th><th>Meaning</th></tr>"
        for parameter in parameters:
            name = f"{parameter['name']}{' (required)' if parameter.get('required') else ''}"
            meaning = parameter.get("description") or parameter["schema"].get("description", "")
            yield f"<tr><td><code>{escape(name)}</code></td><td>{escape(parameter['in'])}</td>"
            yield f"<td>{_type(parameter['schema'])}</td><td>{escape(meaning)}</td></tr>"
        yield "</table>"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{escape(kind)}</code> {_type(content.get('schema', {}))}</p>"
    yield "<table><tr><th>Status</th><th>Answer</th><th></th></tr>"
    for status, answer in operation["responses"].items():
        kinds = ", ".join(
            f"<code>{escape(kind)}</code> {_type(content.get('schema', {}))}"
            for kind, content in answer.get("content", {}).items()
        )
        yield f"<tr><td>{escape(status)}</td><td>{escape(answer['description'])}</td><td>{kinds}</td></tr>"
    yield "</table></section>"


def _schema(name: str, schema: Schema) -> Iterator[str]:
    yield f'<section id="{escape(name)}"><h3><code>{escape(name)}</code></h3>'
    yield f"<p>{escape(schema.get('description', ''))}</p><table>"
    required = schema.get("required", ())
    for field, value in schema.get("properties", {}).items():
        label = f"{field}{' (required)' if field in required else ''}"
        yield f"<tr><td><code>{escape(label)}</code></td><td>{_type(value)}</td>"
        yield f"<td>{escape(value.get('description', ''))}</td></tr>"
    yield "</table></section>"


def _type(schema: Schema) -> str:
    """Return a schema's type in a few words, as HTML; with a link if the schema has a name."""
    if reference := schema.get("$ref"):
        name = escape(reference.rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    if any_of := schema.get("anyOf"):
        return " or ".join(map(_type, any_of))
    if values := schema.get("enum"):
        return " or ".join(f"<code>{escape(json.dumps(value))}</code>" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    bounds = {
        "minimum": "from",
        "maximum": "to",
        "minLength": "min. length",
        "maxLength": "max. length",
        "default": "default",
    }
    bounds_text = [
        f"{word} {json.dumps(schema[key])}"
        for key, word in bounds.items()
        if schema.get(key) not in (None, "")
    ]
    return escape(", ".join([schema.get("type", ""), *bounds_text]).strip(", "))


def _anchor(method: str, path: str) -> str:
    return escape(f"{method}{path}")
