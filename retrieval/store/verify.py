"""Is the index what it should be? Every row is read once, in small batches; nothing is changed.

Readers see whole documents whatever a writer does, but disks fail, copies are cut short, and a person may delete
the wrong file: this finds out, and says what to do.
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
"""Pages whose vectors are looked at together: a few MiB each for the largest models."""
SAMPLE = 200
"""Images that are decoded: of 200,000 it would take hours."""
MOST = 1_000
"""Problems that are told; where there are more, one thing is wrong with all."""
ROUNDING = 1e-3
"""How far a unit vector's length may be from 1: twice what float16's 11 bits of each value make of it at worst."""
AGAIN = "remove the document ('folioscope docs remove') and ingest it again"
COPY = "restore the index from a copy, or ingest again into another place"


@dataclass(frozen=True, slots=True)
class Problem:
    document: str  # its name; "" where the problem is the index's
    page: int  # from 1; 0 where it is not one page's
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    documents: int  # listed
    pages: int  # rows, those of no listed document included
    images: int  # how many were decoded, of all
    problems: tuple[Problem, ...]  # at most MOST, and one that says so


@dataclass(slots=True)
class _Seen:
    """What the tables hold, by doc_id: page numbers as often as they occur."""

    pages: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    images: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    listed: int = 0
    decoded: int = 0


def verify(store: Store, on_progress: Callable[[int, int], None] = lambda done, of: None) -> Report:
    """Check the whole index. `on_progress` hears how many rows of how many have been read.

    A writer that is at work meanwhile can make documents look broken: the report then says so.
    """
    before, seen = store.version(), _Seen()
    found = list(islice(_problems(store, seen, on_progress), MOST + 1))
    if len(found) > MOST:
        found[MOST:] = [Problem("", 0, f"there are more than {MOST:,} problems: {COPY}")]
    if store.version() != before:
        found.insert(0, Problem("", 0, "the index was written to meanwhile: check again when that is done"))
    return Report(seen.listed, sum(map(len, seen.pages.values())), seen.decoded, tuple(found))


def disk(uri: str) -> dict[str, int]:
    """Bytes by table of a local index; 0 for each where it is a remote one."""
    return {name: sum(map(_size, (Path(uri) / f"{name}.lance").rglob("*"))) for name in NAMES}


def state(store: Store) -> list[tuple[str, dict[str, int]]]:
    """Facts of each table, for people who look after the index: rows, fragments, versions, bytes on disk, and of
    `pages` how many rows its text index does not have yet.
    """
    sizes = disk(store.uri)
    facts = []
    for name, table in store.tables.by_name().items():
        fragments = table.stats()["fragment_stats"]["num_fragments"]
        counts = {"rows": table.count_rows(), "fragments": fragments, "versions": len(table.list_versions()),
                  "bytes": sizes[name]}  # fmt: skip
        if name == "pages":
            unindexed = _unindexed(store)
            counts["unindexed rows"] = counts["rows"] if unindexed is None else unindexed
        facts.append((name, counts))
    return facts


def _problems(store: Store, seen: _Seen, on_progress: Callable[[int, int], None]) -> Iterator[Problem]:
    try:
        documents = {document.doc_id: document for document in store.documents()}
        seen.listed = len(documents)
        yield from _read(store, documents, seen, on_progress)
        unindexed = _unindexed(store)
    except (OSError, ValueError, RuntimeError) as error:
        yield Problem("", 0, f"the index cannot be read to its end ({first_line(error)}): {COPY}")
        return
    for doc_id, document in documents.items():
        yield from _of_document(document, seen.pages.get(doc_id, []), seen.images.get(doc_id, []))
    strays = {name: sum(len(numbers) for doc_id, numbers in rows.items() if doc_id not in documents)
              for name, rows in (("pages", seen.pages), ("images", seen.images))}  # fmt: skip
    if any(strays.values()):
        yield Problem("", 0, f"{strays['pages']:,} pages and {strays['images']:,} images belong to no listed document, "
                      "as after an interrupted ingest: the next one sweeps them away")  # fmt: skip
    if unindexed is None:
        yield Problem("", 0, "the text index is missing, so that every search reads all text: "
                      "run 'folioscope index optimize', which makes one")  # fmt: skip
    elif unindexed:
        yield Problem("", 0, f"the text index lacks {unindexed:,} pages, which every search has to read: "
                      "run 'folioscope index optimize'")  # fmt: skip


def _read(
    store: Store, documents: Mapping[str, Document], seen: _Seen, on_progress: Callable[[int, int], None]
) -> Iterator[Problem]:
    total = store.tables.pages.count_rows() + store.tables.images.count_rows()
    done = 0
    pages = store.tables.pages.search().select(["page_id", "doc_id", "number", "vectors", "regions"])
    for batch in pages.to_batches(ROWS):
        rows = batch.select(["page_id", "doc_id", "number"]).to_pylist()
        for row, message in zip(rows, _embeddings(pa.Table.from_batches([batch])), strict=True):
            doc_id, number = row["doc_id"], row["number"] or 0
            seen.pages[doc_id].append(number)
            if doc_id not in documents:
                continue
            if row["page_id"] != f"{doc_id}#{number}":
                message = f"this row is page {number} of {doc_id}, its key {row['page_id']}"
            if message:
                yield Problem(documents[doc_id].name, number, f"{message}: {AGAIN}")
        on_progress(done := done + batch.num_rows, total)
    for batch in store.tables.images.search().select(["page_id", "doc_id"]).to_batches(1_000):
        for row in batch.to_pylist():
            seen.images[row["doc_id"]].append(_number(row["page_id"]))
        on_progress(done := done + batch.num_rows, total)
    yield from _images(store, documents, seen)


def _embeddings(table: pa.Table) -> Iterator[str]:
    """What is wrong with each row's vectors; "" for those that are as they should be."""
    vectors, offsets = ragged_vectors(table["vectors"])
    with np.errstate(over="ignore", invalid="ignore"):
        lengths = np.linalg.norm(vectors, axis=1)
    regions = table["regions"].combine_chunks().value_lengths().fill_null(0).to_pylist()
    for begin, end, boxes in zip(offsets[:-1], offsets[1:], regions, strict=True):
        mine, count = lengths[begin:end], int(end - begin)
        off = int((np.abs(mine - 1) > ROUNDING).sum())
        if not np.isfinite(mine).all():
            yield f"{int((~np.isfinite(mine)).sum())} of its {count} vectors have values that are no numbers"
        elif off:
            yield f"{off} of its {count} vectors are not of length 1 (one is {mine[np.abs(mine - 1).argmax()]:.3f})"
        elif boxes != 4 * count:
            yield f"its {count} vectors have {boxes / 4:g} regions"
        else:
            yield ""


