"""The models to measure: published architectures at full size, with random weights.

Random weights cost the same as trained ones, and nothing has to be fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import colpali_engine.models as engine
import torch
import transformers as hf
from transformers.models.qwen3_5 import Qwen3_5Config

from rerankers.jina_m0 import JinaM0
from retrieval.models.checkpoints import Placement
from tests.vision import tiny

VISION = ("visual", "vision_tower", "vision_model", "connector", "multi_modal_projector")
EMBEDDING = ("embed_tokens", "tok_embeddings", "lm_head")

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
    batch_tokens: int = 16_384  # of the profile that names it, or the default


def _qwen3_5(
    *,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int,
    linear: tuple[int, int],
    vision: dict[str, Any],
    tokens: int = 768,
) -> Make:
    """linear: key heads and value heads of the linear attention. tokens: the most image tokens of a page."""

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
            image_processor=tiny.patches16(tokens), tokenizer=tok, video_processor=tiny.video16()
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


def _neomme(small: bool) -> tuple[Any, Any]:
    model, processor = tiny.neomme()
    ids = {"image_token_id": model.config.image_token_id, "document_token_id": model.config.document_token_id}
    return (hf.NeoMMEForRetrieval, model.config if small else hf.NeoMMEConfig(**ids)), processor


VISION_27 = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16}
ENCODERS = (
    Model("ColQwen3.5-4.5B", _qwen3_5(
        hidden=2560, inner=9216, layers=32, heads=16, kv=4, linear=(16, 32),
        vision={"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16}), 768,
        batch_tokens=12_288),
    Model("ColPali-3B", _colpali, 1024, causal=False),
    Model("ColQwen3.5-0.8B", _qwen3_5(
        hidden=1024, inner=3584, layers=24, heads=8, kv=2, linear=(16, 16),
        vision={"depth": 12, "hidden_size": 768, "intermediate_size": 3072, "num_heads": 12}), 768, batch_tokens=6144),
    Model("ColQwen3.5-8B", _qwen3_5(
        hidden=4096, inner=12_288, layers=32, heads=16, kv=4, linear=(16, 32), vision=VISION_27, tokens=1024), 1024,
        batch_tokens=32_768),
    Model("ColQwen2-2B", _colqwen2, 768),
    Model("NeoMME-260M", _neomme, 768, causal=False),
)  # fmt: skip
VISION_2B = {
    "depth": 24,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "deepstack_visual_indexes": [5, 11, 17],
}
VISION_8B = {**VISION_27, "deepstack_visual_indexes": [8, 16, 24]}
QWEN3_VL_2B = _qwen3_vl(hidden=2048, inner=6144, layers=28, heads=16, vision=VISION_2B, tied=True)
QWEN3_VL_8B = _qwen3_vl(hidden=4096, inner=12_288, layers=36, heads=32, vision=VISION_8B, tied=False)
RERANKERS = (
    Model("Qwen3-VL-Reranker-2B", QWEN3_VL_2B, 768),
    Model("Jina-M0", _jina_m0, 768),
    Model("Qwen3-VL-Reranker-8B", QWEN3_VL_8B, 768, batch_tokens=32_768),
)


def random_model(
    spec: Model, placement: Placement, small: bool, layers: int | None = None
) -> tuple[Any, Any]:
    """Returns the architecture with random weights, on its device, and its processor.

    layers: so many of the language model's and of the vision tower's, instead of all.
    """
    (cls, config), processor = spec.make(small)
    config._attn_implementation = placement.attention
    if layers is not None:
        text, vision = config.get_text_config(), config.vision_config
        text.num_hidden_layers, text.layer_types = layers, text.layer_types[:layers]
        vision.depth = layers
    before = torch.get_default_dtype()
    torch.set_default_dtype(placement.dtype)
    try:
        with placement.device:
            made = cls(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)
    return made.to(placement.device, placement.dtype), processor


def flops(model: Any, patches: int, tokens: int, causal: bool) -> float:
    """Returns the floating-point operations of one page: 2 per weight and token, and those of full attention.

    A causal mask halves the attention of the language model. Attention in a window, and the linear attention's own
    products, are left out.
    """

    def weights(counted: Callable[[str], bool]) -> int:
        return sum(p.numel() for name, p in model.named_parameters() if counted(name))

    def is_vision(name: str) -> bool:
        return any(part in name for part in VISION)

    language = weights(lambda name: not is_vision(name) and not any(part in name for part in EMBEDDING))
    text, vision = model.config.get_text_config(), getattr(model.config, "vision_config", None)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    heads = text.num_attention_heads * (
        getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    )
    total = 2 * language * tokens
    total += kinds.count("full_attention") * 4 * tokens**2 * heads * (0.5 if causal else 1)
    if vision is not None:
        depth = getattr(vision, "depth", None) or vision.num_hidden_layers
        width = getattr(vision, "embed_dim", None) or vision.hidden_size
        total += 2 * weights(is_vision) * patches + depth * 4 * patches**2 * width
    return float(total)
