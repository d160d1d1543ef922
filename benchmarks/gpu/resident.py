"""The scan on a GPU: exact MaxSim over all pages' vectors in its memory, compared with two alternatives.

For a size, in one run: ours (`retrieval.recall.gpu_scan`: the fused kernel over every page, then float64 for those that
may be among the best 100), the same by padded products in torch (as colpali-engine's `score_multi_vector` does, in
float16, a chunk of pages at a time), and the floor, which is the time to read the vectors once at the speed of a copy.
Recall is against float64 over the same vectors. No index is read.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.measure import Bench
from retrieval.recall.gpu_scan import BLOCK, Block, GpuPart
from retrieval.recall.maxsim import unweighted_query
from retrieval.recall.part import Pages
from retrieval.types import Vectors

DEPTH = 100
WORDS, OF_A_PAGE = 5_000, 40
NOISE, QUERY_NOISE = 0.5, 1.0  # lengths, compared with 1 of the vector itself
QUESTIONS, QUERY_VECTORS = 30, 20
CHUNK = 1_000  # pages that torch's products take at once
TRUE = 10  # questions whose best pages are also found in float64


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


def measure(size: str, bench: Bench, gb_a_second: float) -> None:
    """Measures the scan of pages x vectors of a page x dimensions, like "10000x256x128".

    gb_a_second: bytes that a copy on the device reads and writes.
    """
    pages, per_page, dim = map(int, size.split("x"))
    part, queries = corpus(pages, per_page, dim, bench.placement.device)
    every = np.ones(pages, np.bool_)
    depth = min(DEPTH, pages)
    candidates: list[int] = []

    def ours(question: Vectors) -> list[int]:
        query = unweighted_query(question)
        scores = part.scores(query, every).astype(np.float64)
        shortlist = part.shortlist(query, scores, depth)
        candidates.append(len(shortlist))
        exact = part.maxsim(query, shortlist, scores, {})
        return [int(at) for at in shortlist[np.argsort(-exact, kind="stable")[:depth]]]

    def best(question: Vectors, kind: torch.dtype) -> list[int]:
        return [int(at) for at in by_products(part, per_page, question, kind).topk(depth).indices.cpu()]

    def by_torch(question: Vectors) -> list[int]:
        return best(question, torch.float16)

    bench.put(pages=pages, vectors_a_page=per_page, dimensions=dim, GB=round(part.bytes / 1e9, 2))
    bench.put_as("floor, ms", round(part.bytes / gb_a_second / 1e6, 3))
    if bench.tiny:
        queries = queries[:3]
    bench.put_as("first question, s", round(bench.seconds(lambda: ours(queries[0]), 1, 0), 1))
    bench.put(ours=timed(ours, queries, bench))
    query = unweighted_query(queries[1])
    scores = part.scores(query, every).astype(np.float64)
    shortlist = part.shortlist(query, scores, depth)
    scan = 1000 * bench.seconds(lambda: part.scores(query, every), 9)
    again = 1000 * bench.seconds(lambda: part.maxsim(query, shortlist, scores, {}), 9)
    bench.put_as("parts of ours, ms", {"scan": round(scan, 3), "scored again": round(again, 3)})
    bench.put_as("pages scored again", int(np.median(candidates)))
    bench.put_as("torch, float16", timed(by_torch, queries[: 3 * TRUE], bench))
    few = queries[:TRUE]
    true = [set(best(question, torch.float64)) for question in few]

    def share(search: Callable[[Vectors], list[int]]) -> float:
        pairs = zip(few, true, strict=True)
        return round(float(np.mean([len(same & set(search(q))) / len(same) for q, same in pairs])), 4)

    bench.put(ours=bench.row["ours"] | {"recall@100": share(ours)})
    bench.put_as("torch, float16", bench.row["torch, float16"] | {"recall@100": share(by_torch)})


def timed(ask: Callable[[Vectors], Any], queries: Sequence[Vectors], bench: Bench) -> dict[str, float]:
    """Returns p50 and p95 in ms, after one query that is not counted."""
    ask(queries[0])
    wall = [1000 * bench.seconds(lambda q=query: ask(q), 1, 0) for query in queries]  # type: ignore[misc]
    return {"p50 ms": round(float(np.median(wall)), 3), "p95 ms": round(float(np.percentile(wall, 95)), 3)}
