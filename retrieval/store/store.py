"""The index: LanceDB tables at one URI, with atomic documents, a ledger, and BM25.

A document is there when its row is in `documents`, and that row is written last: pages without it are never
read, and are swept away when the index is next opened for writing. One process writes at a time, held by a
lock file; any number read, and see whole documents.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("LANCEDB_LOG", "error")  # read once, at the import: else each new table warns on stderr
import lancedb
import pyarrow as pa
from lancedb.index import FTS, BTree
from lancedb.query import BooleanQuery, FullTextQuery, MatchQuery, Occur, PhraseQuery

from retrieval.errors import EncoderMismatch, IndexDamaged, IndexMissing, NotFound
from retrieval.lru import LRU
from retrieval.store import schema, text_query
from retrieval.store.locks import locked
from retrieval.store.schema import LedgerEntry
from retrieval.store.swap import recover
from retrieval.store.write_batch import PendingDocument, WriteBatch, in_list, upsert
from retrieval.text import words
from retrieval.types import Document, Filter, Fingerprint, Page, PageContent, PageEmbedding, Precision, Stored

T = TypeVar("T")
FRESH = timedelta(0)  # readers look for new versions at every read
TEXT_INDEX = FTS(base_tokenizer="icu", language="English", stem=True, remove_stop_words=False,
                 with_position=True)  # fmt: skip
PREFIX_PAGES, PREFIX_WORDS, PREFIXES_KEPT = 500, 20, 256
MANY = 50_000
"""Rows from which an index of the pages' ids is worth its upkeep: without one a page of a million is found in 57 ms,
with one in 9; of 10,000, in 5 either way."""
KEEP_VERSIONS = timedelta(minutes=10)  # readers of an older version may still need its files


class Store:
    """Use `open` or `create`; `writing()` around everything that changes the index."""

    def __init__(self, uri: str, connection: Any) -> None:
        self.uri = uri
        self._tables = {
            name: connection.open_table(name) for name in ("documents", "pages", "images", "ledger")
        }
        self.fingerprint = schema.stored_fingerprint(self._tables["pages"].schema, uri)
        self._listed: tuple[int, dict[str, Document]] = (-1, {})
        self._begun: LRU[str, tuple[int, tuple[str, ...]]] = LRU(PREFIXES_KEPT)  # by prefix: version, words

    @classmethod
    def open(cls, uri: str, encoder: Fingerprint | None = None) -> "Store":
        """The index at `uri`; with `encoder`, only if its vectors are of that encoder.

        Raises IndexMissing, IndexDamaged, SchemaMismatch, EncoderMismatch.
        """
        missing = f"there is no index at {uri}: make one with 'folioscope ingest FOLDER --index {uri}'"
        if not is_remote(uri):
            recover(Path(uri))
            if not Path(uri).is_dir():
                raise IndexMissing(missing)
        connection = lancedb.connect(uri, read_consistency_interval=FRESH)
        if "documents" not in _names(connection):
            raise IndexMissing(missing)
        try:
            store = cls(uri, connection)
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexDamaged(
                f"the index at {uri} cannot be opened ({error}): restore it from a copy, "
                "or ingest again into another place"
            ) from error
        if encoder is not None and encoder != store.fingerprint:
            raise EncoderMismatch(
                f"the index at {uri} was encoded by {store.fingerprint}, not by {encoder}: choose "
                "the profile that made it, or ingest again into another place"
            )
        return store

    @classmethod
    def create(cls, uri: str, encoder: Fingerprint, precision: Precision = "float16") -> "Store":
        """The index at `uri`, made if it is not there yet: its vectors are then of this precision, for good.

        Raises what `open` raises, but not IndexMissing.
        """
        if not is_remote(uri):
            recover(Path(uri))
        connection = lancedb.connect(uri, read_consistency_interval=FRESH)
        if "documents" not in _names(connection):
            cls._make_tables(uri, connection, encoder, precision)
        return cls.open(uri, encoder)

    @staticmethod
    def _make_tables(uri: str, connection: Any, encoder: Fingerprint, precision: Precision) -> None:
        """`documents` last: with it the index is there. Only empty tables are ever made anew."""
        if not is_remote(uri):
            Path(uri).mkdir(parents=True, exist_ok=True)
        with _lock(uri):
            present = _names(connection)
            if "documents" in present:
                return
            filled = [name for name in present if connection.open_table(name).count_rows()]
            if filled:
                raise IndexDamaged(
                    f"the index at {uri} has no list of documents, but its {', '.join(sorted(filled))} are not empty: "
                    "restore it from a copy, or move it away and ingest again"
                )
            made = {
                "pages": schema.pages_schema(encoder, precision),
                "images": schema.images_schema(),
                "ledger": schema.ledger_schema(),
                "documents": schema.documents_schema(),
            }
            for name, layout in made.items():
                table = connection.create_table(name, schema=layout, mode="overwrite")
                if name == "pages":
                    table.create_index("search_text", config=TEXT_INDEX)

    # Documents

    def documents(self, where: Filter | None = None) -> list[Document]:
        """All documents, or those that the filter's document-level fields allow, oldest first."""
        found = self._by_id().values()
        return [d for d in found if where is None or _allows(where, d)]

    @property
    def precision(self) -> Precision:
        """Of the stored vectors."""
        kind = self._tables["pages"].schema.field("vectors").type.value_type.value_type
        return "int8" if kind == pa.int8() else "float16"

    def document(self, name: str) -> Document:
        """By file name or doc_id. Raises NotFound."""
        listed = self._by_id()
        if name in listed:  # a file may be named like another document's id
            return listed[name]
        for document in listed.values():
            if name in (document.name, document.uri):
                return document
        raise NotFound(
            f"no document {name!r} in the index", remedy=f"'folioscope docs list' names those in {self.uri}"
        )

    def has(self, doc_id: str) -> bool:
        return doc_id in self._by_id()

    def version(self) -> int:
        """Grows when a document is added, changed or removed."""
        return int(self._tables["documents"].version)

    def _by_id(self) -> dict[str, Document]:
        version = self.version()
        known, listed = self._listed
        if known != version:
            documents = schema.read_documents(self._tables["documents"].to_arrow())
            documents.sort(key=lambda d: (d.added_at, d.doc_id))
            listed = {d.doc_id: d for d in documents}
            self._listed = version, listed
        return listed

    # Reading pages

    def pages(self, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of these documents' pages, streamed."""
        listed = self._by_id()
        wanted = [doc_id for doc_id in doc_ids if doc_id in listed]
        for start in range(0, len(wanted), 500):
            query = self._tables["pages"].search().where(in_list("doc_id", wanted[start : start + 500]))
            yield from query.select(list(columns)).to_batches(256)

    def contents(self, pages: Sequence[Page]) -> list[PageContent]:
        """In the order given. Raises NotFound for a page that is no longer there."""
        return in_order(pages, self.present(pages))

    def present(self, pages: Sequence[Page]) -> dict[str, PageContent]:
        """Contents of those of `pages` that are still there, by page_id."""
        documents = self._by_id()
        rows = self._rows("pages", pages, schema.CONTENT_COLUMNS, documents)
        found = schema.read_contents(rows, _names_of(documents), self.image)
        return {content.page.page_id: content for content in found}

    def embeddings(self, pages: Sequence[Page]) -> list[PageEmbedding]:
        """In the order given. Raises NotFound for a page that is no longer there."""
        return in_order(pages, self.present_embeddings(pages))

    def present_embeddings(self, pages: Sequence[Page]) -> dict[str, PageEmbedding]:
        """Embeddings of those of `pages` that are still there, by page_id."""
        table = self._rows("pages", pages, schema.EMBEDDING_COLUMNS, self._by_id())
        return dict(zip(table["page_id"].to_pylist(), schema.read_embeddings(table), strict=True))

    def read(self, pages: Sequence[Page]) -> dict[str, tuple[PageContent, PageEmbedding]]:
        """Read contents and embeddings of `pages` together, by page_id, in one query of the pages table.

        A page that is no longer in the index is missing from the result; `in_order` turns that into NotFound. Each
        content and embedding is equal to what `present` and `present_embeddings` return. The page's image is only read
        when somebody calls `image()`.
        """
        documents = self._by_id()
        columns = list(dict.fromkeys([*schema.CONTENT_COLUMNS, *schema.EMBEDDING_COLUMNS]))
        table = self._rows("pages", pages, columns, documents)
        contents = schema.read_contents(table, _names_of(documents), self.image)
        both = zip(contents, schema.read_embeddings(table), strict=True)
        return {content.page.page_id: (content, embedding) for content, embedding in both}

    def vectors(self, pages: Sequence[Page]) -> dict[str, Stored]:
        """(n, d) as stored, of those of `pages` that are still there, by page_id; shorter than reading `embeddings`."""
        table = self._rows("pages", pages, ["page_id", "vectors"], self._by_id())
        flat, offsets = schema.ragged_stored(table["vectors"])
        ends = zip(table["page_id"].to_pylist(), offsets, offsets[1:], strict=False)
        return {page_id: flat[low:high] for page_id, low, high in ends}

    def page(self, name: str, number: int) -> Page:
        document = self.document(name)
        wanted = Page(document.doc_id, number, document.name)
        documents = {document.doc_id: document}
        rows = self._rows("pages", [wanted], schema.PAGE_COLUMNS, documents)
        found = in_order(
            [wanted], {page.page_id: page for page in schema.read_pages(rows, _names_of(documents))}
        )
        return found[0]

    def image(self, page_id: str) -> bytes:
        """WebP at ingest's dpi. Raises NotFound."""
        return self._blob(page_id, "image")

    def thumbnail(self, page_id: str) -> bytes:
        """WebP. Raises NotFound."""
        return self._blob(page_id, "thumbnail")

    def search_text(
        self, query: str, depth: int, doc_ids: Sequence[str] | None = None, scanned: bool | None = None
    ) -> list[tuple[str, float]]:
        """BM25 over the pages' folded text: (page_id, score), best first, at most `depth`.

        Phrases count where the text index has the words' positions (`has_positions`); prefixes stand for the words that
        begin with them.
        """
        asked = text_query.parse_text_query(query)
        folded = " ".join(
            [asked.words, *(word for prefix in asked.prefixes for word in self.beginning(prefix))]
        )
        if not folded:
            return []
        listed = self._by_id()
        text: FullTextQuery = MatchQuery(folded, "search_text")
        if asked.phrases and self.has_positions():
            phrases = [PhraseQuery(phrase, "search_text") for phrase in asked.phrases]
            text = BooleanQuery([(Occur.SHOULD, query) for query in (text, *phrases)])
        search = self._tables["pages"].search(text, query_type="fts")
        clauses = [] if doc_ids is None else [in_list("doc_id", doc_ids)]
        if scanned is not None:
            clauses.append(f"source {'=' if scanned else '!='} 'ocr'")
        if clauses:
            search = search.where(" AND ".join(clauses), prefilter=True)
        search = search.select(["page_id", "doc_id", "_score"])
        limit = depth + 64
        while True:  # pages of a document that is being written match too, and are passed over
            rows = search.limit(limit).to_arrow().to_pylist()
            found = [(row["page_id"], row["_score"]) for row in rows if row["doc_id"] in listed]
            if len(found) >= depth or len(rows) < limit:
                return found[:depth]
            limit *= 4

    def beginning(self, prefix: str) -> tuple[str, ...]:
        """The most frequent words of the pages' folded text that begin with `prefix`, which is folded too.

        Reads text until enough pages have it: all of it, for a prefix that few have.
        """
        version = self.version()
        known, found = self._begun.get(prefix) or (-1, ())
        if known == version or not prefix:
            return found
        begins = "\\b" + re.escape(prefix).replace("'", "''")
        rows = self._tables["pages"].search().where(f"regexp_like(search_text, '{begins}')")
        texts = rows.select(["search_text"]).limit(PREFIX_PAGES).to_arrow()["search_text"].to_pylist()
        counts = Counter(word for text in texts for word in words(text) if word.startswith(prefix))
        found = tuple(word for word, _ in counts.most_common(PREFIX_WORDS))
        self._begun.put(prefix, (version, found))
        return found

    def has_positions(self) -> bool:
        """Whether the text index knows where in a page a word stands; `optimize` makes one that does."""
        indices = self._indices("pages", "search_text")
        return bool(indices and indices[0].index_details.get("with_position"))

    def _indices(self, table: str, column: str) -> list[Any]:
        return [index for index in self._tables[table].list_indices() if index.columns == [column]]

    def _rows(
        self, table: str, pages: Sequence[Page], columns: Sequence[str], documents: Mapping[str, Document]
    ) -> pa.Table:
        """Rows of those of `pages` whose document is one of `documents`.

        The caller reads the list of documents once: between two readings one of them may be removed.
        """
        wanted = [page.page_id for page in pages if page.doc_id in documents]
        query = self._tables[table].search().where(in_list("page_id", wanted)).select(list(columns))
        return query.limit(max(1, len(wanted))).to_arrow()

    def _blob(self, page_id: str, column: str) -> bytes:
        if page_id.partition("#")[0] in self._by_id():
            query = (
                self._tables["images"].search().where(in_list("page_id", [page_id])).select([column]).limit(1)
            )
            for row in query.to_list():
                return bytes(row[column])
        raise NotFound(f"no page {page_id} in the index: its document was removed or replaced; search again")

    # Writing

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Holds the write lock; sweeps away what an interrupted writer left. Raises IndexBusy."""
        with _lock(self.uri):
            self._sweep()
            yield

    def write(self) -> WriteBatch:
        """Documents to be written together: nobody sees one before its batch is committed."""
        return WriteBatch(self, self._tables, is_remote(self.uri))

    def begin(self, doc_id: str) -> PendingDocument:
        """A document to be written by itself."""
        return PendingDocument(self.write(), doc_id)

    def update(self, document: Document) -> None:
        """Change what is said of a document (name, place, title, collection, tags, date): one row, atomically.

        A document that stood at its new place is removed: its file has been overwritten.
        """
        self.document(document.doc_id)
        others = [d.doc_id for d in self.documents() if d.uri == document.uri and d.doc_id != document.doc_id]
        self.remove(others)
        upsert(self._tables["documents"], schema.document_rows([document]), "doc_id")

    def mark_unfinished(self, doc_ids: Iterable[str]) -> None:
        """Their pages are being overwritten: what was made of them before must not be used, even without a commit.

        The next whole reading of a document's file takes the mark away.
        """
        mark = {schema.READ_AGAIN: f"unfinished {schema.now().isoformat()}"}
        marked = [
            replace(document, meta=dict(document.meta) | mark) for document in map(self.document, doc_ids)
        ]
        upsert(self._tables["documents"], schema.document_rows(marked), "doc_id")

    def list_documents(self, documents: Sequence[Document]) -> None:
        """List documents whose pages are stored (`WriteBatch.commit` does), each in the place of the one that was read
        from the same uri, if any; and spare this writer a new reading of all documents after its own commit."""
        before, known = self.version(), self._by_id()
        own, uris = {d.doc_id for d in documents}, {d.uri for d in documents}
        replaced = [d.doc_id for d in known.values() if d.uri in uris and d.doc_id not in own]
        upsert(self._tables["documents"], schema.document_rows(documents), "uri")
        after = self.version()
        if self._listed[0] == before and after == before + 1:
            kept = {doc_id: d for doc_id, d in known.items() if doc_id not in replaced}
            self._listed = after, kept | {d.doc_id: d for d in documents}
        self._delete_pages(replaced)

    def remove(self, doc_ids: Iterable[str]) -> None:
        gone = list(doc_ids)
        if gone:
            self._tables["documents"].delete(in_list("doc_id", gone))  # first: gone for readers at once
        self._delete_pages(gone)

    def _delete_pages(self, doc_ids: Sequence[str]) -> None:
        for name in ("pages", "images") if doc_ids else ():
            self._tables[name].delete(in_list("doc_id", doc_ids))

    def ledger(self) -> list[LedgerEntry]:
        return schema.read_ledger(self._tables["ledger"].to_arrow())

    def forget(self, uris: Iterable[str]) -> None:
        self._tables["ledger"].delete(in_list("uri", list(uris)))

    def optimize(self) -> None:
        """Bring the text index up to date, or make it where it is missing or of an older kind; that of the ids too;
        merge small files, drop old versions."""
        if not self.has_positions():
            self._tables["pages"].create_index("search_text", config=TEXT_INDEX, replace=True)
        self.index_ids()
        for table in self._tables.values():
            table.optimize(cleanup_older_than=KEEP_VERSIONS)

    def index_ids(self) -> None:
        """So that single pages of many are found without reading the ids of all."""
        for name in ("pages", "images"):
            if self._tables[name].count_rows() >= MANY and not self._indices(name, "page_id"):
                self._tables[name].create_index("page_id", config=BTree())

    def _sweep(self) -> None:
        if is_remote(self.uri):
            return  # another writer's unfinished pages may be among them
        listed = set(self._by_id())
        for name in ("pages", "images"):
            rows = self._tables[name].search().select(["doc_id"]).to_arrow()
            strays = set(rows["doc_id"].unique().to_pylist()) - listed
            if strays:
                self._tables[name].delete(in_list("doc_id", sorted(strays)))


def _allows(where: Filter, document: Document) -> bool:
    return (
        (
            not where.documents
            or not {document.name, document.doc_id, document.uri}.isdisjoint(where.documents)
        )
        and (not where.collections or document.collection in where.collections)
        and (not where.tags or bool(set(where.tags) & set(document.tags)))
        and (not where.since or document.date >= where.since)
        and (not where.until or "" < document.date <= where.until + "~")
        and document.doc_id not in where.without
    )


def _names_of(documents: Mapping[str, Document]) -> dict[str, str]:
    return {doc_id: document.name for doc_id, document in documents.items()}


def in_order(pages: Sequence[Page], by_id: Mapping[str, T]) -> list[T]:
    """Return the value of each page, in the order given. Raises NotFound that names the pages without one."""
    missing = [page.name for page in pages if page.page_id not in by_id]
    if missing:
        raise NotFound(f"{', '.join(missing)}: no longer in the index; search again")
    return [by_id[page.page_id] for page in pages]


def _names(connection: Any) -> list[str]:
    return list(connection.list_tables().tables)


def is_remote(uri: str) -> bool:
    return "://" in uri


@contextmanager
def _lock(uri: str) -> Iterator[None]:
    """One writer per local index."""
    if is_remote(uri):
        yield  # object stores have no locks; LanceDB's commits stay atomic
        return
    busy = (
        f"another process is writing to {uri}: wait until it is done, or stop it; searching goes on meanwhile"
    )
    with locked(Path(uri) / ".writer", busy):
        yield
