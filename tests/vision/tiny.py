"""Tiny random checkpoints of the real architectures, saved to disk like the hub's: weights, processor, template.

The same code loads them as real ones. Their scores mean nothing; they serve to test shapes, geometry, batching, caching
and loading.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import colpali_engine.models as engine
import numpy as np
import torch
import transformers as hf
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers.models.neomme.image_processing_neomme import NeoMMEImageProcessor
from transformers.models.neomme.processing_neomme import NeoMMEProcessor
from transformers.models.qwen3_5 import Qwen3_5Config

CORPUS = [
    "Query: quarterly revenue by region, energy report, table of results, annual budget, net income and margin",
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided.",
    "Describe the image. User: Assistant: system user assistant The query is: answer True or False",
] * 4
QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
        "<|image_pad|>", "<|video_pad|>"]  # fmt: skip
HALF = [0.5] * 3
QWEN_CHAT = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\\n' }}"
    "{%- if m['content'] is string -%}{{ m['content'] }}{%- else -%}{%- for c in m['content'] -%}"
    "{%- if c['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif 'text' in c -%}{{ c['text'] }}{%- endif -%}{%- endfor -%}{%- endif -%}{{ '<|im_end|>\\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)
GEMMA_CHAT = (
    "{{ bos_token }}{%- for m in messages -%}{{ '<start_of_turn>' + m['role'] + '\\n' }}"
    "{%- for c in m['content'] -%}{%- if c['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- else -%}{{ c['text'] }}{%- endif -%}{%- endfor -%}{{ '<end_of_turn>\\n' }}{%- endfor -%}"
)
NEO_CHAT = (
    "{%- for m in messages -%}{%- for c in m['content'] -%}{%- if c['type'] == 'image' -%}<doc><img>"
    "{%- else -%}{{ '<query>' if task == 'query' else '<doc>' }}{{ c['text'] }}"
    "{{ '<mask>' * 8 if task == 'query' else '' }}{%- endif -%}{%- endfor -%}{%- endfor -%}"
)


def page(width: int = 425, height: int = 550, seed: int = 0) -> Image.Image:
    """Returns the image of a page with lines like text and bars like a chart, on paper that is not quite white."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(225, 256, (height, width, 3)).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for k, y in enumerate(range(40, height // 2, 12)):
        draw.line((30, y, 30 + width * (5 + (k * 7 + seed * 3) % 9) // 16, y), fill="black", width=2)
    for k in range(5):
        tall = 20 + (k * 37 + seed * 53) % (height // 4)
        draw.rectangle((30 + k * width // 6, height - 30 - tall, 30 + k * width // 6 + width // 9, height - 30),
                       fill=(k * 50, 80, 160))  # fmt: skip
    return image


def tokenizer(specials: list[str], words: tuple[str, ...] = (), **options: Any) -> Any:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    made = hf.PreTrainedTokenizerFast(tokenizer_object=bpe, **options)
    made.add_special_tokens({"additional_special_tokens": specials})
    made.add_tokens(list(words))
    return made


def up64(n: int) -> int:
    return (n + 63) // 64 * 64


def qwen_tokenizer(words: tuple[str, ...] = ()) -> Any:
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "vision_bos_token": "<|vision_start|>",
             "vision_eos_token": "<|vision_end|>"}  # fmt: skip
    return tokenizer(QWEN, words, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<|endoftext|>",
                     extra_special_tokens=names, padding_side="left", model_max_length=32_768)  # fmt: skip


def qwen_ids(tok: Any) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
             "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}  # fmt: skip
    return {key: tok.convert_tokens_to_ids(name) for key, name in names.items()}


def text_config(tok: Any, **more: Any) -> dict[str, Any]:
    # without a padding token, as in real Qwen configurations: with one, its zero vector would be 0/0
    return {"vocab_size": up64(len(tok)), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": None,
            "eos_token_id": tok.eos_token_id, "pad_token_id": None, **more}  # fmt: skip


ROPE = {
    "rope_type": "default",
    "rope_theta": 1e6,
    "mrope_section": [2, 3, 3],
}  # sums to half of the head's 16
VISION = {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "intermediate_size": 64, "num_heads": 2,
          "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip


def qwen2_config(tok: Any) -> Any:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
              "spatial_merge_size": 2, "temporal_patch_size": 2}  # fmt: skip
    return hf.Qwen2VLConfig(
        text_config=text_config(tok, rope_parameters=dict(ROPE)), vision_config=vision, **qwen_ids(tok)
    )


def qwen2_5_config(tok: Any) -> Any:
    vision = {**VISION, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1]}
    return hf.Qwen2_5_VLConfig(
        text_config=text_config(tok, rope_parameters=dict(ROPE)), vision_config=vision, **qwen_ids(tok)
    )


def qwen3_config(tok: Any, **more: Any) -> Any:
    vision = {
        **VISION,
        "depth": 3,
        "patch_size": 16,
        "num_position_embeddings": 256,
        "deepstack_visual_indexes": [0, 1],
    }
    text = text_config(tok, head_dim=16, rope_parameters={**ROPE, "mrope_interleaved": True})
    return hf.Qwen3VLConfig(text_config=text, vision_config=vision, **qwen_ids(tok), **more)


def qwen3_5_config(tok: Any) -> Any:
    rope = {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.5, "mrope_section": [1, 1, 2],
            "mrope_interleaved": True}  # fmt: skip
    text = text_config(
        tok, num_hidden_layers=4, head_dim=16, full_attention_interval=4, linear_num_key_heads=2,
        linear_num_value_heads=4, linear_key_head_dim=16, linear_value_head_dim=16, linear_conv_kernel_dim=4,
        rope_parameters=rope,
    )  # fmt: skip
    vision = {**VISION, "patch_size": 16, "num_position_embeddings": 256, "deepstack_visual_indexes": []}
    return Qwen3_5Config(text_config=text, vision_config=vision, **qwen_ids(tok))


def patches14(most: int = 64) -> Any:
    size = {"shortest_edge": 4 * 28 * 28, "longest_edge": most * 28 * 28}
    return hf.Qwen2VLImageProcessor(patch_size=14, merge_size=2, temporal_patch_size=2, size=size)


def patches16(most: int = 64) -> Any:
    size = {"shortest_edge": 4 * 1024, "longest_edge": most * 1024}
    return hf.Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, temporal_patch_size=2, image_mean=HALF, image_std=HALF, size=size
    )


def video14() -> Any:
    return hf.Qwen2VLVideoProcessor(patch_size=14, merge_size=2, temporal_patch_size=2)


def video16() -> Any:
    return hf.Qwen3VLVideoProcessor(patch_size=16, merge_size=2, temporal_patch_size=2)


def _colqwen(cls: Any, processor: Any, config: Callable[[Any], Any], patch: int) -> tuple[Any, Any]:
    tok = qwen_tokenizer()
    image, video = (patches14(), video14()) if patch == 14 else (patches16(), video16())
    return cls(config(tok)), processor(image_processor=image, tokenizer=tok, video_processor=video)


def colqwen2() -> tuple[Any, Any]:
    return _colqwen(engine.ColQwen2, engine.ColQwen2Processor, qwen2_config, 14)


def colqwen2_5() -> tuple[Any, Any]:
    return _colqwen(engine.ColQwen2_5, engine.ColQwen2_5_Processor, qwen2_5_config, 14)


def colqwen3() -> tuple[Any, Any]:
    return _colqwen(engine.ColQwen3, engine.ColQwen3Processor, qwen3_config, 16)


def colqwen3_5() -> tuple[Any, Any]:
    return _colqwen(engine.ColQwen3_5, engine.ColQwen3_5Processor, qwen3_5_config, 16)


def colpali() -> tuple[Any, Any]:
    names = {"image_token": "<image>"}
    tok = tokenizer(["<pad>", "<eos>", "<bos>", "<image>"], pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
                    unk_token="<pad>", padding_side="right", extra_special_tokens=names)  # fmt: skip
    image = hf.SiglipImageProcessor(
        size={"height": 448, "width": 448}, image_mean=HALF, image_std=HALF, resample=3
    )
    image.image_seq_length = 1024
    processor = engine.ColPaliProcessor(
        image_processor=image, tokenizer=tok
    )  # adds its places to the vocabulary
    size = up64(len(tok))
    config = hf.PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 448, "patch_size": 14,
                       "projection_dim": 64, "vision_use_head": False},
        text_config=text_config(tok, model_type="gemma", num_key_value_heads=1, head_dim=16, vocab_size=size,
                                bos_token_id=tok.bos_token_id),
        image_token_index=tok.convert_tokens_to_ids("<image>"), vocab_size=size, projection_dim=64, hidden_size=64,
    )  # fmt: skip
    return engine.ColPali(config), processor


