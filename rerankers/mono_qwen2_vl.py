"""MonoQwen2-VL (LightOn, 2024; Apache-2.0): Qwen2-VL asked whether the page is relevant, True or False.

Prompt and score as in its model card: the probability of "True" between the two answers.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from rerankers.vision import IMAGE, VisionReranker, opened, yes_or_no
from retrieval.errors import ModelBroken
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement

if TYPE_CHECKING:
    import configs.settings as configs

QUESTION = (
    "Assert the relevance of the previous image document to the following query, answer True or False. "
    "The query is: {query}"
)


class MonoQwen2VL(VisionReranker):
    def __init__(
        self, settings: "configs.MonoQwen2VL", model: Any, processor: Any, placement: Placement, folder: Path
    ) -> None:
        super().__init__(settings, model, processor, placement, folder)
        try:
            true, false = yes_or_no(self._tokenizer, "True", "False")
        except ValueError as error:
            raise ModelBroken(f"{settings.model} is no MonoQwen2-VL: {error}") from error
        self._rows = torch.stack([model.lm_head.weight[true], model.lm_head.weight[false]]).detach().float()
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        self._template = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        if QUESTION not in str(self._template) or str(self._template).count(IMAGE) != 1:
            raise ModelBroken(
                f"the chat template of {settings.model} does not show the question and the page: fetch it again"
            )

    def prompt(self, query: str) -> str:
        return str(self._template).replace("{query}", query, 1)

    def read(self, hidden: Tensor) -> Tensor:
        return torch.softmax(hidden.float() @ self._rows.T, dim=-1)[:, 0]


def load(settings: "configs.MonoQwen2VL") -> MonoQwen2VL:
    """Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    parts = opened(settings, Qwen2VLForConditionalGeneration, Qwen2VLProcessor)
    checkpoints.check_template(parts[1], settings.model)
    return MonoQwen2VL(settings, *parts)
