"""Encodes with NeoMME (H Company, 2026; arXiv 2609.01657), one encoder of patches and words, native in transformers.

One pass gives the multi-vector and the dense embedding. A score is the mean of the question's MaxSim terms, not their
sum (its model card); the question's weights express that.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from transformers import NeoMMEForRetrieval
from transformers.models.neomme.image_processing_neomme import get_resize_output_size
from transformers.models.neomme.processing_neomme import NeoMMEProcessor

from retrieval.encoders import geometry
from retrieval.encoders.vision import Family, Inputs, VisionEncoder, sequences_of
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.types import Fingerprint

if TYPE_CHECKING:
    import configs.settings as configs


class NeoMME(Family):
    """NeoMME's inputs and forward pass."""

    pad_left = False
    mean_maxsim = True

    def __init__(self, model: NeoMMEForRetrieval, processor: NeoMMEProcessor, placement: Placement) -> None:
        super().__init__(placement)
        self._model, self._processor, self.tokenizer = model, processor, processor.tokenizer
        self.dim = int(model.multi_vector_head.proj.out_features)

    def page(self, image: Image.Image) -> Inputs:
        made = self._processor(images=[image], return_tensors="pt", padding=True)
        sequences = sequences_of(made)
        resize = self._processor.image_processor
        height, width = get_resize_output_size(image.height, image.width, resize.max_side, resize.size)
        positions, boxes = geometry.rowed(
            sequences["input_ids"].tolist(),
            self.tokenizer.image_token_id,
            self.tokenizer.row_token_id,
            resize.patch_size,
            (width, height),
        )
        extra = {"pixel_values": made["pixel_values"], "position_ids": made["position_ids"][:, 0]}
        return Inputs({**sequences, **extra}, positions, boxes)

    def query(self, text: str) -> Inputs:
        messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
        made = self._processor.apply_chat_template(
            [messages],
            task="query",
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},  # the same as for pages: VisionEncoder.__init__ says why
        )
        return Inputs(sequences_of(made))

    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, Tensor]:
        if "pixel_values" in items[0].tensors:
            device, dtype = self.placement.device, self.placement.dtype
            places = torch.zeros((2, *batch["input_ids"].shape), dtype=torch.long)
            for k, item in enumerate(items):
                places[:, k, : len(item)] = item.tensors["position_ids"]
            patches = torch.cat([item.tensors["pixel_values"] for item in items])
            batch |= {"position_ids": places.to(device), "pixel_values": patches.to(device, dtype)}
        made = self._model(**batch)
        return made.embeddings, made.dense_embeddings


def load(settings: "configs.NeoMME") -> VisionEncoder:
    """Returns the encoder. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    placement = checkpoints.choose_placement(settings.device, settings.dtype, settings.attn)
    folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
    model = checkpoints.load_checkpoint(NeoMMEForRetrieval, folder, placement)
    processor = checkpoints.load_processor(NeoMMEProcessor, folder)
    if settings.max_side is not None:
        processor.image_processor.max_side = settings.max_side
    family = NeoMME(model, processor, placement)
    pooling = f"hierarchical {settings.pool_factor}" if settings.pool_factor > 1 else "none"
    fingerprint = Fingerprint("neomme", settings.model, checkpoints.revision_of(folder), family.dim, pooling)
    return VisionEncoder(
        family, fingerprint, batch_tokens=settings.batch_tokens, pool_factor=settings.pool_factor
    )
