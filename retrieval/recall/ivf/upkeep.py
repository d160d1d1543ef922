"""The inverted lists' life: built, brought up to date, looked at, dropped. Searches go on meanwhile.

They are derived from the stored vectors, stand in a folder of their own beside the tables, and name the reading of each
document: what is not in them, or is there in another reading, is scanned; what was removed is passed over. So nothing
that a writer does has to wait for them, and a build that is killed leaves the lists before it as they were.
"""

import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.recall.ivf import codebook, segment
from retrieval.recall.ivf.codebook import Codebook, Codes
from retrieval.recall.ivf.lists import MANIFEST, InvertedIndex, Manifest
from retrieval.recall.ivf.segment import Segment
from retrieval.store.locks import is_remote, locked
from retrieval.store.schema import dequantize, ragged_stored, revision
from retrieval.store.store import Store
from retrieval.types import Document, Page, Stored, Vectors

GROUP = 4_000_000
"""Vectors of one new segment at most, but for a document that has more; their codes in memory are about 200 MB."""
BLOCK = 32_768  # vectors encoded at once: their arrays are then small enough for malloc to use again
MOST_SAMPLED = 2_000_000  # vectors to train on: 512 MB at 128 dimensions
OUTGROWN = 8  # times the vectors that the codebook was trained for: then all is built anew
MOST_SEGMENTS = 8  # past it the small ones become one
SMALL = 0.25  # of all postings
DEAD = 0.3  # share of a segment's pages that were removed: then it is written anew
SAMPLED = 64  # pages from which the mean number of vectors is taken

OnProgress = Callable[[str, int, int], None]
"""Hears what is being done, and how much of how much is done; what it raises ends the work and changes nothing."""


@dataclass(frozen=True, slots=True)
class Stats:
    """What the lists hold, and what they lack: where there are none, everything."""

    pages: int = 0  # of listed documents, in their present reading
    removed: int = 0  # pages that are passed over
    missing: int = 0  # pages of the index that are not in the lists: they are scanned
    vectors: int = 0
    centroids: int = 0
    segments: int = 0
    bytes: int = 0

    @property
    def bytes_per_page(self) -> float:
        return self.bytes / max(1, self.pages + self.removed)


def folder(uri: str) -> Path:
    """Where the lists of the index at `uri` are: inside it, or, for one in an object store, on this machine."""
    if is_remote(uri):
        return Path("~/.cache/folioscope/recall").expanduser() / hashlib.sha256(uri.encode()).hexdigest()[:16]
    return Path(uri) / "recall"


def state(store: Store) -> object:
    """Another one whenever the lists were changed."""
    try:
        facts = (folder(store.uri) / MANIFEST).stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns


def load_inverted_index(store: Store) -> InvertedIndex | None:
    return InvertedIndex.load(folder(store.uri), str(store.fingerprint))


def current(lists: InvertedIndex, documents: Sequence[Document]) -> set[str]:
    """The doc_ids whose pages the lists hold as they are now."""
    return {d.doc_id for d in documents if (d.doc_id, revision(d)) in lists.documents}


def live(part: Segment, revisions: Mapping[str, str]) -> NDArray[np.bool_]:
    """(pages,) which of a segment's pages are of documents in their present reading; readings: by doc_id."""
    alive = [revisions.get(doc_id) == read for doc_id, read in part.documents]
    mask: NDArray[np.bool_] = np.array(alive, np.bool_)[part.pages["document"]]
    return mask


def stats(store: Store) -> Stats:
    documents, lists = store.documents(), load_inverted_index(store)
    pages = sum(d.pages for d in documents)
    if lists is None:
        return Stats(missing=pages)
    revisions = {d.doc_id: revision(d) for d in documents}
    alive = sum(int(live(part, revisions).sum()) for part in lists.segments)
    there = current(lists, documents)
    return Stats(
        alive,
        sum(map(len, lists.segments)) - alive,
        sum(d.pages for d in documents if d.doc_id not in there),
        lists.vectors,
        len(lists.book.centroids),
        len(lists.segments),
        _bytes(lists.manifest, folder(store.uri)),
    )


