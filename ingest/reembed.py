"""Embedding an index's pages with another encoder, from their stored images and words, without reading files again.

Rasterizing and OCR, whose results are in the index, cost a hundred times as much as embedding.
"""

import time
from collections.abc import Iterator

from ingest.writer import DOCUMENTS, SECONDS
from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.store.write_batch import WriteBatch
from retrieval.types import Document, Encoder, Page

PAGES_ENCODED = 32
"""Pages of one document that are given to the encoder together."""


def reembed(source: Store, target: Store, encoder: Encoder) -> Iterator[Document]:
    """Copy the documents that `target` lacks from `source`, embedded by `encoder`; yield each one when it is committed.

    Copies the ledger as well, and optimizes `target`. Raises IndexBusy if another process writes to `target`.
    """
    with target.writing(), target.begin_batch() as batch:
        present = {document.doc_id for document in target.documents()}
        group: list[Document] = []
        oldest = 0.0
        for document in source.documents():
            if document.doc_id in present:
                continue
            _copy(document, source, batch, encoder)
            oldest = oldest if group else time.monotonic()
            group.append(document)
            if len(group) >= DOCUMENTS or time.monotonic() - oldest >= SECONDS:
                batch.commit(group)
                yield from group
                group = []
        for entry in source.ledger():
            batch.record(entry)
        batch.commit(group)
        yield from group
        target.optimize()


def _copy(document: Document, source: Store, batch: WriteBatch, encoder: Encoder) -> None:
    batches = source.stream_pages([document.doc_id], ["number"])
    numbers = sorted(number for rows in batches for number in rows["number"].to_pylist())
    pages = [Page(doc_id=document.doc_id, number=number, document=document.name) for number in numbers]
    for start in range(0, len(pages), PAGES_ENCODED):
        contents = source.contents(pages[start : start + PAGES_ENCODED])
        records = [
            PageRecord(
                page=content.page,
                words=content.words,
                source=content.source,
                title=content.title,
                embedding=embedding,
                image=source.image(content.page.page_id),
                thumbnail=source.thumbnail(content.page.page_id),
            )
            for content, embedding in zip(contents, encoder.encode_pages(contents), strict=True)
        ]
        batch.add(document.doc_id, records)