def _of_document(document: Document, pages: Sequence[int], images: Sequence[int]) -> Iterator[Problem]:
    failed = {int(number) for number in re.findall(r"\d+", document.meta.get("failed_pages", ""))}
    expected = set(range(1, document.pages + 1)) - failed
    have, shown = set(pages), set(images)
    without = f" without {_listed(failed)}" if failed else ""
    wrong = (
        (expected - have, "is missing", "are missing", f", of {len(expected)}"),
        (have - expected, "is there", "are there", f", but the document has {document.pages} pages{without}"),
        (_doubled(pages), "is there", "are there", " more than once"),
        (have - shown, "has", "have", " no image"),
        (shown - have, "has", "have", " an image, but no row among the pages"),
        (_doubled(images), "has", "have", " more than one image"),
    )
    for numbers, one, several, what in wrong:
        if len(numbers) == 1:
            yield Problem(document.name, min(numbers), f"page {_listed(numbers)} {one}{what}: {AGAIN}")
        elif numbers:
            yield Problem(document.name, 0, f"pages {_listed(numbers)} {several}{what}: {AGAIN}")


def _listed(numbers: Collection[int]) -> str:
    ordered = sorted(numbers)
    return ", ".join(map(str, ordered[:10])) + (f" and {len(ordered) - 10:,} more" if ordered[10:] else "")


def _doubled(numbers: Sequence[int]) -> set[int]:
    return {number for number, times in Counter(numbers).items() if times > 1}


def _images(store: Store, documents: Mapping[str, Document], seen: _Seen) -> Iterator[Problem]:
    """Decode some; which ones depends on nothing but what there is."""
    there = sorted((doc_id, number) for doc_id in documents for number in set(seen.images.get(doc_id, [])))
    chosen = random.Random(0).sample(there, min(SAMPLE, len(there)))
    if not chosen:
        return
    keys = [f"{doc_id}#{number}" for doc_id, number in chosen]
    rows = store.tables.images.search().where(in_list("page_id", keys))
    for batch in rows.select(["page_id", "doc_id", "image"]).to_batches(16):
        for row in batch.to_pylist():
            seen.decoded += 1
            if wrong := _undecodable(row["image"]):
                message = f"its image cannot be decoded ({wrong}): {AGAIN}"
                yield Problem(documents[row["doc_id"]].name, _number(row["page_id"]), message)


def _undecodable(data: bytes | None) -> str:
    try:
        with Image.open(io.BytesIO(data or b"")) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return "it is empty" if not data else f"{len(data):,} bytes, {type(error).__name__}"
    return ""


def _unindexed(store: Store) -> int | None:
    """Pages that the text index does not have; None where there is no text index."""
    described = indices(store.tables.pages, "search_text")
    stats = store.tables.pages.index_stats(described[0].name) if described else None
    return int(stats.num_unindexed_rows) if stats else None


def _number(page_id: str) -> int:
    number = page_id.rpartition("#")[2]
    return int(number) if number.isdecimal() else 0


def _size(file: Path) -> int:
    with suppress(OSError):  # a writer may have dropped it meanwhile
        return file.stat().st_size if file.is_file() else 0
    return 0
