"""The first stage: exact MaxSim over every allowed page, fused with BM25 over the same pages.

The vectors are kept in memory while they fit (`exact_mb`), and are then scanned whole in about 7 ms per
thousand pages; past that they are streamed from disk, as exact and slower. The `Stage` says which.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import configs.settings as configs
from retrieval import fuse
from retrieval.maxsim import maxsim_ragged
from retrieval.store import Store
from retrieval.tables import ragged_vectors
from retrieval.types import Document, Filter, Hit, Page, QueryEmbedding, Stage, Vectors

COLUMNS = ["doc_id", "number", "width", "height", "source", "vectors"]
MERGE_AT = 24  # segments in memory before they are made one


@dataclass(frozen=True, slots=True)
class Segment:
    """Pages in memory: page i is vectors[offsets[i]:offsets[i + 1]]."""

    vectors: Vectors
    offsets: NDArray[np.int64]
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
            self.doc_ids[keep],
            self.numbers[keep],
            self.sizes[keep],
            self.scanned[keep],
        )


class Recall:
    """`candidates` is the whole of it; one Recall per store and process keeps the vectors warm."""

    def __init__(self, store: Store, settings: configs.Search) -> None:
        self._store = store
        self._settings = settings
        self._segments: list[Segment] = []
        self._loaded: frozenset[str] = frozenset()
        self._version = -1
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bm25")

    def candidates(
        self, text: str, query: QueryEmbedding, depth: int, where: Filter
    ) -> tuple[list[Hit], Stage]:
        """The best `depth` pages that `where` allows, by vectors and text together; ranks from 1."""
        began = time.perf_counter()
        documents = {d.doc_id: d for d in self._store.documents(where)}
        restricted = None if where == Filter() else list(documents)
        bm25 = self._pool.submit(self._store.search_text, text, depth, restricted, where.scanned)
        segments, how = self._scan(documents)
        parts = [self._allowed(segment, documents, where.scanned) for segment in segments]
        pages, vector_scores = self._score(query, parts, documents)
        text_scores = dict(bm25.result())
        hits = self._fuse(pages, vector_scores, text_scores, depth, has_vectors=len(query.vectors) > 0)
        note = f"{how} of {len(pages):,} pages, BM25 found {len(text_scores):,}"
        return hits, Stage("recall", time.perf_counter() - began, len(pages), note)

    def _score(
        self,
        query: QueryEmbedding,
        parts: Iterator[Segment] | Sequence[Segment],
        documents: dict[str, Document],
    ) -> tuple[list[Page], NDArray[np.float64]]:
        pages: list[Page] = []
        scores = [np.zeros(0)]
        for part in parts:
            scores.append(maxsim_ragged(query, part.vectors, part.offsets).astype(np.float64))
            pages.extend(
                Page(doc_id, int(number), documents[doc_id].name, float(width), float(height))
                for doc_id, number, (width, height) in zip(
                    part.doc_ids, part.numbers, part.sizes, strict=True
                )
            )
        return pages, np.concatenate(scores)

    def _fuse(
        self,
        pages: list[Page],
        vectors: NDArray[np.float64],
        text: dict[str, float],
        depth: int,
        has_vectors: bool,
    ) -> list[Hit]:
        bm25 = np.array([text.get(page.page_id, 0.0) for page in pages])
        weight = self._settings.text_weight if has_vectors else 1.0
        pool = set(fuse.best_first(vectors)[:depth]) if has_vectors else set()
        pool |= {int(i) for i in np.flatnonzero(bm25 > 0)}
        chosen = sorted(pool, key=lambda i: (pages[i].document, pages[i].number))
        fused = fuse.weighted(vectors[chosen], bm25[chosen], weight)
        return [
            Hit(pages[chosen[at]], float(fused[at]), rank, rank,
                {"vectors": float(vectors[chosen[at]]), "text": float(bm25[chosen[at]]), "first": float(fused[at])})
            for rank, at in enumerate(fuse.best_first(fused)[:depth], start=1)
        ]  # fmt: skip

    def _allowed(self, segment: Segment, documents: dict[str, Document], scanned: bool | None) -> Segment:
        keep = np.fromiter(
            (doc_id in documents for doc_id in segment.doc_ids), np.bool_, len(segment.doc_ids)
        )
        return segment.select(keep if scanned is None else keep & (segment.scanned == scanned))

    def _scan(self, documents: dict[str, Document]) -> tuple[Sequence[Segment] | Iterator[Segment], str]:
        with self._lock:
            if self._refresh():
                return self._segments, "exact scan in memory"
        return map(_segment, self._store.pages(list(documents), COLUMNS)), "exact scan from disk"

    def _refresh(self) -> bool:
        """Bring the vectors in memory up to date; False where they do not fit."""
        version = self._store.version()
        if version == self._version:
            return bool(self._segments) or not self._loaded
        listed = frozenset(d.doc_id for d in self._store.documents())
        gone = self._loaded - listed
        segments = (
            [s.select(~np.isin(s.doc_ids, list(gone))) for s in self._segments] if gone else self._segments
        )
        segments = [s for s in segments if len(s.doc_ids)]
        held = sum(s.vectors.nbytes for s in segments)
        for batch in self._store.pages(sorted(listed - self._loaded), COLUMNS):
            segments = [*segments, _segment(batch)]
            held += segments[-1].vectors.nbytes
            if held > self._settings.exact_mb * 2**20:
                self._segments, self._loaded, self._version = [], listed, version
                return False
        self._segments = [_concatenate(segments)] if len(segments) > MERGE_AT else segments
        self._loaded, self._version = listed, version
        return True


def _segment(batch: pa.RecordBatch) -> Segment:
    table = pa.Table.from_batches([batch])
    vectors, offsets = ragged_vectors(table["vectors"])
    column = {name: table[name].to_numpy() for name in ("doc_id", "number", "width", "height", "source")}
    sizes = np.stack([column["width"], column["height"]], axis=1).astype(np.float64)
    return Segment(
        vectors,
        offsets,
        column["doc_id"].astype(object),
        column["number"].astype(np.int64),
        sizes,
        column["source"] == "ocr",
    )


def _concatenate(segments: Sequence[Segment]) -> Segment:
    lengths = np.concatenate([np.diff(s.offsets) for s in segments])
    return Segment(
        np.concatenate([s.vectors for s in segments]),
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([s.doc_ids for s in segments]),
        np.concatenate([s.numbers for s in segments]),
        np.concatenate([s.sizes for s in segments]),
        np.concatenate([s.scanned for s in segments]),
    )
