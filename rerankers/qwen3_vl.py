"""Qwen3-VL-Reranker 2B and 8B (Alibaba, 2026; Apache-2.0): template and score as in its model card.

The model is asked whether the document meets the query and answers "yes" or "no"; the score is the probability of
"yes" between the two, which takes two rows of the language model's head instead of all 151,936.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from rerankers.features import Features
from rerankers.vision import IMAGE, VisionReranker, opened, yes_or_no
from retrieval.errors import ModelBroken
from retrieval.models.checkpoints import Placement

if TYPE_CHECKING:
    import configs.settings as configs

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
PROMPT = (  # as the model card's template renders it; the checkpoint's own may be one for other roles
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<Instruct>: {instruction}<Query>:{query}"
    f"\n<Document>:<|vision_start|>{IMAGE}<|vision_end|><|im_end|>\n<|im_start|>assistant\n"
)


class Qwen3VLReranker(VisionReranker):
    def __init__(
        self, settings: "configs.Qwen3VL", model: Any, processor: Any, placement: Placement, folder: Path
    ) -> None:
        super().__init__(settings, model, processor, placement, folder)
        self._instruction = settings.instruction
        try:
            yes, no = yes_or_no(self._tokenizer, "yes", "no")
        except ValueError as error:
            raise ModelBroken(f"{settings.model} is no Qwen3-VL reranker: {error}") from error
        weight = model.lm_head.weight
        self._direction = (weight[yes].float() - weight[no].float()).detach().clone()

    def prompt(self, query: str) -> str:
        return PROMPT.format(system=SYSTEM, instruction=self._instruction, query=query)

    def read(self, hidden: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(hidden))

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, hidden) of the last position -> (n,) of "yes" over "no", in float32."""
        return hidden.float() @ self._direction

    def encoder_output(self, features: Sequence[Features]) -> Any:
        device = self.placement.device
        deep = sum(name.startswith("deep") for name in features[0])
        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=[f["pooled"].to(device) for f in features],
            deepstack_features=[[f[f"deep{level}"].to(device) for f in features] for level in range(deep)],
        )


def load(settings: "configs.Qwen3VL") -> Qwen3VLReranker:
    """Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    return Qwen3VLReranker(settings, *opened(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor))
