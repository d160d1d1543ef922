"""Both OCR engines on images of known lines: words, boxes, order and rotation."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ingest.ocr.engine import check_ocr, load_ocr
from ingest.ocr.rapid import RapidOcr
from ingest.ocr.result import Ocr, rotated_image
from ingest.ocr.tesseract import Tesseract
from retrieval.errors import MissingExtra
from tests.ingest.conftest import scan

LINES = [
    "The harbour office counted 412 ships",
    "Revenue rose to 12,340 thousand in 2023",
    "Signed by the keeper of the light",
    "No storm was seen before the spring",
]


@pytest.fixture(scope="module")
def rapid() -> RapidOcr:
    return RapidOcr()


@pytest.fixture(params=["rapidocr", "tesseract"])
def engine(request: pytest.FixtureRequest, rapid: RapidOcr) -> Ocr:
    return rapid if request.param == "rapidocr" else Tesseract()


def test_words_come_in_order_with_boxes_on_their_ink(engine: Ocr) -> None:
    image = scan(LINES)
    result = engine.read(image)
    assert [word.text for word in result.words] == " ".join(LINES).split()
    assert result.rotation == 0
    assert result.confidence > 0.9
    ink = np.asarray(image.convert("L")) < 128
    for word in result.words:
        x0, y0, x1, y1 = (round(v * size) for v, size in zip(word.box, image.size * 2, strict=True))
        assert ink[y0:y1, x0:x1].any()
        ink[max(y0 - 4, 0) : y1 + 4, max(x0 - 8, 0) : x1 + 8] = False
    assert ink.mean() < 1e-4  # each word's ink lay in its box, within half a letter


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotated_scan_is_read_as_if_upright_and_its_rotation_is_returned(
    rapid: RapidOcr, rotation: int
) -> None:
    upright = scan(LINES)
    back = {90: 270, 180: 180, 270: 90}[rotation]
    result = rapid.read(rotated_image(upright, back))  # type: ignore[arg-type]
    assert result.rotation == rotation
    assert [word.text for word in result.words] == " ".join(LINES).split()
    assert result.words[0].box[0] < 0.1


def test_tesseract_reads_an_upside_down_scan() -> None:
    result = Tesseract().read(rotated_image(scan(LINES), 180))
    assert result.rotation == 180
    assert "harbour" in [word.text for word in result.words]


def test_lines_under_the_skipped_boxes_are_not_read(engine: Ocr) -> None:
    words = [word.text for word in engine.read(scan(LINES), skip=[(0.0, 0.0, 1.0, 0.13)]).words]
    assert words == " ".join(LINES[1:]).split()


def test_the_vertical_label_of_an_axis_is_read(rapid: RapidOcr) -> None:
    image = scan(LINES)
    label = scan(["Tonnes landed"], (700, 200)).crop((60, 60, 360, 140)).rotate(90, expand=True)
    image.paste(label, (1050, 400))
    result = rapid.read(image)
    boxes = {word.text: word.box for word in result.words}
    assert result.rotation == 0
    assert boxes["landed"][3] < boxes["Tonnes"][3]  # it runs upwards


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (2_000, 3), (700, 500)])
def test_an_image_without_text_has_no_words(engine: Ocr, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).line((0, 0, *size), fill="grey")
    assert engine.read(image).words == ()


def test_off_loads_no_engine() -> None:
    assert load_ocr("off") is None


def test_the_message_about_a_missing_engine_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtra, match="apt install tesseract-ocr"):
        check_ocr("tesseract")
    check_ocr("rapidocr")
