"""The first stage: exact MaxSim over every allowed page, fused with BM25 over the same pages.

Pages at a place that the question names ("page 14", "Figure 2") are lifted (`retrieval.references`).
The vectors are kept in memory while they fit (`exact_mb`), and are then scanned whole in about 7 ms per
thousand pages; past that they are streamed from disk, as exact and slower. The `Stage` says which.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import configs.settings as configs
from retrieval import fuse, references
from retrieval.maxsim import maxsim_ragged
from retrieval.store import Store
from retrieval.tables import ragged_vectors
from retrieval.types import Document, Filter, Hit, Page, QueryEmbedding, Stage, Vectors

COLUMNS = ["page_id", "doc_id", "number", "width", "height", "source", "vectors"]
MERGE_AT = 24  # segments in memory before they are made one
DECIMALS = 6
"""Scores are compared to this many decimals: past them BLAS's order of summing, not the page, decides."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Pages in memory: page i is vectors[offsets[i]:offsets[i + 1]]."""

    vectors: Vectors
    offsets: NDArray[np.int64]
    page_ids: NDArray[np.object_]
    doc_ids: NDArray[np.object_]
    numbers: NDArray[np.int64]
    sizes: NDArray[np.float64]  # (pages, 2) width and height in points
    scanned: NDArray[np.bool_]

    def select(self, keep: NDArray[np.bool_]) -> "Segment":
        """Only the pages where `keep` is true."""
        if keep.all():
            return self
        rows = np.repeat(keep, np.diff(self.offsets))
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[keep])]).astype(np.int64)
        return Segment(
            self.vectors[rows],
            offsets,
            self.page_ids[keep],
            self.doc_ids[keep],
            self.numbers[keep],
            self.sizes[keep],
            self.scanned[keep],
        )

    def page(self, at: int, documents: dict[str, Document]) -> Page:
        doc_id, (width, height) = str(self.doc_ids[at]), self.sizes[at]
        return Page(doc_id, int(self.numbers[at]), documents[doc_id].name, float(width), float(height))


@dataclass(frozen=True, slots=True)
class Recalled:
    """The first stage's list, and each kind of evidence's own, all best first and at most `depth` long."""

    hits: list[Hit]
    rankings: dict[str, tuple[Page, ...]]
    stage: Stage


