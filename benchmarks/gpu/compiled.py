"""Compiles Triton's kernels ahead, in processes of their own: a search for settings compiles them one after another.

What is compiled lies in Triton's cache on disk, where the run that measures finds it. Without this, a run of seven
minutes spends two of them on it.

    python -m benchmarks.gpu.compiled JOB       one job of `JOBS`, on a GPU
"""

import subprocess
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.gpu import fla, models, resident, tuning
from benchmarks.gpu.encoders import FLA_SETTINGS, family_of
from benchmarks.gpu.measure import Bench
from benchmarks.gpu.pages import pages
from retrieval.models import checkpoints


def linear_attention(name: str) -> None:
    """Runs one layer of a Qwen3.5 encoder on pages, as many as in the batches that are measured first."""
    bench = Bench(checkpoints.choose_placement("cuda", "bfloat16", "auto"))
    spec = next(spec for spec in models.ENCODERS if spec.name == name)
    model, processor = models.random_model(spec, bench.placement, False, layers=1)
    tuning.limit("fla", FLA_SETTINGS)
    family = family_of(model, processor, bench)
    prepared = [family.page(page.image()) for page in pages(2)]
    with fla.switched(model, True):
        family.encode(prepared)
        family.encode([family.query("revenue by region")])


def scan(size: str) -> None:
    """Scans a few pages with this many vectors and dimensions."""
    bench = Bench(checkpoints.choose_placement("cuda", "float16", "auto"))
    resident.measure(size, bench, 1000.0)


JOBS: dict[str, Callable[[], None]] = {
    "ColQwen3.5-4.5B": lambda: linear_attention("ColQwen3.5-4.5B"),
    "ColQwen3.5-0.8B": lambda: linear_attention("ColQwen3.5-0.8B"),
    "256x128": lambda: scan("1000x256x128"),
    "768x320": lambda: scan("1000x768x320"),
}
"""The 8B encoder's linear attention has the shape of the 4.5B's."""


def start() -> dict[str, subprocess.Popen[bytes]]:
    """Starts all jobs that this machine can run, each in a process; returns them by name."""
    if not torch.cuda.is_available():
        return {}
    jobs = [job for job in JOBS if "Qwen" not in job or fla.available()]
    return {job: subprocess.Popen([sys.executable, "-m", __spec__.name, job]) for job in jobs}


def wait(jobs: dict[str, subprocess.Popen[bytes]], seconds: float) -> dict[str, str]:
    """Waits for the jobs at most this long; returns how each ended. Those that still run are ended."""
    until = time.monotonic() + seconds
    ended = {}
    for name, job in jobs.items():
        try:
            code = job.wait(max(0.0, until - time.monotonic()))
            ended[name] = "compiled" if code == 0 else f"failed with {code}"
        except subprocess.TimeoutExpired:
            job.kill()
            ended[name] = f"not done after {seconds:.0f} s"
    return ended


if __name__ == "__main__":
    JOBS[sys.argv[1]]()
