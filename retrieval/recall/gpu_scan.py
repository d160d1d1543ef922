"""Pages whose vectors stay in a GPU's memory: a fused kernel scans all of them there.

The kernel (late-interaction-kernels: one launch from vectors to MaxSim, which stores no similarities in between) reads
the query in float16. For each query there is a bound on how far that can move a page's score, so the pages that may be
among the best are known; these are scored again, in float64. The result is exact for vectors that are stored in
float16; vectors that are stored as int8 are rounded to float16 first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.fuse import Scores
from retrieval.recall import gpu
from retrieval.recall.maxsim import offsets_of, unweighted_query, weighted
from retrieval.recall.part import Mask, NoRoom, Pages, Positions
from retrieval.store.schema import dequantize, ragged_stored
from retrieval.types import Document, QueryEmbedding, Vectors

BLOCK = 2**29
"""Values of a block, about: 1 GiB. The kernel counts them in 32 bits."""
WARMED = (16, 32, 64, 128)  # lengths of the queries for which `warm` has Triton search for the best settings
AT_ONCE = 2**24  # values that are scored again at once: 128 MiB
DEAD = 0.3  # share of a block's vectors that belong to removed pages, above which the others are copied


@dataclass(frozen=True, eq=False)
class Block:
    """Pages of similar length: the kernel takes as long for each page as for the longest one of its block."""

    vectors: Tensor  # (n, d) float16, on the device
    offsets: Positions  # (pages + 1,)
    ends: Tensor  # the same as int32, on the device
    rows: Positions  # (pages,) their positions in the part

    @classmethod
    def of(cls, vectors: Tensor, lengths: NDArray[np.int64], rows: Positions) -> "Block":
        offsets = offsets_of(lengths)
        return cls(vectors, offsets, torch.from_numpy(offsets).to(vectors.device, torch.int32), rows)

    @cached_property
    def longest(self) -> int:
        """The number of vectors of the longest page, rounded up."""
        return _rounded_up(int(np.diff(self.offsets).max()))

    def select(self, keep: Mask) -> "Block":
        """Returns a block of the pages where `keep` is true; there must be at least one."""
        lengths = np.diff(self.offsets)
        positions = torch.from_numpy(np.flatnonzero(np.repeat(keep, lengths))).to(self.vectors.device)
        return Block.of(self.vectors[positions], lengths[keep], self.rows[keep])


@dataclass(frozen=True, eq=False)
class GpuPart:
    """A `retrieval.recall.part_cache.ResidentPart` on `device`."""

    pages: Pages
    blocks: tuple[Block, ...]
    device: torch.device

    @classmethod
    def gathered(
        cls, batches: Iterable[pa.RecordBatch], room: int, device: torch.device
    ) -> "tuple[GpuPart, ...]":
        """Returns one part with all pages, or no part if there are no pages.

        Raises NoRoom if the vectors take more than `room` bytes, or more than the GPU has.
        """
        pages: list[Pages] = []
        blocks: list[Block] = []
        waiting: dict[int, list[tuple[NDArray[Any], NDArray[np.int64], Positions]]] = {}
        first = size = 0

        def move(kind: int) -> None:
            groups = waiting.pop(kind)
            vectors, lengths, rows = (np.concatenate([group[i] for group in groups]) for i in range(3))
            with gpu.room(device):
                blocks.append(Block.of(torch.from_numpy(vectors).to(device), lengths, rows))

        for batch in batches:
            stored, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
            halves = dequantize(stored).astype(np.float16) if stored.dtype == np.int8 else stored
            size += halves.nbytes
            if size > room:
                raise NoRoom
            pages.append(Pages.read(batch))
            for kind, lengths, rows, vectors in _by_length(halves, offsets):
                waiting.setdefault(kind, []).append((vectors, lengths, rows + first))
                if sum(group[0].size for group in waiting[kind]) >= BLOCK:
                    move(kind)
            first += len(pages[-1])
        for kind in list(waiting):
            move(kind)
        return (cls(Pages.joined(pages), tuple(blocks), device),) if pages else ()

    @cached_property
    def bytes(self) -> int:
        return sum(block.vectors.nbytes for block in self.blocks)

    @property
    def count(self) -> int:
        return sum(len(block.vectors) for block in self.blocks)

    def select(self, keep: Mask) -> "GpuPart":
        """Returns this part with the pages hidden where `keep` is false; a block with many of them is copied."""
        gone = np.zeros(len(keep), np.bool_)
        blocks = []
        for block in self.blocks:
            live = keep[block.rows]
            dead = int(np.diff(block.offsets)[~live].sum())
            if dead <= DEAD * len(block.vectors):
                blocks.append(block)
                continue
            gone[block.rows[~live]] = True
            if live.any():
                with gpu.room(self.device):
                    blocks.append(block.select(live))
        place = np.cumsum(~gone) - 1
        blocks = [replace(block, rows=place[block.rows]) for block in blocks]
        return GpuPart(self.pages.hide(keep).select(~gone), tuple(blocks), self.device)

    def join(self, others: Sequence["GpuPart"]) -> "GpuPart":
        parts = [self, *others]
        first = np.cumsum([0, *(len(part.pages) for part in parts)])
        kinds: dict[int, list[Block]] = {}
        for part, shift in zip(parts, first, strict=False):
            for block in part.blocks:
                moved = replace(block, rows=block.rows + shift)
                kinds.setdefault(_kind(block.longest), []).append(moved)
        with gpu.room(self.device):
            blocks = [block for same_kind in kinds.values() for block in _packed(same_kind)]
        return GpuPart(Pages.joined([part.pages for part in parts]), tuple(blocks), self.device)

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        scores = np.full(len(self.pages), -np.inf, np.float32)
        scores[keep] = 0
        vectors = weighted(query)
        if not len(vectors):
            return scores
        with gpu.room(self.device):
            halves = torch.from_numpy(vectors.astype(np.float16)).to(self.device)
            ends = torch.tensor([0, len(vectors)], dtype=torch.int32, device=self.device)
            with gpu.launching(self.device):
                kernel, longest = gpu.kernel(self.device), _rounded_up(len(vectors))
                launched = [
                    (block, kernel(halves, block.vectors, ends, block.ends, longest, block.longest)[0])
                    for block in self.blocks
                    if keep[block.rows].any()
                ]
            for block, result in launched:  # all were launched before the first is waited for
                scores[block.rows] = result.cpu().numpy()
        scores[~keep] = -np.inf
        return scores

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        """Returns all pages that may be among the best: the kernel's scores are off by at most `slack`."""
        allowed = np.flatnonzero(np.isfinite(scores))
        if len(allowed) <= depth:
            return allowed
        least = np.partition(scores[allowed], -depth)[-depth]
        near: Positions = allowed[scores[allowed] >= least - 2 * slack(weighted(query))]
        return near

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        exact = np.zeros(len(at), np.float64)
        weighted_query = weighted(query)
        if not len(weighted_query):
            return exact
        with gpu.room(self.device):
            vectors = torch.from_numpy(weighted_query).to(self.device, torch.float64)
            lengths = self._place[at, 2]
            order = np.argsort(lengths, kind="stable")
            order = order[lengths[order] > 0]  # others score 0
            for group in _groups(lengths[order] * vectors.shape[1]):
                some = order[group]
                exact[some] = self._exact(at[some], vectors)
        return exact

    def _exact(self, at: Positions, query: Tensor) -> Scores:
        """Returns MaxSim (n,) of pages of similar length, at least 1, in the query's precision.

        Pages are filled up with their own last vector, which changes no maximum, so that one product has them all.
        """
        by_block = np.argsort(self._place[at, 0], kind="stable")
        numbers, rows, lengths = self._place[at[by_block]].T
        within = np.minimum(np.arange(lengths.max()), lengths[:, None] - 1)
        pages = []
        for number in np.unique(numbers):
            block, own = self.blocks[number], numbers == number
            positions = block.offsets[rows[own], None] + within[own]
            pages.append(block.vectors[torch.from_numpy(positions).to(self.device)])
        similar = torch.cat(pages).to(query.dtype) @ query.T
        best = np.zeros(len(at), np.float64)
        best[by_block] = similar.amax(dim=1).sum(dim=1).cpu().numpy()
        return best

    def warm(self) -> None:
        """Have the kernel compiled, and its best settings found, for queries of the usual lengths."""
        everything = np.ones(len(self.pages), np.bool_)
        for length in WARMED if self.blocks else ():
            vectors = np.full((length, self.blocks[0].vectors.shape[1]), 0.1, np.float32)
            self.scores(unweighted_query(vectors), everything)

    @cached_property
    def _place(self) -> Positions:
        """(pages, 3): the block of each page, its row in it, and its number of vectors."""
        place = np.zeros((len(self.pages), 3), np.int64)
        for at, block in enumerate(self.blocks):
            rows = np.arange(len(block.rows))
            place[block.rows] = np.stack([np.full(len(rows), at), rows, np.diff(block.offsets)], axis=1)
        return place


