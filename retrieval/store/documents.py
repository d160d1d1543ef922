"""The list of documents: what it contains, and every change to it.

A document is in the index when its row is in the table `documents`. That row is written last and deleted first, so
that no reader ever sees half of a document.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from retrieval.errors import NotFound
from retrieval.store import schema
from retrieval.store.tables import Tables, in_list, upsert
from retrieval.types import Document, Filter


class DocumentList:
    """Caches the documents of the newest version of their table. Readers may call it from several threads."""

    def __init__(self, tables: Tables, uri: str) -> None:
        self.uri = uri
        self._tables = tables
        self._cached: tuple[int, dict[str, Document]] = (-1, {})  # replaced as a whole, never changed

    def version(self) -> int:
        return int(self._tables.documents.version)

    def by_id(self) -> dict[str, Document]:
        """Return all documents, oldest first. The caller must not change the dictionary.

        Call this once for everything that one answer reads: a document may be removed between two calls.
        """
        version = self.version()
        cached_version, listed = self._cached
        if cached_version != version:
            documents = schema.read_documents(self._tables.documents.to_arrow())
            documents.sort(key=lambda document: (document.added_at, document.doc_id))
            listed = {document.doc_id: document for document in documents}
            self._cached = version, listed
        return listed

    def matching(self, where: Filter) -> list[Document]:
        return [document for document in self.by_id().values() if _allows(where, document)]

    def find(self, name: str) -> Document:
        listed = self.by_id()
        if name in listed:  # a file may have the name of another document's id
            return listed[name]
        for document in listed.values():
            if name in (document.name, document.uri):
                return document
        raise NotFound(
            f"no document {name!r} in the index", remedy=f"'folioscope docs list' names those in {self.uri}"
        )

    def add(self, documents: Sequence[Document]) -> None:
        """List documents whose pages are stored, each in the place of the document read from the same uri, if any.

        Updates the cache as well, so that this writer need not read all documents again after its own commit.
        """
        before, known = self.version(), self.by_id()
        own, uris = {document.doc_id for document in documents}, {document.uri for document in documents}
        replaced = [d.doc_id for d in known.values() if d.uri in uris and d.doc_id not in own]
        upsert(self._tables.documents, schema.document_rows(documents), "uri")
        after = self.version()
        if self._cached[0] == before and after == before + 1:  # no other writer committed in between
            remaining = {doc_id: document for doc_id, document in known.items() if doc_id not in replaced}
            self._cached = after, remaining | {document.doc_id: document for document in documents}
        delete_pages(self._tables, replaced)

    def update(self, document: Document) -> None:
        self.find(document.doc_id)
        others = [d for d in self.by_id().values() if d.uri == document.uri and d.doc_id != document.doc_id]
        self.remove(other.doc_id for other in others)
        upsert(self._tables.documents, schema.document_rows([document]), "doc_id")

    def mark_unfinished(self, doc_ids: Iterable[str]) -> None:
        """Give these documents a new revision, because their pages are about to be overwritten.

        Whatever was computed from their pages before is then invalid, even if the writer never commits. The mark is
        removed when the document's file is read completely the next time. Ids that are not listed are ignored.
        """
        known = self.by_id()
        mark = {schema.REVISION_KEY: f"unfinished {schema.now().isoformat()}"}
        listed = [known[doc_id] for doc_id in doc_ids if doc_id in known]
        marked = [replace(document, meta=dict(document.meta) | mark) for document in listed]
        if marked:
            upsert(self._tables.documents, schema.document_rows(marked), "doc_id")

    def remove(self, doc_ids: Iterable[str]) -> None:
        removed = list(doc_ids)
        if removed:
            self._tables.documents.delete(
                in_list("doc_id", removed)
            )  # first, so that readers miss all of it at once
        delete_pages(self._tables, removed)


def delete_pages(tables: Tables, doc_ids: Sequence[str]) -> None:
    """Delete the pages and images of these documents."""
    if doc_ids:
        for table in (tables.pages, tables.images):
            table.delete(in_list("doc_id", doc_ids))


def _allows(where: Filter, document: Document) -> bool:
    """Whether the document passes all fields of the filter that are about documents."""
    own_names = {document.name, document.doc_id, document.uri}
    return (
        (not where.documents or not own_names.isdisjoint(where.documents))
        and (not where.collections or document.collection in where.collections)
        and (not where.tags or not set(where.tags).isdisjoint(document.tags))
        and (not where.since or document.date >= where.since)
        and (not where.until or "" < document.date <= where.until + "~")
        and document.doc_id not in where.without
    )
