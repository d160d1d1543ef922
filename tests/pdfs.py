"""Makes small real PDFs for tests."""

from collections.abc import Sequence
from pathlib import Path

import pymupdf


def make_pdf(path: Path, pages: Sequence[str], **save: object) -> Path:
    """Write a born-digital PDF whose pages have these lines of text, in 12 pt from (72, 72); returns `path`."""
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
    """Return a page of words on a topic, enough that the text layer does not count as nearly empty."""
    return "\n".join(
        f"{topic} paragraph {n} says something of {topic} and of its use in the works" for n in range(12)
    )
