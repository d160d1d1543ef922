"""Pages whose vectors stay in a GPU's memory: each question is put to all of them there, by a fused kernel.

The kernel (late-interaction-kernels: one launch from vectors to MaxSim, without the similarities in between) reads the
question in float16. How far that can move any page's score is known for each question, so the pages that may be among
the best are known too; these are scored again, in float64. What comes back is exact, for vectors that are stored in
float16; those of bytes are rounded to it first.
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
WARMED = (16, 32, 64, 128)  # vectors of the questions for which the kernel's best settings are looked for
AT_ONCE = 2**24  # values scored again in one go: 128 MiB
DEAD = 0.3  # share of a block's vectors of removed pages, past which it is written anew


@dataclass(frozen=True, eq=False)
class Block:
    """Pages of about one length: the kernel takes as long for each as for the longest."""

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
        """Vectors of its longest page, rounded up."""
        return _stepped(int(np.diff(self.offsets).max()))

    def select(self, keep: Mask) -> "Block":
        """Only the pages where `keep` is true, which are some."""
        lengths = np.diff(self.offsets)
        wanted = torch.from_numpy(np.flatnonzero(np.repeat(keep, lengths))).to(self.vectors.device)
        return Block.of(self.vectors[wanted], lengths[keep], self.rows[keep])


@dataclass(frozen=True, eq=False)
class GpuPart:
    """`retrieval.recall.part_cache.ResidentPart`, on `device`."""

    pages: Pages
    blocks: tuple[Block, ...]
    device: torch.device

    @classmethod
    def gathered(
        cls, batches: Iterable[pa.RecordBatch], room: int, device: torch.device
    ) -> "tuple[GpuPart, ...]":
        """All in one part, or none where there are no pages. Raises NoRoom past `room` bytes, or what the GPU has."""
        pages: list[Pages] = []
        blocks: list[Block] = []
        waiting: dict[int, list[tuple[NDArray[Any], NDArray[np.int64], Positions]]] = {}
        first = held = 0

        def move(kind: int) -> None:
            own = waiting.pop(kind)
            vectors, lengths, rows = (np.concatenate([part[i] for part in own]) for i in range(3))
            with gpu.room(device):
                blocks.append(Block.of(torch.from_numpy(vectors).to(device), lengths, rows))

        for batch in batches:
            stored, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
            halves = dequantize(stored).astype(np.float16) if stored.dtype == np.int8 else stored
            held += halves.nbytes
            if held > room:
                raise NoRoom
            pages.append(Pages.read(batch))
            for kind, lengths, rows, own in _by_length(halves, offsets):
                waiting.setdefault(kind, []).append((own, lengths, rows + first))
                if sum(part[0].size for part in waiting[kind]) >= BLOCK:
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
        """Pages that are not kept are passed over; a block of which they are a large part is written anew."""
        gone = np.zeros(len(keep), np.bool_)
        blocks = []
        for block in self.blocks:
            own = keep[block.rows]
            dead = int(np.diff(block.offsets)[~own].sum())
            if dead <= DEAD * len(block.vectors):
                blocks.append(block)
                continue
            gone[block.rows[~own]] = True
            if own.any():
                with gpu.room(self.device):
                    blocks.append(block.select(own))
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
            blocks = [one for own in kinds.values() for one in _packed(own)]
        return GpuPart(Pages.joined([part.pages for part in parts]), tuple(blocks), self.device)

    def scores(self, query: QueryEmbedding, keep: Mask) -> Vectors:
        scores = np.full(len(self.pages), -np.inf, np.float32)
        scores[keep] = 0
        asked = weighted(query)
        if not len(asked):
            return scores
        with gpu.room(self.device):
            halves = torch.from_numpy(asked.astype(np.float16)).to(self.device)
            ends = torch.tensor([0, len(asked)], dtype=torch.int32, device=self.device)
            with gpu.launching(self.device):
                kernel, longest = gpu.kernel(self.device), _stepped(len(asked))
                found = [
                    (block, kernel(halves, block.vectors, ends, block.ends, longest, block.longest)[0])
                    for block in self.blocks
                    if keep[block.rows].any()
                ]
            for block, own in found:  # all were begun before the first is waited for
                scores[block.rows] = own.cpu().numpy()
        scores[~keep] = -np.inf
        return scores

    def shortlist(self, query: QueryEmbedding, scores: Scores, depth: int) -> Positions:
        """All that may be among the best: a page's true score is no farther from the kernel's than the slack."""
        kept = np.flatnonzero(np.isfinite(scores))
        if len(kept) <= depth:
            return kept
        least = np.partition(scores[kept], -depth)[-depth]
        near: Positions = kept[scores[kept] >= least - 2 * slack(weighted(query))]
        return near

    def maxsim(
        self, query: QueryEmbedding, at: Positions, scores: Scores, documents: Mapping[str, Document]
    ) -> Scores:
        exact = np.zeros(len(at), np.float64)
        with gpu.room(self.device):
            asked = torch.from_numpy(weighted(query)).to(self.device, torch.float64)
            for some in _groups(self._length[at] * asked.shape[1]) if len(asked) else ():
                own = [self._vectors(int(position)) for position in at[some]]
                lengths = torch.tensor([len(page) for page in own], device=self.device)
                similar = torch.cat(own).double() @ asked.T
                page = torch.repeat_interleave(torch.arange(len(own), device=self.device), lengths)
                best = similar.new_full((len(own), len(asked)), -torch.inf)
                best.scatter_reduce_(0, page[:, None].expand_as(similar), similar, "amax")
                exact[some] = torch.where(lengths > 0, best.sum(dim=1), 0).cpu().numpy()
        return exact

    def warm(self) -> None:
        """The kernel is compiled, and its best settings are found, for questions of the usual lengths."""
        everything = np.ones(len(self.pages), np.bool_)
        for length in WARMED if self.blocks else ():
            some = np.full((length, self.blocks[0].vectors.shape[1]), 0.1, np.float32)
            self.scores(unweighted_query(some), everything)

    def _vectors(self, position: int) -> Tensor:
        block, row = self.blocks[self._place[position, 0]], self._place[position, 1]
        return block.vectors[block.offsets[row] : block.offsets[row + 1]]

    @cached_property
    def _place(self) -> Positions:
        """(pages, 2): block, and row in it."""
        place = np.zeros((len(self.pages), 2), np.int64)
        for at, block in enumerate(self.blocks):
            place[block.rows] = np.stack([np.full(len(block.rows), at), np.arange(len(block.rows))], axis=1)
        return place

    @cached_property
    def _length(self) -> Positions:
        lengths = np.zeros(len(self.pages), np.int64)
        for block in self.blocks:
            lengths[block.rows] = np.diff(block.offsets)
        return lengths


def slack(asked: Vectors) -> float:
    """How far the kernel's score of a page may be from the true one, at most; asked (q, d): times their weights.

    Pages' vectors are of length 1, or a rounding more. What float16 takes from the question's counts whole; a sum of d
    products in float32 is off by at most d times its precision, however it is ordered (and cut off, not rounded).
    """
    rounded = np.linalg.norm(asked - asked.astype(np.float16).astype(np.float32), axis=1).sum()
    summed = sum(asked.shape) * 2.0**-23 * np.linalg.norm(asked, axis=1).sum()
    return 1.001 * float(rounded + summed)


def _stepped(length: int) -> int:
    return -(-length // gpu.STEP) * gpu.STEP


def _kind(length: int) -> int:
    """Pages of one kind are at most twice as long as each other, past 16 vectors."""
    return max(4, (int(length) - 1).bit_length())


def _by_length(
    vectors: NDArray[Any], offsets: Positions
) -> Iterator[tuple[int, NDArray[np.int64], Positions, NDArray[Any]]]:
    """Pages of each kind: (kind, lengths, positions, their vectors)."""
    lengths = np.diff(offsets)
    kinds = np.array([_kind(length) for length in lengths])
    for kind in np.unique(kinds):
        mine = kinds == kind
        yield int(kind), lengths[mine], np.flatnonzero(mine), vectors[np.repeat(mine, lengths)]


def _packed(blocks: Sequence[Block]) -> Iterator[Block]:
    """As few blocks as hold the same pages."""
    group: list[Block] = []
    for block in [*blocks, None]:
        full = block is not None and sum(one.vectors.numel() for one in (*group, block)) > BLOCK
        if group and (block is None or full):
            lengths = np.concatenate([np.diff(one.offsets) for one in group])
            rows = np.concatenate([one.rows for one in group])
            yield (
                group[0]
                if len(group) == 1
                else Block.of(torch.cat([one.vectors for one in group]), lengths, rows)
            )
            group = []
        if block is not None:
            group.append(block)


def _groups(sizes: NDArray[np.int64]) -> Iterator[slice]:
    """Runs of pages that have about AT_ONCE values together, one page at least."""
    first = held = 0
    for at, size in enumerate(sizes.tolist()):
        if held and held + size > AT_ONCE:
            yield slice(first, at)
            first, held = at, 0
        held += size
    if first < len(sizes):
        yield slice(first, len(sizes))
