"""Builds, refreshes, measures and drops the inverted index, while searches go on.

The inverted index is derived from the stored vectors, is kept in a folder of its own beside the tables, and records the
revision of each document. Documents that it does not have, or has in another revision, are scanned; removed ones are
skipped. So writers never wait for it, and a build that is killed leaves the earlier index as it was.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.errors import IndexBusy
from retrieval.recall.derived import LOCK, derived_folder, file_state, live, upkeep
from retrieval.recall.ivf import codebook, segment
from retrieval.recall.ivf.codebook import Codebook, Codes
from retrieval.recall.ivf.inverted_index import MANIFEST, InvertedIndex, Manifest
from retrieval.recall.ivf.segment import Segment
from retrieval.store.schema import dequantize, ragged_stored, revision
from retrieval.store.store import Store
from retrieval.types import Document, Page, Stored, Vectors

GROUP = 4_000_000
"""Most vectors of a new segment, unless one document has more; their codes take about 200 MB of memory."""
BLOCK = 32_768  # vectors encoded at once: their arrays are then small enough for malloc to reuse
MOST_SAMPLED = 2_000_000  # vectors to train on: 512 MB at 128 dimensions
OUTGROWN = 8  # times the vectors that the codebook was trained for, above which everything is built again
MOST_SEGMENTS = 8  # with more than this, the small ones are merged
SMALL = 0.25  # of all postings
DEAD = 0.3  # share of a segment's pages that were removed, above which it is rewritten without them
SAMPLED = 64  # pages from which the mean number of vectors of a page is estimated

OnProgress = Callable[[str, int, int], None]
"""Called with the step, the amount done and the whole amount; an exception that it raises stops the work safely."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What the inverted index has, and what it lacks: all pages, if there is no inverted index."""

    pages: int = 0  # that are in the inverted index as they are now
    removed: int = 0  # pages that searches skip
    missing: int = 0  # pages that are not in the inverted index: searches scan them
    vectors: int = 0
    centroids: int = 0
    segments: int = 0
    bytes: int = 0

    @property
    def bytes_per_page(self) -> float:
        return self.bytes / max(1, self.pages + self.removed)


def folder(uri: str) -> Path:
    """Returns where the inverted index of the index at `uri` is: inside it or, for an object store, on this machine."""
    return derived_folder(uri, "recall")


def manifest_state(store: Store) -> object:
    """Returns a value that differs after each change of the inverted index."""
    return file_state(folder(store.uri) / MANIFEST)


def load_inverted_index(store: Store) -> InvertedIndex | None:
    """Returns None if there is no inverted index for this store's encoder, or if it is damaged."""
    return InvertedIndex.load(folder(store.uri), str(store.fingerprint))


def current_doc_ids(index: InvertedIndex, documents: Sequence[Document]) -> set[str]:
    """Returns the doc_ids whose pages the inverted index has in their present revision."""
    return {d.doc_id for d in documents if (d.doc_id, revision(d)) in index.documents}


def live_pages(part: Segment, revisions: Mapping[str, str]) -> NDArray[np.bool_]:
    """Returns (pages,): whether each page of a segment is of its document's present revision; revisions: by doc_id."""
    return live(part.documents, part.pages["document"], revisions)


def stats(store: Store) -> Stats:
    """Counts the pages and the bytes of the inverted index."""
    documents, index = store.documents(), load_inverted_index(store)
    pages = sum(d.pages for d in documents)
    if index is None:
        return Stats(missing=pages)
    revisions = {d.doc_id: revision(d) for d in documents}
    alive = sum(int(live_pages(part, revisions).sum()) for part in index.segments)
    present = current_doc_ids(index, documents)
    return Stats(
        alive,
        sum(map(len, index.segments)) - alive,
        sum(d.pages for d in documents if d.doc_id not in present),
        index.vectors,
        len(index.book.centroids),
        len(index.segments),
        _bytes(index.manifest, folder(store.uri)),
    )


def _bytes(manifest: Manifest, place: Path) -> int:
    with suppress(OSError):  # a refresh may remove a segment meanwhile
        return sum(path.stat().st_size for path in manifest.files(place))
    return 0


def drop(store: Store) -> None:
    """Remove the inverted index, so that searches scan all pages again. Raises IndexBusy."""
    with _upkeep(store) as place:
        (place / MANIFEST).unlink(missing_ok=True)


def build(store: Store, on_progress: OnProgress = lambda what, done, of: None) -> None:
    """Train on a sample of the stored vectors, and build the inverted index of all documents. Raises IndexBusy."""
    with _upkeep(store) as place:
        _build(store, place, on_progress)


