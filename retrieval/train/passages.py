"""Puts training passages into an index, each as a page, so that the first stage finds hard negatives among them.

The negatives are then those that the search itself ranks high, by its own BM25 and its own vectors.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO

from PIL import Image

from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.train.groups import Group, by_corpus
from retrieval.types import Document, Encoder, Page, PageContent, Word

LINE = 12  # words
AT_ONCE = 256


def add_passages(
    store: Store, encoder: Encoder, groups: Sequence[Group], on_progress: Callable[[int, int], None]
) -> dict[str, Page]:
    """Add a document for each corpus, with a page for each positive passage; return the page of each passage.

    A corpus whose passages are in the index already is not encoded again. on_progress: called with the number of
    passages done and of all.
    """
    passages_of = {
        corpus: list(dict.fromkeys(group.positive for group in same))
        for corpus, same in by_corpus(groups).items()
    }
    total, done = sum(map(len, passages_of.values())), 0
    page_of: dict[str, Page] = {}
    with store.writing():
        for corpus, passages in passages_of.items():
            pages = _pages(corpus, passages)
            page_of.update(zip(passages, pages, strict=True))
            if not store.has(pages[0].doc_id):
                for written in _written(store, encoder, corpus, pages, passages):
                    on_progress(done + written, total)
            done += len(pages)
            on_progress(done, total)
        store.optimize()
    return page_of


def _pages(source: str, passages: Sequence[str]) -> list[Page]:
    doc_id = sha256("\n".join(passages).encode()).hexdigest()[:16]
    return [Page(doc_id, n, f"{source}.txt", 612, 792) for n in range(1, len(passages) + 1)]


def _written(
    store: Store, encoder: Encoder, source: str, pages: Sequence[Page], passages: Sequence[str]
) -> Iterator[int]:
    """Encode and write the passages; yield the number written so far after each batch."""
    blank = BytesIO()
    Image.new("RGB", (2, 2), "white").save(blank, "WEBP")
    image = blank.getvalue()
    pending = store.begin_document(pages[0].doc_id)
    for start in range(0, len(pages), AT_ONCE):
        contents = [
            PageContent(page, lines(text), "text layer", lambda: image)
            for page, text in zip(
                pages[start : start + AT_ONCE], passages[start : start + AT_ONCE], strict=True
            )
        ]
        embeddings = encoder.encode_pages(contents)
        pending.add(
            [
                PageRecord(c.page, c.words, c.source, "", e, image, image)
                for c, e in zip(contents, embeddings, strict=True)
            ]
        )
        yield start + len(contents)
    pending.commit(
        Document(pages[0].doc_id, f"{source}.txt", f"passages:{source}", len(pages), datetime.now(UTC))
    )


def lines(text: str) -> tuple[Word, ...]:
    """Returns the words of a passage with boxes on the lines of a page."""
    words = text.split()
    height = 0.9 / max(1, -(-len(words) // LINE))
    return tuple(
        Word(
            word,
            (
                0.05 + 0.075 * (i % LINE),
                0.05 + height * (i // LINE),
                0.12 + 0.075 * (i % LINE),
                0.05 + height * (i // LINE + 0.8),
            ),
        )
        for i, word in enumerate(words)
    )
