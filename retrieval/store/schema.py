"""The layout of the index's tables in Arrow, and conversions between our types and their rows.

`documents` lists the documents; `pages` has what is searched; `images` has what is only displayed, in a table of its
own, so that no scan reads it; `ledger` has the status of every file. Vectors are float16, or int8 in an index that was
created with that precision; the boxes of words are 16-bit fractions of the page, regions are float32.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.errors import IndexDamaged, SchemaMismatch
from retrieval.text import fold
from retrieval.types import (
    Document,
    Fingerprint,
    Page,
    PageContent,
    PageEmbedding,
    Precision,
    Stored,
    TextSource,
    Vectors,
    Word,
)

SCHEMA_VERSION = 1
METADATA = b"folioscope"
REVISION_KEY = "read again"
"""Key in a document's `meta`: the time at which its pages were last overwritten. Missing if they never were."""

Outcome = Literal["done", "skipped", "failed", "removed"]


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page with everything that is stored of it."""

    page: Page
    words: tuple[Word, ...]
    source: TextSource
    title: str  # of the document
    embedding: PageEmbedding
    image: bytes  # WebP, at ingest's dpi
    thumbnail: bytes  # WebP


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """The status of one file: `reason` in one or two words for tables, `message` in a sentence for people."""

    uri: str
    doc_id: str
    size: int  # bytes
    modified: datetime  # the file's modification time, UTC
    outcome: Outcome
    reason: str
    message: str
    pages: int
    seconds: float
    at: datetime  # when this was recorded, UTC


def documents_schema() -> pa.Schema:
    return pa.schema([
        pa.field("doc_id", pa.string(), nullable=False), ("name", pa.string()), ("uri", pa.string()),
        ("pages", pa.int32()), ("added_at", pa.timestamp("us", "UTC")), ("title", pa.string()),
        ("collection", pa.string()), ("tags", pa.list_(pa.string())), ("date", pa.string()),
        ("scanned_pages", pa.int32()), ("meta", pa.string()),
    ])  # fmt: skip


def pages_schema(fingerprint: Fingerprint, precision: Precision = "float16") -> pa.Schema:
    """Return the layout of `pages`; its metadata record the layout's version and the encoder."""
    kind = pa.int8() if precision == "int8" else pa.float16()
    metadata = json.dumps({"schema": SCHEMA_VERSION, "encoder": asdict(fingerprint)})
    return pa.schema([
        pa.field("page_id", pa.string(), nullable=False), ("doc_id", pa.string()), ("number", pa.int32()),
        ("width", pa.float32()), ("height", pa.float32()), ("source", pa.string()),
        ("title", pa.string()), ("search_text", pa.string()), ("words", pa.list_(pa.string())),
        ("boxes", pa.list_(pa.uint16())), ("vectors", pa.list_(pa.list_(kind, fingerprint.dim))),
        ("regions", pa.list_(pa.float32())), ("dense", pa.list_(pa.float32())),
    ], metadata={METADATA: metadata.encode()})  # fmt: skip


def images_schema() -> pa.Schema:
    return pa.schema([
        pa.field("page_id", pa.string(), nullable=False), ("doc_id", pa.string()),
        ("image", pa.large_binary()), ("thumbnail", pa.large_binary()),
    ])  # fmt: skip


def ledger_schema() -> pa.Schema:
    return pa.schema([
        pa.field("uri", pa.string(), nullable=False), ("doc_id", pa.string()), ("size", pa.int64()),
        ("modified", pa.timestamp("us", "UTC")), ("outcome", pa.string()), ("reason", pa.string()),
        ("message", pa.string()),
        ("pages", pa.int32()), ("seconds", pa.float64()), ("at", pa.timestamp("us", "UTC")),
    ])  # fmt: skip


