"""Writing several documents in one commit, so that an archive of many small files does not need several for each.

The cost of a commit in LanceDB hardly depends on its size, and each makes files that have to be merged later. The order
of writes keeps documents atomic: first all rows of pages and images, then `documents`, which lists them, then the
ledger. A process that ends in between leaves pages that nobody reads, or documents whose file the next run checks
again.
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
"""Bytes of images and vectors in memory at which pages are stored, before their document is listed. That is about a
hundred pages of the default profile: a long document is written in few pieces, and is never in memory as a whole."""


class WriteBatch:
    """Collects pages, in memory or stored but not listed, until `commit` makes their documents visible at once.

    As a context manager it drops what is not committed at its end. A document that is in the index already is
    overwritten page by page, by the same pages: its id is the hash of its content.
    """

    def __init__(self, documents: DocumentList, tables: Tables, remote: bool) -> None:
        """remote: no lock keeps other writers out, so no sweep at the start has deleted what a killed one left."""
        self._documents = documents
        self._tables = tables
        self._remote = remote
        self._waiting: list[PageRecord] = []
        self._size = 0
        self._numbers: dict[str, set[int]] = {}  # by doc_id: pages that have been added
        self._stored: set[str] = set()  # doc_ids that have pages in the tables, but are not listed
        self._overwritten: set[str] = set()  # doc_ids that were listed before their first page was added
        self._entries: dict[str, LedgerEntry] = {}  # by uri

    def __enter__(self) -> "WriteBatch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon(list(self._numbers))

    @property
    def size(self) -> int:
        """Bytes of images and vectors in memory, not yet stored."""
        return self._size

    @property
    def entries(self) -> int:
        """Number of ledger entries that the next commit writes."""
        return len(self._entries)

    def add(self, doc_id: str, records: Sequence[PageRecord]) -> None:
        """Add pages to a document. Raises ValueError for a page that was added before."""
        if doc_id not in self._numbers and doc_id in self._documents.by_id():
            self._overwritten.add(doc_id)
        seen = self._numbers.setdefault(doc_id, set())
        numbers = [record.page.number for record in records]
        if len(set(numbers)) < len(numbers) or seen.intersection(numbers):
            raise ValueError(f"document {doc_id}: a page was added twice among {numbers}")
        seen.update(numbers)
        self._waiting += records
        self._size += sum(map(_size, records))
        if self._size >= BUFFERED:
            self.store_pages()

    def record(self, entry: LedgerEntry) -> None:
        """Record the status of a file: the next commit replaces the entry with the same uri."""
        self._entries[entry.uri] = entry

    def store_pages(self) -> None:
        """Store the pages that are in memory, without listing their documents."""
        fresh = [record for record in self._waiting if record.page.doc_id not in self._overwritten]
        # Pages of a document that has been removed since its first page was added are dropped.
        listed = self._overwritten.intersection(self._documents.by_id()) if self._overwritten else set()
        again = [record for record in self._waiting if record.page.doc_id in listed]
        if fresh:
            doc_ids = {record.page.doc_id for record in fresh}
            if self._remote:
                delete_pages(self._tables, sorted(doc_ids - self._stored))
            self._stored |= doc_ids  # before the writes, which may be cut short
            for table, rows in self._rows(fresh):
                table.add(rows)
        if again:
            listed = {record.page.doc_id for record in again}
            self._documents.mark_unfinished(listed)
            for table, rows in self._rows(again):
                upsert(table, rows, "page_id")
            # Once more: a reader may have cached pages under the first mark before they were overwritten.
            self._documents.mark_unfinished(listed)
        self._waiting, self._size = [], 0

    def commit(self, documents: Sequence[Document] = ()) -> None:
        """List these documents, all of whose pages have been added, and write the ledger; other documents stay open.

        Each replaces the document that was read from the same uri, if any. Raises IndexDamaged, and lists none, if the
        tables do not have all pages that were added.
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
        """Drop these documents' pages. A document that was being overwritten stays listed, marked as unfinished."""
        self._waiting = [record for record in self._waiting if record.page.doc_id not in doc_ids]
        self._size = sum(map(_size, self._waiting))
        delete_pages(self._tables, sorted(self._stored.intersection(doc_ids)))
        for doc_id in doc_ids:
            self._forget(doc_id)

    def _check(self, documents: Sequence[Document]) -> None:
        """Raise IndexDamaged if a document has more or fewer pages in the tables than were added."""
        condition = in_list("doc_id", [document.doc_id for document in documents])
        rows = self._tables.pages.search().where(condition).select(["doc_id"]).to_arrow()
        counts = {row["values"]: row["counts"] for row in rows["doc_id"].value_counts().to_pylist()}
        for document in documents:
            added, stored = len(self._numbers.get(document.doc_id, ())), counts.get(document.doc_id, 0)
            if added != stored:
                raise IndexDamaged(
                    f"{document.name}: {added} pages were written, but {stored} are in {self._documents.uri}; "
                    "another process may be writing to it: ingest the document again"
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
    """One document in a batch of its own: its pages are stored at once, and `commit` makes it visible."""

    def __init__(self, batch: WriteBatch, doc_id: str) -> None:
        self._batch = batch
        self._doc_id = doc_id

    def add(self, records: Sequence[PageRecord]) -> None:
        """Store pages. Raises ValueError for a page that was added before."""
        self._batch.add(self._doc_id, records)
        self._batch.store_pages()

    def commit(self, document: Document) -> None:
        """List the document in place of the one that was read from the same uri, if any.

        Raises IndexDamaged if the tables do not have all pages that were added.
        """
        self._batch.commit([replace(document, doc_id=self._doc_id)])

    def abandon(self) -> None:
        """Drop the document's pages."""
        self._batch.abandon([self._doc_id])


def _size(record: PageRecord) -> int:
    return len(record.image) + len(record.thumbnail) + record.embedding.vectors.nbytes
