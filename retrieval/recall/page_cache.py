"""The stored vectors of single pages, for exact MaxSim: in memory if recently used, else read from LanceDB."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from configs.cores import available_cores
from retrieval.lru import LRU
from retrieval.recall.maxsim import weighted
from retrieval.recall.threads import on_all_cores
from retrieval.store.schema import ragged_stored, revision
from retrieval.store.store import Store
from retrieval.types import Document, Page, QueryEmbedding, Stored, Vectors

READ_PAGES = 100  # at most, in one of two reads that run at once


class PageVectorCache:
    """Safe to use from several threads."""

    def __init__(self, store: Store, limit: int) -> None:
        """limit: most bytes of vectors in memory."""
        self._store = store
        # By page_id and revision.
        self._cache: LRU[tuple[str, str], Stored] = LRU(limit, lambda stored: stored.nbytes)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="vectors")

    @property
    def bytes(self) -> int:
        """The bytes of the vectors in memory now."""
        return self._cache.total

    def maxsim(self, query: QueryEmbedding, pages: Sequence[Page], documents: Iterable[Document]) -> Vectors:
        """Returns (pages,) exact MaxSim, NaN for a page that was removed; documents: those that the pages belong to."""
        revisions = {document.doc_id: revision(document) for document in documents}
        keys = [(page.page_id, revisions[page.doc_id]) for page in pages]
        vectors = self._get(pages, keys)
        scores = np.full(len(pages), np.nan, np.float32)
        present = np.array([at for at, key in enumerate(keys) if key in vectors], np.int64)

        def score(rows: NDArray[np.int64]) -> None:
            scores[rows] = maxsim_stored(query, [vectors[keys[at]] for at in rows])

        on_all_cores(score, np.array_split(present, available_cores()))
        return scores

    def fill(self, documents: Iterable[Document]) -> None:
        """Load pages of these documents until the limit is reached."""
        revisions = {document.doc_id: revision(document) for document in documents}
        for batch in self._store.stream_pages(list(revisions), ["page_id", "doc_id", "vectors"]):
            stored, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
            for key, low, high in zip(
                batch.select(["page_id", "doc_id"]).to_pylist(), offsets, offsets[1:], strict=False
            ):
                if not self._cache.has_room(stored[low:high]):
                    return
                self._cache.put((key["page_id"], revisions[key["doc_id"]]), stored[low:high].copy())

    def _get(self, pages: Sequence[Page], keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Stored]:
        cached = {key: stored for key in keys if (stored := self._cache.get(key)) is not None}
        missing = [(page, key) for page, key in zip(pages, keys, strict=True) if key not in cached]
        if not missing:
            return cached
        size = max(1, min(READ_PAGES, -(-len(missing) // 2)))
        groups = [missing[first : first + size] for first in range(0, len(missing), size)]
        reads = self._pool.map(lambda group: self._store.vectors([page for page, _ in group]), groups)
        fresh = {
            key: vectors[page.page_id].copy()  # a view would keep everything that was read with it
            for group, vectors in zip(groups, reads, strict=True)
            for page, key in group
            if page.page_id in vectors
        }
        for key, stored in fresh.items():
            self._cache.put(key, stored)
        return cached | fresh


def maxsim_stored(query: QueryEmbedding, pages: Sequence[Stored]) -> Vectors:
    """Returns `maxsim` of each page (n_i, d) as it is stored, in the order given, as (pages,) float32."""
    from retrieval.recall.ivf.kernels import NOWHERE, best_of, best_of_int8

    vectors = weighted(query)
    count, dim = vectors.shape
    queries = np.zeros((-(-count // 4) * 4, dim), np.float32)  # the kernel takes four vectors at once
    queries[:count] = vectors
    scores = np.zeros(len(pages), np.float32)
    for at, page in enumerate(pages):
        if len(page):
            best = np.full(len(queries), NOWHERE, np.float32)
            if page.dtype == np.int8:
                best_of_int8(np.ascontiguousarray(page), queries, best)
            else:
                best_of(np.ascontiguousarray(page).view(np.uint16), queries, best)
            scores[at] = best[:count].sum()
    return scores
