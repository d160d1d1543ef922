"""Measures the scan on a GPU: exact MaxSim over all pages' vectors in its memory, compared with two alternatives.

For each size, in one run: ours (`retrieval.recall.gpu_scan`: the fused kernel over every page, then float64 for those
that may be among the best 100), the same by padded products in torch (as colpali-engine's `score_multi_vector` does, in
float16, a chunk of pages at a time), and the floor, which is the time to read the vectors once at the speed of a copy
that is measured just before. Recall is against float64 over the same vectors. No index is read.

    python -m benchmarks.resident                                                      on a GPU
    python -m benchmarks.resident --device cpu --sizes 200x16x128 --out FILE           only to check that it runs

It needs torch, late-interaction-kernels, numpy, pyarrow, pillow, threadpoolctl and snowballstemmer, and no other
requirements of Folioscope.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from retrieval.recall.gpu_scan import BLOCK, Block, GpuPart
from retrieval.recall.maxsim import unweighted_query
from retrieval.recall.part import Pages
from retrieval.types import Vectors

RESULTS = Path(__file__).parent / "results" / "resident.json"
DEPTH = 100
SIZES = (
    "2000x256x128",
    "10000x256x128",
    "100000x256x128",
    "1000000x256x128",
    "2000x1024x128",
    "10000x768x320",
)
WORDS, OF_A_PAGE = 5_000, 40
NOISE, QUERY_NOISE = 0.5, 1.0  # lengths, compared with 1 of the vector itself
QUESTIONS, QUERY_VECTORS = 30, 20
CHUNK = 1_000  # pages that torch's products take at once
COPIED = 2**31  # bytes


def corpus(pages: int, per_page: int, dim: int, device: torch.device) -> tuple[GpuPart, list[Vectors]]:
    """Returns pages of noisy copies of 40 words each, made on the device, and queries, which are noisier copies."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*shape: int) -> Tensor:
        made = torch.randn(*shape, dim, generator=generator, device=device)
        return torch.nn.functional.normalize(made, dim=-1)

    words = random(WORDS)
    blocks: list[Block] = []
    queries: list[Vectors] = []
    per_block = max(1, BLOCK // (per_page * dim))
    for first in range(0, pages, per_block):
        count = min(per_block, pages - first)
        page_words = torch.randint(WORDS, (count, OF_A_PAGE), generator=generator, device=device)
        halves = torch.empty(count, per_page, dim, dtype=torch.float16, device=device)
        for start in range(0, count, CHUNK):  # all of it in float32 would take twice the memory besides
            part = page_words[start : start + CHUNK]
            chosen = torch.randint(OF_A_PAGE, (len(part), per_page), generator=generator, device=device)
            vectors = words[part.gather(1, chosen)] + NOISE * random(len(part), per_page)
            halves[start : start + CHUNK] = torch.nn.functional.normalize(vectors, dim=-1)
        if not first:
            originals = words[page_words[torch.arange(QUESTIONS, device=device) % count, :QUERY_VECTORS]]
            noisy = torch.nn.functional.normalize(
                originals + QUERY_NOISE * random(QUESTIONS, QUERY_VECTORS), dim=-1
            )
            queries = list(noisy.cpu().numpy())
        lengths = np.full(count, per_page, np.int64)
        blocks.append(Block.of(halves.view(-1, dim), lengths, first + np.arange(count)))
    none = np.zeros(pages, np.int32)
    place = Pages(("made",), none, none, np.zeros((pages, 2), np.float32), none > 0)
    return GpuPart(place, tuple(blocks), device), queries


def by_products(part: GpuPart, per_page: int, vectors: Vectors, kind: torch.dtype) -> Tensor:
    """Returns (pages,) MaxSim, with all similarities of a chunk of pages in memory."""
    query = torch.from_numpy(vectors).to(part.device, kind)
    scores = []
    for block in part.blocks:
        for pages in block.vectors.view(-1, per_page, query.shape[1]).split(CHUNK):
            similar = torch.einsum("qd,pnd->pqn", query, pages.to(kind))
            scores.append(similar.amax(dim=2).double().sum(dim=1))
    return torch.cat(scores)


def timed(
    ask: Callable[[Vectors], Any], queries: Sequence[Vectors], device: torch.device
) -> dict[str, float]:
    """Returns p50 and p95 in ms, after one query that is not counted."""
    ask(queries[0])
    wall = []
    for question in queries:
        began = time.perf_counter()
        ask(question)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall.append(1000 * (time.perf_counter() - began))
    return {"p50 ms": round(float(np.median(wall)), 3), "p95 ms": round(float(np.percentile(wall, 95)), 3)}


def copied_a_second(device: torch.device) -> float:
    """Returns the bytes per second that a copy on the device reads and writes."""
    size = COPIED if device.type == "cuda" else 2**26
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = min(timed(lambda _: target.copy_(source), [np.zeros(0, np.float32)] * 5, device).values())
    return 2 * size / best * 1000  # read and written


def row(size: str, device: torch.device, bytes_a_second: float) -> dict[str, Any]:
    pages, per_page, dim = map(int, size.split("x"))
    part, queries = corpus(pages, per_page, dim, device)
    every = np.ones(pages, np.bool_)
    candidates: list[int] = []

    def ours(question: Vectors) -> list[int]:
        query = unweighted_query(question)
        scores = part.scores(query, every).astype(np.float64)
        shortlist = part.shortlist(query, scores, DEPTH)
        candidates.append(len(shortlist))
        exact = part.maxsim(query, shortlist, scores, {})
        return [int(at) for at in shortlist[np.argsort(-exact, kind="stable")[:DEPTH]]]

    def by_torch(question: Vectors) -> list[int]:
        return [
            int(at) for at in by_products(part, per_page, question, torch.float16).topk(DEPTH).indices.cpu()
        ]

    def truth(question: Vectors) -> set[int]:
        return set(by_products(part, per_page, question, torch.float64).topk(DEPTH).indices.tolist())

    began = time.perf_counter()
    part.warm()
    facts = {
        "pages": pages,
        "vectors a page": per_page,
        "dimensions": dim,
        "GB": round(part.bytes / 1e9, 2),
        "warmed in s": round(time.perf_counter() - began, 1),
    }
    few = queries[:10]
    true = [truth(question) for question in few]

    def share(search: Callable[[Vectors], list[int]]) -> float:
        pairs = zip(few, true, strict=True)
        return round(
            float(np.mean([len(best & set(search(question))) / len(best) for question, best in pairs])), 4
        )

    measured = {
        "ours": timed(ours, queries, device) | {"recall@100": share(ours)},
        "torch, float16": timed(by_torch, queries, device) | {"recall@100": share(by_torch)},
    }
    floor = round(1000 * part.bytes / bytes_a_second, 3)
    return facts | measured | {"pages scored again": int(np.median(candidates)), "floor, ms": floor}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="pages x vectors of a page x dimensions")
    parser.add_argument("--out", type=Path, help="required without a GPU")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type != "cuda" and not options.out:
        parser.error(
            "without a GPU the times mean nothing: give --out FILE, so that they do not replace the results"
        )
    out = options.out or RESULTS
    bytes_a_second = copied_a_second(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor, by the reference"
    facts: dict[str, Any] = {
        "where": name,
        "torch": torch.__version__,
        "copied, GB/s": round(bytes_a_second / 1e9),
    }
    print(facts, flush=True)
    facts["rows"] = []
    for size in options.sizes:
        facts["rows"].append(row(size, device, bytes_a_second))
        print(facts["rows"][-1], flush=True)
        out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")  # a run may be cut short
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
