"""Files of every kind opened and rasterized: PDFs with both renderers, images, and files that are rejected."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from ingest.rasterize.document import open_document, open_with_other_renderer
from retrieval.errors import MissingExtra, UnreadableDocument
from tests.ingest.conftest import raw_pdf

Make = Callable[..., Path]


def _reason(path: Path, **options: object) -> tuple[str, str]:
    with pytest.raises(UnreadableDocument) as caught:
        open_document(path, **options)  # type: ignore[arg-type]
    assert path.name in str(caught.value)
    return caught.value.reason, str(caught.value)


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("first", ["pymupdf", "poppler"])
def test_both_renderers_show_the_same_page(make_pdf: Make, first: str) -> None:
    document = open_document(make_pdf(rotate=90), first=first)  # type: ignore[arg-type]
    assert document.renderer == first
    assert document.size(1) == pytest.approx((842, 595), abs=0.1)
    image = document.render(1, 72, 10**7)
    assert (image.mode, image.size) == ("RGB", (842, 595))
    dark = np.argwhere(np.asarray(image.convert("L")) < 128)
    assert dark[:, 1].min() > 700  # rotated clockwise, the first line runs down at the right
    document.close()


@pytest.mark.parametrize("first", ["pymupdf", "poppler"])
def test_an_encrypted_file_asks_for_its_password_and_opens_with_it(make_pdf: Make, first: str) -> None:
    path = make_pdf(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="harbour", owner_pw="owner")
    assert _reason(path, first=first) == ("encrypted", "made.pdf is encrypted: give its password")
    reason, message = _reason(path, first=first, password="wrong")
    assert reason == "encrypted"
    assert "this password does not open it" in message
    assert open_document(path, first=first, password="harbour").pages == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("zero.pdf", b"", "empty file"),
        ("letter.pdf", b"Dear harbour office,\nplease find enclosed.\n", "not a document"),
        ("noise.pdf", bytes(range(200, 256)) * 10 + b"\x00", "not a document"),
        ("slides.pptx", b"PK\x03\x04" + b"\x00" * 50, "unsupported"),
        ("stump.pdf", b"%PDF-1.7\n1 0 obj\n<< /Type /Cat", "damaged"),
        ("image.png", b"\x89PNG\r\n\x1a\n" + b"\x00" * 40, "damaged"),
    ],
)
def test_a_file_that_is_no_document_is_rejected_with_a_reason(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    assert _reason(_write(tmp_path / name, data))[0] == reason


def test_a_folder_or_a_broken_link_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "folder.pdf").mkdir()
    (tmp_path / "link.pdf").symlink_to(tmp_path / "gone.pdf")
    assert _reason(tmp_path / "folder.pdf")[0] == "unreadable"
    assert _reason(tmp_path / "link.pdf")[0] == "unreadable"


def test_a_pdf_without_pages_is_rejected(tmp_path: Path) -> None:
    assert _reason(_write(tmp_path / "none.pdf", raw_pdf(b"", "null", pages=0)))[0] == "no pages"


def test_a_pdf_with_more_pages_than_the_limit_is_rejected(make_pdf: Make) -> None:
    assert _reason(make_pdf(pages=4), max_pages=3)[0] == "too many pages"
    assert open_document(make_pdf(pages=3), max_pages=3).pages == 3


def test_a_truncated_pdf_is_repaired(make_pdf: Make) -> None:
    path = make_pdf(pages=3)
    path.write_bytes(path.read_bytes()[:-400])
    document = open_document(path)
    assert document.pages == 3
    assert np.asarray(document.render(3, 72, 10**7)).min() < 100


def test_the_other_renderer_finds_the_same_pages(make_pdf: Make) -> None:
    path = make_pdf(pages=2)
    other = open_with_other_renderer(open_document(path), path)
    assert other is not None
    assert (other.renderer, other.pages) == ("poppler", 2)


def test_without_poppler_the_message_names_its_package(
    make_pdf: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_pdf()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtra, match="poppler-utils"):
        open_document(path, first="poppler")
    assert open_document(path, first="pymupdf").renderer == "pymupdf"
    stump = _write(path.with_name("stump.pdf"), b"%PDF-1.7\n")
    reason, message = _reason(stump, first="pymupdf")
    assert reason == "damaged"
    assert "apt install poppler-utils" in message


def test_an_enormous_page_is_rasterized_at_a_lower_resolution(tmp_path: Path) -> None:
    document = pymupdf.open()
    document.new_page(width=14_400, height=14_400)
    document.save(tmp_path / "plan.pdf")
    image = open_document(tmp_path / "plan.pdf").render(1, 150, 1_000_000)
    assert 0.98e6 < image.width * image.height <= 1e6


def test_an_image_over_the_limit_is_rejected_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "plan.png", compress_level=1)
    reason, message = _reason(tmp_path / "plan.png", max_pixels=49_000_000)
    assert reason == "page too large"
    assert "20,000 x 20,000" in message
    assert open_document(tmp_path / "plan.png", max_pixels=50_000_000).pages == 1


def test_a_large_image_is_rasterized_at_a_lower_resolution(tmp_path: Path) -> None:
    Image.new("L", (5_000, 4_000)).save(tmp_path / "plan.png", compress_level=1)
    image = open_document(tmp_path / "plan.png", max_pixels=2_500_000).render(1, 600, 2_500_000)
    assert 2.4e6 < image.width * image.height <= 2.5e6


def test_each_frame_of_a_tiff_is_a_page(tmp_path: Path) -> None:
    frames = [Image.new("L", (100 * k, 200), 60 * k) for k in (1, 2, 3)]
    frames[0].save(tmp_path / "fax.tiff", save_all=True, append_images=frames[1:])
    document = open_document(tmp_path / "fax.tiff")
    assert document.pages == 3
    assert [document.render(n, 150, 10**7).getpixel((5, 5))[0] for n in (3, 1)] == [180, 60]  # type: ignore[index]
    assert document.render(2, 150, 10**7).size == (200, 200)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["tiff", "jpg", "png", "webp"])
def test_the_size_of_an_image_is_that_of_its_rendering_for_every_orientation(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation  # 5 to 8 swap width and height
    Image.new("RGB", (600, 300), "white").save(tmp_path / f"photo.{kind}", exif=exif, dpi=(150, 150))
    document = open_document(tmp_path / f"photo.{kind}")
    upright = (300, 600) if orientation >= 5 else (600, 300)
    assert document.render(1, 150, 10**7).size == upright
    assert document.size(1) == pytest.approx([pixels * 72 / 150 for pixels in upright], rel=1e-3)


def test_each_frame_of_a_tiff_has_its_own_orientation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (600, 300), "white") for _ in range(3)]
    for frame, orientation in zip(frames, (1, 6, 3), strict=True):
        frame.encoderinfo = {"tiffinfo": {274: orientation}}
    frames[0].save(
        tmp_path / "fax.tiff", save_all=True, append_images=frames[1:], dpi=(150, 150), tiffinfo={274: 1}
    )
    document = open_document(tmp_path / "fax.tiff")
    for number, upright in ((1, (600, 300)), (2, (300, 600)), (3, (600, 300))):
        assert document.render(number, 150, 10**7).size == upright
        width, height = document.size(number)
        assert (width > height) == (upright[0] > upright[1])


def test_a_rotated_photograph_is_rendered_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 100), "white")
    image.paste("black", (0, 0, 50, 50))
    exif = Image.Exif()
    exif[274] = 6  # to be rotated clockwise by 90 degrees
    image.save(tmp_path / "photo.jpg", exif=exif)
    document = open_document(tmp_path / "photo.jpg")
    shown = document.render(1, 150, 10**7)
    width, height = document.size(1)
    assert shown.size == (100, 300)
    assert width < height
    assert shown.getpixel((90, 10)) < (60, 60, 60)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "shown"),
    [
        ("CMYK", (0, 255, 255, 0), "jpg", (255, 0, 0)),
        ("RGBA", (255, 0, 0, 0), "png", (255, 255, 255)),
        ("LA", (0, 255), "png", (0, 0, 0)),
        ("I;16", 32_768, "png", (127, 127, 127)),
        ("1", 1, "tif", (255, 255, 255)),
        ("RGB", (0, 0, 255), "webp", (0, 0, 255)),
        ("L", 40, "bmp", (40, 40, 40)),
    ],
)
def test_every_pixel_format_becomes_rgb(
    tmp_path: Path, mode: str, colour: int, suffix: str, shown: tuple[int, int, int]
) -> None:
    path = tmp_path / f"image.{suffix}"
    Image.new(mode, (64, 64), colour).save(path)
    image = open_document(path).render(1, 150, 10**7)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image).astype(int)[32, 32] - shown).max() <= 6


def test_an_image_that_ends_early_is_damaged(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((400, 400), 50).save(file, "PNG")
    path = _write(tmp_path / "cut.png", file.getvalue()[:-20_000])
    with pytest.raises(UnreadableDocument, match=r"cut\.png") as caught:
        open_document(path).render(1, 150, 10**7)
    assert caught.value.reason == "damaged"
