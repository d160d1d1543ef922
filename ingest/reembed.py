"""The same pages under another encoder: vectors made anew from what the index holds, without reading files again.

Rasterizing and OCR cost a hundred times what embedding costs; their results are in the index.
"""

from collections.abc import Iterator

from ingest.pipeline import PAGES_WRITTEN
from retrieval.store import Store
from retrieval.tables import PageRecord
from retrieval.types import Document, Encoder, Page


def reembed(source: Store, target: Store, encoder: Encoder) -> Iterator[Document]:
    """Copy documents that `target` lacks from `source`, embedded by `encoder`, yielding each when it is there."""
    with target.writing():
        present = {d.doc_id for d in target.documents()}
        for document in source.documents():
            if document.doc_id in present:
                continue
            rows = [row for batch in source.pages([document.doc_id], ["number"]) for row in batch.to_pylist()]
            pages = [
                Page(document.doc_id, number, document.name) for number in sorted(r["number"] for r in rows)
            ]
            pending = target.begin(document.doc_id)
            for start in range(0, len(pages), PAGES_WRITTEN):
                contents = source.contents(pages[start : start + PAGES_WRITTEN])
                pending.add([
                    PageRecord(c.page, c.words, c.source, c.title, embedding, source.image(c.page.page_id),
                               source.thumbnail(c.page.page_id))
                    for c, embedding in zip(contents, encoder.encode_pages(contents), strict=True)
                ])  # fmt: skip
            pending.commit(document)
            yield document
        for entry in source.ledger():
            target.record(entry)
        target.optimize()