def refresh(store: Store, on_progress: OnProgress = lambda what, done, of: None) -> bool:
    """Add documents that are missing, and drop removed ones once they are many. Returns False if nothing was to do.

    Builds everything if there is no inverted index yet, or if the documents have outgrown it. Raises IndexBusy.
    """
    with _upkeep(store) as place:
        index, documents = load_inverted_index(store), store.documents()
        if index is None or _mean(store, documents) * sum(d.pages for d in documents) > OUTGROWN * max(
            index.manifest.trained_for, 1
        ):
            return _build(store, place, on_progress)
        present = current_doc_ids(index, documents)
        missing = [d for d in documents if d.doc_id not in present]
        names = list(index.manifest.segments)
        names += _encode(store, place, index.book, missing, on_progress)
        tidied = _tidy(store, place, replace(index.manifest, segments=tuple(names)), on_progress)
        if tidied == index.manifest:
            return False
        tidied.write(place)
        return True


def is_refresh_due(store: Store, quick: float) -> bool:
    """Whether a refresh makes searches faster; quick: the vectors that a scan reads in `search.recall_ms`.

    It does once the scan of pages that are not in the inverted index takes a quarter of that time, or once many pages
    of a segment were removed.
    """
    documents, index = store.documents(), load_inverted_index(store)
    vectors = _mean(store, documents) * sum(d.pages for d in documents)
    if vectors <= quick:
        return False
    if index is None:
        return True
    present = current_doc_ids(index, documents)
    missing = sum(d.pages for d in documents if d.doc_id not in present) / sum(d.pages for d in documents)
    revisions = {d.doc_id: revision(d) for d in documents}
    dead = max((1 - live_pages(part, revisions).mean() for part in index.segments), default=0.0)
    return bool(missing * vectors > quick / 4 or dead > DEAD)


def _build(store: Store, place: Path, on_progress: OnProgress) -> bool:
    documents = store.documents()
    pages = sum(d.pages for d in documents)
    if not pages:
        return False
    vectors = round(_mean(store, documents) * pages)
    centroids = codebook.centroid_count(vectors)
    sample = _sample(store, documents, min(codebook.PER_CENTROID * centroids, MOST_SAMPLED) / max(vectors, 1))
    if not len(sample):
        return False
    book = codebook.train_codebook(sample, centroids, lambda done, of: on_progress("training", done, of))
    del sample
    name = f"codebook-{uuid.uuid4().hex[:8]}.npz"
    book.save(place / name)
    names = _encode(store, place, book, documents, on_progress)
    manifest = Manifest(str(store.fingerprint), name, vectors, tuple(names))
    if len(names) > 1:
        manifest = replace(manifest, segments=(_merged(store, place, names, on_progress),))
    manifest.write(place)
    return True


