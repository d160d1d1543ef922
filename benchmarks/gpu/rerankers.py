"""One reranker on a GPU: its parts by themselves, and 20 candidates beside the library's own loop.

The parts are preparation (processor time of one thread), the vision tower and the language model (CUDA events, batches
of 4 to 32), and cached features on their way back to the device, from ordinary and from pinned memory. The whole is
measured cold, with features cached and, for Jina M0, with the keys and values of pages cached.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.measure import QUERY, Bench
from benchmarks.gpu.models import Model, flops, random_model
from benchmarks.gpu.pages import pages
from rerankers.features import Features
from rerankers.jina_m0 import JinaM0, JinaM0Reranker
from rerankers.qwen3_vl import Qwen3VLReranker
from rerankers.vision import LoadedModel, PreparedPage, VisionReranker
from retrieval.types import PageContent

BATCHES = (4, 8, 16, 32)
CANDIDATES = 20
LIBRARY_PAGES = 8
NO_WEIGHTS = Path(__file__).parent  # only to name the weights, which are not on disk


def measure(spec: Model, bench: Bench) -> None:
    """Measures one reranker, and puts its numbers in the bench's row as they come."""
    with bench.peak_gb() as weights_gb:
        model, processor = random_model(spec, bench.placement, bench.tiny)

    def made(memory_mb: int = 0, prefix_mb: int = 0) -> VisionReranker:
        return reranker(spec, model, processor, bench, memory_mb=memory_mb, prefix_mb=prefix_mb)

    cold = made()
    candidates = pages(4 if bench.tiny else CANDIDATES, bench.tiny)
    prepared = cold._prepare_all(candidates)
    rows = [cold.tokens(QUERY, cold._image_tokens(page)) for page in prepared]
    patches = int(prepared[0].grid.prod())
    floor = flops(model, patches, len(rows[0]), spec.causal) / bench.matrix_rate
    bench.put(
        parameters=sum(p.numel() for p in model.parameters()),
        tokens_a_pair=len(rows[0]),
        candidates=len(candidates),
    )
    bench.put_as("weights GB", weights_gb[0] if weights_gb else None)
    bench.put_as("floor, s", round(floor * len(candidates), 4))
    bench.put_as("attention", bench.placement.attention)
    features = cold._tower(prepared[:4])
    _device_rates(cold, prepared, rows, floor, bench)
    _whole(cold, made(memory_mb=8192), made(prefix_mb=8192), candidates, bench)
    _library(cold, model, processor, candidates, bench)
    images = [page.image() for page in candidates[:4]]
    prepare = bench.core_ms(lambda k: cold._pixels.prepare(images[k]), 4)
    bench.put_as("prepare, core-ms a page", round(prepare, 1))
    _features_back(features, bench)
    _against_float32(spec, model, processor, cold, candidates[:2], bench)


def reranker(
    spec: Model, model: Any, processor: Any, bench: Bench, *, memory_mb: int = 0, prefix_mb: int = 0
) -> VisionReranker:
    """Returns our reranker over this model, with caches of these sizes in MiB."""
    settings: Any = SimpleNamespace(
        kind="random", model=spec.name, batch_tokens=spec.batch_tokens, prefix_mb=prefix_mb,
        max_visual_tokens=64 if bench.tiny else spec.tokens,
        instruction="Given a search query, retrieve relevant candidates that answer the query.",
        cache=SimpleNamespace(memory_mb=memory_mb, disk_mb=0, folder=""),
    )  # fmt: skip
    kind = JinaM0Reranker if isinstance(model, JinaM0) else Qwen3VLReranker
    return kind(settings, LoadedModel(model, processor, bench.placement, NO_WEIGHTS))


