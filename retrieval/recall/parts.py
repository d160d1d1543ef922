"""The parts of an index that the first stage looks through, and the plainest of them: vectors in memory, all scanned.

All parts answer alike: about how well each page matches, and exactly how well some of them do. The others are
`retrieval.recall.gpu_scan` and `retrieval.recall.inverted`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.fuse import Scores
from retrieval.recall.maxsim import maxsim_ragged, offsets_of
from retrieval.store.schema import ragged_vectors
from retrieval.types import Document, Page, QueryEmbedding, Vectors

COLUMNS = ["doc_id", "number", "width", "height", "source", "vectors"]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class NoRoom(Exception):
    """More vectors than may be kept; or, with a message, than there is memory for just now."""

    @property
    def passing(self) -> bool:
        return bool(self.args)


@dataclass(frozen=True)
class Pages:
    """Which pages a part has."""

    doc_ids: tuple[str, ...]  # "" for a document whose pages are to be passed over
    document: NDArray[np.int32]  # (pages,) position in doc_ids
    number: NDArray[np.int32]
    size: NDArray[np.float32]  # (pages, 2) width and height in points
    scanned: Mask

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def read(cls, batch: pa.RecordBatch) -> "Pages":
        """batch: of `COLUMNS`."""
        column = {name: batch[name].to_numpy(zero_copy_only=False) for name in COLUMNS if name != "vectors"}
        doc_ids, document = np.unique(column["doc_id"].astype(str), return_inverse=True)
        return cls(
            tuple(doc_ids.tolist()),
            document.astype(np.int32),
            column["number"].astype(np.int32),
            np.stack([column["width"], column["height"]], axis=1).astype(np.float32),
            column["source"] == "ocr",
        )

    @classmethod
    def joined(cls, parts: Sequence["Pages"]) -> "Pages":
        named = [np.array(part.doc_ids)[part.document] for part in parts]
        doc_ids, document = np.unique(np.concatenate(named), return_inverse=True)
        return cls(
            tuple(doc_ids.tolist()),
            document.astype(np.int32),
            np.concatenate([part.number for part in parts]),
            np.concatenate([part.size for part in parts]),
            np.concatenate([part.scanned for part in parts]),
        )

    def select(self, keep: Mask) -> "Pages":
        """Those where `keep` is true."""
        return Pages(
            self.doc_ids, self.document[keep], self.number[keep], self.size[keep], self.scanned[keep]
        )

    def hide(self, keep: Mask) -> "Pages":
        """As many, but those where `keep` is false are passed over from now on."""
        doc_ids = self.doc_ids if "" in self.doc_ids else (*self.doc_ids, "")
        nowhere = np.int32(doc_ids.index(""))
        return Pages(doc_ids, np.where(keep, self.document, nowhere), self.number, self.size, self.scanned)

    def of(self, doc_ids: Mapping[str, object], scanned: bool | None = None) -> Mask:
        """(pages,) those of these documents, and those that were scanned, or were not, where that is asked for."""
        if self._known <= doc_ids.keys():
            keep = self._present
        else:
            keep = np.fromiter((d in doc_ids for d in self.doc_ids), np.bool_, len(self.doc_ids))[
                self.document
            ]
        return keep if scanned is None else keep & (self.scanned == scanned)

    def page(self, at: int, documents: Mapping[str, Document]) -> Page:
        doc_id, (width, height) = self.doc_ids[self.document[at]], self.size[at]
        return Page(doc_id, int(self.number[at]), documents[doc_id].name, float(width), float(height))

    def find(self, page_ids: Iterable[str]) -> Positions:
        """Positions of those of `page_ids` that are here."""
        found = []
        for page_id in page_ids:
            doc_id, _, number = page_id.rpartition("#")
            own = self._rows.get(doc_id)
            if own is not None:
                found += own[self.number[own] == int(number)].tolist()
        return np.array(found, np.int64)

    def numbered(self, numbers: frozenset[int], ends: dict[str, int]) -> Positions:
        """Positions of the pages with one of these numbers; `ends`: where the last page is asked for, its number."""
        if not numbers:
            return np.zeros(0, np.int64)
        wanted = np.isin(self.number, list(numbers))
        if ends:
            wanted |= self.number == np.array([ends.get(d, 0) for d in self.doc_ids])[self.document]
        return np.flatnonzero(wanted)

    @cached_property
    def _rows(self) -> dict[str, Positions]:
        order = np.argsort(self.document, kind="stable")
        starts = np.searchsorted(self.document[order], np.arange(len(self.doc_ids) + 1))
        return {d: order[starts[at] : starts[at + 1]] for at, d in enumerate(self.doc_ids)}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.doc_ids) - {""}

    @cached_property
    def _present(self) -> Mask:
        if len(self._known) == len(self.doc_ids):
            return np.ones(len(self), np.bool_)
        return np.array([d != "" for d in self.doc_ids], np.bool_)[self.document]


class Part(Protocol):
    @property
    def pages(self) -> Pages: ...

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        """(pages,) higher is better, comparable within this part only; -inf where `keep` is false."""
        ...

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        """The pages that have the best `depth` among them; scores: what `scores` has said."""
        ...

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        """(len(at),) exactly, NaN for a page that is gone meanwhile; scores: what `scores` has said."""
        ...


@dataclass(frozen=True)
class MemoryPart:
    """Pages whose vectors are in memory: page i is vectors[offsets[i]:offsets[i + 1]]."""

    pages: Pages
    vectors: Vectors
    offsets: Positions

    @classmethod
    def read(cls, batch: pa.RecordBatch) -> "MemoryPart":
        vectors, offsets = ragged_vectors(pa.Table.from_batches([batch])["vectors"])
        return cls(Pages.read(batch), vectors, offsets)

    @classmethod
    def gathered(cls, batches: Iterable[pa.RecordBatch], room: int) -> "tuple[MemoryPart, ...]":
        """All in one part, or none where there are no pages. Raises NoRoom past `room` bytes."""
        parts: list[MemoryPart] = []
        held = 0
        for batch in batches:
            parts.append(cls.read(batch))
            held += parts[-1].bytes
            if held > room:
                raise NoRoom
        return (parts[0].join(parts[1:]),) if parts else ()  # scanned at once, on all cores

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
        if keep.all():
            return self
        lengths = np.diff(self.offsets)
        vectors = self.vectors[np.repeat(keep, lengths)]
        return MemoryPart(self.pages.select(keep), vectors, offsets_of(lengths[keep]))

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        kept = self.select(keep)
        scores = np.full(len(self.pages), -np.inf, np.float32)
        scores[keep] = maxsim_ragged(query, kept.vectors, kept.offsets)
        return scores

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        return fuse.best(scores, depth)

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        return scores[at]
