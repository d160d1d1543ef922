"""Grows one index to a million pages, and measures time, memory and recall of its inverted index at several sizes.

    python -m benchmarks.growth --work FOLDER --sizes 62500 250000 1000000

The pages are those of `benchmarks.clustered` with 64 vectors each (what pooling leaves of the thousand of a ColPali
page), stored as int8, so that a million fit onto a small disk: 64 million vectors, as in 250,000 pages of 256.
At each size `folioscope index build` builds the inverted index anew, in a process that is limited to --build-mb of
memory, not counting mapped files; then the same 50 questions are searched, with the vectors for exact scores fetched
and in memory. Recall is against exact MaxSim in float32 over the stored vectors, which is computed while they are made:
only the index is on disk.
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
    """Yields the pages from `first` to `last`, one document at a time: (pages, VECTORS, DIM)."""
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for start in range(first, last, PER_FILE):
            starts = range(start, min(last, start + PER_FILE), clustered.BLOCK)
            counts = [min(clustered.BLOCK, last - at) for at in starts]
            made = pool.map(clustered.block, starts, counts, [VECTORS] * len(counts))
            yield np.concatenate([vectors for vectors, _ in made])


def first_questions() -> list[QueryEmbedding]:
    """Returns questions about the first pages, which every size has."""
    vectors, ids = clustered.block(0, clustered.BLOCK, VECTORS)
    return [unweighted_query(question) for question in clustered.questions(vectors, ids, QUESTIONS)]


def grow(store: Store, places: dict[str, int], last: int, questions: Sequence[QueryEmbedding]) -> Vectors:
    """Add the pages before `last`, and their positions by page_id. Returns (questions, added) exact scores."""
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
    """Measures a build of the inverted index in a process of its own; "own MB" does not count mapped files."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "ui.cli", "index", "build", "--index", uri]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        resource.prlimit(child.pid, resource.RLIMIT_DATA, (most_mb * 2**20, most_mb * 2**20))
        process, private, resident, cpu = psutil.Process(child.pid), 0, 0, 0.0
        while child.poll() is None:
            try:
                memory, times = process.memory_info(), process.cpu_times()
            except psutil.Error:
                break
            private, resident = max(private, memory.rss - memory.shared), max(resident, memory.rss)
            cpu = times.user + times.system
            time.sleep(0.05)
    if child.wait():
        raise SystemExit(f"the build ended with {child.returncode} within {most_mb} MiB")
    return {
        "seconds": time.perf_counter() - began,
        "cpu seconds": cpu,
        "own MB": private / 1e6,
        "with files MB": resident / 1e6,
    }


def row(
    store: Store, places: dict[str, int], questions: Sequence[QueryEmbedding], scores: Vectors, most_mb: int
) -> dict[str, Any]:
    truth = [fuse.best(row, DEPTH).tolist() for row in scores]
    build = built(store.uri, most_mb)
    stats, pages = upkeep.stats(store), len(places)
    facts: dict[str, Any] = {
        "pages": pages,
        "vectors": stats.vectors,
        "lists": stats.centroids,
        "build": {name: round(value, 1) for name, value in build.items()},
        "build, cpu ms a page": round(1000 * build["cpu seconds"] / pages, 2),
        "lists, bytes a vector": round(stats.bytes / stats.vectors, 1),
    }
    for name, cache_mb in (("fetched", 0), ("in memory", IN_MEMORY_MB)):
        with ProcessPoolExecutor(
            1, mp_context=get_context("spawn")
        ) as pool:  # measures the memory of searches alone
            facts[name] = pool.submit(searched, store.uri, places, questions, truth, cache_mb).result()
    return facts


def searched(
    uri: str,
    places: dict[str, int],
    questions: Sequence[QueryEmbedding],
    truth: Sequence[Sequence[int]],
    cache_mb: int,
) -> dict[str, Any]:
    """Measures searches; cache_mb: MiB for vectors that are scored exactly."""
    ask, recall = ours(Store.open(uri), places, recall_ms=0, exact_mb=cache_mb)
    before = psutil.Process().memory_info()
    recall.warm() if cache_mb else ask(questions[0])
    answers, times = timed(ask, questions, 2)
    memory = psutil.Process().memory_info()
    private = memory.rss - memory.shared - (before.rss - before.shared)
    return {
        **judged(answers, truth),
        **times,
        "own MB": round(private / 1e6),
        "mapped MB": round(memory.shared / 1e6),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--sizes",
        type=int,
        nargs="+",
        default=[62_500, 250_000, 1_000_000],
        help="numbers of pages, increasing",
    )
    parser.add_argument(
        "--build-mb",
        type=int,
        default=4096,
        help="MiB of memory that a build may use, not counting mapped files",
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    fingerprint = Fingerprint("benchmark", "clustered", "", clustered.DIM, "", 0)
    place = options.work / "growing.lance"
    if place.exists():
        raise SystemExit(f"{place} exists, and its pages are not known: remove it, or choose another --work")
    store = Store.create(str(place), fingerprint, "int8")
    questions = first_questions()
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
