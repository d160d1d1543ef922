"""Batches sized by tokens, not by count: a batch costs its rows times its longest row, because rows are padded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

log = logging.getLogger("folioscope")
T = TypeVar("T")


class TokenBudget:
    """How many padded tokens one batch may have. Halves for good when the memory of the device is exceeded."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Indices of the items, longest first, so that rows x longest stays within the budget; one item always fits."""
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        found: list[list[int]] = []
        for i in order:
            if found and (len(found[-1]) + 1) * lengths[found[-1][0]] <= self.tokens:
                found[-1].append(i)
            else:
                found.append([i])
        return found

    def run(self, lengths: Sequence[int], compute: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """`compute(indices)` gives one result per index; the results come back in the order of `lengths`."""
        results: dict[int, T] = {}
        waiting = self.batches(lengths)
        while waiting:
            batch = waiting.pop(0)
            exceeded = False
            try:
                results.update(zip(batch, compute(batch), strict=True))
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                exceeded = True
            if exceeded:  # out here, where the failed attempt's tensors are gone
                torch.cuda.empty_cache()
                rows = len(batch) // 2
                self.tokens = max(1, min(self.tokens, rows * max(lengths[i] for i in batch)))
                log.warning(
                    "out of GPU memory with %d rows at once: from now on at most %d (batch_tokens %d)",
                    len(batch), rows, self.tokens,
                )  # fmt: skip
                left = [*batch, *(i for later in waiting for i in later)]
                waiting = [[left[k] for k in b] for b in self.batches([lengths[i] for i in left])]
        return [results[i] for i in range(len(lengths))]


def pad(rows: Mapping[str, Sequence[Tensor]], left: bool, pad_id: int) -> dict[str, Tensor]:
    """(n, longest) of each: `input_ids` filled with the padding token, the others with 0."""
    longest = max(len(row) for row in next(iter(rows.values())))
    padded = {}
    for name, tensors in rows.items():
        out = torch.full(
            (len(tensors), longest), pad_id if name == "input_ids" else 0, dtype=tensors[0].dtype
        )
        for k, row in enumerate(tensors):
            if left:
                out[k, longest - len(row) :] = row
            else:
                out[k, : len(row)] = row
        padded[name] = out
    return padded
