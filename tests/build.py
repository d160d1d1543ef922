"""Builds small indexes for tests: documents whose pages are lines of text."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

from PIL import Image

from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.types import Document, Encoder, Page, PageContent, TextSource, Word

ADDED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def webp() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (60, 80), "white").save(buffer, "WEBP")
    return buffer.getvalue()


def words_of(text: str) -> tuple[Word, ...]:
    """Return the words with boxes on lines 2% of the page high; each word is 8% wide, the first one starts at 10%."""
    return tuple(
        Word(word, (0.1 + 0.09 * i, 0.1 + 0.03 * line, 0.18 + 0.09 * i, 0.12 + 0.03 * line))
        for line, words in enumerate(text.split("\n"))
        for i, word in enumerate(words.split())
    )


def content(
    text: str, name: str = "a.pdf", number: int = 1, source: TextSource = "text layer", title: str = ""
) -> PageContent:
    page = Page(name.partition(".")[0], number, name, 612, 792)
    return PageContent(page, words_of(text), source, webp, title)


def add_document(
    store: Store,
    encoder: Encoder,
    name: str,
    pages: Sequence[str],
    *,
    uri: str = "",
    doc_id: str = "",
    source: TextSource = "text layer",
    **facts: object,
) -> Document:
    """Write a document with these pages to the store; `facts` are fields of Document."""
    doc_id = doc_id or name.partition(".")[0]
    fields = {"added_at": ADDED, **facts}
    document = Document(doc_id, name, uri or f"file:///{name}", len(pages), **fields)  # type: ignore[arg-type]
    pending = store.begin_document(doc_id)
    contents = [content(text, name, number, source) for number, text in enumerate(pages, start=1)]
    contents = [
        PageContent(Page(doc_id, c.page.number, name, 612, 792), c.words, c.source, c.read_image)
        for c in contents
    ]
    embeddings = encoder.encode_pages(contents)
    pending.add(
        [
            PageRecord(c.page, c.words, c.source, document.title, e, webp(), b"thumbnail")
            for c, e in zip(contents, embeddings, strict=True)
        ]
    )
    pending.commit(document)
    return document
