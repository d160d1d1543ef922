"""The same pages under another encoder: vectors made anew from what the index holds, without reading files again.

Rasterizing and OCR cost a hundred times what embedding costs; their results are in the index.
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
    """Copy documents that `target` lacks from `source`, embedded by `encoder`, yielding each when it is there."""
    with target.writing(), target.write() as batch:
        present = {d.doc_id for d in target.documents()}
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
    rows = [row for found in source.pages([document.doc_id], ["number"]) for row in found.to_pylist()]
    pages = [Page(document.doc_id, number, document.name) for number in sorted(row["number"] for row in rows)]
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