def stored_fingerprint(schema: pa.Schema, where: str) -> Fingerprint:
    """Return the encoder recorded in the layout of `pages`; `where` is the index's uri, for messages.

    Raises IndexDamaged if none is recorded, SchemaMismatch if the layout has another version than ours.
    """
    try:
        metadata = json.loads((schema.metadata or {})[METADATA])
        version, encoder = metadata["schema"], metadata["encoder"]
    except (KeyError, ValueError) as error:
        raise IndexDamaged(
            f"{where} does not record which encoder wrote it: it is not an index of Folioscope, "
            "or it is damaged; ingest into another place"
        ) from error
    if version != SCHEMA_VERSION:
        raise SchemaMismatch(
            f"{where} has table layout {version}, this program reads layout {SCHEMA_VERSION}: "
            "use the version of the program that wrote it, or ingest again into another place"
        )
    return Fingerprint(**encoder)


def document_rows(documents: Iterable[Document]) -> pa.Table:
    rows = [{**asdict(d), "tags": list(d.tags), "meta": json.dumps(dict(d.meta))} for d in documents]
    return pa.Table.from_pylist(rows, schema=documents_schema())


def read_documents(table: pa.Table) -> list[Document]:
    return [
        Document(**{**row, "tags": tuple(row["tags"]), "meta": json.loads(row["meta"])})
        for row in table.to_pylist()
    ]


def page_rows(records: Sequence[PageRecord], schema: pa.Schema) -> pa.Table:
    """Return rows of the table `pages` in this layout, whose type of `vectors` decides the precision."""

    def column(get: Callable[[PageRecord], Any]) -> list[Any]:
        return [get(record) for record in records]

    vectors = [record.embedding.vectors for record in records]
    kind = schema.field("vectors").type.value_type
    flat = np.concatenate([np.zeros((0, kind.list_size), np.float32), *vectors]).astype(
        np.float32, copy=False
    )
    stored = quantize(flat, "int8" if kind.value_type == pa.int8() else "float16")
    arrays = {
        "page_id": column(lambda r: r.page.page_id),
        "doc_id": column(lambda r: r.page.doc_id),
        "number": column(lambda r: r.page.number),
        "width": column(lambda r: r.page.width),
        "height": column(lambda r: r.page.height),
        "source": column(lambda r: r.source),
        "title": column(lambda r: r.title),
        "search_text": column(lambda r: fold(f"{r.title}\n{' '.join(w.text for w in r.words)}")),
        "words": column(lambda r: [w.text for w in r.words]),
        "boxes": _lists([_pack_boxes(r.words) for r in records], pa.uint16()),
        "vectors": pa.ListArray.from_arrays(
            _offsets(vectors), pa.FixedSizeListArray.from_arrays(stored.ravel(), kind.list_size)
        ),
        "regions": _lists([r.embedding.regions.ravel() for r in records], pa.float32()),
        "dense": [None if r.embedding.dense is None else r.embedding.dense for r in records],
    }
    return pa.table(
        [
            pa.array(arrays[f.name], f.type) if isinstance(arrays[f.name], list) else arrays[f.name]
            for f in schema
        ],
        schema=schema,
    )


def image_rows(records: Sequence[PageRecord]) -> pa.Table:
    rows = [
        {"page_id": r.page.page_id, "doc_id": r.page.doc_id, "image": r.image, "thumbnail": r.thumbnail}
        for r in records
    ]
    return pa.Table.from_pylist(rows, schema=images_schema())


def ledger_rows(entries: Iterable[LedgerEntry]) -> pa.Table:
    return pa.Table.from_pylist([asdict(entry) for entry in entries], schema=ledger_schema())


def read_ledger(table: pa.Table) -> list[LedgerEntry]:
    return [LedgerEntry(**row) for row in table.to_pylist()]


PAGE_COLUMNS = ["page_id", "doc_id", "number", "width", "height"]
CONTENT_COLUMNS = [*PAGE_COLUMNS, "source", "title", "words", "boxes"]
EMBEDDING_COLUMNS = ["page_id", "vectors", "regions", "dense"]


def read_pages(table: pa.Table, names: Mapping[str, str]) -> list[Page]:
    """Return the page of each row. names: the documents' names by doc_id; renaming a document rewrites no page."""
    return [
        Page(
            doc_id=row["doc_id"],
            number=row["number"],
            document=names[row["doc_id"]],
            width=row["width"],
            height=row["height"],
        )
        for row in table.select(PAGE_COLUMNS).to_pylist()
    ]


