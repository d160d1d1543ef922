"""Fine-tune Qwen3-VL-Reranker on page images: LoRA (Hu et al., 2021) under the logit that serving reads.

Prompt, tokens, pages and the logit of "yes" over "no" are those of `rerankers.qwen3_vl`. The loss of a group
is the listwise softmax cross-entropy of its positive page (Cao et al., 2007, ListNet's top-one loss with one
relevant item), and where a teacher scored the pages, its distribution over them is fitted too. The vision
tower is frozen: what it makes of a page is kept between the steps, in memory as far as `settings.cache`
allows.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

import configs.settings as configs
from rerankers.qwen3_vl import Qwen3VLReranker
from rerankers.vision import opened
from retrieval.train import lora
from retrieval.train.course import OnProgress, Progress, check
from retrieval.train.pages import LoraOptions, PageGroup, readable


def fit(
    settings: configs.Qwen3VL, groups: Sequence[PageGroup], out: Path, options: LoraOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:  # fmt: skip
    """Train an adapter for the model of these settings, on its device, into `out/adapter/`.

    Called again with the same `out`, it goes on where it was stopped; once done, it writes the adapter again.
    Groups with a page that cannot be shown are left out, and told. Raises TrainingRefused for groups or
    options that cannot be trained on, and where `out` holds another training; ModelMissing, ModelBroken,
    DeviceMissing, MissingExtra as `rerankers.load` does.
    """
    options = options or LoraOptions()
    check(groups, options)
    groups = readable(groups, lambda note: on_progress(Progress(0, options.steps, note=note)))
    model, processor, placement, folder = opened(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
    in_memory = settings.model_copy(update={"cache": configs.Cache(memory_mb=settings.cache.memory_mb)})
    reranker = Qwen3VLReranker(in_memory, model, processor, placement, folder)

    def loss(batch: Sequence[PageGroup]) -> Iterator[Tensor]:
        for group in batch:
            yield group_loss(logits(reranker, group), group.scores, options) / len(batch)

    lora.fit(lora.Base(model, placement, folder, settings), loss, groups, out, options, on_progress)


def merge(out: Path) -> Path:
    """`out/merged/`: the model with its adapter folded in, to be loaded by giving that path as `model`.

    On the processor, in the dtype of the training's settings. Raises TrainingRefused where the training has
    not come to its end, or its base is not what it was.
    """

    def load(given: Mapping[str, Any]) -> lora.Base:
        settings = configs.Qwen3VL.model_validate({**given, "device": "cpu", "attn": "sdpa"})
        model, _, placement, folder = opened(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
        return lora.Base(model, placement, folder, settings)

    return lora.merge(out, load)


def logits(reranker: Qwen3VLReranker, group: PageGroup) -> Tensor:
    """(1 + negatives,) of "yes" over "no", in float32, the positive's first, with gradients."""
    with lora.autocast(reranker.placement):
        hidden = reranker.hidden(group.question, (group.positive, *group.negatives))
    return reranker.logits(hidden)


def group_loss(found: Tensor, scores: Sequence[float], options: LoraOptions) -> Tensor:
    """() from logits (n,), the positive's first, and the teacher's scores (n,) or ()."""
    first = torch.zeros((), dtype=torch.long, device=found.device)
    return lora.distilled(torch.nn.functional.cross_entropy(found, first), found, scores, options)
