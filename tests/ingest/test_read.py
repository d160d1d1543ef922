"""Words of pages made here: text layers, pictures, scans, garbled fonts and reading order."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from PIL import Image

from ingest.ocr.reading_order import reading_order
from ingest.ocr.result import OcrResult
from ingest.rasterize.mupdf import MupdfDocument
from ingest.read.page_text import PageText, read_page
from ingest.read.sanity import is_garbled
from retrieval.types import Box, Word
from tests.ingest.conftest import PROSE, scan


class RecordingOcr:
    """An engine that records the size of each image and the number of boxes to skip."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[int, int], int]] = []

    def read(self, image: Image.Image, *, skip: Any = (), rotate: bool = True) -> OcrResult:
        self.calls.append((image.size, len(skip)))
        return OcrResult(tuple(Word(f"read{k}", (0.1, 0.1, 0.2, 0.2)) for k in range(20)), 0, 0.9)


def _read(document: Any, path: Path, ocr: RecordingOcr | None = None) -> tuple[PageText, Image.Image]:
    document.save(path)
    opened = MupdfDocument(path)
    image = opened.render(1, 100, 10**7)
    return read_page(opened.page(1), lambda: image, ocr), image


def _prose(page: Any, count: int = 60, **options: Any) -> None:
    text = " ".join(PROSE * 4).split()[:count]
    assert page.insert_textbox((60, 60, 540, 500), " ".join(text), fontsize=12, **options) > 0


def _shifted(character: str) -> str:
    """Replace a letter by another one, as a font without its character table does."""
    return chr((ord(character) - ord("a") + 3) % 26 + ord("a")) if "a" <= character <= "z" else character


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
def test_word_boxes_lie_on_the_ink_of_the_page_as_displayed(tmp_path: Path, rotate: int) -> None:
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_text((72, 100), "Harbour", fontsize=30)
    page.insert_text((400, 700), "12,340", fontsize=30)
    page.set_cropbox((20, 30, 590, 800))
    page.set_rotation(rotate)
    text, image = _read(document, tmp_path / "a.pdf")
    ink = np.asarray(image.convert("L")) < 128
    assert [word.text for word in text.words] == ["Harbour", "12,340"]
    for word in text.words:
        x0, y0, x1, y1 = (round(v * size) for v, size in zip(word.box, image.size * 2, strict=True))
        assert ink[y0:y1, x0:x1].sum() > 0.45 * ink.sum()
        ink[y0:y1, x0:x1] = False
    assert ink.sum() == 0


