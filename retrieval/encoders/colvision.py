"""Encodes a page's image as one vector per patch, with the families of colpali-engine (Faysse et al., 2024).

Processors and weights are the library's. The forward passes are ours where the library's waste work or go wrong:

- All families: only the last layer's hidden state is stored, not every layer's; vectors are normalised in float32.
- ColPali: its language model's head does not run (0.5 GB of logits per page), and `token_type_ids` are always given:
  without them, a question's vectors depend on the padding of its batch.
- ColPali, ColQwen2, ColQwen2.5 and ColSmol were trained with "Query: " before the question; the library has not added
  it since 0.3.11.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

import colpali_engine.models as engine
import torch
from PIL import Image
from torch import Tensor

from configs.models import cautions
from retrieval.encoders import geometry
from retrieval.encoders.vision import Family, Inputs, VisionEncoder, sequences_of
from retrieval.errors import ModelBroken
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.models.pixels import Pixels
from retrieval.types import Fingerprint

if TYPE_CHECKING:
    import configs.settings as configs

PREFIXED = frozenset({"colpali", "colqwen2", "colqwen2_5", "colidefics3"})
CLASSES: dict[str, tuple[Any, Any]] = {
    "colpali": (engine.ColPali, engine.ColPaliProcessor),
    "colqwen2": (engine.ColQwen2, engine.ColQwen2Processor),
    "colqwen2_5": (engine.ColQwen2_5, engine.ColQwen2_5_Processor),
    "colqwen3": (engine.ColQwen3, engine.ColQwen3Processor),
    "colqwen3_5": (engine.ColQwen3_5, engine.ColQwen3_5Processor),
    "colidefics3": (engine.ColIdefics3, engine.ColIdefics3Processor),
    "colmodernvbert": (engine.ColModernVBert, engine.ColModernVBertProcessor),
    "colgemma3": (engine.ColGemma3, engine.ColGemmaProcessor3),
}
MATRYOSHKA = ("matryoshka_dims", "matryoshka_dimensions", "mrl_dims")
LM_HEAD = (r"lm_head\.weight$",)
"""Complete language models have a head in their checkpoints that retrievers lack; ColPali's class has an unused one."""


class _Family(Family):
    """A family of colpali-engine."""

    def __init__(self, model: Any, processor: Any, placement: Placement, prefix: str) -> None:
        super().__init__(placement)
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.dim = int(model.dim)
        self._prefix = prefix
        self._pixels = Pixels(processor.image_processor, placement)
        self._of_grid: dict[tuple[int, ...], Inputs] = {}

    def query(self, text: str) -> Inputs:
        suffix = self.processor.query_augmentation_token * 10
        return Inputs(sequences_of(self.processor.process_texts([self._prefix + text + suffix])))

    def project(self, hidden: Tensor) -> Tensor:
        projected: Tensor = self.model.custom_text_proj(hidden)
        return projected

    def images(self, items: Sequence[Inputs]) -> list[Tensor]:
        """Returns `pixel_values` of the items that are pages, on the device, in the model's dtype."""
        return [
            self._pixels.values(item.tensors["pixel_values"])
            for item in items
            if "pixel_values" in item.tensors
        ]

    def of_grid(self, grid: Sequence[int], make: Callable[[], Inputs]) -> Inputs:
        """Returns the token sequences and boxes of pages with this grid of patches, which `make` makes once.

        The processor would spell out a page's hundreds of image tokens anew for each page, and then tokenise them.
        """
        key = tuple(int(side) for side in grid)
        if key not in self._of_grid:
            self._of_grid[key] = make()
        return self._of_grid[key]


class ColQwen(_Family):
    """ColQwen2, 2.5, 3 and 3.5: the page in its own shape, one vector for each `merge` x `merge` patches."""

    def page(self, image: Image.Image) -> Inputs:
        made = self._pixels.prepare(image)
        patches = made["image_grid_thw"][0]

        def sequences() -> Inputs:
            of_page = sequences_of(self.processor.process_images([image]))
            return Inputs(of_page, *geometry.merged(
                of_page["input_ids"].tolist(),
                self.processor.image_token_id,
                patches.tolist(),
                self.processor.image_processor.merge_size,
            ))  # fmt: skip

        known = self.of_grid(patches.tolist(), sequences)
        pixels = {"pixel_values": made["pixel_values"], "image_grid_thw": patches}
        return replace(known, tensors={**known.tensors, **pixels})

    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, None]:
        pixels = self.images(items)
        if pixels:
            grids = torch.stack([item.tensors["image_grid_thw"] for item in items])
            batch |= {"pixel_values": torch.cat(pixels), "image_grid_thw": grids.to(self.placement.device)}
        # The library's own forward stores every layer's hidden states.
        backbone: Any = type(self.model).__mro__[1]
        hidden = backbone.forward(self.model, **batch, use_cache=False, return_dict=True).last_hidden_state
        return self.project(hidden), None