def _tiled_tokenizer(bos: str) -> Any:
    places = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
    names = [
        bos,
        "<|im_end|>",
        "<pad>",
        "<fake_token_around_image>",
        "<image>",
        "<end_of_utterance>",
        "<global-img>",
    ]
    return tokenizer([*names, *places], pad_token="<pad>", eos_token="<end_of_utterance>", bos_token=bos,
                     unk_token="<pad>", padding_side="left")  # fmt: skip


def _tiles() -> Any:
    return hf.Idefics3ImageProcessor(
        size={"longest_edge": 1024}, max_image_size={"longest_edge": 512}, image_mean=HALF, image_std=HALF
    )


def colidefics3() -> tuple[Any, Any]:
    tok = _tiled_tokenizer("<|im_start|>")
    config = hf.Idefics3Config(
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 512, "patch_size": 16},
        text_config=text_config(tok, model_type="llama", bos_token_id=tok.bos_token_id),
        image_token_id=tok.convert_tokens_to_ids("<image>"), scale_factor=4, pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    return engine.ColIdefics3(config), engine.ColIdefics3Processor(
        image_processor=_tiles(), tokenizer=tok, image_seq_len=64
    )


def colmodernvbert() -> tuple[Any, Any]:
    tok = _tiled_tokenizer("<|begin_of_text|>")
    config = hf.ModernVBertConfig(
        text_config={"model_type": "modernbert", "vocab_size": up64(len(tok)), "hidden_size": 64,
                     "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
                     "max_position_embeddings": 4096, "pad_token_id": tok.pad_token_id,
                     "bos_token_id": tok.bos_token_id, "eos_token_id": tok.eos_token_id,
                     "cls_token_id": tok.bos_token_id, "sep_token_id": tok.eos_token_id},
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 512, "patch_size": 16,
                       "vision_use_head": False},
        image_token_id=tok.convert_tokens_to_ids("<image>"), pixel_shuffle_factor=4,
    )  # fmt: skip
    return engine.ColModernVBert(config), engine.ColModernVBertProcessor(
        image_processor=_tiles(), tokenizer=tok, image_seq_len=64
    )


