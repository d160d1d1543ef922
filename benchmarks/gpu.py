"""Measures encoders and rerankers of full size with random weights, against the GPU's limit and the libraries' loops.

One run on one machine gives for each model the pages (or pairs) per second of our code, of the simple loop in the
library's own example, and of the compute floor: the model's multiply-adds at the rate of a large matrix product,
measured just before. Random weights cost the same as trained ones; nothing is fetched. Preprocessing is included.

    python -m benchmarks.gpu                      on a GPU
    python -m benchmarks.gpu --tiny --device cpu  small models, to check that it runs

Of Folioscope's requirements it needs torch, transformers and colpali-engine with their dependencies, and no others.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import colpali_engine.models as engine
import torch
import transformers as hf
from transformers.models.qwen3_5 import Qwen3_5Config

from rerankers.jina_m0 import JinaM0, JinaM0Reranker
from rerankers.qwen3_vl import Qwen3VLReranker
from rerankers.vision import LoadedModel, VisionReranker
from retrieval.encoders import colvision
from retrieval.encoders.vision import Family, VisionEncoder
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.types import Fingerprint, Page, PageContent
from tests.vision import tiny

RESULTS = Path(__file__).parent / "results" / "gpu.json"
QUERY = "quarterly revenue by region, and what the energy report says of next year's budget"
VISION = ("visual", "vision_tower", "vision_model", "connector", "multi_modal_projector")
EMBEDDING = ("embed_tokens", "tok_embeddings", "lm_head")
LIBRARY_BATCH = 4  # pages, as in colpali-engine's README


Make = Callable[
    [bool], tuple[Any, Any]
]  # takes whether it is tiny; returns (class, configuration) and processor


@dataclass(frozen=True, slots=True)
class Model:
    """A model to measure, with the sizes of its published configuration and model card."""

    name: str
    make: Make
    tokens: int  # most image tokens of a page
    causal: bool = True


def _qwen3_5(
    *,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int,
    linear: tuple[int, int],
    vision: dict[str, Any],
) -> Make:
    """linear: key heads and value heads of the linear attention."""

    def make(small: bool) -> tuple[Any, Any]:
        tok = tiny.qwen_tokenizer()
        if small:
            config = tiny.qwen3_5_config(tok)
        else:
            rope = {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25,
                    "mrope_section": [11, 11, 10], "mrope_interleaved": True}  # fmt: skip
            text = {"vocab_size": 248_320, "hidden_size": hidden, "intermediate_size": inner,
                    "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
                    "head_dim": 256, "linear_num_key_heads": linear[0], "linear_num_value_heads": linear[1],
                    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "rope_parameters": rope,
                    "pad_token_id": None}  # fmt: skip
            see = {**vision, "patch_size": 16, "out_hidden_size": hidden, "deepstack_visual_indexes": []}
            config = Qwen3_5Config(text_config=text, vision_config=see, **tiny.qwen_ids(tok))
            config.dim = 320
        processor = engine.ColQwen3_5Processor(
            image_processor=tiny.patches16(768), tokenizer=tok, video_processor=tiny.video16()
        )
        return (engine.ColQwen3_5, config), processor

    return make


def _colpali(small: bool) -> tuple[Any, Any]:
    model, processor = tiny.colpali()
    if small:
        return (engine.ColPali, model.config), processor
    config = hf.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
                       "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 448, "patch_size": 14,
                       "vision_use_head": False, "projection_dim": 2048},
        text_config={"model_type": "gemma", "vocab_size": 257_216, "hidden_size": 2048, "intermediate_size": 16_384,
                     "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256},
        image_token_index=model.config.image_token_id, projection_dim=2048, hidden_size=2048, vocab_size=257_216,
    )  # fmt: skip
    return (engine.ColPali, config), processor


QWEN2_2B = {"vocab_size": 151_936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
            "num_attention_heads": 12, "num_key_value_heads": 2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            "pad_token_id": None}  # fmt: skip


def _qwen2_config(tok: Any, small: bool) -> Any:
    vision = {
        "depth": 32,
        "embed_dim": 1280,
        "hidden_size": 1536,
        "num_heads": 16,
        "mlp_ratio": 4,
        "patch_size": 14,
    }
    full = hf.Qwen2VLConfig(text_config=QWEN2_2B, vision_config=vision, **tiny.qwen_ids(tok))
    return tiny.qwen2_config(tok) if small else full


def _colqwen2(small: bool) -> tuple[Any, Any]:
    tok = tiny.qwen_tokenizer()
    processor = engine.ColQwen2Processor(
        image_processor=tiny.patches14(768), tokenizer=tok, video_processor=tiny.video14()
    )
    return (engine.ColQwen2, _qwen2_config(tok, small)), processor


def _jina_m0(small: bool) -> tuple[Any, Any]:
    tok = tiny.qwen_tokenizer()
    processor = hf.Qwen2VLProcessor(
        image_processor=tiny.patches14(768),
        tokenizer=tok,
        video_processor=tiny.video14(),
        chat_template=tiny.QWEN_CHAT,
    )
    return (JinaM0, _qwen2_config(tok, small)), processor


def _qwen3_vl(
    *, hidden: int, inner: int, layers: int, heads: int, vision: dict[str, Any], tied: bool
) -> Make:
    def make(small: bool) -> tuple[Any, Any]:
        tok = tiny.qwen_tokenizer(("yes", "no"))
        rope = {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        }
        text = {"vocab_size": 151_936, "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
                "num_attention_heads": heads, "num_key_value_heads": 8, "head_dim": 128, "rope_parameters": rope,
                "pad_token_id": None}  # fmt: skip
        see = {**vision, "patch_size": 16, "out_hidden_size": hidden, "num_heads": 16}
        full = hf.Qwen3VLConfig(
            text_config=text, vision_config=see, tie_word_embeddings=tied, **tiny.qwen_ids(tok)
        )
        config = tiny.qwen3_config(tok, tie_word_embeddings=True) if small else full
        processor = hf.Qwen3VLProcessor(
            image_processor=tiny.patches16(768), tokenizer=tok, video_processor=tiny.video16(),
            chat_template=tiny.QWEN_CHAT,
        )  # fmt: skip
        return (hf.Qwen3VLForConditionalGeneration, config), processor

    return make


ENCODERS = (
    Model("ColQwen3.5-0.8B", _qwen3_5(
        hidden=1024, inner=3584, layers=24, heads=8, kv=2, linear=(16, 16),
        vision={"depth": 12, "hidden_size": 768, "intermediate_size": 3072, "num_heads": 12}), 768),
    Model("ColQwen3.5-4.5B", _qwen3_5(
        hidden=2560, inner=9216, layers=32, heads=16, kv=4, linear=(16, 32),
        vision={"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}), 768),
    Model("ColQwen2-2B", _colqwen2, 768),
    Model("ColPali-3B", _colpali, 1024, causal=False),
)  # fmt: skip
VISION_2B = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
VISION_8B = {
    "depth": 27,
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "deepstack_visual_indexes": [8, 16, 24],
}
QWEN3_VL_2B = _qwen3_vl(hidden=2048, inner=6144, layers=28, heads=16, vision=VISION_2B, tied=True)
QWEN3_VL_8B = _qwen3_vl(hidden=4096, inner=12_288, layers=36, heads=32, vision=VISION_8B, tied=False)
RERANKERS = (
    Model("Qwen3-VL-Reranker-2B", QWEN3_VL_2B, 768),
    Model("Qwen3-VL-Reranker-8B", QWEN3_VL_8B, 768),
    Model("Jina-M0", _jina_m0, 768),
)


def random_model(model: Model, placement: Placement, small: bool) -> tuple[Any, Any]:
    """Returns the architecture with random weights, on its device, and its processor."""
    (cls, config), processor = model.make(small)
    config._attn_implementation = placement.attention
    before = torch.get_default_dtype()
    torch.set_default_dtype(placement.dtype)
    try:
        with placement.device:
            made = cls(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    return made.to(placement.device, placement.dtype), processor


def a4_pages(count: int, small: bool) -> list[PageContent]:
    """Returns A4 pages of 1240 x 1754 pixels (150 dpi), or of 310 x 438 if `small`."""
    pages = []
    for k in range(count):
        buffer = BytesIO()
        tiny.page(*((310, 438) if small else (1240, 1754)), seed=k).save(buffer, "WEBP", quality=80)
        pages.append(PageContent(Page(f"{k}", 1, f"{k}.pdf"), (), "none", buffer.getvalue))
    return pages


def flops(model: Any, patches: int, tokens: int, causal: bool) -> float:
    """Returns the floating-point operations of one page: 2 per weight and token, and those of attention.

    A causal mask halves the attention of the language model.
    """

    def weights(counted: Callable[[str], bool]) -> int:
        return sum(p.numel() for name, p in model.named_parameters() if counted(name))

    def is_vision(name: str) -> bool:
        return any(part in name for part in VISION)

    vision = weights(is_vision)
    language = weights(lambda name: not is_vision(name) and not any(part in name for part in EMBEDDING))
    text, vision_config = model.config.get_text_config(), model.config.vision_config
    depth = getattr(vision_config, "depth", None) or vision_config.num_hidden_layers
    width = getattr(vision_config, "embed_dim", None) or vision_config.hidden_size
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    full = sum(kind == "full_attention" for kind in kinds)
    heads = text.num_attention_heads * (
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    )
    attention = depth * 4 * patches**2 * width + full * 4 * tokens**2 * heads * (0.5 if causal else 1)
    return float(2 * vision * patches + 2 * language * tokens + attention)


def peak_flops(placement: Placement) -> float:
    """Returns the operations per second of a large matrix product in this dtype; a multiply-add counts as two."""
    side = 8192 if placement.device.type == "cuda" else 1024
    a = torch.randn(side, side, device=placement.device).to(placement.dtype)
    seconds = timed(lambda: a @ a, placement, 5)
    return float(2 * side**3 / seconds)


def timed(work: Callable[[], object], placement: Placement, times: int) -> float:
    """Returns the median seconds of `times` runs, after one run to warm up."""
    work()
    taken = []
    for _ in range(times):
        _wait(placement)
        began = time.perf_counter()
        work()
        _wait(placement)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(placement: Placement) -> None:
    if placement.device.type == "cuda":
        torch.cuda.synchronize(placement.device)


def encoder_row(
    spec: Model, placement: Placement, options: argparse.Namespace, peak: float
) -> dict[str, Any]:
    """Measures one encoder, and returns its row of results. peak: as of `peak_flops`."""
    model, processor = random_model(spec, placement, options.tiny)
    family = _family(model)(model, processor, placement, "")
    fingerprint = Fingerprint("colvision", spec.name, "random", family.dim)
    encoder = VisionEncoder(family, fingerprint, batch_tokens=options.batch_tokens)
    pages = a4_pages(options.pages, options.tiny)
    inputs = family.page(pages[0].image())

    def ours() -> None:
        encoder.expect(pages)
        encoder.encode_pages(pages)

    def library() -> None:
        with torch.inference_mode():
            for start in range(0, len(pages), LIBRARY_BATCH):
                batch = processor.process_images(
                    [page.image() for page in pages[start : start + LIBRARY_BATCH]]
                )
                model(**{name: tensor.to(placement.device) for name, tensor in batch.items()}).float().cpu()

    _take_peak_memory(placement)  # start counting here
    taken = timed(ours, placement, options.times)
    memory = _take_peak_memory(placement)
    theirs = timed(library, placement, options.times)
    patches = _patches(family, inputs.tensors)
    floor = flops(model, patches, len(inputs), spec.causal) / peak
    return {"pages/s": round(len(pages) / taken, 2), "library, pages/s": round(len(pages) / theirs, 2),
            "times the library": round(theirs / taken, 2), "floor, pages/s": round(1 / floor, 1),
            "share of the floor's rate": round(floor * len(pages) / taken, 3),
            "tokens a page": len(inputs), "parameters": sum(p.numel() for p in model.parameters()),
            **memory}  # fmt: skip


def _family(model: Any) -> Callable[..., Family]:
    return colvision.ColPali if isinstance(model, engine.ColPali) else colvision.ColQwen


def _patches(family: Family, tensors: Any) -> int:
    return len(tensors["pixel_values"]) if isinstance(family, colvision.ColQwen) else 1024


def reranker_row(
    spec: Model, placement: Placement, options: argparse.Namespace, peak: float
) -> dict[str, Any]:
    """Measures one reranker, and returns its row of results. peak: as of `peak_flops`."""
    model, processor = random_model(spec, placement, options.tiny)
    tokens = 64 if options.tiny else spec.tokens
    settings = SimpleNamespace(
        kind="random", model=spec.name, batch_tokens=options.batch_tokens, max_visual_tokens=tokens,
        instruction="Given a search query, retrieve relevant candidates that answer the query.", prefix_mb=0,
        cache=SimpleNamespace(memory_mb=0, disk_mb=0, folder=""),
    )  # fmt: skip
    kind: Any = JinaM0Reranker if isinstance(model, JinaM0) else Qwen3VLReranker
    no_weights = Path(__file__).parent / "results"  # only to name the weights, which are not on disk
    loaded = LoadedModel(model, processor, placement, no_weights)

    def reranker(memory_mb: int) -> VisionReranker:
        settings.cache.memory_mb = memory_mb
        made: VisionReranker = kind(settings, loaded)
        return made

    pages = a4_pages(options.candidates, options.tiny)
    cold, warm = reranker(0), reranker(8192)

    def library() -> None:
        """Run one pair per forward pass, with the complete head, as the model's own script does."""
        with torch.inference_mode():
            for page in pages:
                batch = processor(text=[cold.prompt(QUERY)], images=[page.image()], return_tensors="pt").to(
                    placement.device
                )
                if isinstance(model, JinaM0):
                    float(model.score(model.model(**batch).last_hidden_state[:, -1]))
                else:
                    float(model(**batch).logits[0, -1, 0])

    _take_peak_memory(placement)  # start counting here
    taken = timed(lambda: cold.score(QUERY, pages), placement, options.times)
    cached = timed(lambda: warm.score(QUERY, pages), placement, options.times)
    memory = _take_peak_memory(placement)
    theirs = timed(library, placement, options.times)
    grid = processor.image_processor(images=[pages[0].image()], return_tensors="pt")["image_grid_thw"][0]
    patches = int(grid.prod())
    length = len(cold.tokens(QUERY, patches // 4))
    floor = flops(model, patches, length, spec.causal) / peak
    return {"candidates": len(pages), "cold, s": round(taken, 4), "features known, s": round(cached, 4),
            "library, s": round(theirs, 4), "times the library": round(theirs / taken, 2),
            "floor, s": round(floor * len(pages), 4), "share of the floor's rate": round(floor * len(pages) / taken, 3),
            "tokens a pair": length, "parameters": sum(p.numel() for p in model.parameters()),
            **memory}  # fmt: skip


def _take_peak_memory(placement: Placement) -> dict[str, float]:
    """Returns the peak of GPU memory since the last call, and resets it."""
    if placement.device.type != "cuda":
        return {}
    most = torch.cuda.max_memory_allocated(placement.device) / 1e9
    torch.cuda.reset_peak_memory_stats(placement.device)
    return {"most GB": round(most, 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--attn", default="auto")
    parser.add_argument("--only", nargs="+", help="models by name")
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--batch-tokens", type=int, default=32_768)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    placement = checkpoints.choose_placement(options.device, options.dtype, options.attn)
    peak = peak_flops(placement)
    facts: dict[str, Any] = {"where": str(placement), "torch": torch.__version__, "transformers": hf.__version__,
                             "peak TFLOP/s": round(peak / 1e12, 2), "tiny": options.tiny}  # fmt: skip
    print(facts, flush=True)
    for kind, specs, row in (("encoders", ENCODERS, encoder_row), ("rerankers", RERANKERS, reranker_row)):
        facts[kind] = {}
        for spec in specs:
            if options.only and spec.name not in options.only:
                continue
            facts[kind][spec.name] = row(spec, placement, options, peak)
            print(f"{spec.name:22}", facts[kind][spec.name], flush=True)
            # Written after each model, because a run may be interrupted.
            options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            gc.collect()
            if placement.device.type == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