class Recall:
    """`candidates` is the whole of it; one Recall per store and process keeps the vectors warm."""

    def __init__(self, store: Store, settings: configs.Search) -> None:
        self._store = store
        self._settings = settings
        self._segments: list[Segment] = []
        self._loaded: dict[str, datetime] = {}  # doc_id -> when it was added: the same file may come again
        self._version = -1
        self._too_many = 0  # pages, once so many did not fit
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bm25")

    def warm(self) -> None:
        """Load what searches need, so that the first of them does not wait for it."""
        with self._lock:
            self._refresh()

    def candidates(self, text: str, query: QueryEmbedding, depth: int, where: Filter) -> Recalled:
        """The best `depth` pages that `where` allows, by vectors and text together; ranks from 1."""
        began = time.perf_counter()
        documents = {d.doc_id: d for d in self._store.documents(where)}
        restricted = None if replace(where, without=frozenset()) == Filter() else list(documents)
        bm25 = self._pool.submit(self._store.search_text, text, depth, restricted, where.scanned)
        segments, how = self._scan(documents)
        asked = references.read(text) if self._settings.reference_weight else references.References()
        ends = {d.doc_id: d.pages for d in documents.values() if -1 in asked.pages}
        found: dict[str, tuple[Page, float]] = {}  # by page_id, in the order of the vectors' scores
        pages = 0
        wanted = dict(bm25.result())
        for segment in segments:
            allowed = segment.select(self._allowed(segment, documents, where.scanned))
            scores = maxsim_ragged(query, allowed.vectors, allowed.offsets).astype(np.float64).round(DECIMALS)
            pages += len(scores)
            best = fuse.best_first(scores)[:depth] if len(query.vectors) else []
            by_text = (at for at, page_id in enumerate(allowed.page_ids) if page_id in wanted)
            named = _numbered(allowed, asked.pages, ends)
            by_place = named[fuse.best_first(scores[named])[:depth]]
            for at in {*best, *by_text, *by_place.tolist()}:
                found[str(allowed.page_ids[at])] = (allowed.page(at, documents), float(scores[at]))
        lifted = self._lifted(asked, found, documents)
        hits, rankings = self._fuse(found, wanted, lifted, depth, has_vectors=len(query.vectors) > 0)
        note = f"{how} of {pages:,} pages, BM25 found {len(wanted):,}"
        if asked:
            note += f", {len(lifted):,} have what the question names: {asked}"
        return Recalled(hits, rankings, Stage("recall", time.perf_counter() - began, pages, note))

    def _fuse(
        self,
        found: dict[str, tuple[Page, float]],
        text: dict[str, float],
        lifted: dict[str, float],
        depth: int,
        has_vectors: bool,
    ) -> tuple[list[Hit], dict[str, tuple[Page, ...]]]:
        """Both lists' best `depth` together, by z-scores; equal pages in the order of their names."""
        named = sorted(found.items(), key=lambda item: (item[1][0].document, item[1][0].number))
        pages = [page for _, (page, _) in named]
        vectors = np.array([score for _, (_, score) in named])
        bm25 = np.array([text.get(page_id, 0.0) for page_id, _ in named])
        bonus = np.array([lifted.get(page_id, 0.0) for page_id, _ in named])
        order, fused = fuse.first_stage(
            vectors if has_vectors else None, bm25, depth, self._settings.text_weight, bonus
        )
        hits = [
            Hit(
                pages[at],
                float(score),
                rank,
                rank,
                {"vectors": float(vectors[at]), "text": float(bm25[at])}
                | ({"place": float(bonus[at])} if bonus[at] else {})
                | {"first": float(score)},
            )
            for rank, (at, score) in enumerate(zip(order, fused, strict=True), start=1)
        ]
        by_vectors, by_text = fuse.each_kind(vectors if has_vectors else None, bm25, depth)
        rankings = {"vectors": tuple(pages[i] for i in by_vectors), "text": tuple(pages[i] for i in by_text)}
        return hits, rankings

    def _lifted(
        self,
        asked: references.References,
        found: dict[str, tuple[Page, float]],
        documents: dict[str, Document],
    ) -> dict[str, float]:
        """By page_id, by how much each page is lifted that is at a place which the question names."""
        if not asked:
            return {}
        contents = list(self._store.present([page for page, _ in found.values()]).values())
        counts = [documents[content.page.doc_id].pages for content in contents]
        matches = zip(contents, references.match(asked, contents, counts), strict=True)
        return {c.page.page_id: self._settings.reference_weight * m for c, m in matches if m}

    def _allowed(
        self, segment: Segment, documents: dict[str, Document], scanned: bool | None
    ) -> NDArray[np.bool_]:
        keep = np.ones(len(segment.doc_ids), np.bool_)
        if not self._loaded or not self._loaded.keys() <= documents.keys():
            keep = np.fromiter((d in documents for d in segment.doc_ids), np.bool_, len(segment.doc_ids))
        return keep if scanned is None else keep & (segment.scanned == scanned)

    def _scan(self, documents: dict[str, Document]) -> tuple[Iterable[Segment], str]:
        with self._lock:
            if self._refresh():
                return self._segments, "exact scan in memory"
        return map(_segment, self._store.pages(list(documents), COLUMNS)), "exact scan from disk"

    def _refresh(self) -> bool:
        """Bring the vectors in memory up to date; False where they do not fit."""
        version = self._store.version()
        if version == self._version:
            return not self._too_many
        documents = self._store.documents()
        listed = {d.doc_id: d.added_at for d in documents}
        pages = sum(d.pages for d in documents)
        if self._too_many and pages >= 0.9 * self._too_many:  # no use in trying again
            self._version = version
            return False
        stale = [doc_id for doc_id, added in self._loaded.items() if listed.get(doc_id) != added]
        segments = [s.select(~np.isin(s.doc_ids, stale)) for s in self._segments] if stale else self._segments
        segments = [s for s in segments if len(s.doc_ids)]
        held = sum(s.vectors.nbytes for s in segments)
        missing = sorted(doc_id for doc_id, added in listed.items() if self._loaded.get(doc_id) != added)
        for batch in self._store.pages(missing, COLUMNS):
            segments = [*segments, _segment(batch)]
            held += segments[-1].vectors.nbytes
            if held > self._settings.exact_mb * 2**20:
                self._segments, self._loaded, self._version, self._too_many = [], {}, version, pages
                return False
        self._segments = [_concatenate(segments)] if len(segments) > MERGE_AT else segments
        self._loaded, self._version, self._too_many = listed, version, 0
        return True


def _numbered(segment: Segment, numbers: frozenset[int], ends: dict[str, int]) -> NDArray[np.int64]:
    """Positions of the pages with one of these numbers; `ends`: where the last page is asked for, its number."""
    if not numbers:
        return np.zeros(0, np.int64)
    wanted = np.isin(segment.numbers, list(numbers))
    if ends:
        wanted |= segment.numbers == np.array([ends.get(str(d), 0) for d in segment.doc_ids])
    return np.flatnonzero(wanted)


def _segment(batch: pa.RecordBatch) -> Segment:
    table = pa.Table.from_batches([batch])
    vectors, offsets = ragged_vectors(table["vectors"])
    column = {name: table[name].to_numpy() for name in COLUMNS if name != "vectors"}
    sizes = np.stack([column["width"], column["height"]], axis=1).astype(np.float64)
    page_ids, doc_ids = column["page_id"].astype(object), column["doc_id"].astype(object)
    return Segment(
        vectors,
        offsets,
        page_ids,
        doc_ids,
        column["number"].astype(np.int64),
        sizes,
        column["source"] == "ocr",
    )


def _concatenate(segments: Sequence[Segment]) -> Segment:
    lengths = np.concatenate([np.diff(s.offsets) for s in segments])
    return Segment(
        np.concatenate([s.vectors for s in segments]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([s.page_ids for s in segments]),
        np.concatenate([s.doc_ids for s in segments]),
        np.concatenate([s.numbers for s in segments]),
        np.concatenate([s.sizes for s in segments]),
        np.concatenate([s.scanned for s in segments]),
    )
