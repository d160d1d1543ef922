"""Pages whose vectors are in memory: a search scans all of them that its filter leaves."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from retrieval import fuse
from retrieval.fuse import Scores
from retrieval.recall.maxsim import maxsim_ragged, offsets_of
from retrieval.recall.part import Mask, NoRoom, Pages, Positions
from retrieval.store.schema import dequantize, ragged_stored, ragged_vectors
from retrieval.types import Document, QueryEmbedding, Stored, Vectors

DEAD = 0.3
"""Share of a part's vectors that belong to removed pages, from which the others are copied to free that memory."""


@dataclass(frozen=True)
class MemoryPart:
    """Page i is vectors[offsets[i]:offsets[i + 1]].

    The vectors are float32, also those that are stored as float16: widening them block by block in each scan takes 2.5
    times as long with numpy, and 1.3 times with a numba kernel, for which each process would have to import numba.
    """

    pages: Pages
    vectors: Vectors
    offsets: Positions

    @classmethod
    def read(cls, batch: pa.RecordBatch) -> "MemoryPart":
        """batch: rows with `part.COLUMNS`."""
        vectors, offsets = ragged_vectors(pa.Table.from_batches([batch])["vectors"])
        return cls(Pages.read(batch), vectors, offsets)

    @classmethod
    def gathered(cls, batches: Iterable[pa.RecordBatch], room: int) -> "tuple[MemoryPart, ...]":
        """Returns one part with all pages, or no part if there are no pages.

        Raises NoRoom if the vectors take more than `room` bytes.
        """
        pages: list[Pages] = []
        stored: deque[Stored] = deque()
        lengths = []
        size = 0
        for batch in batches:
            vectors, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
            size += vectors.size * np.dtype(np.float32).itemsize
            if size > room:
                raise NoRoom
            pages.append(Pages.read(batch))
            lengths.append(np.diff(offsets))
            stored.append(vectors)
        if not pages:
            return ()
        offsets = offsets_of(np.concatenate(lengths))
        widened = np.empty((int(offsets[-1]), stored[0].shape[1]), np.float32)
        end = 0
        while stored:  # a batch is released as soon as it is widened: memory never holds all vectors twice
            first, end = end, end + len(stored[0])
            widened[first:end] = dequantize(stored.popleft())
        return (cls(Pages.joined(pages), widened, offsets),)

    @property
    def bytes(self) -> int:
        return self.vectors.nbytes

    @property
    def count(self) -> int:
        return len(self.vectors)

    def warm(self) -> None: ...

    def join(self, others: Sequence["MemoryPart"]) -> "MemoryPart":
        parts = [self, *others]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        return MemoryPart(
            Pages.joined([part.pages for part in parts]),
            np.concatenate([part.vectors for part in parts]),
            offsets_of(lengths),
        )

    def select(self, keep: Mask) -> "MemoryPart":
        """Returns this part without the pages where `keep` (pages,) is false.

        While few vectors are dead, their pages are only hidden; then the live ones are copied, without the others.
        """
        lengths = np.diff(self.offsets)
        live = int(lengths[keep].sum())
        if keep.any() and live >= (1 - DEAD) * len(self.vectors):
            return self if keep.all() else replace(self, pages=self.pages.hide(keep))
        vectors = self.vectors[np.repeat(keep, lengths)]
        return MemoryPart(self.pages.select(keep), vectors, offsets_of(lengths[keep]))

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        return maxsim_ragged(query, self.vectors, self.offsets, keep)

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        return fuse.best(scores, depth)

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        return scores[at]
