"""Reading pages: their contents, embeddings and images, of listed documents only."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa

from retrieval.errors import NotFound
from retrieval.store import schema
from retrieval.store.documents import DocumentList
from retrieval.store.tables import Tables, in_list
from retrieval.types import Document, Page, PageContent, PageEmbedding, Stored

T = TypeVar("T")
DOCUMENTS_QUERIED = 500  # documents whose pages one query streams
PAGES_STREAMED = 256  # rows of one record batch
CONTENT_AND_EMBEDDING = list(dict.fromkeys([*schema.CONTENT_COLUMNS, *schema.EMBEDDING_COLUMNS]))


class PageReader:
    """Safe to call from several threads."""

    def __init__(self, tables: Tables, documents: DocumentList) -> None:
        self._tables = tables
        self._documents = documents

    def stream(self, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        listed = self._documents.by_id()
        present = [doc_id for doc_id in doc_ids if doc_id in listed]
        for start in range(0, len(present), DOCUMENTS_QUERIED):
            condition = in_list("doc_id", present[start : start + DOCUMENTS_QUERIED])
            query = self._tables.pages.search().where(condition).select(list(columns))
            yield from query.to_batches(PAGES_STREAMED)

    def contents(self, pages: Sequence[Page]) -> dict[str, PageContent]:
        documents = self._documents.by_id()
        rows = self._rows(pages, schema.CONTENT_COLUMNS, documents)
        contents = schema.read_contents(rows, _names_of(documents), self.image)
        return {content.page.page_id: content for content in contents}

    def embeddings(self, pages: Sequence[Page]) -> dict[str, PageEmbedding]:
        rows = self._rows(pages, schema.EMBEDDING_COLUMNS, self._documents.by_id())
        return dict(zip(rows["page_id"].to_pylist(), schema.read_embeddings(rows), strict=True))

    def read(self, pages: Sequence[Page]) -> dict[str, tuple[PageContent, PageEmbedding]]:
        documents = self._documents.by_id()
        rows = self._rows(pages, CONTENT_AND_EMBEDDING, documents)
        contents = schema.read_contents(rows, _names_of(documents), self.image)
        pairs = zip(contents, schema.read_embeddings(rows), strict=True)
        return {content.page.page_id: (content, embedding) for content, embedding in pairs}

    def vectors(self, pages: Sequence[Page]) -> dict[str, Stored]:
        rows = self._rows(pages, ["page_id", "vectors"], self._documents.by_id())
        stored, offsets = schema.ragged_stored(rows["vectors"])
        ends = zip(rows["page_id"].to_pylist(), offsets, offsets[1:], strict=False)
        return {page_id: stored[low:high] for page_id, low, high in ends}

    def page(self, name: str, number: int) -> Page:
        document = self._documents.find(name)
        documents = {document.doc_id: document}
        requested = [Page(doc_id=document.doc_id, number=number, document=document.name)]
        rows = self._rows(requested, schema.PAGE_COLUMNS, documents)
        pages = {page.page_id: page for page in schema.read_pages(rows, _names_of(documents))}
        return in_order(requested, pages)[0]

    def image(self, page_id: str) -> bytes:
        return self._blob(page_id, "image")

    def thumbnail(self, page_id: str) -> bytes:
        return self._blob(page_id, "thumbnail")

    def _rows(
        self, pages: Sequence[Page], columns: Sequence[str], documents: Mapping[str, Document]
    ) -> pa.Table:
        """Read the rows of those of `pages` that belong to one of `documents`, in any order."""
        page_ids = [page.page_id for page in pages if page.doc_id in documents]
        query = self._tables.pages.search().where(in_list("page_id", page_ids)).select(list(columns))
        return query.limit(max(1, len(page_ids))).to_arrow()

    def _blob(self, page_id: str, column: str) -> bytes:
        if page_id.partition("#")[0] in self._documents.by_id():
            query = self._tables.images.search().where(in_list("page_id", [page_id]))
            for row in query.select([column]).limit(1).to_list():
                return bytes(row[column])
        raise NotFound(f"no page {page_id} in the index: its document was removed or replaced; search again")


def in_order(pages: Sequence[Page], by_id: Mapping[str, T]) -> list[T]:
    """Return the value of each page, in the order given. Raises NotFound that names the pages without a value."""
    missing = [page.name for page in pages if page.page_id not in by_id]
    if missing:
        raise NotFound(f"{', '.join(missing)}: no longer in the index; search again")
    return [by_id[page.page_id] for page in pages]


def _names_of(documents: Mapping[str, Document]) -> dict[str, str]:
    return {doc_id: document.name for doc_id, document in documents.items()}