def _bytes(manifest: Manifest, place: Path) -> int:
    with suppress(OSError):  # a refresh may drop a segment meanwhile
        return sum(path.stat().st_size for path in manifest.files(place))
    return 0


def drop(store: Store) -> None:
    """Searches scan again."""
    with _upkeep(store) as place:
        (place / MANIFEST).unlink(missing_ok=True)


def build(store: Store, on_progress: OnProgress = lambda what, done, of: None) -> None:
    """Train on a sample of the stored vectors, and make the lists of all documents. Raises IndexBusy."""
    with _upkeep(store) as place:
        _build(store, place, on_progress)


def refresh(store: Store, on_progress: OnProgress = lambda what, done, of: None) -> bool:
    """Add what is missing; drop what was removed, once it is much. False where there was nothing to do.

    Builds where there are no lists yet, or where the index has outgrown them. Raises IndexBusy.
    """
    with _upkeep(store) as place:
        lists, documents = load_inverted_index(store), store.documents()
        if lists is None or _mean(store, documents) * sum(d.pages for d in documents) > OUTGROWN * max(
            lists.manifest.trained_for, 1
        ):
            return _build(store, place, on_progress)
        there = current(lists, documents)
        missing = [d for d in documents if d.doc_id not in there]
        names = list(lists.manifest.segments)
        names += _encode(store, place, lists.book, missing, on_progress)
        tidied = _tidy(store, place, replace(lists.manifest, segments=tuple(names)), on_progress)
        if tidied == lists.manifest:
            return False
        tidied.write(place)
        return True


def due(store: Store, quick: float) -> bool:
    """Whether searches gain by a refresh; quick: vectors that a scan takes in the time aimed at.

    They do once what is scanned beside the lists costs a quarter of that time, or many of their pages were removed.
    """
    documents, lists = store.documents(), load_inverted_index(store)
    vectors = _mean(store, documents) * sum(d.pages for d in documents)
    if vectors <= quick:
        return False
    if lists is None:
        return True
    there = current(lists, documents)
    missing = sum(d.pages for d in documents if d.doc_id not in there) / sum(d.pages for d in documents)
    revisions = {d.doc_id: revision(d) for d in documents}
    dead = max((1 - live(part, revisions).mean() for part in lists.segments), default=0.0)
    return bool(missing * vectors > quick / 4 or dead > DEAD)


