"""The scan on a GPU: exact MaxSim over all pages' vectors in its memory, beside what else could be done there.

For each size, in one run: ours (`retrieval.resident`: the fused kernel over every page, then float32 for those that may
be among the best 100), the same by padded products in torch (what colpali-engine's `score_multi_vector` does, in
float16, a chunk of pages at a time), and the floor, which is the time to read the vectors once at the speed of a copy
measured just before. Recall is against float32 over the same vectors. Nothing is read from an index.

    python -m benchmarks.resident                                on a GPU
    python -m benchmarks.resident --device cpu --sizes 200x16    by the kernel's reference: only to see that it runs

Needs torch, late-interaction-kernels, numpy, pyarrow, numba and nothing else of Folioscope's requirements.
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

from benchmarks.clustered import COMMON_DIRECTION, NOISE, STYLE, questions, world
from retrieval.parts import Pages
from retrieval.resident import BLOCK, Block, Resident
from retrieval.types import QueryEmbedding, Vectors

RESULTS = Path(__file__).parent / "results" / "resident.json"
DEPTH = 100
SIZES = ("2000x256", "10000x256", "100000x256", "1000000x256", "2000x1024", "50000x1024")
CHUNK = 2_000  # pages that torch's products take at once
COPIED = 2**31  # bytes


def corpus(pages: int, per_page: int, device: torch.device) -> tuple[Resident, list[Vectors]]:
    """Pages whose vectors are noisy copies of 40 of `clustered`'s words each, made where they stay, and questions."""
    words, shared, _ = world()
    generator = torch.Generator(device).manual_seed(0)
    known, common = (torch.from_numpy(part).to(device) for part in (words, COMMON_DIRECTION * shared))
    blocks, asked = [], []
    a_block = max(1, BLOCK // per_page)
    for first in range(0, pages, a_block):
        count = min(a_block, pages - first)

        def random(*shape: int) -> Tensor:
            made = torch.randn(*shape, known.shape[1], generator=generator, device=device)
            return torch.nn.functional.normalize(made, dim=-1)

        own = torch.randint(len(known), (count, 40), generator=generator, device=device)
        chosen = torch.randint(40, (count, per_page), generator=generator, device=device)
        ids = own.gather(1, chosen)
        vectors = known[ids] + common + STYLE * random(count, 1) + NOISE * random(count, per_page)
        halves = torch.nn.functional.normalize(vectors, dim=-1).half()
        if not first:
            some = slice(0, min(count, 500))
            asked = list(questions(halves[some].cpu().numpy(), ids[some].cpu().numpy().astype(np.int32), 30))
        lengths = np.full(count, per_page, np.int64)
        blocks.append(Block.of(halves.reshape(-1, known.shape[1]), lengths, first + np.arange(count)))
    none = np.zeros(pages, np.int32)
    place = Pages(("made",), none, none, np.zeros((pages, 2), np.float32), none > 0)
    return Resident(place, tuple(blocks), device), asked


def by_products(part: Resident, per_page: int, asked: Vectors, kind: torch.dtype) -> Tensor:
    """(pages,) MaxSim, with all similarities of a chunk of pages in memory."""
    query = torch.from_numpy(asked).to(part.device, kind)
    scores = []
    for block in part.blocks:
        for pages in block.vectors.view(-1, per_page, query.shape[1]).split(CHUNK):
            similar = torch.einsum("qd,pnd->pqn", query, pages.to(kind))
            scores.append(similar.amax(dim=2).float().sum(dim=1))
    return torch.cat(scores)


def timed(ask: Callable[[Vectors], Any], asked: Sequence[Vectors], device: torch.device) -> dict[str, float]:
    """p50 and p95 in ms, after one question that is not counted."""
    ask(asked[0])
    wall = []
    for question in asked:
        began = time.perf_counter()
        ask(question)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        wall.append(1000 * (time.perf_counter() - began))
    return {"p50 ms": round(float(np.median(wall)), 3), "p95 ms": round(float(np.percentile(wall, 95)), 3)}


def copied_a_second(device: torch.device) -> float:
    """Bytes that a copy on the device reads, a second."""
    size = COPIED if device.type == "cuda" else 2**26
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = min(timed(lambda _: target.copy_(source), [np.zeros(0, np.float32)] * 5, device).values())
    return 2 * size / best * 1000  # read and written


def row(size: str, device: torch.device, bytes_a_second: float) -> dict[str, Any]:
    pages, per_page = map(int, size.split("x"))
    part, asked = corpus(pages, per_page, device)
    every = np.ones(pages, np.bool_)
    candidates: list[int] = []

    def ours(question: Vectors) -> list[int]:
        query = QueryEmbedding(question, ("",) * len(question), (True,) * len(question))
        scores = part.scores(query, every).astype(np.float64)
        leading = part.leading(query, scores, DEPTH)
        candidates.append(len(leading))
        exact = part.maxsim(query, leading, scores, {})
        return [int(at) for at in leading[np.argsort(-exact, kind="stable")[:DEPTH]]]

    def theirs(question: Vectors) -> list[int]:
        return [
            int(at) for at in by_products(part, per_page, question, torch.float16).topk(DEPTH).indices.cpu()
        ]

    def truth(question: Vectors) -> set[int]:
        return set(by_products(part, per_page, question, torch.float32).topk(DEPTH).indices.tolist())

    began = time.perf_counter()
    part.warm()
    facts = {"pages": pages, "vectors a page": per_page, "GB": round(part.bytes / 1e9, 2),
             "warmed in s": round(time.perf_counter() - began, 1)}  # fmt: skip
    few = asked[:10]
    true = [truth(question) for question in few]

    def share(found: Callable[[Vectors], list[int]]) -> float:
        pairs = zip(few, true, strict=True)
        return round(
            float(np.mean([len(best & set(found(question))) / len(best) for question, best in pairs])), 4
        )

    measured = {
        "ours": timed(ours, asked, device) | {"recall@100": share(ours)},
        "torch, float16": timed(theirs, asked, device) | {"recall@100": share(theirs)},
    }
    floor = round(1000 * part.bytes / bytes_a_second, 3)
    return facts | measured | {"pages scored again": int(np.median(candidates)), "floor, ms": floor}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="pages x vectors of a page")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
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
        options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")  # a run may be cut short
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
