"""Small real PDFs made in tests."""

from collections.abc import Sequence
from pathlib import Path

import pymupdf


def make_pdf(path: Path, pages: Sequence[str], **save: object) -> Path:
    """A born-digital PDF with one line of text for each line of each page, 12 pt, from (72, 72)."""
    document = pymupdf.open()
    for text in pages:
        page = document.new_page(width=595, height=842)
        for line, content in enumerate(text.split("\n")):
            page.insert_text((72, 72 + 20 * line), content, fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path, **save)
    document.close()
    return path


def filler(topic: str) -> str:
    """A page's worth of words on a topic, so that it counts as text and not as a near-empty layer."""
    return "\n".join(
        f"{topic} paragraph {n} says something of {topic} and of its use in the works" for n in range(12)
    )
