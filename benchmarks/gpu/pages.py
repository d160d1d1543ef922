"""Draws pages like those of reports: 16 A4 pages at 150 dpi, of which every second one looks like a scan.

A page has a heading, paragraphs, and a table or a bar chart, on white paper, so that decoding and resizing it cost what
they cost for real pages. They are drawn once; who needs more pages gets them again under other names.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from retrieval.types import Page, PageContent

DRAWN = 16
A4, SMALL = (1240, 1754), (310, 438)  # pixels, at 150 and 37 dpi
TEXT = """revenue region quarter margin water pressure annual report table measured capacity transport energy budget
of the and in to by for with per cent million households station harbour compared previous year average"""
WORDS = TEXT.split()


def pages(count: int, small: bool = False) -> list[PageContent]:
    """Returns pages with images, every second one a scan. small: of a sixteenth of the pixels."""
    return [
        PageContent(Page(f"page{k}", k + 1, "made.pdf"), (), "none", partial(image_bytes, k % DRAWN, small))
        for k in range(count)
    ]


def draw_all(small: bool = False) -> None:
    """Draws all pages, so that no measurement waits for one."""
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda number: image_bytes(number, small), range(DRAWN)))


@cache
def image_bytes(number: int, small: bool) -> bytes:
    """Returns the page as WebP, with the settings of ingest."""
    image = draw(number, SMALL if small else A4)
    buffer = BytesIO()
    image.save(buffer, "WEBP", quality=80, method=2)
    return buffer.getvalue()


def draw(number: int, size: tuple[int, int]) -> Image.Image:
    """Returns the page of this number; odd ones are scans."""
    rng = np.random.default_rng(number)
    width, height = size
    unit = width / 100
    page = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(page)
    text, heading = ImageFont.load_default(1.7 * unit), ImageFont.load_default(3.2 * unit)
    pen.text((10 * unit, 8 * unit), " ".join(rng.choice(WORDS, 4)).capitalize(), "black", heading)
    y = 15 * unit
    while y < height * 0.55:
        pen.text((10 * unit, y), " ".join(rng.choice(WORDS, 13)), "black", text)
        y += 2.6 * unit * (2 if rng.random() < 0.12 else 1)
    (_table if number % 4 < 2 else _chart)(pen, rng, unit, y + 3 * unit, height - 12 * unit)
    pen.text((48 * unit, height - 7 * unit), str(number + 1), "black", text)
    return _scanned(page, rng) if number % 2 else page


def _table(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, unit: float, top: float, bottom: float
) -> None:
    font = ImageFont.load_default(1.6 * unit)
    row = (bottom - top) / 12
    for r in range(12):
        y = top + r * row
        pen.line((10 * unit, y, 90 * unit, y), fill=(120, 120, 120), width=max(1, int(unit / 8)))
        pen.text((11 * unit, y + row / 5), " ".join(rng.choice(WORDS, 2)), "black", font)
        for column in range(4):
            pen.text(((45 + 12 * column) * unit, y + row / 5), f"{rng.integers(10, 99_999):,}", "black", font)


def _chart(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, unit: float, top: float, bottom: float
) -> None:
    font = ImageFont.load_default(1.6 * unit)
    for k in range(6):
        x, tall = (12 + 13 * k) * unit, rng.uniform(0.2, 0.9) * (bottom - top)
        colour = (40 + 30 * k, 90, 160 - 15 * k)
        pen.rectangle((x, bottom - tall, x + 8 * unit, bottom), fill=colour)
        pen.text((x, bottom - tall - 2.5 * unit), f"{rng.integers(10, 999)}", "black", font)
        pen.text((x, bottom + unit / 2), str(rng.choice(WORDS))[:8], "black", font)


def _scanned(page: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns the page a little turned and blurred, on yellowish paper with the noise of a scanner."""
    turned = page.rotate(rng.uniform(-0.8, 0.8), Image.Resampling.BILINEAR, fillcolor="white")
    soft = np.asarray(turned.filter(ImageFilter.GaussianBlur(0.6)), np.float32)
    noise = rng.normal(0, 3, soft.shape[:2])[..., None]
    return Image.fromarray((soft * (0.97, 0.96, 0.92) + noise).clip(0, 255).astype(np.uint8))
