"""Reads PDFs as the product does, without an index: the words of each page, its headings and its document's title."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ingest.rasterize.document import open_document, title_and_date
from ingest.rasterize.mupdf import MupdfDocument
from ingest.read.page_text import read_page
from retrieval.types import Word

DPI = 72
"""Dots per inch at which light text is looked at, to find out whether a reader sees it."""
MOST_PIXELS = 4_000_000
TALLER = 1.2
"""A line is a heading if its words are at least this many times as tall as the page's median word."""
HEADING_WORDS = 14


@dataclass(frozen=True, slots=True)
class Heading:
    """A line in large print, which starts at the page's word number `start` (from 0)."""

    start: int
    text: str


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page's words in reading order, and the headings of the text on it, in their order."""

    document: str  # the file's name
    number: int  # from 1
    title: str
    words: tuple[str, ...]
    headings: tuple[Heading, ...]
    """The first may come from an earlier page: then it starts at word -1."""

    def heading_at(self, word: int) -> str:
        """Returns the nearest heading above this word (from 0); "" if there is none."""
        above = [heading for heading in self.headings if heading.start < word]
        return above[-1].text if above else ""


def read_document(path: Path) -> list[ReadPage]:
    """Returns the pages of a PDF. Raises UnreadableDocument."""
    document = open_document(path)
    title, _ = title_and_date(document, path)
    pages: list[ReadPage] = []
    last = ""
    for number in range(1, document.pages + 1):
        layer = document.page(number) if isinstance(document, MupdfDocument) else None
        words = read_page(layer, partial(document.render, number, DPI, MOST_PIXELS), None).words
        headings = find_headings(words)
        if last:
            headings = [Heading(-1, last), *headings]
        if headings:
            last = headings[-1].text
        pages.append(ReadPage(path.name, number, title, tuple(w.text for w in words), tuple(headings)))
    document.close()
    return pages


def find_headings(words: Sequence[Word]) -> list[Heading]:
    """Returns the lines whose words are clearly taller than the page's median word."""
    if not words:
        return []
    median = statistics.median(_height(word) for word in words)
    headings: list[Heading] = []
    for start, line in _lines(words):
        text = " ".join(word.text for word in line)
        tall = statistics.median(_height(word) for word in line) >= TALLER * median
        if tall and len(line) <= HEADING_WORDS and sum(c.isalpha() for c in text) >= 4:
            follows = headings and headings[-1].start + len(headings[-1].text.split()) == start
            if follows and len(headings[-1].text.split()) + len(line) <= HEADING_WORDS:
                start, text = headings[-1].start, f"{headings.pop().text} {text}"
            headings.append(Heading(start, text))
    return headings


def _lines(words: Sequence[Word]) -> Iterator[tuple[int, list[Word]]]:
    """Yields runs of words that stand beside each other, with the number of the first one (from 0)."""
    line: list[Word] = []
    for i, word in enumerate(words):
        if line and (_beside(line[-1], word) < 0.5 or word.box[0] < line[-1].box[0]):
            yield i - len(line), line
            line = []
        line.append(word)
    if line:
        yield len(words) - len(line), line


def _beside(word: Word, following: Word) -> float:
    """Returns the share of the lower word's height in which both words overlap vertically."""
    overlap = min(word.box[3], following.box[3]) - max(word.box[1], following.box[1])
    return overlap / max(min(_height(word), _height(following)), 1e-6)


def _height(word: Word) -> float:
    return word.box[3] - word.box[1]