class ColPali(_Family):
    """PaliGemma: the page squashed to a square of 448 x 448 pixels, 32 x 32 vectors."""

    pad_left = False

    def page(self, image: Image.Image) -> Inputs:
        def sequences() -> Inputs:
            of_page = sequences_of(self.processor.process_images([image]))
            return Inputs(
                of_page, *geometry.square(of_page["input_ids"].tolist(), self.processor.image_token_id)
            )

        known = self.of_grid((), sequences)
        return replace(
            known, tensors={**known.tensors, "pixel_values": self._pixels.prepare(image)["pixel_values"][0]}
        )

    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, None]:
        pixels = self.images(items)
        if pixels:
            batch["pixel_values"] = torch.stack(pixels)
        batch.setdefault("token_type_ids", torch.zeros_like(batch["input_ids"]))
        inner = self.model.model.model  # below the language model's head
        return self.project(inner(**batch, use_cache=False, return_dict=True).last_hidden_state), None


class ColGemma3(_Family):
    """Gemma 3: the page squashed to a square, 16 x 16 vectors; question and page in its chat template."""

    def page(self, image: Image.Image) -> Inputs:
        made = self.processor.process_images([image])
        sequences = sequences_of(made)
        positions, boxes = geometry.square(sequences["input_ids"].tolist(), self.model.config.image_token_id)
        return Inputs({**sequences, "pixel_values": made["pixel_values"][0]}, positions, boxes)

    def query(self, text: str) -> Inputs:
        return Inputs(sequences_of(self.processor.process_queries([text])))

    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, None]:
        pixels = self.images(items)
        if pixels:
            batch["pixel_values"] = torch.stack(pixels)
        backbone: Any = type(self.model).__mro__[1]
        hidden = backbone.forward(self.model, **batch, use_cache=False, return_dict=True).last_hidden_state
        return self.project(hidden), None


class ColTiled(_Family):
    """ColIdefics3 (ColSmol) and ColModernVBert: tiles of 512 x 512 pixels, 8 x 8 vectors each, and a thumbnail."""

    def __init__(self, model: Any, processor: Any, placement: Placement, prefix: str) -> None:
        super().__init__(model, processor, placement, prefix)
        self._places = geometry.thumbnail_places(self.tokenizer)
        self._image_token = self.tokenizer.convert_tokens_to_ids(self.processor.image_token)

    def page(self, image: Image.Image) -> Inputs:
        made = self.processor.process_images([image])
        sequences = sequences_of(made)
        positions, boxes = geometry.tiled(sequences["input_ids"].tolist(), self._image_token, self._places)
        pixels = {name: made[name][0] for name in ("pixel_values", "pixel_attention_mask") if name in made}
        return Inputs({**sequences, **pixels}, positions, boxes)

    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, None]:
        pixels = self.images(items)
        if pixels:  # (n, most tiles, ...): the model skips tiles of zeros
            batch["pixel_values"] = torch.nn.utils.rnn.pad_sequence(pixels, batch_first=True)
            masks = [i.tensors["pixel_attention_mask"] for i in items if "pixel_attention_mask" in i.tensors]
            if masks:
                padded = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True)
                batch["pixel_attention_mask"] = padded.to(self.placement.device)
        return self.project(self.model.model(**batch, return_dict=True).last_hidden_state), None

    def project(self, hidden: Tensor) -> Tensor:
        layer = self.model.linear if hasattr(self.model, "linear") else self.model.custom_text_proj
        projected: Tensor = layer(hidden)
        return projected