def _encode(
    store: Store, place: Path, book: Codebook, documents: Sequence[Document], on_progress: OnProgress
) -> list[str]:
    """Write new segments of these documents. Returns their names."""
    total, done = sum(d.pages for d in documents), 0
    names: list[str] = []
    for group in _groups(documents, GROUP / _mean(store, documents)):
        revisions = {d.doc_id: revision(d) for d in group}
        at = {doc_id: position for position, doc_id in enumerate(revisions)}
        columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in segment.COLUMNS}
        codes: list[Codes] = []
        for table, stored in _read(store, list(revisions), ["doc_id", "number", "width", "height", "source"]):
            codes += [book.encode(block) for block in _blocks(stored)]
            lengths = table["vectors"].combine_chunks().value_lengths().fill_null(0)
            columns["vectors"].append(lengths.to_numpy(zero_copy_only=False))
            columns["document"].append(np.array([at[doc_id] for doc_id in table["doc_id"].to_pylist()]))
            columns["scanned"].append(np.array(table["source"].to_pylist()) == "ocr")
            for name in ("number", "width", "height"):
                columns[name].append(table[name].to_numpy())
            done += len(table)
            on_progress("encoding", done, total)
        if columns["number"]:
            names.append(f"segment-{uuid.uuid4().hex[:8]}")
            pages = {name: np.concatenate(parts) for name, parts in columns.items()}
            segment.write_segment(
                place / names[-1],
                list(revisions.items()),
                pages,
                _joined(codes, book.rotation.shape[1] // 64),
                len(book.centroids),
            )
    return names


def _tidy(store: Store, place: Path, manifest: Manifest, on_progress: OnProgress) -> Manifest:
    """Rewrite segments with many removed pages; if there are too many segments, merge the small ones."""
    parts = {name: segment.load_segment(place / name) for name in manifest.segments}
    revisions = {d.doc_id: revision(d) for d in store.documents()}
    alive = {name: live_pages(part, revisions) for name, part in parts.items()}
    names = [name for name, mask in alive.items() if mask.any()]
    rewritten = [name for name in names if alive[name].mean() < 1 - DEAD]
    if len(names) > MOST_SEGMENTS:
        most = SMALL * sum(len(part.page) for part in parts.values())
        small = [name for name in names if len(parts[name].page) < most]
        rewritten = sorted({*rewritten, *small})
    if rewritten:
        names = [name for name in names if name not in rewritten]
        names.append(_merged(store, place, rewritten, on_progress))
    return replace(manifest, segments=tuple(names))


def _merged(store: Store, place: Path, names: Sequence[str], on_progress: OnProgress) -> str:
    """Merge these segments into a new one. Returns its name."""
    on_progress("merging", 0, 1)
    parts = [segment.load_segment(place / name) for name in names]
    revisions = {d.doc_id: revision(d) for d in store.documents()}
    name = f"segment-{uuid.uuid4().hex[:8]}"
    segment.merge_segments(place / name, parts, [live_pages(part, revisions) for part in parts])
    on_progress("merging", 1, 1)
    return name


def _read(store: Store, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[pa.Table, Stored]]:
    for batch in store.stream_pages(doc_ids, [*columns, "vectors"]):
        table = pa.Table.from_batches([batch])
        yield table, ragged_stored(table["vectors"])[0]


def _blocks(stored: Stored) -> Iterator[Vectors]:
    for first in range(0, len(stored), BLOCK):
        yield dequantize(stored[first : first + BLOCK])


def _joined(codes: Sequence[Codes], words: int) -> Codes:
    """Joins codes; words: of a vector's signs, for the case that there are no codes."""
    none = Codes(np.zeros(0, np.uint32), np.zeros((0, words), np.uint64), np.zeros(0, np.uint8))
    return Codes(
        *(np.concatenate([getattr(part, name) for part in (none, *codes)]) for name in Codes.__slots__)
    )


def _groups(documents: Sequence[Document], pages: float) -> Iterator[list[Document]]:
    """Yields the documents in their order, in groups of at most `pages` pages, but of at least one document."""
    group: list[Document] = []
    total = 0
    for document in documents:
        if group and total + document.pages > pages:
            yield group
            group, total = [], 0
        group.append(document)
        total += document.pages
    if group:
        yield group


def _mean(store: Store, documents: Sequence[Document]) -> float:
    """Estimates the mean number of vectors of a page; 1 if no page has any."""
    lengths = [len(vectors) for vectors in store.vectors(_some(documents, SAMPLED)).values()]
    return max(1.0, float(np.mean(lengths))) if lengths else 1.0


def _sample(store: Store, documents: Sequence[Document], share: float) -> NDArray[np.float16]:
    """Returns the vectors of this share of the pages, chosen at random."""
    pages = _some(documents, max(SAMPLED, round(share * sum(d.pages for d in documents))))
    parts = [np.zeros((0, store.fingerprint.dim), np.float16)]
    for first in range(0, len(pages), 500):
        for stored in store.vectors(pages[first : first + 500]).values():
            halves = (
                dequantize(stored).astype(np.float16) if stored.dtype == np.int8 else stored.view(np.float16)
            )
            parts.append(halves[np.isfinite(halves).all(axis=1)])
    return np.concatenate(parts)


def _some(documents: Sequence[Document], count: int) -> list[Page]:
    """Returns at most `count` pages, chosen at random, always the same ones for the same documents."""
    ends = np.cumsum([d.pages for d in documents])
    if not len(ends) or not ends[-1]:
        return []
    chosen = np.sort(np.random.default_rng(0).choice(ends[-1], min(count, int(ends[-1])), replace=False))
    at = np.searchsorted(ends, chosen, side="right")
    return [
        Page(documents[i].doc_id, int(page - ends[i] + documents[i].pages) + 1, documents[i].name)
        for i, page in zip(at, chosen, strict=True)
    ]


def _sweep(place: Path, manifest: Manifest | None) -> None:
    """Remove files that the manifest does not name; searches that have them mapped can still read them."""
    named = {MANIFEST, LOCK, *((manifest.codebook, *manifest.segments) if manifest else ())}
    for path in place.iterdir():
        if path.name not in named:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _upkeep(store: Store) -> AbstractContextManager[Path]:
    """Holds the lock for changes; removes, before and after, what a build left unfinished. Raises IndexBusy."""
    busy = IndexBusy(
        "another process is building the inverted index", remedy=f"wait until that of {store.uri} is complete"
    )
    return upkeep(folder(store.uri), lambda place: _sweep(place, Manifest.read(place)), busy)