def read_contents(
    table: pa.Table, names: Mapping[str, str], image_of: Callable[[str], bytes]
) -> list[PageContent]:
    """Return the content of each row. `image_of` returns the image of a page_id; it is called when needed, once."""
    contents = []
    boxes = _split(table["boxes"], pa.uint16())
    rows = table.select(["source", "title", "words"]).to_pylist()
    for page, row, packed in zip(read_pages(table, names), rows, boxes, strict=True):
        places = (packed.reshape(-1, 4) / 65535).tolist()
        words = tuple(Word(text, tuple(box)) for text, box in zip(row["words"], places, strict=True))
        contents.append(
            PageContent(
                page=page,
                words=words,
                source=row["source"],
                read_image=cache(partial(image_of, page.page_id)),
                title=row["title"],
            )
        )
    return contents


def read_embeddings(table: pa.Table) -> list[PageEmbedding]:
    vectors, offsets = ragged_vectors(table["vectors"])
    regions = _split(table["regions"], pa.float32())
    dense = table["dense"].to_pylist()
    return [
        PageEmbedding(vectors[a:b], places.reshape(-1, 4), None if d is None else np.array(d, np.float32))
        for a, b, places, d in zip(offsets, offsets[1:], regions, dense, strict=False)
    ]


def ragged_vectors(column: pa.ChunkedArray) -> tuple[Vectors, NDArray[np.int64]]:
    """Return (vectors (n, d) float32, offsets (pages + 1,)) of a `vectors` column."""
    stored, offsets = ragged_stored(column)
    return dequantize(stored), offsets


def ragged_stored(column: pa.ChunkedArray) -> tuple[Stored, NDArray[np.int64]]:
    """Return (vectors (n, d) as stored, offsets (pages + 1,)) of a `vectors` column."""
    pages = column.combine_chunks()
    pages = pages.chunk(0) if isinstance(pages, pa.ChunkedArray) else pages
    lengths = pages.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    inner = pages.flatten()
    flat = inner.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, inner.type.list_size), np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def dequantize(stored: Stored) -> Vectors:
    """Return stored vectors as (n, d) float32, of length 1."""
    vectors: Vectors = stored.astype(np.float32)
    if stored.dtype == np.int8:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return vectors


def quantize(vectors: Vectors, precision: Precision) -> Stored:
    """Return unit vectors (n, d) as they are stored: float16, or int8 scaled so that each one's largest value is 127.

    The scale of int8 is not stored: `dequantize` restores the length, which is 1.
    """
    if precision == "float16":
        return vectors.astype(np.float16)
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-9)
    stored: Stored = np.rint(vectors * (127 / largest)).astype(np.int8)
    return stored


def _pack_boxes(words: Sequence[Word]) -> NDArray[np.uint16]:
    boxes = np.array([word.box for word in words], np.float64).reshape(-1, 4)
    return np.rint(np.clip(boxes, 0, 1) * 65535).astype(np.uint16).ravel()


def _offsets(rows: Sequence[NDArray[Any]]) -> pa.Array:
    return pa.array(np.cumsum([0, *map(len, rows)]), pa.int32())


def _lists(rows: Sequence[NDArray[Any]], kind: pa.DataType) -> pa.Array:
    flat = np.concatenate([np.zeros(0, kind.to_pandas_dtype()), *rows])
    return pa.ListArray.from_arrays(_offsets(rows), pa.array(flat, kind))


def _split(column: pa.ChunkedArray, kind: pa.DataType) -> list[NDArray[Any]]:
    return [
        np.asarray(row.values.to_numpy(zero_copy_only=False) if row.is_valid else (), kind.to_pandas_dtype())
        for row in column
    ]


def revision(document: Document) -> str:
    """Return the document's revision, which changes whenever its pages are written, and at no other time."""
    return document.meta.get(REVISION_KEY, document.added_at.isoformat())


def now() -> datetime:
    return datetime.now(UTC)