def _device_rates(
    cold: VisionReranker, prepared: Sequence[PreparedPage], rows: Sequence[Tensor], floor: float, bench: Bench
) -> None:
    """Puts what the model alone takes by batch size: tower and language model, pixels and features on the device."""
    there = [
        replace(page, pixels=None if page.pixels is None else cold._pixels.values(page.pixels))
        for page in prepared
    ]
    pairs: dict[int, float] = {}
    known: dict[int, float] = {}
    launching: dict[int, float] = {}
    memory: dict[int, float] = {}
    for size in BATCHES[:1] if bench.tiny else BATCHES:
        at = [k % len(there) for k in range(size)]
        batch, ids = [there[k] for k in at], [rows[k] for k in at]
        features = cold._tower(batch)

        def tower(batch: Sequence[PreparedPage] = batch) -> None:
            cold._tower(batch)

        def language(
            ids: Sequence[Tensor] = ids,
            batch: Sequence[PreparedPage] = batch,
            features: Sequence[Features] = features,
        ) -> None:
            with torch.inference_mode():
                cold._last(ids, batch, features)

        with bench.peak_gb() as peak:
            tower_ms, tower_host = bench.device_ms(tower, warm=2)
            language_ms, language_host = bench.device_ms(language, warm=2)
        pairs[size] = round(1000 * size / (tower_ms + language_ms), 1)
        known[size] = round(1000 * size / language_ms, 1)
        launching[size] = round((tower_host + language_host) / (tower_ms + language_ms), 2)
        memory |= {size: peak[0]} if peak else {}
        cold._wait_for_cache()
        bench.put_as("GPU, pairs/s", pairs)
        bench.put_as("GPU, pairs/s, features known", known)
        bench.put_as("launching, share of the time", launching)
        bench.put_as("peak GB", memory)
    bench.put_as("share of the floor", round(floor * max(pairs.values()), 3))


def _whole(
    cold: VisionReranker,
    cached: VisionReranker,
    prefixed: VisionReranker,
    candidates: Sequence[PageContent],
    bench: Bench,
) -> None:
    """Puts the seconds for all candidates, decoding and preparation included, with nothing and with all cached."""
    bench.put_as("cold, s", round(bench.seconds(lambda: cold.score(QUERY, candidates), 2), 4))
    bench.put_as("features cached, s", round(bench.seconds(lambda: cached.score(QUERY, candidates), 3), 4))
    if isinstance(prefixed, JinaM0Reranker):
        bench.put_as(
            "prefixes cached, s", round(bench.seconds(lambda: prefixed.score(QUERY, candidates), 3), 4)
        )
    one = bench.seconds(lambda: cached.score(QUERY, candidates[:1]), 5)
    bench.put_as("one page cached, ms", round(1000 * one, 1))


def _library(
    cold: VisionReranker, model: Any, processor: Any, candidates: Sequence[PageContent], bench: Bench
) -> None:
    """Puts the seconds of the loop of the model's own script: one pair at a time, with the complete head."""
    few = candidates[:LIBRARY_PAGES]

    def loop() -> None:
        with torch.inference_mode():
            for page in few:
                batch = processor(text=[cold.prompt(QUERY)], images=[page.image()], return_tensors="pt")
                batch = batch.to(bench.placement.device)
                if isinstance(model, JinaM0):
                    float(model.score(model.model(**batch).last_hidden_state[:, -1]))
                else:
                    float(model(**batch).logits[0, -1, 0])

    seconds = bench.seconds(loop, times=1) * len(candidates) / len(few)
    bench.put_as("library, s", round(seconds, 4))
    bench.put_as("times the library", round(seconds / bench.row["cold, s"], 2))


def _features_back(features: Sequence[Features], bench: Bench) -> None:
    """Puts the milliseconds that the cached features of the candidates take to the device."""
    kept = [{name: tensor.cpu() for name, tensor in page.items() if name != "grid"} for page in features] * 5
    megabytes = sum(t.numel() * t.element_size() for page in kept for t in page.values()) / 1e6 / len(kept)
    device = bench.placement.device

    def send(pages: Sequence[Features], pinned: bool) -> float:
        def work() -> None:
            for page in pages:
                for tensor in page.values():
                    tensor.to(device, non_blocking=pinned)

        return round(1000 * bench.seconds(work), 2)

    taken = {"pageable": send(kept, False)}
    if bench.on_gpu:
        taken["pinned"] = send([{n: t.pin_memory() for n, t in page.items()} for page in kept], True)
    bench.put_as("features, MB a page", round(megabytes, 1))
    bench.put_as(f"features of {len(kept)} pages to the device, ms", taken)


def _against_float32(
    spec: Model,
    model: Any,
    processor: Any,
    ours: VisionReranker,
    candidates: Sequence[PageContent],
    bench: Bench,
) -> None:
    """Puts the cosine of the pairs' last states with those of the same weights in float32."""
    with torch.inference_mode():
        states = ours.hidden(QUERY, candidates).float()
        exact = replace(bench, placement=replace(bench.placement, dtype=torch.float32))
        true = reranker(spec, model.float(), processor, exact).hidden(QUERY, candidates)
    cosines = torch.nn.functional.cosine_similarity(states, true)
    bench.put_as(
        "cosine to float32",
        {"mean": round(float(cosines.mean()), 5), "least": round(float(cosines.min()), 5)},
    )
