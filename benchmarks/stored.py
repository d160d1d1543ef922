"""Measures what storing fewer bytes a page costs in recall and time, compared with exact MaxSim over float16.

    python -m benchmarks.stored --work FOLDER

The pages are those of `benchmarks.clustered` with 256 vectors. int8 is stored as `ingest.vectors` does; one bit a
dimension is a sign, with the question in float32; pooling is colpali-engine's hierarchical clustering, as an encoder's
`pool_factor` does it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clustered
from benchmarks.recall import DEPTH, QUESTIONS, judged, timed
from retrieval import fuse
from retrieval.recall.maxsim import maxsim_ragged, offsets_of, unweighted_query
from retrieval.store.schema import dequantize, quantize
from retrieval.types import QueryEmbedding, Vectors

RESULTS = Path(__file__).parent / "results" / "stored.json"
PER_PAGE = 256
Compress = Callable[[Vectors], tuple[Vectors, float]]
"""A page's vectors -> the vectors that are scored, as restored from what is stored, and the bytes stored."""


def halves(page: Vectors) -> tuple[Vectors, float]:
    return page, 2 * page.size


def in_bytes(page: Vectors) -> tuple[Vectors, float]:
    return dequantize(quantize(page, "int8")), page.size


def bits(page: Vectors) -> tuple[Vectors, float]:
    return np.where(page > 0, 1, -1).astype(np.float32) / np.float32(page.shape[1] ** 0.5), page.size / 8


def pooled(page: Vectors, factor: int) -> tuple[Vectors, float]:
    from retrieval.encoders.pooling import pool_vectors

    vectors, _ = pool_vectors(page, np.zeros((len(page), 4), np.float32), factor)
    return vectors.astype(np.float16).astype(np.float32), 2 * vectors.size


WAYS: dict[str, Compress] = {
    "float16": halves,
    "int8": in_bytes,
    "one bit a dimension": bits,
    **{f"float16, pool_factor {factor}": partial(pooled, factor=factor) for factor in (2, 3, 4)},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    stored, ids = clustered.write(options.work, 2_000, PER_PAGE)
    pages = list(stored[: options.pages].astype(np.float32))
    made = clustered.questions(stored[: options.pages], ids[: options.pages], QUESTIONS)
    queries = [unweighted_query(question) for question in made]
    truth: list[list[int]] = []
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for name, compress in WAYS.items():
            compressed = list(pool.map(compress, pages, chunksize=20))
            vectors = np.concatenate([page for page, _ in compressed])
            offsets = offsets_of(np.array([len(page) for page, _ in compressed]))

            def ask(
                question: QueryEmbedding, vectors: Vectors = vectors, offsets: Any = offsets
            ) -> list[int]:
                scores = maxsim_ragged(question, vectors, offsets)
                best: list[int] = fuse.best(scores.astype(np.float64), DEPTH).tolist()
                return best

            answers, times = timed(ask, queries, 2)
            truth = truth or answers
            size = round(sum(size for _, size in compressed) / len(compressed))
            rows.append({"stored": name, "bytes a page": size, **judged(answers, truth), **times})
            print(json.dumps(rows[-1]), flush=True)
    result = {"pages": options.pages, "vectors a page": PER_PAGE, "rows": rows}
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
