"""Reranks with MonoQwen2-VL (LightOn, 2024; Apache-2.0), which answers True or False to whether a page is relevant.

Prompt and score are its model card's: the probability of "True" between the two answers.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration, Qwen2VLProcessor

from rerankers.vision import IMAGE, LoadedModel, VisionReranker, answer_tokens, load_model
from retrieval.errors import ModelBroken
from retrieval.models import checkpoints

if TYPE_CHECKING:
    import configs.settings as configs

QUESTION = (
    "Assert the relevance of the previous image document to the following query, answer True or False. "
    "The query is: {query}"
)


class MonoQwen2VL(VisionReranker):
    """Scores with MonoQwen2-VL. Raises ModelBroken if the checkpoint is of another kind."""

    def __init__(self, settings: "configs.MonoQwen2VL", loaded: LoadedModel) -> None:
        super().__init__(settings, loaded)
        try:
            true, false = answer_tokens(self._tokenizer, "True", "False")
        except ValueError as error:
            raise ModelBroken(
                f"{settings.model} is not a MonoQwen2-VL ({error})", remedy=checkpoints.OTHER_KIND
            ) from error
        weight = loaded.model.lm_head.weight
        self._rows = torch.stack([weight[true], weight[false]]).detach().float()
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        self._template = loaded.processor.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        if QUESTION not in str(self._template) or str(self._template).count(IMAGE) != 1:
            raise ModelBroken(
                f"the chat template of {settings.model} does not contain the question and the page",
                remedy="fetch the model again",
            )

    def prompt(self, query: str) -> str:
        return str(self._template).replace("{query}", query, 1)

    def probabilities(self, hidden: Tensor) -> Tensor:
        return torch.softmax(hidden.float() @ self._rows.T, dim=-1)[:, 0]


def load(settings: "configs.MonoQwen2VL") -> MonoQwen2VL:
    """Returns the reranker. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    loaded = load_model(settings, Qwen2VLForConditionalGeneration, Qwen2VLProcessor)
    checkpoints.check_template(loaded.processor, settings.model)
    return MonoQwen2VL(settings, loaded)
