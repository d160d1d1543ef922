"""Checking an index for damage. Every row is read once, in small batches; nothing is changed.

Readers see complete documents whatever a writer does, but disks fail, copies end early, and people delete the wrong
file. Each problem is reported with what to do about it.
"""

import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from retrieval.errors import first_line
from retrieval.store.schema import ragged_vectors
from retrieval.store.store import Store
from retrieval.store.tables import NAMES, in_list, indices
from retrieval.types import Document

ROWS = 64
"""Pages whose vectors are checked together: a few MiB each for the largest models."""
SAMPLE = 200
"""Images that are decoded at most: decoding 200,000 would take hours."""
MOST = 1_000
"""Problems that are reported at most: if there are more, they have one cause."""
ROUNDING = 1e-3
"""How far a unit vector's length may be from 1: twice the worst error from float16, which has 11 bits for a value."""
AGAIN = "remove the document and ingest it again"
COPY = "restore the index from a copy, or ingest again into another place"


@dataclass(frozen=True, slots=True)
class Problem:
    document: str  # its name; "" for a problem of the whole index
    page: int  # from 1; 0 for a problem of several pages, or of none
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    documents: int  # listed
    pages: int  # rows, including those that belong to no listed document
    images: int  # images that were decoded
    problems: tuple[Problem, ...]  # at most MOST, and then one that says that there are more


@dataclass(slots=True)
class _Contents:
    """What the tables contain: page numbers by doc_id, as often as they occur."""

    pages: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    images: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    listed: int = 0
    decoded: int = 0


def verify(store: Store, on_progress: Callable[[int, int], None] = lambda done, of: None) -> Report:
    """Check the whole index. `on_progress` gets the number of rows read so far, and of all rows.

    If another process writes meanwhile, intact documents may look broken: the report then says so.
    """
    before, stored = store.version(), _Contents()
    problems = list(islice(_problems(store, stored, on_progress), MOST + 1))
    if len(problems) > MOST:
        problems[MOST:] = [Problem("", 0, f"there are more than {MOST:,} problems: {COPY}")]
    if store.version() != before:
        problems.insert(
            0, Problem("", 0, "the index was changed during the check: check again after the writing")
        )
    return Report(
        documents=stored.listed,
        pages=sum(map(len, stored.pages.values())),
        images=stored.decoded,
        problems=tuple(problems),
    )


def bytes_on_disk(uri: str) -> dict[str, int]:
    """Return the bytes on disk of each table of a local index; 0 for each table of a remote one."""
    return {name: sum(map(_size, (Path(uri) / f"{name}.lance").rglob("*"))) for name in NAMES}


def table_facts(store: Store) -> list[tuple[str, dict[str, int]]]:
    """Return facts about each table by name: rows, fragments, versions, bytes on disk, and for `pages` the number of
    rows that are not in the text index yet.
    """
    sizes = bytes_on_disk(store.uri)
    facts = []
    for name, table in store.tables.by_name().items():
        fragments = table.stats()["fragment_stats"]["num_fragments"]
        counts = {
            "rows": table.count_rows(),
            "fragments": fragments,
            "versions": len(table.list_versions()),
            "bytes": sizes[name],
        }
        if name == "pages":
            unindexed = _unindexed(store)
            counts["unindexed rows"] = counts["rows"] if unindexed is None else unindexed
        facts.append((name, counts))
    return facts


def _problems(store: Store, stored: _Contents, on_progress: Callable[[int, int], None]) -> Iterator[Problem]:
    try:
        documents = {document.doc_id: document for document in store.documents()}
        stored.listed = len(documents)
        yield from _read_all(store, documents, stored, on_progress)
        unindexed = _unindexed(store)
    except (OSError, ValueError, RuntimeError) as error:
        yield Problem("", 0, f"the index cannot be read completely ({first_line(error)}): {COPY}")
        return
    for doc_id, document in documents.items():
        yield from _of_document(document, stored.pages.get(doc_id, []), stored.images.get(doc_id, []))
    pages, images = (
        sum(len(numbers) for doc_id, numbers in rows.items() if doc_id not in documents)
        for rows in (stored.pages, stored.images)
    )
    if pages or images:
        message = (
            f"{pages:,} pages and {images:,} images belong to no listed document, as after an interrupted ingest: "
            "the next ingest deletes them"
        )
        yield Problem("", 0, message)
    if unindexed is None:
        message = "the text index is missing, so every search reads all text: optimizing the index creates it"
        yield Problem("", 0, message)
    elif unindexed:
        message = (
            f"the text index lacks {unindexed:,} pages, which every search has to read: "
            "optimizing the index adds them"
        )
        yield Problem("", 0, message)


