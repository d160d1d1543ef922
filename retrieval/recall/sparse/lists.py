"""Scores all pages of the index by their sparse vectors: reads the lists of the question's tokens, segment by segment.

A page scores as its best passage. Nothing is skipped, so the scores are exact for the stored impacts, and the same in
whatever segments the pages are.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.encoders.sparse import SparseVector
from retrieval.recall.sparse.segment import STEPS, Segment, load_segment

LAYOUT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Names the encoder of the lists, and the folders of their segments."""

    encoder: str
    segments: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Replace the manifest in `folder` atomically; from then on searches see its segments."""
        fresh = folder / f"{MANIFEST}.new"
        facts = {"layout": LAYOUT, "encoder": self.encoder, "segments": self.segments}
        fresh.write_text(json.dumps(facts), encoding="utf-8")
        for path in (*(path for name in self.segments for path in (folder / name).iterdir()), fresh):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        fresh.replace(folder / MANIFEST)

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Return None if there is no manifest that can be read, or if it is of another layout."""
        try:
            facts = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            if facts["layout"] != LAYOUT:
                return None
            return cls(facts["encoder"], tuple(facts["segments"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class SparseScores:
    """The scores of the pages of one search, by segment and then by page."""

    lists: "SparseLists"
    scores: tuple[NDArray[np.float64], ...]
    keep: tuple[NDArray[np.bool_], ...]

    def best(self, count: int) -> dict[str, float]:
        """Return the best `count` pages that score above 0 and may be found, by page_id; ties in no order."""
        scores = np.concatenate([np.where(k, s, 0.0) for s, k in zip(self.scores, self.keep, strict=True)])
        ends = np.cumsum([len(part) for part in self.scores])
        best = {}
        for at in fuse.best(scores, count):
            if scores[at] <= 0:
                break
            place = int(np.searchsorted(ends, at, side="right"))
            segment = self.lists.segments[place]
            row = int(at) - int(ends[place]) + len(segment)
            best[f"{segment.documents[segment.document[row]][0]}#{segment.number[row]}"] = float(scores[at])
        return best

    def of(self, page_ids: Iterable[str]) -> list[float]:
        """Return the scores of these pages, 0 for pages that the lists do not have."""
        found = []
        for page_id in page_ids:
            doc_id, _, number = page_id.rpartition("#")
            place, first = self.lists.first_rows.get(doc_id, (-1, 0))
            found.append(float(self.scores[place][first + int(number) - 1]) if place >= 0 else 0.0)
        return found


@dataclass(frozen=True)
class SparseLists:
    """The segments of an index; most: the encoder's highest weight."""

    segments: tuple[Segment, ...]
    most: float

    @classmethod
    def load(cls, folder: Path, encoder: str, most: float) -> "SparseLists | None":
        """Return None if there are no lists of this encoder, or if they are damaged."""
        manifest = Manifest.read(folder)
        if manifest is None or manifest.encoder != encoder:
            return None
        try:
            return cls(tuple(load_segment(folder / name) for name in manifest.segments), most)
        except (OSError, EOFError, ValueError, KeyError):
            return None

    @cached_property
    def revisions(self) -> dict[str, str]:
        """The revision of each document, by doc_id."""
        return {doc_id: revision for segment in self.segments for doc_id, revision in segment.documents}

    @cached_property
    def first_rows(self) -> dict[str, tuple[int, int]]:
        """By doc_id, the position of its segment and there the row of its page 1; its pages follow each other."""
        rows = {}
        for place, segment in enumerate(self.segments):
            firsts = np.searchsorted(segment.document, np.arange(len(segment.documents)))
            for (doc_id, _), first in zip(segment.documents, firsts, strict=True):
                rows[doc_id] = (place, int(first))
        return rows

    def scores(
        self, query: SparseVector, by_rarity: bool, documents: Mapping[str, object], scanned: bool | None
    ) -> SparseScores:
        """Score all pages; `best` returns those of `documents` (by doc_id) that match `scanned`.

        by_rarity: multiply the query's weights by the inverse document frequency of their tokens.
        """
        weights = query.weights * self._rarity(query) if by_rarity else query.weights
        scores, keep = [], []
        for place, segment in enumerate(self.segments):
            passages = np.zeros(int(segment.passages[-1]), np.float32)
            for at, weight in zip(_places(segment, query), weights, strict=True):
                if at is not None and weight > 0:
                    rows = slice(segment.starts[at], segment.starts[at + 1])
                    passages[segment.passage[rows]] += segment.impact[rows] * np.float32(
                        weight * self.most / STEPS
                    )
            pages = np.zeros(len(segment), np.float32)
            has_text = np.diff(segment.passages) > 0  # reduceat needs segments that are not empty
            if has_text.any():
                pages[has_text] = np.maximum.reduceat(passages, segment.passages[:-1][has_text])
            # An earlier revision of a document may still be in another segment.
            allowed = np.array(
                [d in documents and self.first_rows[d][0] == place for d, _ in segment.documents], np.bool_
            )
            mask = allowed[segment.document]
            scores.append(pages.astype(np.float64))
            keep.append(mask if scanned is None else mask & (segment.scanned == scanned))
        return SparseScores(self, tuple(scores), tuple(keep))

    def _rarity(self, query: SparseVector) -> NDArray[np.float32]:
        """BM25's inverse document frequency of the query's tokens, over pages."""
        pages = sum(len(segment) for segment in self.segments)
        having = np.zeros(len(query.tokens))
        for segment in self.segments:
            for token, at in enumerate(_places(segment, query)):
                having[token] += segment.pages_with[at] if at is not None else 0
        return np.log(1 + (pages - having + 0.5) / (having + 0.5)).astype(np.float32)


def _places(segment: Segment, query: SparseVector) -> list[int | None]:
    """Return the position of each of the query's tokens in the segment, None for a token that it does not have."""
    at = np.searchsorted(segment.tokens, query.tokens)
    return [
        int(place) if place < len(segment.tokens) and segment.tokens[place] == token else None
        for place, token in zip(at, query.tokens, strict=True)
    ]
