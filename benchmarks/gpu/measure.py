"""Clocks, rates and memory on a GPU, and the state that all rows of the GPU benchmark share.

Device times are those of CUDA events around the work, which the host's clock would only see after a synchronization.
On a processor, where nothing is asynchronous, both are the host's clock; such numbers only show that a row runs.
"""

import contextlib
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from retrieval.models.checkpoints import Placement

QUERY = "quarterly revenue by region, and what the energy report says of next year's budget"
SIDE = 8192  # of the matrices whose product gives the rate
COPIED = 2**30  # bytes
SENT = 2**27  # bytes, about those of eight prepared pages


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a row runs, how much of it, and where its numbers go as they come."""

    placement: Placement
    tiny: bool = False
    """Small models, pages and counts: the numbers mean nothing."""
    write: Callable[[dict[str, Any]], None] = lambda _: None
    """Takes the row so far, so that a run that is cut has what was measured before."""
    row: dict[str, Any] = field(default_factory=dict)
    matrix_rate: float = 1e12
    """Floating-point operations a second of a large matrix product; a multiply-add counts as two."""

    def put(self, **numbers: Any) -> None:
        """Adds numbers to the row, and writes it. Underscores in names become spaces."""
        self.row.update({name.replace("_", " "): value for name, value in numbers.items()})
        self.write(self.row)

    def put_as(self, name: str, value: Any) -> None:
        """Adds one number under a name that is no identifier, and writes the row."""
        self.row[name] = value
        self.write(self.row)

    @property
    def on_gpu(self) -> bool:
        return str(self.placement.device.type) == "cuda"

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.placement.device)

    def seconds(self, work: Callable[[], object], times: int = 3, warm: int = 1) -> float:
        """Returns the median seconds of `times` runs by the host's clock, each until the device is done."""
        for _ in range(warm):
            work()
        taken = []
        for _ in range(times):
            self.wait()
            began = time.perf_counter()
            work()
            self.wait()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    def device_ms(self, work: Callable[[], object], times: int = 3, warm: int = 1) -> tuple[float, float]:
        """Returns the median milliseconds of the device between the start and the end of `work`, and of the host.

        The host's are those until `work` returns. Where they are about the device's, launching limits, not the device.
        """
        if not self.on_gpu:
            once = 1000 * self.seconds(work, times, warm)
            return once, once
        for _ in range(warm):
            work()
        device, host = [], []
        for _ in range(times):
            self.wait()
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began = time.perf_counter()
            start.record()
            work()
            end.record()
            host.append(1000 * (time.perf_counter() - began))
            self.wait()
            device.append(start.elapsed_time(end))
        return statistics.median(device), statistics.median(host)

    def core_ms(self, work: Callable[[int], object], times: int) -> float:
        """Returns the median milliseconds of processor time of `work(k)` in one thread, with torch held to one."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            work(0)
            taken = []
            for k in range(times):
                began = time.thread_time()
                work(k)
                taken.append(1000 * (time.thread_time() - began))
        finally:
            torch.set_num_threads(before)
        return statistics.median(taken)

    @contextlib.contextmanager
    def peak_gb(self) -> Iterator[list[float]]:
        """Yields a list that holds, after the block, the most GB (10^9 bytes) that torch had allocated in it."""
        peak: list[float] = []
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.placement.device)
        yield peak
        if self.on_gpu:
            peak.append(round(torch.cuda.max_memory_allocated(self.placement.device) / 1e9, 2))

    def free(self) -> None:
        """Give memory that no tensor uses back to the device."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()


def matrix_rate(bench: Bench) -> float:
    """Returns the floating-point operations a second of a large product of random matrices in the bench's dtype."""
    side = SIDE if bench.on_gpu else 1024
    device, dtype = bench.placement.device, bench.placement.dtype
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ms, _ = bench.device_ms(lambda: a @ b, times=10, warm=3)
    return 2 * side**3 / ms * 1000


def copy_rates(bench: Bench) -> dict[str, float]:
    """Returns GB/s of a copy on the device (bytes read and written), and from the host's memory to it."""
    device = bench.placement.device
    source = torch.empty(COPIED if bench.on_gpu else SENT, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    on_device, _ = bench.device_ms(lambda: target.copy_(source), times=5)
    rates = {"device": round(2 * source.numel() / on_device / 1e6)}
    pageable = torch.ones(SENT, dtype=torch.uint8)
    ms, _ = bench.device_ms(lambda: target[:SENT].copy_(pageable), times=5)
    rates["pageable"] = round(SENT / ms / 1e6, 1)
    if bench.on_gpu:
        pinned = pageable.pin_memory()
        ms, _ = bench.device_ms(lambda: target[:SENT].copy_(pinned, non_blocking=True), times=5)
        rates["pinned"] = round(SENT / ms / 1e6, 1)
    return rates
