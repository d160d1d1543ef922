"""Documents written together, so that an archive of many small files does not cost several commits a file.

What a commit of LanceDB costs hardly depends on how much is in it, and it makes files that later have to be merged.
The order within one keeps the promise that a document is there whole or not at all: all rows of pages and images
first, then `documents`, which lists them, then the ledger. A process that ends in between leaves pages that nobody
reads, or documents whose file is looked at once more by the next run.
"""

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import pyarrow as pa

from retrieval.errors import IndexDamaged
from retrieval.store import schema
from retrieval.store.documents import DocumentList, delete_pages
from retrieval.store.schema import LedgerEntry, PageRecord
from retrieval.store.tables import Tables, in_list, upsert
from retrieval.types import Document

BUFFERED = 32 * 2**20
"""Bytes of images and vectors that wait in memory at most: pages are then stored, listed or not. About a hundred pages
of the default profile, so that a long document is written in few pieces and never held as a whole."""


class WriteBatch:
    """Pages wait in memory or are stored as they come; documents appear, whole, with `commit`.

    A context: what is not committed at its end is thrown away. A document that is there already is overwritten page
    by page, by the same pages: its id is its content.
    """

    def __init__(self, documents: DocumentList, tables: Tables, remote: bool) -> None:
        """remote: no lock keeps other writers out, so no sweep at the start has deleted what a killed one left."""
        self._documents = documents
        self._tables = tables
        self._remote = remote
        self._waiting: list[PageRecord] = []
        self._size = 0
        self._numbers: dict[str, set[int]] = {}  # by doc_id: pages that have been added
        self._stored: set[str] = set()  # doc_ids of which pages are in the tables
        self._overwritten: set[str] = set()  # doc_ids
        self._entries: dict[str, LedgerEntry] = {}  # by uri

    def __enter__(self) -> "WriteBatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon(list(self._numbers))

    @property
    def size(self) -> int:
        """Bytes of images and vectors that wait in memory."""
        return self._size

    @property
    def entries(self) -> int:
        """Entries of the ledger that wait."""
        return len(self._entries)

    def add(self, doc_id: str, records: Sequence[PageRecord]) -> None:
        """Pages of a document. Raises ValueError for a page that has been added before."""
        if doc_id not in self._numbers and doc_id in self._documents.by_id():
            self._overwritten.add(doc_id)
        seen = self._numbers.setdefault(doc_id, set())
        numbers = [record.page.number for record in records]
        if len(set(numbers)) < len(numbers) or seen.intersection(numbers):
            raise ValueError(f"document {doc_id}: a page came twice among {numbers}")
        seen.update(numbers)
        self._waiting += records
        self._size += sum(map(_size, records))
        if self._size >= BUFFERED:
            self.store_pages()

    def record(self, entry: LedgerEntry) -> None:
        """What became of a file: replaces, with the next commit, what was recorded of the same uri."""
        self._entries[entry.uri] = entry

    def store_pages(self) -> None:
        """Store the pages that wait. They are not listed yet."""
        fresh = [record for record in self._waiting if record.page.doc_id not in self._overwritten]
        again = [record for record in self._waiting if record.page.doc_id in self._overwritten]
        if fresh:
            doc_ids = {record.page.doc_id for record in fresh}
            if self._remote:
                delete_pages(self._tables, sorted(doc_ids - self._stored))
            self._stored |= doc_ids  # before the writes, which may be cut short
            for table, rows in self._rows(fresh):
                table.add(rows)
        if again:
            self._documents.mark_unfinished({record.page.doc_id for record in again})
            for table, rows in self._rows(again):
                upsert(table, rows, "page_id")
        self._waiting, self._size = [], 0

    def commit(self, documents: Sequence[Document] = ()) -> None:
        """List these documents, all of whose pages have been added, and write the ledger; others stay under way.

        Each takes the place of the document that was read from the same uri, if any. Raises IndexDamaged, and lists
        none, where pages that were added are not all there.
        """
        if documents:
            self.store_pages()
            self._check(documents)
            self._documents.add(documents)
            for document in documents:
                self._forget(document.doc_id)
        if self._entries:
            upsert(self._tables.ledger, schema.ledger_rows(self._entries.values()), "uri")
            self._entries = {}

    def abandon(self, doc_ids: Sequence[str]) -> None:
        """Drop these documents' pages. What was overwritten stays, marked as unfinished."""
        self._waiting = [record for record in self._waiting if record.page.doc_id not in doc_ids]
        self._size = sum(map(_size, self._waiting))
        delete_pages(self._tables, sorted(self._stored.intersection(doc_ids)))
        for doc_id in doc_ids:
            self._forget(doc_id)

    def _check(self, documents: Sequence[Document]) -> None:
        """Raises IndexDamaged where a document has other pages in the tables than were added."""
        mine = in_list("doc_id", [document.doc_id for document in documents])
        rows = self._tables.pages.search().where(mine).select(["doc_id"]).to_arrow()
        counts = {row["values"]: row["counts"] for row in rows["doc_id"].value_counts().to_pylist()}
        for document in documents:
            added, stored = len(self._numbers.get(document.doc_id, ())), counts.get(document.doc_id, 0)
            if added != stored:
                raise IndexDamaged(
                    f"{document.name}: {added} pages were written, {stored} are in {self._documents.uri}: does "
                    "another process write to it? Ingest the document again"
                )

    def _rows(self, records: Sequence[PageRecord]) -> list[tuple[Any, pa.Table]]:
        """Return each table with the rows to write to it, in this order."""
        tables = self._tables
        return [
            (tables.images, schema.image_rows(records)),
            (tables.pages, schema.page_rows(records, tables.pages.schema)),
        ]

    def _forget(self, doc_id: str) -> None:
        self._numbers.pop(doc_id, None)
        self._stored.discard(doc_id)
        self._overwritten.discard(doc_id)


class PendingDocument:
    """One document in a batch of its own: its pages are stored at once, and it appears, whole, with `commit`."""

    def __init__(self, batch: WriteBatch, doc_id: str) -> None:
        self._batch = batch
        self._doc_id = doc_id

    def add(self, records: Sequence[PageRecord]) -> None:
        """Raises ValueError for a page that has been added before."""
        self._batch.add(self._doc_id, records)
        self._batch.store_pages()

    def commit(self, document: Document) -> None:
        """List the document, in the place of the one that was read from the same uri, if any.

        Raises IndexDamaged where pages that were added are not all there.
        """
        self._batch.commit([replace(document, doc_id=self._doc_id)])

    def abandon(self) -> None:
        self._batch.abandon([self._doc_id])


def _size(record: PageRecord) -> int:
    return len(record.image) + len(record.thumbnail) + record.embedding.vectors.nbytes
