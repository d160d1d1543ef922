"""Forms batches by tokens, not by count: rows are padded, so a batch costs its rows times its longest row."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor

log = logging.getLogger("folioscope")
T = TypeVar("T")


class TokenBudget:
    """Limits the padded tokens of a batch, and lowers the limit for good when a batch exceeds the GPU's memory."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def batches(self, lengths: Sequence[int]) -> list[list[int]]:
        """Returns batches of item indices, longest items first.

        A batch's rows times its longest item stay within the budget; a single item always makes a batch.
        """
        order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
        batches: list[list[int]] = []
        for i in order:
            if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= self.tokens:
                batches[-1].append(i)
            else:
                batches.append([i])
        return batches

    def run_batches(self, lengths: Sequence[int], compute: Callable[[list[int]], Sequence[T]]) -> list[T]:
        """Computes all items in batches, and returns their results in the order of `lengths`.

        compute: takes the indices of a batch, and returns one result for each. If a batch exceeds the GPU's memory, its
        items are computed again in smaller batches; torch.OutOfMemoryError is raised if a single item does not fit.
        """
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
            if (
                exceeded
            ):  # not in the except block, where the traceback keeps the failed batch's tensors alive
                torch.cuda.empty_cache()
                rows = len(batch) // 2
                self.tokens = max(1, min(self.tokens, rows * max(lengths[i] for i in batch)))
                message = (
                    "a batch of %d rows exceeded the GPU's memory: from now on at most %d (batch_tokens %d)"
                )
                log.warning(message, len(batch), rows, self.tokens)
                left = [*batch, *(i for later in waiting for i in later)]
                waiting = [[left[k] for k in b] for b in self.batches([lengths[i] for i in left])]
        return [results[i] for i in range(len(lengths))]


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device; a copy from pinned memory is only started, others are waited for.

    Only CUDA orders what is started so before the work that reads it, and only pinned memory stays where it is.
    """
    return tensor.to(device, non_blocking=tensor.is_pinned())


def pad(rows: Mapping[str, Sequence[Tensor]], left: bool, pad_id: int) -> dict[str, Tensor]:
    """Returns each sequence padded to (n, longest): `input_ids` with the padding token, the others with 0."""
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
