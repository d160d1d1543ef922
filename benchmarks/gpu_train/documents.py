"""Reads PDFs as the product does, without an index: the words of each page, its headings and its document's title."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ingest.rasterize.document import Rasterizer, open_document, title_and_date
from ingest.rasterize.mupdf import MupdfDocument
from ingest.read.page_text import read_page
from retrieval.layout import Layout, runs
from retrieval.reading_lines import ReadingLine, reading_lines
from retrieval.tables import Tables
from retrieval.types import Page, PageContent, Word

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
    rows: tuple[tuple[int, int], ...] = ()
    """The lines as they stand on the page: the first word of each, and the one after its last."""
    lines: tuple[ReadingLine, ...] = ()
    """What the reader reads when it looks for an answer."""

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
        words = _words(document, number)
        headings = find_headings(words)
        if last:
            headings = [Heading(-1, last), *headings]
        if headings:
            last = headings[-1].text
        layout = Layout(words, *document.size(number))
        pages.append(
            ReadPage(
                path.name,
                number,
                title,
                tuple(word.text for word in words),
                tuple(headings),
                tuple((line.first, line.end) for line in layout.lines),
                tuple(reading_lines(Tables(layout))),
            )
        )
    document.close()
    return pages


def read_content(path: Path, number: int) -> PageContent:
    """Returns a page of a PDF, from 1, without its image. Raises UnreadableDocument."""
    document = open_document(path)
    try:
        width, height = document.size(number)
        page = Page("", number, path.name, width, height)
        words = tuple(_words(document, number))
        return PageContent(page, words, "text layer", bytes, title_and_date(document, path)[0])
    finally:
        document.close()


def _words(document: Rasterizer, number: int) -> Sequence[Word]:
    layer = document.page(number) if isinstance(document, MupdfDocument) else None
    return read_page(layer, partial(document.render, number, DPI, MOST_PIXELS), None).words


def find_headings(words: Sequence[Word]) -> list[Heading]:
    """Returns the lines whose words are clearly taller than the page's median word."""
    if not words:
        return []
    median = statistics.median(_height(word) for word in words)
    headings: list[Heading] = []
    for start, end in runs(words):
        line = words[start:end]
        text = " ".join(word.text for word in line)
        tall = statistics.median(_height(word) for word in line) >= TALLER * median
        if tall and len(line) <= HEADING_WORDS and sum(c.isalpha() for c in text) >= 4:
            follows = headings and headings[-1].start + len(headings[-1].text.split()) == start
            if follows and len(headings[-1].text.split()) + len(line) <= HEADING_WORDS:
                start, text = headings[-1].start, f"{headings.pop().text} {text}"
            headings.append(Heading(start, text))
    return headings


def _height(word: Word) -> float:
    return word.box[3] - word.box[1]