def _read_all(
    store: Store,
    documents: Mapping[str, Document],
    stored: _Contents,
    on_progress: Callable[[int, int], None],
) -> Iterator[Problem]:
    total = store.tables.pages.count_rows() + store.tables.images.count_rows()
    done = 0
    pages = store.tables.pages.search().select(["page_id", "doc_id", "number", "vectors", "regions"])
    for batch in pages.to_batches(ROWS):
        rows = batch.select(["page_id", "doc_id", "number"]).to_pylist()
        for row, message in zip(rows, _embeddings(pa.Table.from_batches([batch])), strict=True):
            doc_id, number = row["doc_id"], row["number"] or 0
            stored.pages[doc_id].append(number)
            if doc_id not in documents:
                continue
            if row["page_id"] != f"{doc_id}#{number}":
                message = f"this row is page {number} of {doc_id}, its key {row['page_id']}"
            if message:
                yield Problem(documents[doc_id].name, number, f"{message}: {AGAIN}")
        on_progress(done := done + batch.num_rows, total)
    for batch in store.tables.images.search().select(["page_id", "doc_id"]).to_batches(1_000):
        for row in batch.to_pylist():
            stored.images[row["doc_id"]].append(_number(row["page_id"]))
        on_progress(done := done + batch.num_rows, total)
    yield from _images(store, documents, stored)


def _embeddings(table: pa.Table) -> Iterator[str]:
    """Yield what is wrong with each row's vectors; "" for a row without a fault."""
    vectors, offsets = ragged_vectors(table["vectors"])
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1)
    regions = table["regions"].combine_chunks().value_lengths().fill_null(0).to_pylist()
    for begin, end, boxes in zip(offsets[:-1], offsets[1:], regions, strict=True):
        own, count = lengths[begin:end], int(end - begin)
        off = int((np.abs(own - 1) > ROUNDING).sum())
        if not np.isfinite(own).all():
            yield f"{int((~np.isfinite(own)).sum())} of its {count} vectors have values that are not numbers"
        elif off:
            yield f"{off} of its {count} vectors do not have length 1 (one has {own[np.abs(own - 1).argmax()]:.3f})"
        elif boxes != 4 * count:
            yield f"its {count} vectors have {boxes / 4:g} regions"
        else:
            yield ""


def _of_document(document: Document, pages: Sequence[int], images: Sequence[int]) -> Iterator[Problem]:
    failed = {int(number) for number in re.findall(r"\d+", document.meta.get("failed_pages", ""))}
    expected = set(range(1, document.pages + 1)) - failed
    with_row, with_image = set(pages), set(images)
    without = f" without {_enumerated(failed)}" if failed else ""
    surplus = f", but the document has {document.pages} pages{without}"
    faults = (  # pages, singular, plural, rest
        (expected - with_row, "is missing", "are missing", f", of {len(expected)}"),
        (with_row - expected, "is in the index", "are in the index", surplus),
        (_doubled(pages), "is in the index", "are in the index", " more than once"),
        (with_row - with_image, "has", "have", " no image"),
        (with_image - with_row, "has", "have", " an image, but no row among the pages"),
        (_doubled(images), "has", "have", " more than one image"),
    )
    for numbers, singular, plural, rest in faults:
        if len(numbers) == 1:
            yield Problem(
                document.name, min(numbers), f"page {_enumerated(numbers)} {singular}{rest}: {AGAIN}"
            )
        elif numbers:
            yield Problem(document.name, 0, f"pages {_enumerated(numbers)} {plural}{rest}: {AGAIN}")


def _enumerated(numbers: Collection[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:10])) + (f" and {len(ordered) - 10:,} more" if ordered[10:] else "")


def _doubled(numbers: Sequence[int]) -> set[int]:
    return {number for number, times in Counter(numbers).items() if times > 1}


def _images(store: Store, documents: Mapping[str, Document], stored: _Contents) -> Iterator[Problem]:
    """Decode a sample of the images, the same one each time for the same index."""
    candidates = sorted(
        (doc_id, number) for doc_id in documents for number in set(stored.images.get(doc_id, []))
    )
    chosen = random.Random(0).sample(candidates, min(SAMPLE, len(candidates)))
    if not chosen:
        return
    keys = [f"{doc_id}#{number}" for doc_id, number in chosen]
    rows = store.tables.images.search().where(in_list("page_id", keys))
    for batch in rows.select(["page_id", "doc_id", "image"]).to_batches(16):
        for row in batch.to_pylist():
            stored.decoded += 1
            if reason := _undecodable(row["image"]):
                message = f"its image cannot be decoded ({reason}): {AGAIN}"
                yield Problem(documents[row["doc_id"]].name, _number(row["page_id"]), message)


def _undecodable(data: bytes | None) -> str:
    """Return why the image cannot be decoded; "" if it can."""
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return "it is empty" if not data else f"{len(data):,} bytes, {type(error).__name__}"
    return ""


def _unindexed(store: Store) -> int | None:
    """Return the number of pages that are not in the text index; None if there is no text index."""
    text_indices = indices(store.tables.pages, "search_text")
    stats = store.tables.pages.index_stats(text_indices[0].name) if text_indices else None
    return int(stats.num_unindexed_rows) if stats else None


def _number(page_id: str) -> int:
    number = page_id.rpartition("#")[2]
    return int(number) if number.isdecimal() else 0


def _size(file: Path) -> int:
    with suppress(OSError):  # a writer may have deleted it meanwhile
        return file.stat().st_size if file.is_file() else 0
    return 0
