"""One encoder on a GPU: each part of its way by itself, and the whole beside the library's own loop.

The parts are preparation (processor time of one thread), the way to the device, the model (CUDA events, inputs on the
device, batches of 4 to 32), and the way back. Qwen3.5's linear attention is measured with and without
flash-linear-attention. Vectors in the dtype of the profiles are compared with float32 on the same random weights.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import colpali_engine.models as engine
import torch
from torch import Tensor

from benchmarks.gpu import fla, tuning
from benchmarks.gpu.measure import QUERY, Bench
from benchmarks.gpu.models import Model, flops, random_model
from benchmarks.gpu.pages import pages
from retrieval.encoders import colvision
from retrieval.encoders.neomme import NeoMME
from retrieval.encoders.vision import Family, Inputs, VisionEncoder
from retrieval.types import Fingerprint

BATCHES = (4, 8, 16, 32)
WHOLE = 64  # pages that go through the whole encoder
LIBRARY_PAGES, LIBRARY_BATCH = 8, 4  # a batch as in colpali-engine's README
QUESTIONS = 20
FLA_SETTINGS = 3  # that each of its kernels tries, of up to 12


def measure(spec: Model, bench: Bench) -> None:
    """Measures one encoder, and puts its numbers in the bench's row as they come."""
    with bench.peak_gb() as weights_gb:
        model, processor = random_model(spec, bench.placement, bench.tiny)
    family = family_of(model, processor, bench)
    encoder = encoder_of(spec, family)
    made = pages(16, bench.tiny)
    prepared = [family.page(page.image()) for page in made]
    length, patches = len(prepared[0]), _patches(family, prepared[0])
    floor = flops(model, patches, length, spec.causal) / bench.matrix_rate
    bench.put(parameters=sum(p.numel() for p in model.parameters()), tokens_a_page=length)
    bench.put_as("weights GB", weights_gb[0] if weights_gb else None)
    bench.put_as("floor, pages/s", _rounded(1 / floor))
    bench.put_as("attention", bench.placement.attention)

    with_fla = fla.available() and fla.uses_linear_attention(model)
    if with_fla:
        with linear_attention(model, False):
            _device_rates(family, prepared, bench, " without fla", (4, 16))
            without = _vectors(family, prepared[:2])
        tuning.limit("fla", FLA_SETTINGS)
    with linear_attention(model, with_fla):
        if with_fla:
            seconds = bench.seconds(lambda: _vectors(family, prepared[:4]), 1, 0)
            bench.put_as("first batch with fla, s", round(seconds, 1))
        rates = _device_rates(family, prepared, bench)
        bench.put_as("share of the floor", round(floor * max(rates.values()), 3))
        vectors = _vectors(family, prepared[:2])
        _whole(encoder, model, processor, bench)
        taken = [bench.seconds(lambda: encoder.encode_queries([QUERY]), 1, 0) for _ in range(QUESTIONS + 3)]
        bench.put_as("question, ms", round(1000 * sorted(taken[3:])[QUESTIONS // 2], 1))
    if with_fla:
        bench.put_as("cosine without fla", _cosine(vectors, without))
    _preparation(family, bench)
    _transfers(family, prepared, bench)
    _against_float32(model, processor, prepared[:2], vectors, bench)


def linear_attention(model: Any, with_fla: bool) -> AbstractContextManager[None]:
    """Returns a context in which the model's linear attention, if it has any, runs with fla's kernels or without."""
    return fla.switched(model, with_fla) if fla.uses_linear_attention(model) else nullcontext()


def family_of(model: Any, processor: Any, bench: Bench) -> Family:
    """Returns the family that prepares pages for this model and runs it."""
    if isinstance(model, engine.ColPali):
        return colvision.ColPali(model, processor, bench.placement, "")
    if hasattr(model, "multi_vector_head"):
        return NeoMME(model, processor, bench.placement)
    return colvision.ColQwen(model, processor, bench.placement, "")


def encoder_of(spec: Model, family: Family) -> VisionEncoder:
    """Returns our encoder over this family, with the batches of the model's profile."""
    fingerprint = Fingerprint("bench", spec.name, "random", family.dim)
    return VisionEncoder(family, fingerprint, batch_tokens=spec.batch_tokens)


def _patches(family: Family, item: Inputs) -> int:
    pixels = item.tensors["pixel_values"]
    return 1024 if isinstance(family, colvision.ColPali) else len(pixels)


def _device_rates(
    family: Family,
    prepared: Sequence[Inputs],
    bench: Bench,
    suffix: str = "",
    sizes: Sequence[int] = BATCHES,
) -> dict[int, float]:
    """Puts the pages a second of the model alone by batch size; returns them. Inputs lie on the device."""
    there = [on_device(family, item, bench) for item in prepared]
    rates: dict[int, float] = {}
    launching: dict[int, float] = {}
    memory: dict[int, float] = {}
    for size in sizes[:1] if bench.tiny else sizes:
        batch = [there[k % len(there)] for k in range(size)]

        def run(batch: Sequence[Inputs] = batch) -> None:
            with torch.inference_mode():
                family.run_padded(batch)

        with bench.peak_gb() as peak:
            device, host = bench.device_ms(run, warm=2)
        rates[size], launching[size] = _rounded(1000 * size / device), round(host / device, 2)
        memory |= {size: peak[0]} if peak else {}
        bench.put_as("GPU, pages/s" + suffix, rates)
        bench.put_as("launching, share of the time" + suffix, launching)
        bench.put_as("peak GB" + suffix, memory)
    return rates


def on_device(family: Family, item: Inputs, bench: Bench) -> Inputs:
    """Returns the inputs with their pixels on the device, as the model takes them; sequences go with each batch."""
    if isinstance(family, NeoMME):
        pixels = item.tensors["pixel_values"].to(bench.placement.device, bench.placement.dtype)
    else:
        (pixels,) = family.images([item])  # type: ignore[attr-defined]
    return replace(item, tensors={**item.tensors, "pixel_values": pixels})


def _whole(encoder: VisionEncoder, model: Any, processor: Any, bench: Bench) -> None:
    """Puts the pages a second of our encoder as ingest calls it, and those of the library's own loop."""
    many = pages(4 if bench.tiny else WHOLE, bench.tiny)
    few = many[:LIBRARY_PAGES]

    def ours() -> None:
        encoder.expect(many)
        encoder.encode_pages(many)

    def library() -> None:
        with torch.inference_mode():
            for start in range(0, len(few), LIBRARY_BATCH):
                images = [page.image() for page in few[start : start + LIBRARY_BATCH]]
                batch = _library_batch(processor, images).to(bench.placement.device)
                out = model(**batch)
                getattr(out, "embeddings", out).float().cpu()

    with bench.peak_gb() as peak:
        ours_rate = len(many) / bench.seconds(ours, times=2)
    bench.put_as("ours, pages/s", _rounded(ours_rate))
    if peak:
        bench.put_as("peak GB, whole", peak[0])
    library_rate = len(few) / bench.seconds(library, times=1)
    bench.put_as("library, pages/s", _rounded(library_rate))
    bench.put_as("times the library", round(ours_rate / library_rate, 2))


def _library_batch(processor: Any, images: list[Any]) -> Any:
    if hasattr(processor, "process_images"):
        return processor.process_images(images)
    return processor(images=images, return_tensors="pt", padding=True)


def _preparation(family: Family, bench: Bench) -> None:
    """Puts the processor time of one thread for a page: to decode it, and to prepare it for the model."""
    made = pages(8, bench.tiny)
    images = [page.image() for page in made]
    times = 2 if bench.tiny else 8
    bench.put_as("decode, core-ms a page", round(bench.core_ms(lambda k: made[k].image().load(), times), 1))
    bench.put_as("prepare, core-ms a page", round(bench.core_ms(lambda k: family.page(images[k]), times), 1))


def _transfers(family: Family, prepared: Sequence[Inputs], bench: Bench) -> None:
    """Puts the milliseconds of a page to the device, as the families send it, and of its vectors back."""
    eight, where = prepared[:8], bench.placement

    def send() -> None:
        for item in eight:
            on_device(family, item, bench)

    made = torch.randn(8, len(eight[0]), family.dim, device=where.device, dtype=where.dtype)

    def back() -> None:
        torch.nn.functional.normalize(made.float(), dim=-1).cpu().numpy()

    bench.put_as("to the device, ms a page", round(1000 * bench.seconds(send) / 8, 2))
    bench.put_as("back, ms a page", round(1000 * bench.seconds(back) / 8, 2))


def _vectors(family: Family, items: Sequence[Inputs]) -> list[Tensor]:
    return [torch.from_numpy(encoded.vectors) for encoded in family.encode(items)]


def _cosine(some: Sequence[Tensor], others: Sequence[Tensor]) -> dict[str, float]:
    """Returns the mean and the least cosine of vectors, pairwise; those that a model sets to zero are left out."""
    cosines = torch.cat([(a * b).sum(-1)[b.norm(dim=-1) > 0] for a, b in zip(some, others, strict=True)])
    return {"mean": round(float(cosines.mean()), 5), "least": round(float(cosines.min()), 5)}


def _against_float32(
    model: Any, processor: Any, items: Sequence[Inputs], vectors: Sequence[Tensor], bench: Bench
) -> None:
    """Puts the cosine of vectors with those of the same weights in float32, by torch's own linear attention."""
    exact = replace(bench, placement=replace(bench.placement, dtype=torch.float32))
    family = family_of(model.float(), processor, exact)
    with linear_attention(model, False):
        bench.put_as("cosine to float32", _cosine(vectors, _vectors(family, items)))


def _rounded(rate: float) -> float:
    return round(rate, 1) if rate >= 10 else round(rate, 2)
