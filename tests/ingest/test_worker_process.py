"""A worker called in this process: if one renderer fails on a page, the other one renders it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import configs.settings as configs
from ingest.rasterize.mupdf import MupdfDocument
from ingest.workers.messages import Chunk, FailedPage, PreparedPage, Task
from ingest.workers.worker import _Worker
from retrieval.errors import UnreadableDocument
from tests.ingest.conftest import source


def prepared_events(path: Path, **settings: Any) -> list[Any]:
    worker = _Worker(configs.Ingest(dpi=40, ocr="off", **settings))
    return list(worker.prepare(Chunk(1, Task(source(path)), 1, 0)))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes PyMuPDF fail to render page 2 of any document."""
    render = MupdfDocument.render

    def fail_on_two(self: MupdfDocument, number: int, dpi: int, max_pixels: int) -> Image.Image:
        if number == 2:
            raise UnreadableDocument("damaged", "page 2 cannot be rendered (as the test says)")
        return render(self, number, dpi, max_pixels)

    monkeypatch.setattr(MupdfDocument, "render", fail_on_two)


def test_a_page_that_pymupdf_cannot_render_is_rendered_by_poppler(
    failing: None, make_pdf: Callable[..., Path]
) -> None:
    pages = [event for event in prepared_events(make_pdf(pages=3)) if isinstance(event, PreparedPage)]
    assert [page.number for page in pages] == [1, 2, 3]
    assert [page.words[1].text for page in pages] == ["1", "2", "3"]
    assert len({len(page.image) > 100 for page in pages}) == 1


def test_without_poppler_only_that_page_fails(
    failing: None, make_pdf: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_pdf(pages=3)
    monkeypatch.setenv("PATH", "")
    events = prepared_events(path)
    assert [e.number for e in events if isinstance(e, PreparedPage)] == [1, 3]
    assert [(e.number, e.message) for e in events if isinstance(e, FailedPage)] == [
        (2, "page 2 cannot be rendered (as the test says)")
    ]


def test_rendering_with_poppler_first_gives_the_same_words(make_pdf: Callable[..., Path]) -> None:
    by_mupdf = [e for e in prepared_events(make_pdf(pages=2)) if isinstance(e, PreparedPage)]
    by_poppler = [
        e for e in prepared_events(make_pdf(pages=2), renderer="poppler") if isinstance(e, PreparedPage)
    ]
    assert [page.words for page in by_poppler] == [page.words for page in by_mupdf]
    assert by_poppler[0].image != by_mupdf[0].image
