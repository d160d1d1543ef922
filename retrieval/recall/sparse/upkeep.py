"""Keeps the sparse lists of an index up to date, while searches go on.

They are derived from the stored words or page images, are kept in a folder of their own beside the tables, and record
the revision of each document. A search uses them only if they have all its documents as they are now, so writers never
wait for them.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.encoders.sparse import SparseEncoder, SparseImageEncoder, SparseTextEncoder, SparseVector
from retrieval.errors import IndexBusy
from retrieval.recall.derived import LOCK, derived_folder, file_state, live, upkeep
from retrieval.recall.sparse.lists import MANIFEST, Manifest, SparseLists
from retrieval.recall.sparse.segment import (
    STEPS,
    Postings,
    Segment,
    load_segment,
    make_segment,
    merge_segments,
    write_segment,
)
from retrieval.store.schema import revision
from retrieval.store.store import Store
from retrieval.types import Document, Page

GROUP = 20_000
"""Most pages of a new segment, unless one document has more: their postings take about 150 MB of memory."""
IMAGE_GROUP = 2_000
"""The same for encoders that read images: a refresh that is stopped loses the work on one group, minutes of a GPU."""
PAGES_AT_ONCE = 64  # encoded between two calls of the progress callback
MOST_SEGMENTS = 8  # with more than this, the small ones are merged
SMALL = 0.25  # of all postings
DEAD = 0.3  # share of a segment's pages that were removed, above which it is rewritten without them

OnProgress = Callable[[str, int, int], None]
"""Called with the step, the amount done and the whole amount; an exception that it raises stops the work safely."""


def folder(uri: str) -> Path:
    """Return where the lists of the index at `uri` are: inside it or, for an object store, on this machine."""
    return derived_folder(uri, "sparse")


def manifest_state(store: Store) -> object:
    """Return a value that differs after each change of the lists."""
    return file_state(folder(store.uri) / MANIFEST)


def load_lists(store: Store, encoder: SparseEncoder) -> SparseLists | None:
    """Return None if there are no lists of this encoder, or if they are damaged."""
    return SparseLists.load(folder(store.uri), encoder.name, encoder.most)


def missing_documents(lists: SparseLists | None, documents: Sequence[Document]) -> list[Document]:
    """Return the documents that the lists do not have as they are now."""
    known = lists.revisions if lists else {}
    return [document for document in documents if known.get(document.doc_id) != revision(document)]


def refresh(
    store: Store, encoder: SparseEncoder, on_progress: OnProgress = lambda what, done, of: None
) -> bool:
    """Add documents that are missing, and drop removed ones once they are many. Return whether anything changed.

    Lists of another encoder are replaced. Each group of documents counts once it is written, also if a later one fails.
    Raises IndexBusy while another process does this.
    """
    with _upkeep(store) as place:
        lists, documents = load_lists(store, encoder), store.documents()
        manifest = Manifest.read(place)
        names = list(manifest.segments) if lists and manifest else []
        most = IMAGE_GROUP if isinstance(encoder, SparseImageEncoder) else GROUP
        for group in _groups(missing_documents(lists, documents), most):
            names.append(_write(place, _encode(store, encoder, group, on_progress)))
            Manifest(encoder.name, tuple(names)).write(place)
        tidied = Manifest(encoder.name, _tidy(place, names, documents))
        if tidied == manifest and lists is not None:
            return False
        tidied.write(place)
        return True


def _encode(
    store: Store, encoder: SparseEncoder, documents: Sequence[Document], on_progress: OnProgress
) -> Segment:
    at = {document.doc_id: position for position, document in enumerate(documents)}
    rows: list[tuple[int, int, bool, list[SparseVector]]] = []
    total = sum(document.pages for document in documents)
    columns = ["doc_id", "number", "source", *(["words"] if isinstance(encoder, SparseTextEncoder) else [])]
    for batch in store.stream_pages(list(at), columns):
        for first in range(0, len(batch), PAGES_AT_ONCE):
            some = batch.slice(first, PAGES_AT_ONCE).to_pylist()
            vectors = _vectors(store, encoder, some)
            rows += [
                (at[row["doc_id"]], row["number"], row["source"] == "ocr", passages)
                for row, passages in zip(some, vectors, strict=True)
            ]
            on_progress("sparse vectors", len(rows), total)
    rows.sort(key=lambda row: row[:2])
    every = [vector for row in rows for vector in row[3]]
    pages = {
        "document": np.array([row[0] for row in rows], np.int32),
        "number": np.array([row[1] for row in rows], np.int32),
        "scanned": np.array([row[2] for row in rows], np.bool_),
        "passages": np.cumsum([0, *(len(row[3]) for row in rows)]),
    }
    weights = np.concatenate([np.zeros(0, np.float32), *(vector.weights for vector in every)])
    impact = np.clip(np.ceil(weights * (STEPS / encoder.most)), 1, STEPS).astype(np.uint8)
    tokens = np.concatenate([np.zeros(0, np.uint32), *(vector.tokens for vector in every)])
    passage = np.repeat(np.arange(len(every)), [len(vector.tokens) for vector in every])
    known = [(document.doc_id, revision(document)) for document in documents]
    return make_segment(known, pages, Postings(tokens, passage, impact))


def _vectors(
    store: Store, encoder: SparseEncoder, rows: Sequence[Mapping[str, Any]]
) -> list[list[SparseVector]]:
    """Return the vectors of the passages of each page; rows: of the pages table, with the words of a text encoder."""
    if isinstance(encoder, SparseImageEncoder):
        keys = [Page(row["doc_id"], row["number"], document="").page_id for row in rows]
        return [[vector] for vector in encoder.encode_images([partial(store.image, key) for key in keys])]
    assert isinstance(encoder, SparseTextEncoder)
    return encoder.encode_pages([row["words"] for row in rows])


def _tidy(place: Path, names: Sequence[str], documents: Sequence[Document]) -> tuple[str, ...]:
    """Rewrite segments with many removed pages; if there are too many segments, merge the small ones."""
    parts = {name: load_segment(place / name) for name in names}
    revisions = {document.doc_id: revision(document) for document in documents}
    alive = {name: live(part.documents, part.document, revisions) for name, part in parts.items()}
    kept = [name for name in names if alive[name].any()]
    rewritten = {name for name in kept if alive[name].mean() < 1 - DEAD}
    if len(kept) > MOST_SEGMENTS:
        most = SMALL * sum(len(part.passage) for part in parts.values())
        rewritten |= {name for name in kept if len(parts[name].passage) < most}
    if not rewritten:
        return tuple(kept)
    chosen = sorted(rewritten)
    merged = merge_segments([parts[name] for name in chosen], [alive[name] for name in chosen])
    return (*(name for name in kept if name not in rewritten), _write(place, merged))


def _write(place: Path, segment: Segment) -> str:
    name = f"segment-{uuid.uuid4().hex[:8]}"
    write_segment(place / name, segment)
    return name


def _groups(documents: Sequence[Document], most: int) -> Iterator[list[Document]]:
    """Yield the documents in their order, in groups of at most `most` pages, but of at least one document."""
    group: list[Document] = []
    for document in documents:
        if group and sum(d.pages for d in group) + document.pages > most:
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def _upkeep(store: Store) -> AbstractContextManager[Path]:
    """Hold the lock for changes; remove, before and after, what a refresh left unfinished. Raises IndexBusy."""
    busy = IndexBusy(
        "another process is writing the sparse lists", remedy=f"wait until those of {store.uri} are complete"
    )
    return upkeep(folder(store.uri), _sweep, busy)


def _sweep(place: Path) -> None:
    """Remove files that the manifest does not name; searches that have them mapped can still read them."""
    manifest = Manifest.read(place)
    named = {MANIFEST, LOCK, *(manifest.segments if manifest else ())}
    for path in place.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
