"""The inverted index: one codebook, some segments, a manifest that names them, and how a query is scored with them.

Each vector of the query visits the lists of its nearest centroids and estimates the similarity of every vector there.
A page gets the best estimate of its vectors or, if none of them is in those lists, what the next centroid would have
given (the imputation of XTR and WARP: Lee et al., 2023; Scheerer et al., 2025). The result orders the pages and is not
a score to be shown: the best pages are then scored exactly.
"""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from configs.cores import available_cores
from retrieval.errors import ModelBroken
from retrieval.recall.ivf import segment
from retrieval.recall.ivf.codebook import Codebook, packed
from retrieval.recall.ivf.segment import Segment
from retrieval.recall.maxsim import weighted
from retrieval.recall.threads import on_all_cores
from retrieval.types import QueryEmbedding, Vectors

LAYOUT = 1
MANIFEST = "manifest.json"
PROBES = 256  # lists that each query vector visits at least, if there are as many
POSTINGS = 20_000  # that it finds there at least, about: in a small index the lists are short
MOST_PROBES = 4_096  # if a filter hides most of the pages in them


@dataclass(frozen=True)
class Manifest:
    """Names the files that make up an inverted index."""

    encoder: str  # fingerprint
    codebook: str  # file
    trained_for: int  # vectors
    segments: tuple[str, ...]  # folders

    def write(self, folder: Path) -> None:
        """Replace the manifest in `folder` atomically, once all files that this one names are on the disk.

        From then on readers see it.
        """
        fresh = folder / f"{MANIFEST}.new"
        fresh.write_text(json.dumps({"layout": LAYOUT, **self.__dict__}, indent=1), encoding="utf-8")
        for path in (*self.files(folder), fresh):
            with path.open("rb") as file:
                os.fsync(file.fileno())
        fresh.replace(folder / MANIFEST)

    def files(self, folder: Path) -> list[Path]:
        """Returns all files that the manifest names."""
        parts = [path for name in self.segments for path in (folder / name).iterdir()]
        return [folder / self.codebook, *parts]

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """Returns None if there is no manifest, or one of another layout: the index is then built from scratch."""
        try:
            fields = json.loads((folder / MANIFEST).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if fields.pop("layout", None) != LAYOUT:
            return None
        return cls(**fields | {"segments": tuple(fields["segments"])})


@dataclass(frozen=True, slots=True)
class ProbedQuery:
    """q vectors of a query, each prepared for the p lists that it visits."""

    lists: NDArray[np.int64]  # (q, p)
    similar: Vectors  # (q, p) to the lists' centroids
    floors: Vectors  # (q,) the similarity imputed to a page with no vector in the lists
    planes: NDArray[np.uint64]  # (q, 4, words): the rotated values in 16 levels, a plane a bit, lowest first
    scales: Vectors  # (q, 3): twice the lowest value, twice the distance of two levels, the sum of all levels


@dataclass(frozen=True)
class InvertedIndex:
    """An inverted index whose segments are mapped into memory."""

    manifest: Manifest
    book: Codebook
    segments: tuple[Segment, ...]

    @classmethod
    def load(cls, folder: Path, encoder: str) -> "InvertedIndex | None":
        """Returns the index in `folder`; None if there is none for this encoder, or if it is damaged."""
        for _ in range(5):  # a refresh may remove a segment between two reads
            manifest = Manifest.read(folder)
            if manifest is None or manifest.encoder != encoder:
                return None
            try:
                return cls(
                    manifest,
                    Codebook.load(folder / manifest.codebook),
                    tuple(segment.load_segment(folder / name) for name in manifest.segments),
                )
            except (OSError, ValueError, KeyError, EOFError, BadZipFile):
                continue
        return None

    @cached_property
    def documents(self) -> frozenset[tuple[str, str]]:
        """(doc_id, revision) of each document in the index."""
        return frozenset(document for part in self.segments for document in part.documents)

    @cached_property
    def vectors(self) -> int:
        """The number of vectors."""
        return sum(len(part.page) for part in self.segments)

    def approximate_scores(self, query: QueryEmbedding, keep: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Estimates by how much each page's MaxSim exceeds that of a page with no vector near the query.

        Returns (pages,) for the pages of all segments, in their order; keep (pages,): pages where it is false get 0.
        The time is proportional to the number of query vectors. Raises ModelBroken for vectors that are not finite.
        """
        vectors = weighted(query)
        if not np.isfinite(vectors).all():
            raise ModelBroken(
                "the encoder's vectors for this question hold values that are not finite numbers: check its model"
            )
        approximate_scores = np.zeros(len(keep), np.float32)
        shown = float(keep.mean()) if len(keep) else 0.0
        if not len(vectors) or not shown:
            return approximate_scores
        probes = self._probes(shown)
        ends = np.cumsum([0, *map(len, self.segments)])
        threads = min(available_cores(), len(vectors))

        def score_share(first: int) -> NDArray[np.float32]:
            probed = self._prepare(vectors[first::threads], probes)
            parts = zip(self.segments, ends, ends[1:], strict=False)
            return np.concatenate([self._probe(part, keep[low:high], probed) for part, low, high in parts])

        total: NDArray[np.float32] = sum(on_all_cores(score_share, range(threads)), approximate_scores)
        return total

    def _probes(self, shown: float) -> int:
        """Returns how many lists each query vector visits, if a filter leaves this share of all pages."""
        lists = len(self.book.centroids)
        probes = max(PROBES, POSTINGS * lists / max(self.vectors, 1)) / shown
        return min(MOST_PROBES, round(probes), lists)

    def _prepare(self, vectors: Vectors, probes: int) -> ProbedQuery:
        similar = vectors @ self.book.centroids.T
        nowhere = np.full((len(vectors), 1), similar.min() - 1, np.float32)  # pages without vectors are here
        similar = np.hstack([similar, nowhere])
        last = similar.shape[1] - probes - 1
        near = np.argpartition(similar, last, axis=1)[:, last:]
        values = np.take_along_axis(similar, near, axis=1)
        planes, scales = _levels(vectors @ self.book.rotation)
        return ProbedQuery(near[:, 1:].copy(), values[:, 1:].copy(), values[:, 0].copy(), planes, scales)

    def _probe(self, part: Segment, keep: NDArray[np.bool_], query: ProbedQuery) -> NDArray[np.float32]:
        from retrieval.recall.ivf.kernels import probe

        approximate_scores = np.zeros(len(part), np.float32)
        probe(
            query.lists,
            query.similar,
            query.floors,
            query.planes,
            query.scales,
            part.starts,
            part.page,
            part.signs,
            part.factor,
            np.float32(self.book.largest / 255),
            keep,
            approximate_scores,
        )
        return approximate_scores


def _levels(rotated: Vectors) -> tuple[NDArray[np.uint64], Vectors]:
    """Returns planes and scales of `ProbedQuery`, with which a dot product of values and signs counts bits.

    The sum of s_i q_i, s_i being 1 or -1, is twice the sum of the q_i whose s_i is 1, less the sum of all q_i.
    """
    low = rotated.min(axis=1, keepdims=True)
    unit = np.maximum(rotated.max(axis=1, keepdims=True) - low, 1e-9) / 15
    levels = np.rint((rotated - low) / unit).astype(np.uint8)
    planes = np.stack([packed(levels >> bit & 1) for bit in range(4)], axis=1)
    # The sum is over the levels, not over the values themselves, so that the rounding errors cancel out.
    total = low * rotated.shape[1] + unit * levels.sum(axis=1, keepdims=True)
    scales = np.hstack([2 * low, 2 * unit, total])
    return planes, scales.astype(np.float32)