def load(settings: "configs.ColVision") -> VisionEncoder:
    """Returns the encoder. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    attention = settings.attn
    if settings.family == "colgemma3":  # with flash attention, an image's tokens would not see each other
        if attention == "flash_attention_2":
            raise ModelBroken(
                "colgemma3 gives other vectors with flash_attention_2 than it was trained for",
                remedy="set attn: sdpa",
            )
        attention = "sdpa" if attention == "auto" else attention
    placement = checkpoints.choose_placement(settings.device, settings.dtype, attention)
    folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
    model_class, processor_class = CLASSES[settings.family]
    model = checkpoints.load_checkpoint(
        model_class,
        folder,
        placement,
        may_lack=LM_HEAD,
        may_have=LM_HEAD,
        prepare=_without_head,
    )
    processor = checkpoints.load_processor(processor_class, folder)
    if settings.max_visual_tokens is not None:
        limit_visual_tokens(settings.family, processor, settings.max_visual_tokens)
    if settings.bidirectional:
        make_bidirectional(model)
    prefix = settings.query_prefix
    if prefix is None:
        prefix = "Query: " if settings.family in PREFIXED else ""
    family = _family(settings.family)(model, processor, placement, prefix)
    dim = settings.truncate_dim or family.dim
    if dim > family.dim:
        raise ModelBroken(
            f"truncate_dim is {dim}, but {settings.model} gives vectors of {family.dim} dimensions",
            remedy=f"set truncate_dim to at most {family.dim}, or leave it out",
        )
    revision = checkpoints.revision_of(folder) + ("-bidirectional" if settings.bidirectional else "")
    pooling = f"hierarchical {settings.pool_factor}" if settings.pool_factor > 1 else "none"
    family.keep = dim
    fingerprint = Fingerprint("colvision", settings.model, revision, dim, pooling)
    notes = cautions(settings.model)
    if dim < family.dim and not any(hasattr(model.config, name) for name in MATRYOSHKA):
        notes.append(
            f"{settings.model} does not say that it was trained for shorter vectors: measure how much quality {dim} "
            f"of {family.dim} dimensions lose"
        )
    return VisionEncoder(
        family,
        fingerprint,
        batch_tokens=settings.batch_tokens,
        pool_factor=settings.pool_factor,
        notes=notes,
    )


def _without_head(model: Any) -> None:
    """Remove the language model's head from ColPali: 1 GB of weights that its vectors do not need."""
    if isinstance(model, engine.ColPali):
        model.model.lm_head = torch.nn.Identity()


def _family(name: "configs.ColFamily") -> Callable[..., _Family]:
    match name:
        case "colqwen2" | "colqwen2_5" | "colqwen3" | "colqwen3_5":
            return ColQwen
        case "colpali":
            return ColPali
        case "colidefics3" | "colmodernvbert":
            return ColTiled
        case "colgemma3":
            return ColGemma3
        case _:
            assert_never(name)


def limit_visual_tokens(family: str, processor: Any, tokens: int) -> None:
    """Limit the image tokens of a page to at most `tokens`. Raises ModelBroken if the family does not allow it."""
    image = processor.image_processor
    if re.match("colqwen", family):
        side = image.patch_size * image.merge_size
        least = min(image.size["shortest_edge"], tokens * side * side)
        image.size = {"shortest_edge": least, "longest_edge": tokens * side * side}
    elif family in ("colidefics3", "colmodernvbert"):
        tile = image.max_image_size["longest_edge"]
        across = int((tokens / processor.image_seq_len - 1) ** 0.5)  # k x k tiles and the thumbnail
        if across < 1:
            least = 2 * processor.image_seq_len
            raise ModelBroken(
                f"max_visual_tokens is {tokens}, but {family} makes at least {least} tokens of a page",
                remedy=f"set max_visual_tokens to {least} or more, or leave it out",
            )
        image.size = {"longest_edge": min(across * tile, image.size["longest_edge"])}
    else:
        raise ModelBroken(
            f"max_visual_tokens is {tokens}, but {family} always makes the same number of tokens of a page",
            remedy="leave max_visual_tokens out",
        )


def make_bidirectional(model: Any) -> None:
    """Let every token attend to all others in the full-attention layers, as EVIE's weights expect (its model card).

    There are two switches: the configuration's for the mask of sdpa, and each layer's for flash attention. Raises
    ModelBroken if the model does not name its attention layers.
    """
    text = model.config.text_config
    if not hasattr(text, "layer_types") or "full_attention" not in text.layer_types:
        raise ModelBroken(
            "bidirectional needs a model that names its attention layers (ColQwen3.5), and this one does not",
            remedy="set bidirectional: false",
        )
    model.config.is_causal = text.is_causal = False
    for layer, kind in zip(model.language_model.layers, text.layer_types, strict=True):
        if kind == "full_attention":
            layer.self_attn.is_causal = False
