"""Centroids, and what one bit a dimension says of a vector's distance to its own.

A vector is written as its nearest centroid and the signs of the rotated residual, with the factor that makes the
signs' dot product an unbiased estimate of the residual's (RaBitQ: Gao and Long, 2024, section 3.2). Centroids are
found, and looked up, in two levels, so that the cost of a vector grows with the root of their number.
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
BRANCHES = 2  # cells of the first level in which the nearest centroid is looked for
PER_CENTROID = 32  # vectors of the sample
PER_CELL = 512  # vectors of it that the first level is found by
TOLD = 16  # cells between two words on how far it is
SPARE = 1.25  # over the sample's largest factor: what lies beyond is clipped


@dataclass(frozen=True, slots=True)
class Codes:
    """What is kept of n vectors: their list, d bits, a factor."""

    centroids: NDArray[np.uint32]  # (n,)
    signs: NDArray[np.uint64]  # (n, ceil(d / 64)), one bit a dimension, the first one lowest
    factors: NDArray[np.uint8]  # (n,), in 255ths of the codebook's largest


@dataclass(frozen=True)
class Codebook:
    """centroids[starts[i]:starts[i + 1]] belong to cell i of the first level; of length 1."""

    cells: Vectors  # (m, d)
    starts: NDArray[np.int64]  # (m + 1,)
    centroids: Vectors  # (k, d)
    rotation: Vectors  # (d, 64 * ceil(d / 64)), orthonormal rows
    largest: float  # factor

    def nearest(self, vectors: Vectors) -> NDArray[np.uint32]:
        """Position of each vector's (n, d) nearest centroid, looked for in its nearest cells alone."""
        near = vectors @ self.cells.T
        rows = np.arange(len(vectors))
        best, found = np.full(len(vectors), -np.inf, np.float32), np.zeros(len(vectors), np.uint32)
        for _ in range(min(BRANCHES, len(self.cells))):
            cell = near.argmax(axis=1)
            near[rows, cell] = -np.inf
            for own, members in _grouped(cell):
                low, high = self.starts[own], self.starts[own + 1]
                similar = vectors[members] @ self.centroids[low:high].T
                at = similar.argmax(axis=1)
                value = similar[np.arange(len(members)), at]
                better = value > best[members]
                best[members[better]], found[members[better]] = value[better], low + at[better]
        return found

    def encode(self, vectors: Vectors) -> Codes:
        """vectors (n, d) float32, of length 1."""
        centroids, signs, factor = self.apart(vectors)
        return Codes(centroids, signs, np.rint(np.minimum(factor / self.largest, 1) * 255).astype(np.uint8))

    def apart(self, vectors: Vectors) -> tuple[NDArray[np.uint32], NDArray[np.uint64], Vectors]:
        """Nearest centroids (n,), and of what is left of each vector, rotated, the signs and their factor (n,)."""
        from retrieval.recall.ivf.kernels import signs_and_factors

        centroids = self.nearest(vectors)
        rotated = vectors @ self.rotation
        signs = np.empty((len(vectors), rotated.shape[1] // 64), np.uint64)
        factors = np.empty(len(vectors), np.float32)
        signs_and_factors(rotated, self._rotated, centroids, signs, factors)
        return centroids, signs, factors

    @cached_property
    def _rotated(self) -> Vectors:
        """(k, 64 * ceil(d / 64)) the centroids."""
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
    """(n, d) of 0 and 1, d a multiple of 64, as (n, d / 64), the first one lowest."""
    return np.packbits(bits.astype(np.bool_), axis=1, bitorder="little").view("<u8")


def size(vectors: int) -> int:
    """How many centroids for so many vectors: 8 times their root, as a power of two (PLAID takes 16 times)."""
    return int(2 ** np.round(np.log2(max(2.0, 8 * vectors**0.5))))


def train_codebook(
    sample: NDArray[Any], centroids: int, on_progress: Callable[[int, int], None] = lambda done, of: None
) -> Codebook:
    """sample (n, d), of length 1, any float; about `centroids` centroids, at most one for eight vectors.

    The same sample gives the same codebook. `on_progress` hears how many cells of how many are done.
    """
    dim = sample.shape[1]
    wanted = max(1, min(centroids, len(sample) // 8))
    cells = max(1, int(2 ** np.floor(np.log2(wanted) / 2)))
    some = np.random.default_rng(1).choice(len(sample), min(len(sample), PER_CELL * cells), replace=False)
    first = _k_means(sample[np.sort(some)], cells)
    own = np.concatenate([(block @ first.T).argmax(axis=1) for block in _blocks(sample)])
    members = dict(_grouped(own))

    def children(cell: int) -> Vectors:
        mine = members.get(cell)
        if mine is None:
            return first[cell : cell + 1]
        share = round(len(mine) / len(sample) * wanted)
        return _k_means(sample[mine].astype(np.float32), max(1, min(share, len(mine) // 4)))

    found: list[Vectors] = []
    for few in range(0, cells, TOLD):
        found += on_all_cores(children, range(few, min(few + TOLD, cells)))
        on_progress(len(found), cells)
    padded = -(-dim // 64) * 64
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((padded, padded)))[0][:dim]
    book = Codebook(
        first,
        np.cumsum([0, *map(len, found)]).astype(np.int64),
        np.concatenate(found),
        rotation.astype(np.float32),
        1.0,
    )
    _, _, factors = book.apart(next(_blocks(sample)))
    return replace(book, largest=max(1e-6, SPARE * float(factors.max())))


def _k_means(vectors: NDArray[Any], centroids: int) -> Vectors:
    """Spherical k-means, begun at vectors chosen evenly; a centroid that loses all its vectors stays where it was."""
    from retrieval.recall.ivf.kernels import add_to

    chosen = np.linspace(0, len(vectors) - 1, centroids).astype(np.int64)
    found: Vectors = vectors[chosen].astype(np.float32)
    for _ in range(ROUNDS if centroids > 1 else 1):
        sums = np.zeros_like(found)
        for block in _blocks(vectors):
            add_to(sums, (block @ found.T).argmax(axis=1), block)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        found = np.where(lengths > 1e-6, sums / np.maximum(lengths, 1e-6), found)
    return found


def _blocks(vectors: NDArray[Any]) -> Iterator[Vectors]:
    for first in range(0, len(vectors), BLOCK):
        yield vectors[first : first + BLOCK].astype(np.float32)


def _grouped(of: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each value that occurs, with its positions."""
    order = np.argsort(of, kind="stable")
    values, starts = np.unique(of[order], return_index=True)
    yield from zip(values.tolist(), np.split(order, starts[1:]), strict=True)
