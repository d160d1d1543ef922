"""The index: LanceDB tables at one URI, with atomic documents, a ledger, and BM25.

A document is there when its row is in `documents`, and that row is written last: readers never see pages without it,
and the next writer deletes them. One process writes at a time and holds a lock file; any number of processes read.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrieval.errors import EncoderMismatch, IndexDamaged, IndexMissing
from retrieval.store import schema, tables, upkeep
from retrieval.store.documents import DocumentList
from retrieval.store.locks import is_remote, write_lock
from retrieval.store.reading import PageReader, in_order
from retrieval.store.schema import LedgerEntry
from retrieval.store.swap import recover
from retrieval.store.text_search import TextSearch, has_positions
from retrieval.store.write_batch import PendingDocument, WriteBatch
from retrieval.types import Document, Filter, Fingerprint, Page, PageContent, PageEmbedding, Precision, Stored

__all__ = ["Store", "in_order"]


class Store:
    """Make one with `open` or `create`; change the index only within `writing()`."""

    def __init__(self, uri: str, connection: Any) -> None:
        """connection: LanceDB's, to tables that exist."""
        self.uri = uri
        self.tables = tables.Tables.open(connection)
        """For upkeep and verification, which look at every row. Everybody else reads with the methods below."""
        self.fingerprint = schema.stored_fingerprint(self.tables.pages.schema, uri)
        self._documents = DocumentList(self.tables, uri)
        self._reader = PageReader(self.tables, self._documents)
        self._text = TextSearch(self.tables, self._documents)

    @classmethod
    def open(cls, uri: str, encoder: Fingerprint | None = None) -> "Store":
        """Open the index at `uri`; with `encoder`, only if that encoder made its vectors.

        Raises IndexMissing, IndexDamaged, SchemaMismatch, EncoderMismatch.
        """
        missing = IndexMissing(
            "there is no index yet", remedy=f"make one with 'folioscope ingest FOLDER --index {uri}'"
        )
        if not is_remote(uri):
            recover(Path(uri))
            if not Path(uri).is_dir():
                raise missing
        connection = tables.connect(uri)
        if not tables.exist(connection):
            raise missing
        try:
            store = cls(uri, connection)
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexDamaged(
                f"the index cannot be opened ({error})",
                remedy=f"restore {uri} from a copy, or ingest again into another place",
            ) from error
        if encoder is not None and encoder != store.fingerprint:
            raise EncoderMismatch(
                f"the index was encoded by {store.fingerprint}, not by {encoder}",
                remedy=f"choose the profile that made {uri}, or encode its pages again: "
                f"folioscope index reembed NEW --index {uri}",
            )
        return store

    @classmethod
    def create(cls, uri: str, encoder: Fingerprint, precision: Precision = "float16") -> "Store":
        """Open the index at `uri`, or create it if there is none; `precision` is that of a new index's vectors.

        Raises what `open` raises except IndexMissing, and IndexBusy.
        """
        if not is_remote(uri):
            recover(Path(uri))
        connection = tables.connect(uri)
        if not tables.exist(connection):
            tables.create(uri, connection, encoder, precision)
        return cls.open(uri, encoder)

    @property
    def precision(self) -> Precision:
        """The precision of the stored vectors."""
        kind = self.tables.pages.schema.field("vectors").type.value_type.value_type
        return "int8" if kind == pa.int8() else "float16"

    # Documents

    def documents(self, where: Filter | None = None) -> list[Document]:
        """Return all documents, or those that pass the filter's fields about documents, oldest first."""
        return self._documents.matching(where or Filter())

    def document(self, name: str) -> Document:
        """Return the document with this doc_id, name or uri. Raises NotFound."""
        return self._documents.find(name)

    def has(self, doc_id: str) -> bool:
        return doc_id in self._documents.by_id()

    def version(self) -> int:
        """Return a number that grows whenever a document is added, changed or removed."""
        return self._documents.version()

    # Pages

    def stream_pages(self, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Stream these columns of the documents' pages, in any order; documents that are not listed are left out."""
        return self._reader.stream(doc_ids, columns)

    def contents(self, pages: Sequence[Page]) -> list[PageContent]:
        """Return contents in the order given. Raises NotFound for a page that is no longer in the index."""
        return in_order(pages, self.present_contents(pages))

    def present_contents(self, pages: Sequence[Page]) -> dict[str, PageContent]:
        """Return the contents of those of `pages` that are still in the index, by page_id."""
        return self._reader.contents(pages)

    def embeddings(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        """Return embeddings in the order given. Raises NotFound for a page that is no longer in the index."""
        return in_order(pages, self.present_embeddings(pages))

    def present_embeddings(self, pages: Sequence[Page]) -> dict[str, PageEmbedding]:
        """Return the embeddings of those of `pages` that are still in the index, by page_id."""
        return self._reader.embeddings(pages)

    def read(self, pages: Sequence[Page]) -> dict[str, tuple[PageContent, PageEmbedding]]:
        """Read contents and embeddings of `pages` together, by page_id, in one query of the pages table.

        A page that is no longer in the index is missing from the result; `in_order` turns that into NotFound.
        Each content and embedding is equal to what `present_contents` and `present_embeddings` return. The page's image
        is read only when somebody calls `image()`.
        """
        return self._reader.read(pages)

    def vectors(self, pages: Sequence[Page]) -> dict[str, Stored]:
        """Return the vectors (n, d), as stored, of those of `pages` that are still in the index, by page_id.

        Cheaper than `present_embeddings`: reads no regions and converts nothing.
        """
        return self._reader.vectors(pages)

    def page(self, name: str, number: int) -> Page:
        """Return a page of the document with this doc_id, name or uri; `number` is from 1. Raises NotFound."""
        return self._reader.page(name, number)

    def image(self, page_id: str) -> bytes:
        """Return the page's WebP at ingest's dpi. Raises NotFound."""
        return self._reader.image(page_id)

    def thumbnail(self, page_id: str) -> bytes:
        """Return the page's small WebP. Raises NotFound."""
        return self._reader.thumbnail(page_id)

    # Text

    def search_text(
        self,
        query: str,
        depth: int,
        doc_ids: Sequence[str] | None = None,
        scanned: bool | None = None,
        *,
        without: frozenset[str] = frozenset(),
    ) -> list[tuple[str, float]]:
        """Rank pages by BM25 over their folded text: (page_id, score), best first, at most `depth`.

        doc_ids: only pages of these documents. without: no pages of these documents. scanned: only pages read by OCR,
        or only from their text layer. Phrases count if the text index has positions of words (`has_positions`); a
        prefix stands for words that begin with it (`expand_prefix`).
        """
        return self._text.search(query, depth, doc_ids, scanned, without)

    def expand_prefix(self, prefix: str) -> tuple[str, ...]:
        """Return the most frequent words of the pages' folded text that begin with `prefix`, itself folded.

        Scans text until it has enough pages with the prefix: all text, for a prefix that few pages have.
        """
        return self._text.expand(prefix)

    def has_positions(self) -> bool:
        """Whether the text index knows the positions of words on a page; `optimize` makes an index that does."""
        return has_positions(self.tables.pages)

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock, after deleting what an interrupted writer left. Raises IndexBusy."""
        with write_lock(self.uri):
            if not is_remote(self.uri):  # there, the strays may be another writer's unfinished pages
                upkeep.sweep(self.tables, self._documents.by_id())
            yield

    def begin_batch(self) -> WriteBatch:
        """Begin documents that are written together: readers see none of them before the batch is committed."""
        return WriteBatch(self._documents, self.tables, is_remote(self.uri))

    def begin_document(self, doc_id: str) -> PendingDocument:
        """Begin a document that is written by itself."""
        return PendingDocument(self.begin_batch(), doc_id)

    def update(self, document: Document) -> None:
        """Change a document's name, uri, title, collection, tags, date or meta, atomically. Raises NotFound.

        Another document with the same uri is removed: its file has been overwritten.
        """
        self._documents.update(document)

    def remove(self, doc_ids: Iterable[str]) -> None:
        """Remove documents; ids that are not listed are ignored."""
        self._documents.remove(doc_ids)

    def ledger(self) -> list[LedgerEntry]:
        """Return the status of every file that was ever ingested."""
        return schema.read_ledger(self.tables.ledger.to_arrow())

    def delete_from_ledger(self, uris: Iterable[str]) -> None:
        """Delete these files from the ledger."""
        self.tables.ledger.delete(tables.in_list("uri", list(uris)))

    def optimize(self) -> None:
        """Bring the indices of text and page ids up to date, merge small files, and drop old versions.

        A text index that is missing, or without positions, is created.
        """
        upkeep.optimize(self.tables)

    def index_ids(self) -> None:
        """Create the indices of page ids if there are enough pages to make them worth their upkeep."""
        upkeep.index_ids(self.tables)
