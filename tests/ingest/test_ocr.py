import numpy as np
import pytest
from PIL import Image, ImageDraw

from ingest.ocr.engine import check_ocr, load_ocr
from ingest.ocr.rapid import RapidOcr
from ingest.ocr.result import Ocr, turned_image
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
    reading = engine.read(image)
    assert [word.text for word in reading.words] == " ".join(LINES).split()
    assert reading.turn == 0
    assert reading.confidence > 0.9
    ink = np.asarray(image.convert("L")) < 128
    for word in reading.words:
        x0, y0, x1, y1 = (round(v * size) for v, size in zip(word.box, image.size * 2, strict=True))
        assert ink[y0:y1, x0:x1].any()
        ink[max(y0 - 4, 0) : y1 + 4, max(x0 - 8, 0) : x1 + 8] = False
    assert ink.mean() < 1e-4  # every word's ink lay in its box, give or take half a letter


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_scan_is_read_as_if_upright_and_says_how_to_turn_it(rapid: RapidOcr, turn: int) -> None:
    upright = scan(LINES)
    back = {90: 270, 180: 180, 270: 90}[turn]
    reading = rapid.read(turned_image(upright, back))  # type: ignore[arg-type]
    assert reading.turn == turn
    assert [word.text for word in reading.words] == " ".join(LINES).split()
    assert reading.words[0].box[0] < 0.1


def test_tesseract_reads_a_scan_that_stands_on_its_head() -> None:
    reading = Tesseract().read(turned_image(scan(LINES), 180))
    assert reading.turn == 180
    assert "harbour" in [word.text for word in reading.words]


def test_lines_that_are_known_are_not_read(engine: Ocr) -> None:
    words = [word.text for word in engine.read(scan(LINES), skip=[(0.0, 0.0, 1.0, 0.13)]).words]
    assert words == " ".join(LINES[1:]).split()


def test_the_label_of_an_axis_is_read(rapid: RapidOcr) -> None:
    image = scan(LINES)
    label = scan(["Tonnes landed"], (700, 200)).crop((60, 60, 360, 140)).rotate(90, expand=True)
    image.paste(label, (1050, 400))
    reading = rapid.read(image)
    boxes = {word.text: word.box for word in reading.words}
    assert reading.turn == 0
    assert boxes["landed"][3] < boxes["Tonnes"][3]  # it runs upwards


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (2_000, 3), (700, 500)])
def test_an_image_without_text_has_no_words(engine: Ocr, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).line((0, 0, *size), fill="grey")
    assert engine.read(image).words == ()


def test_off_has_no_engine() -> None:
    assert load_ocr("off") is None


def test_a_missing_engine_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtra, match="apt install tesseract-ocr"):
        check_ocr("tesseract")
    check_ocr("rapidocr")
