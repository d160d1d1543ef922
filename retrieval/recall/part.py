"""What the first stage searches: the index in parts, each with some of the pages and a way to score them.

Every part answers the same two questions: roughly how well each page matches, and exactly how well some of them do.
The parts are `memory_part`, `gpu_scan` and `inverted`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retrieval.fuse import Scores
from retrieval.types import Document, Page, QueryEmbedding, Vectors

COLUMNS = ["doc_id", "number", "width", "height", "source", "vectors"]
Mask = NDArray[np.bool_]
Positions = NDArray[np.int64]


class NoRoom(Exception):
    """There are more vectors than the settings allow or, if a message says so, than there is memory for now."""

    @property
    def is_temporary(self) -> bool:
        return bool(self.args)


@dataclass(frozen=True)
class Pages:
    """The pages of a part, in the order of its scores."""

    doc_ids: tuple[str, ...]  # "" for a document that was removed: a search skips its pages
    document: NDArray[np.int32]  # (pages,) position in doc_ids
    number: NDArray[np.int32]
    size: NDArray[np.float32]  # (pages, 2) width and height in points
    scanned: Mask

    def __len__(self) -> int:
        return len(self.number)

    @classmethod
    def read(cls, batch: pa.RecordBatch) -> "Pages":
        """batch: rows with `COLUMNS`."""
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
        ids = [np.array(part.doc_ids)[part.document] for part in parts]
        doc_ids, document = np.unique(np.concatenate(ids), return_inverse=True)
        return cls(
            tuple(doc_ids.tolist()),
            document.astype(np.int32),
            np.concatenate([part.number for part in parts]),
            np.concatenate([part.size for part in parts]),
            np.concatenate([part.scanned for part in parts]),
        )

    def select(self, keep: Mask) -> "Pages":
        """Returns the pages where `keep` (pages,) is true."""
        return Pages(
            self.doc_ids, self.document[keep], self.number[keep], self.size[keep], self.scanned[keep]
        )

    def hide(self, keep: Mask) -> "Pages":
        """Returns the same rows, but pages where `keep` (pages,) is false belong to no document any more."""
        doc_ids = self.doc_ids if "" in self.doc_ids else (*self.doc_ids, "")
        removed = np.int32(doc_ids.index(""))
        return Pages(doc_ids, np.where(keep, self.document, removed), self.number, self.size, self.scanned)

    def of(self, doc_ids: Mapping[str, object], scanned: bool | None = None) -> Mask:
        """Returns (pages,): true for pages of these documents; if `scanned` is given, only for those that match it."""
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
        """Returns the positions of those of `page_ids` that this part has."""
        positions = []
        for page_id in page_ids:
            doc_id, _, number = page_id.rpartition("#")
            rows = self._rows.get(doc_id)
            if rows is not None:
                positions += rows[self.number[rows] == int(number)].tolist()
        return np.array(positions, np.int64)

    def numbered(self, numbers: frozenset[int], ends: dict[str, int]) -> Positions:
        """Returns the positions of the pages with one of these numbers.

        ends: the number of each document's last page, by doc_id, if the query asks for last pages.
        """
        if not numbers:
            return np.zeros(0, np.int64)
        matches = np.isin(self.number, list(numbers))
        if ends:
            matches |= self.number == np.array([ends.get(d, 0) for d in self.doc_ids])[self.document]
        return np.flatnonzero(matches)

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
    """Some of the pages of the index, and a way to score them."""

    @property
    def pages(self) -> Pages: ...

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        """Returns (pages,): higher is better, comparable within this part only; -inf where `keep` is false."""
        ...

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        """Returns positions of pages among which are the best `depth`; scores: the result of `scores`."""
        ...

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        """Returns (len(at),) exact MaxSim, NaN for a page that has been removed meanwhile; scores: as above."""
        ...
