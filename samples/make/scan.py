"""Makes a born-digital page look as if it had been printed, stamped on and scanned.

It imitates a scanner: the sheet lies askew, the optics blur, the lamp lights the sheet unevenly, the spine darkens the
left edge, the sensor adds noise, and dust and dirt on the glass show. Every page has its own seed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
from PIL import Image, ImageFilter
from reportlab.pdfgen.canvas import Canvas

DPI = 200
SCRIPT = {"B": "ℬ", "E": "ℰ", "F": "ℱ", "H": "ℋ", "I": "ℐ", "L": "ℒ", "M": "ℳ", "R": "ℛ",
          "e": "ℯ", "g": "ℊ", "o": "ℴ"}  # fmt: skip


def render(pdf: Path, page: int) -> Image.Image:
    """Return the page (numbered from 0) as a grey image at 200 dpi."""
    with pymupdf.open(pdf) as document:
        pixmap = document[page].get_pixmap(dpi=DPI, colorspace=pymupdf.csGRAY)
        return Image.frombytes("L", (pixmap.width, pixmap.height), pixmap.samples)


def scan(page: Image.Image, seed: int, skew: float, noise: float = 4.0) -> Image.Image:
    """Return the page as a scan, in grey. `skew` is in degrees, counter-clockwise; `noise` in grey values."""
    rng = np.random.default_rng(seed)
    page = page.rotate(skew, resample=Image.Resampling.BICUBIC, fillcolor=226)
    page = page.filter(ImageFilter.GaussianBlur(0.75))
    grey = np.asarray(page, dtype=np.float32)
    height, width = grey.shape
    down, along = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j].astype(np.float32)
    tilt = rng.uniform(-14, 14, 2)
    lamp = 236 + tilt[0] * (along - 0.5) + tilt[1] * (down - 0.5) - 10 * (2 * along - 1) ** 4
    ink = 38.0
    grey = ink + (lamp - ink) * (grey / 255)
    grey -= 70 * np.exp(-along * width / rng.uniform(6, 16))  # the spine, on the left
    coarse = rng.normal(0, noise, (height // 2 + 1, width // 2 + 1)).astype(np.float32)
    grey += np.kron(coarse, np.ones((2, 2), np.float32))[:height, :width]
    for _ in range(int(rng.integers(25, 60))):  # dust
        y, x, r = int(rng.integers(3, height - 6)), int(rng.integers(3, width - 6)), int(rng.integers(1, 4))
        grey[y : y + r, x : x + r] -= rng.uniform(40, 130)
    if rng.random() < 0.5:  # a dirty spot on the glass leaves a streak
        x = int(rng.integers(width // 8, width * 7 // 8))
        grey[:, x : x + 2] -= rng.uniform(8, 20)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def fax(page: Image.Image, seed: int, skew: float) -> Image.Image:
    """Return the page as a scan in black and white, with the speckle that a threshold makes."""
    grey = scan(page, seed, skew, noise=9.0)
    return grey.point(lambda value: 255 if value > 150 else 0).convert("1", dither=Image.Dither.NONE)


def jpeg(page: Image.Image, quality: int = 45) -> io.BytesIO:
    """Compress the page, with its resolution in the file."""
    buffer = io.BytesIO()
    page.save(buffer, format="jpeg", quality=quality, dpi=(DPI, DPI))
    buffer.seek(0)
    return buffer


def write_scans(path: Path, pages: Sequence[Image.Image], title: str) -> None:
    """Write a PDF of page images without a text layer."""
    document = pymupdf.open()
    for image in pages:
        width, height = image.width * 72 / DPI, image.height * 72 / DPI
        page = document.new_page(width=width, height=height)
        page.insert_image(page.rect, stream=jpeg(image).getvalue())
    document.set_metadata({"title": title, "producer": "Office scanner"})
    document.save(path, deflate=True, garbage=3, no_new_id=True)
    document.close()


def hand(canvas: Canvas, x: float, y: float, words: str, size: float = 15, seed: int = 0) -> None:
    """Write words as if by hand with a pen: in script letters, none of them exactly on the line."""
    rng = np.random.default_rng([seed, len(words)])
    lean = rng.uniform(-0.6, 1.6)
    canvas.setFillGray(0.16)
    for letter in words:
        canvas.saveState()
        canvas.translate(x, y + rng.normal(0, 0.35))
        canvas.rotate(lean + rng.normal(0, 1.6))
        script = SCRIPT.get(letter, letter)
        if script == letter and letter.isascii() and letter.isalpha():
            script = chr((0x1D49C + ord(letter) - 65) if letter.isupper() else (0x1D4B6 + ord(letter) - 97))
        canvas.setFont("Stix-Italic", size * rng.uniform(0.96, 1.05))
        canvas.drawString(0, 0, script)
        canvas.restoreState()
        x += canvas.stringWidth(script, "Stix-Italic", size) * 1.0 + 0.25


def signature(canvas: Canvas, x: float, y: float, seed: int, wide: float = 110) -> None:
    """Draw loops of a pen in a box of `wide` x 30 points; each seed is another person's signature."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(2.2, 5.2, 3)
    path: Any = canvas.beginPath()
    for i in range(160):
        t = i / 159
        px = x + wide * (t * 0.82 + 0.09 * math.sin(2 * math.pi * a * t))
        py = y + 13 + (13 - 9 * t) * math.sin(2 * math.pi * b * t + c) + 4 * math.cos(9 * c * t)
        (path.lineTo if i else path.moveTo)(px, py)
    canvas.setStrokeGray(0.15)
    canvas.setLineWidth(1.1)
    canvas.drawPath(path)
