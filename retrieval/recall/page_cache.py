"""The stored vectors of single pages, for exact MaxSim: from memory where they were lately asked for."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.lru import LRU
from retrieval.recall.maxsim import weighted
from retrieval.recall.threads import CORES, on_all_cores
from retrieval.store.schema import ragged_stored, revision
from retrieval.store.store import Store
from retrieval.types import Document, Page, QueryEmbedding, Stored, Vectors

FETCHED = 100  # pages of one read at most; two go on at once


class PageVectorCache:
    """Safe to use from several threads. `limit`: bytes in memory."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        # By page_id and reading.
        self._kept: LRU[tuple[str, str], Stored] = LRU(limit, lambda stored: stored.nbytes)
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="vectors")

    @property
    def bytes(self) -> int:
        """In memory now."""
        return self._kept.total

    def maxsim(self, query: QueryEmbedding, pages: Sequence[Page], documents: Iterable[Document]) -> Vectors:
        """(pages,) exact; NaN for a page that is no longer there. documents: theirs, each once or more often."""
        revisions = {document.doc_id: revision(document) for document in documents}
        keys = [(page.page_id, revisions[page.doc_id]) for page in pages]
        found = self._get(pages, keys)
        scores = np.full(len(pages), np.nan, np.float32)
        there = np.array([at for at, key in enumerate(keys) if key in found], np.int64)

        def score(some: NDArray[np.int64]) -> None:
            scores[some] = maxsim_stored(query, [found[keys[at]] for at in some])

        on_all_cores(score, np.array_split(there, CORES))
        return scores

    def fill(self, documents: Iterable[Document]) -> None:
        """Keep pages of these documents until the limit is reached."""
        revisions = {document.doc_id: revision(document) for document in documents}
        for batch in self._store.pages(list(revisions), ["page_id", "doc_id", "vectors"]):
            stored, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
            for key, low, high in zip(
                batch.select(["page_id", "doc_id"]).to_pylist(), offsets, offsets[1:], strict=False
            ):
                if not self._kept.has_room(stored[low:high]):
                    return
                self._kept.put((key["page_id"], revisions[key["doc_id"]]), stored[low:high].copy())

    def _get(self, pages: Sequence[Page], keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Stored]:
        found = {key: kept for key in keys if (kept := self._kept.get(key)) is not None}
        missing = [(page, key) for page, key in zip(pages, keys, strict=True) if key not in found]
        if not missing:
            return found
        some = max(1, min(FETCHED, -(-len(missing) // 2)))
        groups = [missing[first : first + some] for first in range(0, len(missing), some)]
        read = list(self._pool.map(lambda group: self._store.vectors([page for page, _ in group]), groups))
        fresh = {key: vectors[page.page_id].copy()  # a view would keep all that was read with it
                 for group, vectors in zip(groups, read, strict=True)
                 for page, key in group if page.page_id in vectors}  # fmt: skip
        for key, stored in fresh.items():
            self._kept.put(key, stored)
        return found | fresh


def maxsim_stored(query: QueryEmbedding, pages: Sequence[Stored]) -> Vectors:
    """`maxsim` of each page (n_i, d) as it is stored, in the order given, as (pages,) float32."""
    from retrieval.recall.ivf.kernels import NOWHERE, best_of, best_of_bytes

    vectors = weighted(query)
    asked, dim = vectors.shape
    queries = np.zeros((-(-asked // 4) * 4, dim), np.float32)  # the kernel takes four at once
    queries[:asked] = vectors
    scores = np.zeros(len(pages), np.float32)
    for at, page in enumerate(pages):
        if len(page):
            best = np.full(len(queries), NOWHERE, np.float32)
            if page.dtype == np.int8:
                best_of_bytes(np.ascontiguousarray(page), queries, best)
            else:
                best_of(np.ascontiguousarray(page).view(np.uint16), queries, best)
            scores[at] = best[:asked].sum()
    return scores