def _build(store: Store, place: Path, on_progress: OnProgress) -> bool:
    documents = store.documents()
    pages = sum(d.pages for d in documents)
    if not pages:
        return False
    vectors = round(_mean(store, documents) * pages)
    wanted = codebook.size(vectors)
    sample = _sample(store, documents, min(codebook.PER_CENTROID * wanted, MOST_SAMPLED) / max(vectors, 1))
    if not len(sample):
        return False
    book = codebook.train_codebook(sample, wanted, lambda done, of: on_progress("training", done, of))
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
    store: Store, place: Path, book: Codebook, documents: Sequence[Document], on_progress: OnProgress,
) -> list[str]:  # fmt: skip
    """The names of new segments of these documents."""
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
            whole = {name: np.concatenate(parts) for name, parts in columns.items()}
            segment.write_segment(
                place / names[-1],
                list(revisions.items()),
                whole,
                _joined(codes, book.rotation.shape[1] // 64),
                len(book.centroids),
            )
    return names


def _tidy(store: Store, place: Path, manifest: Manifest, on_progress: OnProgress) -> Manifest:
    """Segments with many removed pages are written anew; of too many, the small ones become one."""
    parts = {name: segment.load_segment(place / name) for name in manifest.segments}
    revisions = {d.doc_id: revision(d) for d in store.documents()}
    alive = {name: live(part, revisions) for name, part in parts.items()}
    names = [name for name, mask in alive.items() if mask.any()]
    again = [name for name in names if alive[name].mean() < 1 - DEAD]
    if len(names) > MOST_SEGMENTS:
        most = SMALL * sum(len(part.page) for part in parts.values())
        small = [name for name in names if len(parts[name].page) < most]
        again = sorted({*again, *small})
    if again:
        names = [name for name in names if name not in again]
        names.append(_merged(store, place, again, on_progress))
    return replace(manifest, segments=tuple(names))


def _merged(store: Store, place: Path, names: Sequence[str], on_progress: OnProgress) -> str:
    on_progress("merging", 0, 1)
    parts = [segment.load_segment(place / name) for name in names]
    revisions = {d.doc_id: revision(d) for d in store.documents()}
    name = f"segment-{uuid.uuid4().hex[:8]}"
    segment.merge_segments(place / name, parts, [live(part, revisions) for part in parts])
    on_progress("merging", 1, 1)
    return name


def _read(store: Store, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[pa.Table, Stored]]:
    for batch in store.pages(doc_ids, [*columns, "vectors"]):
        table = pa.Table.from_batches([batch])
        yield table, ragged_stored(table["vectors"])[0]


def _blocks(stored: Stored) -> Iterator[Vectors]:
    for first in range(0, len(stored), BLOCK):
        yield dequantize(stored[first : first + BLOCK])


def _joined(codes: Sequence[Codes], words: int) -> Codes:
    """words: of a vector's signs, for where there are no codes."""
    none = Codes(np.zeros(0, np.uint32), np.zeros((0, words), np.uint64), np.zeros(0, np.uint8))
    return Codes(
        *(np.concatenate([getattr(part, name) for part in (none, *codes)]) for name in Codes.__slots__)
    )


def _groups(documents: Sequence[Document], pages: float) -> Iterator[list[Document]]:
    """Documents in their order, each list of about so many pages at most, but of one document at least."""
    group: list[Document] = []
    held = 0
    for document in documents:
        if group and held + document.pages > pages:
            yield group
            group, held = [], 0
        group.append(document)
        held += document.pages
    if group:
        yield group


def _mean(store: Store, documents: Sequence[Document]) -> float:
    """Vectors of a page, about; 1 where none has any."""
    lengths = [len(vectors) for vectors in store.vectors(_some(documents, SAMPLED)).values()]
    return max(1.0, float(np.mean(lengths))) if lengths else 1.0


def _sample(store: Store, documents: Sequence[Document], share: float) -> NDArray[np.float16]:
    """Vectors of so large a share of the pages, chosen at random."""
    pages = _some(documents, max(SAMPLED, round(share * sum(d.pages for d in documents))))
    parts = [np.zeros((0, store.fingerprint.dim), np.float16)]
    for first in range(0, len(pages), 500):
        for own in store.vectors(pages[first : first + 500]).values():
            halves = dequantize(own).astype(np.float16) if own.dtype == np.int8 else own.view(np.float16)
            parts.append(halves[np.isfinite(halves).all(axis=1)])
    return np.concatenate(parts)


def _some(documents: Sequence[Document], count: int) -> list[Page]:
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
    """Remove what no manifest names: earlier segments, and what a killed build left. Who has them open keeps them."""
    kept = {MANIFEST, ".upkeep", *((manifest.codebook, *manifest.segments) if manifest else ())}
    for path in place.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _upkeep(store: Store) -> Iterator[Path]:
    """What a killed or failed build left is swept away, before and after."""
    place = folder(store.uri)
    place.mkdir(parents=True, exist_ok=True)
    with locked(
        place / ".upkeep", f"the recall lists of {store.uri} are being made by another process: wait for it"
    ):
        try:
            _sweep(place, Manifest.read(place))
            yield place
        finally:
            _sweep(place, Manifest.read(place))