def colgemma3() -> tuple[Any, Any]:
    names = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
             "<image_soft_token>"]  # fmt: skip
    tok = tokenizer(names, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<pad>",
                    padding_side="left", extra_special_tokens={
                        "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
                        "image_token": "<image_soft_token>"})  # fmt: skip
    tok.chat_template = GEMMA_CHAT
    image = hf.Gemma3ImageProcessor(size={"height": 112, "width": 112}, image_mean=HALF, image_std=HALF)
    processor = engine.ColGemmaProcessor3(
        image_processor=image, tokenizer=tok, chat_template=GEMMA_CHAT, image_seq_length=16
    )
    config = hf.Gemma3Config(
        text_config=text_config(tok, head_dim=16, sliding_window=512, num_hidden_layers=2,
                                layer_types=["sliding_attention", "full_attention"]),
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 112, "patch_size": 14,
                       "vision_use_head": False},
        mm_tokens_per_image=16, boi_token_index=tok.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tok.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tok.convert_tokens_to_ids("<image_soft_token>"),
    )  # fmt: skip
    model = engine.ColGemma3(config)
    torch.nn.init.normal_(model.multi_modal_projector.mm_input_projection_weight)  # zeros until trained
    return model, processor


def neomme() -> tuple[Any, Any]:
    names = {
        "image_token": "<img>",
        "document_token": "<doc>",
        "row_token": "<row>",
        "query_token": "<query>",
    }
    tok = tokenizer(["<pad>", "<eos>", "<mask>", "<query>", "<document>", "<doc>", "<img>", "<row>"],
                    pad_token="<pad>", eos_token="<eos>", mask_token="<mask>", unk_token="<pad>",
                    padding_side="right", extra_special_tokens=names)  # fmt: skip
    processor = NeoMMEProcessor(
        image_processor=NeoMMEImageProcessor(patch_size=32, max_side=1024),
        tokenizer=tok,
        chat_template=NEO_CHAT,
    )
    rope = {"full_attention": {"rope_type": "default", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}}  # fmt: skip
    config = hf.NeoMMEConfig(
        vocab_size=up64(len(tok)), embedding_rank=16, hidden_size=64, intermediate_size=128, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, sliding_window=64, rope_parameters=rope,
        layer_types=["sliding_attention", "sliding_attention", "full_attention", "full_attention"],
        pad_token_id=tok.pad_token_id, document_token_id=tok.convert_tokens_to_ids("<doc>"),
        image_token_id=tok.convert_tokens_to_ids("<img>"),
    )  # fmt: skip
    return hf.NeoMMEForRetrieval(config), processor


def qwen3_vl_reranker() -> tuple[Any, Any]:
    tok = qwen_tokenizer(("yes", "no"))
    model = hf.Qwen3VLForConditionalGeneration(qwen3_config(tok, tie_word_embeddings=True))
    processor = hf.Qwen3VLProcessor(
        image_processor=patches16(), tokenizer=tok, video_processor=video16(), chat_template=QWEN_CHAT
    )
    return model, processor


