"""The codebook: centroids, and a code of one bit for each dimension of a vector's residual from its centroid.

A vector is encoded as its nearest centroid and the signs of the rotated residual, with the factor that makes the signs'
dot product an unbiased estimate of the residual's (RaBitQ: Gao and Long, 2024, section 3.2). Centroids are trained, and
looked up, in two levels, so that the cost of a vector grows with the square root of their number.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.recall.threads import on_all_cores
from retrieval.types import Vectors

ROUNDS = 6  # of k-means
BLOCK = 32_768  # vectors at a time
BRANCHES = 2  # cells of the first level that are searched for the nearest centroid
PER_CENTROID = 32  # vectors of the sample for each centroid
PER_CELL = 512  # vectors of the sample for each cell on which the first level is trained
CELLS_PER_REPORT = 16  # cells that are trained between two reports of progress
SPARE = 1.25  # times the sample's largest factor: larger factors are clipped


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of n vectors: the centroid, d bits, and a factor for each."""

    centroids: NDArray[np.uint32]  # (n,)
    signs: NDArray[np.uint64]  # (n, ceil(d / 64)), one bit a dimension, the first one lowest
    factors: NDArray[np.uint8]  # (n,), in 255ths of the codebook's largest factor


@dataclass(frozen=True)
class Codebook:
    """Centroids of length 1, in two levels: centroids[starts[i]:starts[i + 1]] belong to cell i of the first."""

    cells: Vectors  # (m, d)
    starts: NDArray[np.int64]  # (m + 1,)
    centroids: Vectors  # (k, d)
    rotation: Vectors  # (d, 64 * ceil(d / 64)), orthonormal rows
    largest: float  # factor

    def nearest(self, vectors: Vectors) -> NDArray[np.uint32]:
        """Returns (n,): the nearest centroid of each vector (n, d), searched for in its nearest cells only."""
        near = vectors @ self.cells.T
        rows = np.arange(len(vectors))
        best, nearest = np.full(len(vectors), -np.inf, np.float32), np.zeros(len(vectors), np.uint32)
        for _ in range(min(BRANCHES, len(self.cells))):
            cell = near.argmax(axis=1)
            near[rows, cell] = -np.inf
            for own, members in _grouped(cell):
                low, high = self.starts[own], self.starts[own + 1]
                similar = vectors[members] @ self.centroids[low:high].T
                at = similar.argmax(axis=1)
                value = similar[np.arange(len(members)), at]
                better = value > best[members]
                best[members[better]], nearest[members[better]] = value[better], low + at[better]
        return nearest

    def encode(self, vectors: Vectors) -> Codes:
        """Returns the codes of vectors (n, d), which are float32 and of length 1."""
        centroids, signs, factor = self.apart(vectors)
        return Codes(centroids, signs, np.rint(np.minimum(factor / self.largest, 1) * 255).astype(np.uint8))

    def apart(self, vectors: Vectors) -> tuple[NDArray[np.uint32], NDArray[np.uint64], Vectors]:
        """Returns each vector's nearest centroid (n,), and the signs and factor (n,) of its rotated residual."""
        from retrieval.recall.ivf.kernels import signs_and_factors

        centroids = self.nearest(vectors)
        rotated = vectors @ self.rotation
        signs = np.empty((len(vectors), rotated.shape[1] // 64), np.uint64)
        factors = np.empty(len(vectors), np.float32)
        signs_and_factors(rotated, self._rotated, centroids, signs, factors)
        return centroids, signs, factors

    @cached_property
    def _rotated(self) -> Vectors:
        """(k, 64 * ceil(d / 64)): the rotated centroids."""
        rotated: Vectors = self.centroids @ self.rotation
        return rotated

    def save(self, path: Path) -> None:
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Codebook":
        with path.open("rb") as file, np.load(file) as arrays:
            own = {field.name: arrays[field.name] for field in fields(cls)}
        return cls(**own | {"largest": float(own["largest"])})


def packed(bits: NDArray[Any]) -> NDArray[np.uint64]:
    """Packs (n, d) of 0 and 1, d being a multiple of 64, into (n, d / 64), the first bit lowest."""
    return np.packbits(bits.astype(np.bool_), axis=1, bitorder="little").view("<u8")


def centroid_count(vectors: int) -> int:
    """Returns the number of centroids: 8 times the root of `vectors`, as a power of two (PLAID takes 16 times)."""
    return int(2 ** np.round(np.log2(max(2.0, 8 * vectors**0.5))))


def train_codebook(
    sample: NDArray[Any], centroids: int, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> Codebook:
    """Trains about `centroids` centroids, at most one for eight vectors, on sample (n, d), floats of length 1.

    The same sample gives the same codebook. on_progress: called with the number of cells trained, and of all cells.
    """
    dim = sample.shape[1]
    count = max(1, min(centroids, len(sample) // 8))
    cells = max(1, int(2 ** np.floor(np.log2(count) / 2)))
    some = np.random.default_rng(1).choice(len(sample), min(len(sample), PER_CELL * cells), replace=False)
    first = _k_means(sample[np.sort(some)], cells)
    own = np.concatenate([(block @ first.T).argmax(axis=1) for block in _blocks(sample)])
    members = dict(_grouped(own))

    def children(cell: int) -> Vectors:
        rows = members.get(cell)
        if rows is None:
            return first[cell : cell + 1]
        share = round(len(rows) / len(sample) * count)
        return _k_means(sample[rows].astype(np.float32), max(1, min(share, len(rows) // 4)))

    second: list[Vectors] = []
    for low in range(0, cells, CELLS_PER_REPORT):
        second += on_all_cores(children, range(low, min(low + CELLS_PER_REPORT, cells)))
        on_progress(len(second), cells)
    padded = -(-dim // 64) * 64
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((padded, padded)))[0][:dim]
    book = Codebook(
        first,
        np.cumsum([0, *map(len, second)]).astype(np.int64),
        np.concatenate(second),
        rotation.astype(np.float32),
        1.0,
    )
    _, _, factors = book.apart(next(_blocks(sample)))
    return replace(book, largest=max(1e-6, SPARE * float(factors.max())))


def _k_means(vectors: NDArray[Any], centroids: int) -> Vectors:
    """Runs spherical k-means from evenly chosen vectors; a centroid that loses all its vectors stays where it was."""
    from retrieval.recall.ivf.kernels import add_to

    chosen = np.linspace(0, len(vectors) - 1, centroids).astype(np.int64)
    means: Vectors = vectors[chosen].astype(np.float32)
    for _ in range(ROUNDS if centroids > 1 else 1):
        sums = np.zeros_like(means)
        for block in _blocks(vectors):
            add_to(sums, (block @ means.T).argmax(axis=1), block)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        means = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), means)
    return means


def _blocks(vectors: NDArray[Any]) -> Iterator[Vectors]:
    for first in range(0, len(vectors), BLOCK):
        yield vectors[first : first + BLOCK].astype(np.float32)


def _grouped(of: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yields each value that occurs, with its positions."""
    order = np.argsort(of, kind="stable")
    values, starts = np.unique(of[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)
