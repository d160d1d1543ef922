"""Reranks with Qwen3-VL-Reranker 2B or 8B (Alibaba, 2026; Apache-2.0), with the template and score of its model card.

The model answers "yes" or "no" to whether the document meets the query. The score is the probability of "yes" between
the two, so only two of the 151,936 rows of the language model's head are computed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from rerankers.features import Features
from rerankers.vision import IMAGE, LoadedModel, VisionReranker, answer_tokens, load_model
from retrieval.errors import ModelBroken
from retrieval.models.checkpoints import OTHER_KIND
from retrieval.models.token_batches import sent

if TYPE_CHECKING:
    import configs.settings as configs

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
PROMPT = (  # as the model card's template renders it; the template in the checkpoint may be for other roles
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<Instruct>: {instruction}<Query>:{query}"
    f"\n<Document>:<|vision_start|>{IMAGE}<|vision_end|><|im_end|>\n<|im_start|>assistant\n"
)


class Qwen3VLReranker(VisionReranker):
    """Scores with Qwen3-VL-Reranker. Raises ModelBroken if the checkpoint is of another kind."""

    def __init__(self, settings: "configs.Qwen3VL", loaded: LoadedModel) -> None:
        super().__init__(settings, loaded)
        self._instruction = settings.instruction
        try:
            yes, no = answer_tokens(self._tokenizer, "yes", "no")
        except ValueError as error:
            raise ModelBroken(
                f"{settings.model} is not a Qwen3-VL reranker ({error})", remedy=OTHER_KIND
            ) from error
        weight = loaded.model.lm_head.weight
        self._direction = (weight[yes].float() - weight[no].float()).detach().clone()

    def prompt(self, query: str) -> str:
        return PROMPT.format(system=SYSTEM, instruction=self._instruction, query=query)

    def probabilities(self, hidden: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(hidden))

    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the logits (n,) of "yes" over "no", in float32, from the last position's states (n, hidden)."""
        return hidden.float() @ self._direction

    def encoder_output(self, features: Sequence[Features]) -> Any:
        device = self.placement.device
        deep = sum(name.startswith("deep") for name in features[0])
        return BaseModelOutputWithDeepstackFeatures(
            pooler_output=[sent(f["pooled"], device) for f in features],
            deepstack_features=[[sent(f[f"deep{level}"], device) for f in features] for level in range(deep)],
        )


def load(settings: "configs.Qwen3VL") -> Qwen3VLReranker:
    """Returns the reranker. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    return Qwen3VLReranker(settings, load_model(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor))
