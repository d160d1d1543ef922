"""Fine-tunes Qwen3-VL-Reranker on page images by LoRA (Hu et al., 2021).

Prompt, tokens, pages and the logit of "yes" over "no" are those of `rerankers.qwen3_vl`. The loss of a group is the
listwise softmax cross-entropy of its positive page (Cao et al., 2007, ListNet's top-one loss with one relevant item);
if a teacher scored the pages, its distribution over them is fitted too. The vision tower is frozen, so its features of
a page are cached between the steps, in memory only and within `settings.cache`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration, Qwen3VLProcessor

from rerankers.qwen3_vl import Qwen3VLReranker
from rerankers.vision import load_model
from retrieval.train import lora
from retrieval.train.curriculum import OnProgress, Progress, check_training_input
from retrieval.train.pages import LoraOptions, PageGroup, readable_groups

if TYPE_CHECKING:
    import configs.settings as configs


def fit(
    settings: "configs.Qwen3VL",
    groups: Sequence[PageGroup],
    out: Path,
    options: LoraOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Train an adapter for the model of these settings, on its device, into `out/adapter/`.

    A second call with the same `out` resumes the training; if it was done, the adapter is written again. Groups with a
    page whose image cannot be read are skipped and reported. Raises TrainingRefused for groups or options that cannot
    be trained on, and if `out` holds another training; ModelMissing, ModelBroken, DeviceMissing, MissingExtra as
    `rerankers.load_reranker` does.
    """
    options = options or LoraOptions()
    check_training_input(groups, options)
    groups = readable_groups(groups, lambda note: on_progress(Progress(0, options.steps, note=note)))
    loaded = load_model(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
    in_memory = settings.model_copy(
        update={"cache": settings.cache.model_copy(update={"disk_mb": 0, "folder": ""})}
    )
    reranker = Qwen3VLReranker(in_memory, loaded)

    def loss(batch: Sequence[PageGroup]) -> Iterator[Tensor]:
        for group in batch:
            yield group_loss(logits(reranker, group), group.scores, options) / len(batch)

    base = lora.Base(loaded.model, loaded.placement, loaded.folder, settings)
    lora.train_adapter(base, loss, groups, out, options=options, on_progress=on_progress)


def merge(out: Path) -> Path:
    """Merge the trained adapter into its model, and return the folder `out/merged/`, to name as `model` in a profile.

    This runs on the CPU, in the dtype of the training's settings. Raises TrainingRefused if the training is not done,
    or the model has other weights than at its start.
    """

    def load_base(recorded: Mapping[str, Any]) -> lora.Base:
        from configs.settings import Qwen3VL

        settings = Qwen3VL.model_validate({**recorded, "device": "cpu", "attn": "sdpa"})
        loaded = load_model(settings, Qwen3VLForConditionalGeneration, Qwen3VLProcessor)
        return lora.Base(loaded.model, loaded.placement, loaded.folder, settings)

    return lora.merge_adapter(out, load_base)


def logits(reranker: Qwen3VLReranker, group: PageGroup) -> Tensor:
    """Returns the logits (1 + negatives,) of "yes" over "no", the positive's first, in float32, with gradients."""
    with lora.autocast(reranker.placement):
        hidden = reranker.hidden(group.question, (group.positive, *group.negatives))
    return reranker.logits(hidden)


def group_loss(page_logits: Tensor, scores: Sequence[float], options: LoraOptions) -> Tensor:
    """Returns the loss () from logits (n,), the positive's first, and the teacher's scores (n,) or ()."""
    first = torch.zeros((), dtype=torch.long, device=page_logits.device)
    loss = torch.nn.functional.cross_entropy(page_logits, first)
    return lora.with_distillation(loss, page_logits, scores, options)
