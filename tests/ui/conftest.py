"""A small library behind the whole app, for the tests of REST, MCP and the page's routes."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Page, sync_playwright

from configs import settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.store.store import Store
from tests.build import add_document
from tests.ui.browser import CHROMIUM, FLAGS, Server, tab
from ui.service.library import Library, open_library
from ui.service.service import Service
from ui.web.auth import Authentication
from ui.web.server import create_app, server

TIDES = b"%PDF-1.4 tides"
DOC = hashlib.sha256(TIDES).hexdigest()[:16]
GONE = "f" * 16
HOSTILE = "a ${alert(1)} <img src=x onerror=alert(2)> {{b}}.pdf"
SMALL = configs.load_profile("smoke").model_copy(
    update={"ingest": configs.Ingest(max_file_mb=1), "serve": configs.Serve(undo_s=0.3)}
)


def filled(folder: Path) -> str:
    """Creates an index with a document of three pages, whose file exists, and another one, whose file does not."""
    uri, encoder = str(folder / "index.lance"), HashingEncoder()
    store = Store.create(uri, encoder.fingerprint)
    original = folder / "tides.pdf"
    original.write_bytes(TIDES)
    texts = ["tides of the north harbour", "harbour fees", "lamps and oil"]
    add_document(
        store, encoder, "tides.pdf", texts, doc_id=DOC, uri=original.as_uri(), title="Tides", date="2024-03-01",
        tags=("sea", "north"), collection="ports",
    )  # fmt: skip
    hostile = ["${alert(3)} <script>harbour</script> seals"]
    add_document(
        store, encoder, HOSTILE, hostile, doc_id=GONE, source="ocr", scanned_pages=1, date="2021-05-05"
    )
    return uri


def serving(uri: str, settings: configs.Settings = SMALL, samples: Path | None = None) -> Service:
    """Returns an open service that works its jobs off."""
    service = Service(settings, lambda: open_library(uri, settings, samples or Path(uri) / "none"))
    service.open()
    return service


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return filled(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def service(uri: str) -> Iterator[Service]:
    service = serving(uri)
    yield service
    service.close()


@pytest.fixture(scope="module")
def library(service: Service) -> Library:
    return service.library


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(server(service))


def whole(service: Service, guard: Authentication | None = None, host: str = "") -> FastAPI:
    """Returns the app including Gradio's mount."""

    async def make() -> FastAPI:
        return create_app(
            service, guard, host=host
        )  # in a running event loop, Gradio leaves no other one open

    return asyncio.run(make())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A tab of the module's own `server`."""
    with tab(browser, server.url) as opened:
        yield opened.page