def mono_qwen2_vl() -> tuple[Any, Any]:
    tok = qwen_tokenizer(("True", "False"))
    model = hf.Qwen2VLForConditionalGeneration(qwen2_config(tok))
    processor = hf.Qwen2VLProcessor(
        image_processor=patches14(), tokenizer=tok, video_processor=video14(), chat_template=QWEN_CHAT
    )
    return model, processor


def jina_m0() -> tuple[Any, Any]:
    from rerankers.jina_m0 import JinaM0

    tok = qwen_tokenizer()
    processor = hf.Qwen2VLProcessor(
        image_processor=patches14(), tokenizer=tok, video_processor=video14(), chat_template=QWEN_CHAT
    )
    return JinaM0(qwen2_config(tok)), processor


V_SPLADE_CHAT = (
    "{%- for m in messages -%}{{ m['role'] | capitalize }}:{%- for c in m['content'] -%}"
    "{%- if c['type'] == 'image' -%}<image>{%- else -%}{{ c['text'] }}{%- endif -%}{%- endfor -%}"
    "{{ '<end_of_utterance>\\n' }}{%- endfor -%}{%- if add_generation_prompt -%}Assistant:{%- endif -%}"
)


def v_splade(folder: Path, seed: int = 0, threshold: float = 0.0) -> Path:
    """Save a V-SPLADE to `folder`, as its authors publish it: their names of weights, and questions' own weights.

    A piece weighs something if its random logit is above `threshold`.
    """
    torch.manual_seed(seed)
    places = [f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7)]
    pictures = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *places]
    tok = tokenizer(pictures, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
                    mask_token="[MASK]")  # fmt: skip
    pieces = tok.convert_tokens_to_ids(pictures[0])
    tok.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", tok.cls_token_id), ("[SEP]", tok.sep_token_id)],
    )
    processor = hf.Idefics3Processor(
        image_processor=_tiles(), tokenizer=tok, image_seq_len=64, chat_template=V_SPLADE_CHAT
    )
    config = hf.ModernVBertConfig(
        text_config={"model_type": "modernbert", "vocab_size": len(tok), "hidden_size": 64, "intermediate_size": 96,
                     "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 4096,
                     "pad_token_id": tok.pad_token_id, "bos_token_id": tok.cls_token_id,
                     "eos_token_id": tok.sep_token_id, "cls_token_id": tok.cls_token_id,
                     "sep_token_id": tok.sep_token_id},
        vision_config={"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 512, "patch_size": 16},
        image_token_id=tok.convert_tokens_to_ids("<image>"), pixel_shuffle_factor=4,
        additional_vocab_size=len(pictures),
    )  # fmt: skip
    weights = {}
    for name, tensor in hf.ModernVBertModel(config).state_dict().items():
        random = torch.randn_like(tensor) * 0.2 if tensor.ndim > 1 else tensor
        if name == "text_model.embeddings.tok_embeddings.weight":
            weights[f"encoder.encoder.model.{name}"] = random[:pieces].clone()
            name = name.replace("weight", "additional_embedding.weight")
            random = random[pieces:].clone()
        name = name.replace("modality_projection.weight", "modality_projection.proj.weight")
        weights[f"encoder.encoder.model.{name}"] = random
    weights |= {
        "encoder.mlm_head.dense.weight": torch.randn(64, 64) * 0.2,
        "encoder.mlm_head.dense.bias": torch.randn(64),
        "encoder.mlm_head.norm.weight": torch.rand(64) + 0.5,
        "encoder.mlm_head.norm.bias": torch.randn(64) * 0.1,
        "encoder.mlm_head.decoder.weight": torch.randn(pieces, 64),
        "encoder.mlm_head.decoder.bias": torch.full((pieces,), -threshold),
        "query_encoder.embeddings.weight": torch.randn(pieces, 64),
        "query_encoder.projection.weight": torch.randn(1, 64) * 0.2,
        "query_encoder.projection.bias": torch.randn(1),
    }
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "colpali": colpali, "colqwen2": colqwen2, "colqwen2_5": colqwen2_5, "colqwen3": colqwen3, "colqwen3_5": colqwen3_5,
    "colidefics3": colidefics3, "colmodernvbert": colmodernvbert, "colgemma3": colgemma3,
}  # fmt: skip
RERANKERS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen3_vl": qwen3_vl_reranker, "jina_m0": jina_m0, "mono_qwen2_vl": mono_qwen2_vl,
}  # fmt: skip


@cache
def checkpoint(name: str, root: Path) -> Path:
    """Returns the folder of the tiny checkpoint of this name, which is made once under `root`."""
    folder = root / name
    torch.manual_seed(0)
    model, processor = {**FAMILIES, "neomme": neomme, **RERANKERS}[name]()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
