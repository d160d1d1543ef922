"""One index that grows to a million pages: what building, memory and searching take, and what the lists still find.

    python -m benchmarks.growth --work FOLDER --sizes 62500 250000 1000000

Pages of `benchmarks.clustered` with 64 vectors each (what pooling leaves of a ColPali page's thousand), stored as int8,
so that a million fit onto a small disk: 64 million vectors, those of 250,000 pages of 256. At each size the lists are
built anew by `folioscope index build`, a process that may have no more than --build-mb of memory of its own; then the
same 50 questions are asked, with the vectors of leading pages fetched and in memory. Recall is against exact MaxSim in
float32 over the stored vectors, which is computed while they are made: nothing but the index is on disk.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import clustered
from benchmarks.recall import DEPTH, QUESTIONS, add, judged, ours, timed
from retrieval import fuse
from retrieval.recall.ivf import upkeep
from retrieval.recall.maxsim import maxsim_ragged, unweighted_query
from retrieval.store.schema import dequantize, quantize
from retrieval.store.store import Store
from retrieval.types import Fingerprint, QueryEmbedding, Vectors

RESULTS = Path(__file__).parent / "results" / "growth.json"
VECTORS = 64  # of a page
IN_MEMORY_MB = 10_000
PER_FILE = 10 * clustered.BLOCK  # pages of a document


def files(first: int, last: int) -> Iterator[NDArray[np.float16]]:
    """The pages from `first` to `last`, a document's at a time: (pages, VECTORS, DIM)."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for start in range(first, last, PER_FILE):
            starts = range(start, min(last, start + PER_FILE), clustered.BLOCK)
            counts = [min(clustered.BLOCK, last - at) for at in starts]
            made = pool.map(clustered.block, starts, counts, [VECTORS] * len(counts))
            yield np.concatenate([vectors for vectors, _ in made])


def asked() -> list[QueryEmbedding]:
    """Of the first pages, which every size has."""
    vectors, ids = clustered.block(0, clustered.BLOCK, VECTORS)
    return [unweighted_query(question) for question in clustered.questions(vectors, ids, QUESTIONS)]


def grow(store: Store, places: dict[str, int], last: int, questions: Sequence[QueryEmbedding]) -> Vectors:
    """Adds pages up to the one before `last`, and their positions by page_id; (questions, added) exact scores."""
    scores, regions = [], np.zeros((VECTORS, 4), np.float32)
    with store.writing():
        for vectors in files(len(places), last):
            start = len(places)
            add(store, f"{start:016x}", vectors, regions)
            places |= {f"{start:016x}#{number + 1}": start + number for number in range(len(vectors))}
            stored = dequantize(quantize(vectors.reshape(-1, clustered.DIM).astype(np.float32), "int8"))
            offsets = np.arange(len(vectors) + 1) * VECTORS
            scores.append(np.stack([maxsim_ragged(question, stored, offsets) for question in questions]))
            print(f"{len(places):,} pages", flush=True)
        store.index_ids()
    return np.concatenate(scores, axis=1)


def built(uri: str, most_mb: int) -> dict[str, float]:
    """What a build of the lists takes, as a process of its own; `own`: memory that is not of mapped files."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ui.cli", "index", "build", "--index", uri]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (most_mb * 2**20, most_mb * 2**20))
        process, own, mapped, cpu = psutil.Process(child.pid), 0, 0, 0.0
        while child.poll() is None:
            try:
                memory, times = process.memory_info(), process.cpu_times()
            except psutil.Error:
                break
            own, mapped = max(own, memory.rss - memory.shared), max(mapped, memory.rss)
            cpu = times.user + times.system
            time.sleep(0.05)
    if child.wait():
        raise SystemExit(f"the build ended with {child.returncode} within {most_mb} MiB")
    return {
        "seconds": time.perf_counter() - began,
        "cpu seconds": cpu,
        "own MB": own / 1e6,
        "with files MB": mapped / 1e6,
    }


def row(
    store: Store, places: dict[str, int], questions: Sequence[QueryEmbedding], scores: Vectors, most_mb: int
) -> dict[str, Any]:
    truth = [fuse.best(own, DEPTH).tolist() for own in scores]
    build = built(store.uri, most_mb)
    stats, pages = upkeep.stats(store), len(places)
    facts: dict[str, Any] = {
        "pages": pages, "vectors": stats.vectors, "lists": stats.centroids,
        "build": {name: round(value, 1) for name, value in build.items()},
        "build, cpu ms a page": round(1000 * build["cpu seconds"] / pages, 2),
        "lists, bytes a vector": round(stats.bytes / stats.vectors, 1),
    }  # fmt: skip
    for name, held in (("fetched", 0), ("in memory", IN_MEMORY_MB)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:  # memory is of searching alone
            facts[name] = pool.submit(searched, store.uri, places, questions, truth, held).result()
    return facts


def searched(
    uri: str,
    places: dict[str, int],
    questions: Sequence[QueryEmbedding],
    truth: Sequence[Sequence[int]],
    held: int,
) -> dict[str, Any]:
    """held: MiB for vectors of pages that lists lead to."""
    ask, recall = ours(Store.open(uri), places, recall_ms=0, exact_mb=held)
    before = psutil.Process().memory_info()
    recall.warm() if held else ask(questions[0])
    found, times = timed(ask, questions, 2)
    memory = psutil.Process().memory_info()
    own = memory.rss - memory.shared - (before.rss - before.shared)
    return {
        **judged(found, truth),
        **times,
        "own MB": round(own / 1e6),
        "mapped MB": round(memory.shared / 1e6),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[62_500, 250_000, 1_000_000], help="pages, rising"
    )
    parser.add_argument(
        "--build-mb", type=int, default=4096, help="MiB of memory that a build may have of its own"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    fingerprint = Fingerprint("benchmark", "clustered", "", clustered.DIM, "", 0)
    place = options.work / "growing.lance"
    if place.exists():
        raise SystemExit(f"{place} is there already: what it holds is not known, remove it")
    store = Store.create(str(place), fingerprint, "int8")
    questions = asked()
    places: dict[str, int] = {}
    scores = np.zeros((len(questions), 0), np.float32)
    rows: list[dict[str, Any]] = []
    for pages in options.sizes:
        scores = np.hstack([scores, grow(store, places, pages, questions)])
        rows.append(row(store, places, questions, scores, options.build_mb))
        print(json.dumps(rows[-1]), flush=True)
        options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")  # a run may be cut short


if __name__ == "__main__":
    main()