def test_two_columns_of_a_text_layer_are_read_one_after_the_other(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_textbox((60, 100, 280, 700), " ".join(PROSE * 2), fontsize=11)
    page.insert_textbox((310, 100, 530, 700), " ".join(PROSE), fontsize=11)
    text, _ = _read(document, tmp_path / "a.pdf")
    assert [word.text for word in text.words] == PROSE * 3
    assert [word.box[0] < 0.5 for word in text.words] == [True] * 2 * len(PROSE) + [False] * len(PROSE)


def test_text_that_no_reader_can_see_is_dropped(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    _prose(page)
    page.insert_text((72, 600), "white", color=(1, 1, 1))
    page.draw_rect((60, 640, 300, 680), fill=(0, 0, 0.4))
    page.insert_text((72, 666), "heading", color=(1, 1, 1), fontsize=16)
    page.insert_text((72, 720), "tiny", fontsize=0.5)
    page.insert_text((700, 300), "outside")
    page.insert_text((72, 750), "keywords", render_mode=3)
    words = [word.text for word in _read(document, tmp_path / "a.pdf")[0].words]
    assert words[60:] == ["heading"]


def test_the_invisible_layer_of_a_scan_is_kept(tmp_path: Path) -> None:
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_image(page.rect, stream=_png(Image.effect_noise((300, 400), 90)))
    _prose(page, render_mode=3)
    engine = RecordingOcr()
    text, _ = _read(document, tmp_path / "a.pdf", engine)
    assert text.source == "text layer"
    assert [word.text for word in text.words][:3] == PROSE[:3]


@pytest.mark.parametrize(
    ("words", "garbled"),
    [
        (PROSE, False),
        (["\ufffd\ufffd\ufffd", "harbour", "office"], True),
        (["\ue001\ue002", "\ue003\ue004\ue005", "x"], True),
        (["(cid:12)(cid:44)", "(cid:3)"], True),
        (["".join(map(_shifted, word)) for word in PROSE], True),
        (["Všechna", "rozhodnutí", "správní", "rady", "Škoda", "Auto", "jsou", "zveřejněna"] * 5, False),
        (["港口", "办公室", "报告"], False),
        (["4,120", "12%", "3.1"], False),
        ([], False),
    ],
)
def test_a_layer_is_garbled_if_it_is_no_language(words: list[str], garbled: bool) -> None:
    assert is_garbled(words) == garbled


def test_a_garbled_layer_is_replaced_by_ocr_or_dropped_without_it(tmp_path: Path) -> None:
    document = pymupdf.open()
    _prose(document.new_page())
    text = " ".join("".join(map(_shifted, word)) for word in PROSE)
    document.new_page(pno=0).insert_textbox((60, 60, 540, 500), text)
    engine = RecordingOcr()
    assert _read(document, tmp_path / "a.pdf", engine)[0].source == "ocr"
    assert _read(document, tmp_path / "b.pdf")[0] == PageText((), "none")


def test_a_page_that_is_a_picture_goes_to_ocr_and_a_blank_one_does_not(tmp_path: Path) -> None:
    engine = RecordingOcr()
    document = pymupdf.open()
    page = document.new_page(width=595, height=842)
    page.insert_text((290, 820), "7")
    assert _read(document, tmp_path / "blank.pdf", engine)[0].source == "text layer"
    assert engine.calls == []
    page.insert_image(page.rect, stream=_png(scan(["a line of the scan"] * 8)))
    assert _read(document, tmp_path / "scan.pdf", engine)[0].source == "ocr"
    assert len(engine.calls) == 1


def test_on_a_page_with_text_ocr_reads_only_the_picture_and_its_words_lie_in_it(tmp_path: Path) -> None:
    engine = RecordingOcr()
    document = pymupdf.open()
    page = document.new_page(width=600, height=800)
    _prose(page)
    chart = scan(["Tonnes landed", "4,120", "3,870"], (600, 400))
    page.insert_image((150, 500, 450, 700), stream=_png(chart))
    page.insert_image((20, 20, 60, 60), stream=_png(chart))  # a logo
    page.insert_text((160, 520), "known")  # a word of the layer that lies on the picture
    text, image = _read(document, tmp_path / "a.pdf", engine)
    (size, skipped), *more = engine.calls
    assert (more, skipped) == ([], 1)
    assert size == pytest.approx((image.width / 2, image.height / 4), abs=2)
    assert text.source == "text layer"
    in_picture = (0.3, 0.65, 0.35, 0.675)  # (0.1, 0.1, 0.2, 0.2) of the picture
    assert text.words[-1].box == pytest.approx(in_picture)


def _column(x0: float, x1: float, top: float, lines: int) -> list[Box]:
    return [(x0, top + 0.03 * k, x1, top + 0.03 * k + 0.02) for k in range(lines)]


@pytest.mark.parametrize("shift", [0.0, 0.012])
def test_lines_of_columns_are_read_down_each_column_between_headings(shift: float) -> None:
    heading, left, right = (
        (0.1, 0.05, 0.9, 0.08),
        _column(0.1, 0.48, 0.1, 10),
        _column(0.52, 0.9, 0.1 + shift, 10),
    )
    wide = (0.1, 0.5, 0.9, 0.53)
    below = _column(0.1, 0.48, 0.6, 4) + _column(0.52, 0.9, 0.6 + shift, 4)
    expected = [heading, *left, *right, wide, *below]
    mixed = sorted(expected, key=lambda box: (box[3], box[0]))
    assert [mixed[i] for i in reading_order(mixed)] == expected


def test_a_table_is_read_row_by_row() -> None:
    rows = [
        (x0, 0.1 + 0.03 * k, x1, 0.12 + 0.03 * k)
        for k in range(8)
        for x0, x1 in [(0.1, 0.3), (0.5, 0.58), (0.7, 0.78)]
    ]
    assert reading_order(rows) == list(range(24))


def test_the_order_of_no_lines_is_empty() -> None:
    assert reading_order([]) == []


def test_the_image_is_not_rendered_if_the_layer_suffices(
    make_pdf: Callable[..., Path], tmp_path: Path
) -> None:
    document = pymupdf.open()
    _prose(document.new_page())
    document.save(tmp_path / "a.pdf")

    def refuse() -> Image.Image:
        raise AssertionError("rendered")

    assert len(read_page(MupdfDocument(tmp_path / "a.pdf").page(1), refuse, RecordingOcr()).words) == 60
