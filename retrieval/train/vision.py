"""Fine-tunes a ColQwen encoder on page images by LoRA (Hu et al., 2021), with late interaction (Faysse et al., 2024).

Tokens and vectors are those of `retrieval.encoders.colvision` in search. The losses are colpali-engine's: a group's
positive page against its own negatives, and against the positives of the other groups in the batch. If a teacher scored
the pages, its distribution over them is fitted too. colpali-engine's trainer is not used: it needs the same number of
negatives in every group, takes no teacher's scores, and cannot resume exactly.

No score depends on padding: pages are padded with one of their own vectors, which changes no maximum, and questions
with zeros, which add nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from colpali_engine.loss import ColbertLoss, ColbertNegativeCELoss
from torch import Tensor

from configs.cores import available_cores
from retrieval.encoders import colvision
from retrieval.encoders.vision import Family, Inputs
from retrieval.models import checkpoints
from retrieval.models.token_batches import TokenBudget
from retrieval.train import lora
from retrieval.train.curriculum import OnProgress, Progress, TrainingRefused, check_training_input
from retrieval.train.pages import LoraOptions, PageGroup, readable_groups

if TYPE_CHECKING:
    import configs.settings as configs

TEMPERATURE = 0.02
"""colpali-engine's value, for scores that are means over the question's vectors.

The question is divided by its length to make them means. The library would divide by the number of vectors that are not
zero, and prints a warning if a mean is below zero."""
IN_BATCH = 0.5
"""The share of the other groups' positives in the loss; colpali-engine's value."""
FAMILIES = ("colqwen2", "colqwen2_5", "colqwen3", "colqwen3_5")


def fit(
    settings: "configs.ColVision",
    groups: Sequence[PageGroup],
    out: Path,
    options: LoraOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:
    """Train an adapter for the model of these settings, on its device, into `out/adapter/`.

    A second call with the same `out` resumes the training; if it was done, the adapter is written again. Groups with a
    page whose image cannot be read are skipped and reported. Raises TrainingRefused for groups or options that cannot
    be trained on, for a family other than ColQwen, and if `out` holds another training; ModelMissing, ModelBroken,
    DeviceMissing, MissingExtra as `retrieval.encoders.load_encoder` does.
    """
    options = options or LoraOptions()
    check_training_input(groups, options)
    if settings.family not in FAMILIES:
        raise TrainingRefused(
            f"the family {settings.family} cannot be trained", remedy=f"choose one of {', '.join(FAMILIES)}"
        )
    groups = readable_groups(groups, lambda note: on_progress(Progress(0, options.steps, note=note)))
    family: Any = colvision.load(settings)._family
    folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
    budget = TokenBudget(settings.batch_tokens)
    base = lora.Base(family.model, family.placement, folder, settings)
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="pages") as threads:

        def loss(batch: Sequence[PageGroup]) -> Iterator[Tensor]:
            texts = [checkpoints.without_special_tokens(g.question, family.tokenizer) for g in batch]
            questions = [family.query(text) for text in texts]
            images = [page for group in batch for page in (group.positive, *group.negatives)]
            pages = list(threads.map(lambda page: family.page(page.image()), images))
            page_vectors = _split(vectors(family, budget, pages), batch)
            yield batch_loss(vectors(family, budget, questions), page_vectors, batch, options)

        lora.train_adapter(base, loss, groups, out, options=options, on_progress=on_progress)


def merge(out: Path) -> Path:
    """Merge the trained adapter into its model, and return the folder `out/merged/`, to name as `model` in a profile.

    This runs on the CPU, in the dtype of the training's settings. Raises TrainingRefused if the training is not done,
    or the model has other weights than at its start.
    """

    def load_base(recorded: Mapping[str, Any]) -> lora.Base:
        from configs.settings import ColVision

        settings = ColVision.model_validate(recorded)
        placement = checkpoints.choose_placement("cpu", settings.dtype, "sdpa")
        folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
        model_class, _ = colvision.CLASSES[settings.family]
        head = colvision.LM_HEAD
        model = checkpoints.load_checkpoint(model_class, folder, placement, may_lack=head, may_have=head)
        return lora.Base(model, placement, folder, settings)

    return lora.merge_adapter(out, load_base)


def vectors(family: Family, budget: TokenBudget, items: Sequence[Inputs]) -> list[Tensor]:
    """Returns the vectors (length, dim) of each question or page: unit length, float32, with gradients."""

    def batch_vectors(batch: Sequence[int]) -> list[Tensor]:
        return _batch_vectors(family, [items[i] for i in batch])

    return budget.run_batches([len(item) for item in items], batch_vectors)


def _batch_vectors(family: Family, items: Sequence[Inputs]) -> list[Tensor]:
    with lora.autocast(family.placement):
        padded, _ = family.run_padded(items)
    return family.unpad(torch.nn.functional.normalize(padded[..., : family.keep].float(), dim=-1), items)


def batch_loss(
    questions: Sequence[Tensor],
    pages: Sequence[Sequence[Tensor]],
    batch: Sequence[PageGroup],
    options: LoraOptions,
) -> Tensor:
    """Returns the loss () from the vectors of each group's question and of its pages, the positive first."""
    explicit = ColbertNegativeCELoss(TEMPERATURE, normalize_scores=False, in_batch_term_weight=0.0)
    scaled = [question / len(question) for question in questions]
    losses = []
    for question, group_pages, group in zip(scaled, pages, batch, strict=True):
        stacked = _filled(group_pages)
        own = explicit(question[None], stacked[:1], stacked[None, 1:])
        losses.append(lora.with_distillation(own, logits(question, group_pages), group.scores, options))
    mean = torch.stack(losses).mean()
    if len(batch) == 1:
        return mean
    padded = torch.nn.utils.rnn.pad_sequence(scaled, batch_first=True)
    others = ColbertLoss(TEMPERATURE, normalize_scores=False)(
        padded, _filled([group_pages[0] for group_pages in pages])
    )
    return (1 - IN_BATCH) * mean + IN_BATCH * others


def logits(question: Tensor, pages: Sequence[Tensor]) -> Tensor:
    """Returns MaxSim (n,) of a question (q, d) with each page (p, d), divided by the losses' temperature."""
    return torch.stack([(question @ page.T).amax(1).sum() for page in pages]) / TEMPERATURE


def _filled(pages: Sequence[Tensor]) -> Tensor:
    """Returns pages (n, longest, d), each padded with copies of its first vector."""
    longest = max(map(len, pages))
    return torch.stack([torch.cat([page, page[:1].expand(longest - len(page), -1)]) for page in pages])


def _split(vectors: Sequence[Tensor], batch: Sequence[PageGroup]) -> list[list[Tensor]]:
    """Returns a list for each group, with its positive and its negatives."""
    waiting = iter(vectors)
    return [[next(waiting) for _ in (group.positive, *group.negatives)] for group in batch]