def slack(vectors: Vectors) -> float:
    """Returns the most by which the kernel's score of a page may differ from the true one.

    vectors (q, d): the query's, times their weights. The pages' vectors are of length 1, or longer by a rounding error.
    The rounding of the query to float16 counts in full; a sum of d products in float32 is off by at most d times its
    precision, in whatever order it is made, even if products are truncated and not rounded.
    """
    rounded = np.linalg.norm(vectors - vectors.astype(np.float16).astype(np.float32), axis=1).sum()
    summed = sum(vectors.shape) * 2.0**-23 * np.linalg.norm(vectors, axis=1).sum()
    return 1.001 * float(rounded + summed)


def _rounded_up(length: int) -> int:
    return -(-length // gpu.STEP) * gpu.STEP


def _kind(length: int) -> int:
    """Returns the kind of a page by its length: pages of more than 16 vectors differ by a factor of 2 at most."""
    return max(4, (int(length) - 1).bit_length())


def _by_length(
    vectors: NDArray[Any], offsets: Positions
) -> Iterator[tuple[int, NDArray[np.int64], Positions, NDArray[Any]]]:
    """Yields the pages of each kind: (kind, lengths, positions, vectors)."""
    lengths = np.diff(offsets)
    kinds = np.array([_kind(length) for length in lengths])
    for kind in np.unique(kinds):
        is_kind = kinds == kind
        yield int(kind), lengths[is_kind], np.flatnonzero(is_kind), vectors[np.repeat(is_kind, lengths)]


def _packed(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yields the same pages in as few blocks as possible."""
    group: list[Block] = []
    for block in [*blocks, None]:
        full = block is not None and sum(member.vectors.numel() for member in (*group, block)) > BLOCK
        if group and (block is None or full):
            lengths = np.concatenate([np.diff(member.offsets) for member in group])
            rows = np.concatenate([member.rows for member in group])
            yield (
                group[0]
                if len(group) == 1
                else Block.of(torch.cat([member.vectors for member in group]), lengths, rows)
            )
            group = []
        if block is not None:
            group.append(block)


def _groups(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Yields runs of pages that have at most AT_ONCE values together when filled up to the largest of the run.

    sizes: the pages' values, ascending. A run has at least one page.
    """
    first = 0
    for at, size in enumerate(sizes.tolist()):
        if at > first and (at + 1 - first) * size > AT_ONCE:
            yield slice(first, at)
            first = at
    if first < len(sizes):
        yield slice(first, len(sizes))
