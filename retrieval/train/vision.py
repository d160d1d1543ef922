"""Fine-tune a ColQwen encoder on page images: LoRA (Hu et al., 2021), late interaction (Faysse et al., 2024).

Questions and pages become the tokens and vectors that `retrieval.encoders.colvision` serves. The losses are
colpali-engine's: a group's positive page against its own negatives, and against the positives of the others
in the batch; where a teacher scored the pages, its distribution over them is fitted too. colpali-engine's
trainer is not used: it wants as many negatives in every group, has no place for a teacher, and cannot be gone
on with exactly.

No score depends on padding: a page is filled up with a vector of its own, which changes no maximum, and a
question with zeros, which add nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from colpali_engine.loss import ColbertLoss, ColbertNegativeCELoss
from torch import Tensor

import configs.settings as configs
from retrieval.encoders import colvision
from retrieval.encoders.vision import Family, Inputs
from retrieval.models import checkpoints
from retrieval.models.token_batches import TokenBudget
from retrieval.train import lora
from retrieval.train.course import OnProgress, Progress, TrainingRefused, check
from retrieval.train.pages import LoraOptions, PageGroup, readable

TEMPERATURE = 0.02
"""colpali-engine's, for scores that are means over the question's vectors.

They are made means by dividing the question by its length: the library would do so by counting what is not
zero, and prints where a mean is below zero."""
IN_BATCH = 0.5
"""The share of the other groups' positives in the loss: colpali-engine's."""
FAMILIES = ("colqwen2", "colqwen2_5", "colqwen3", "colqwen3_5")


def fit(
    settings: configs.ColVision, groups: Sequence[PageGroup], out: Path, options: LoraOptions | None = None,
    on_progress: OnProgress = lambda _: None,
) -> None:  # fmt: skip
    """Train an adapter for the model of these settings, on its device, into `out/adapter/`.

    Called again with the same `out`, it goes on where it was stopped; once done, it writes the adapter again.
    Groups with a page that cannot be shown are left out, and told. Raises TrainingRefused for groups or
    options that cannot be trained on, for a family other than ColQwen, and where `out` holds another
    training; ModelMissing, ModelBroken, DeviceMissing, MissingExtra as `retrieval.encoders.load` does.
    """
    options = options or LoraOptions()
    check(groups, options)
    if settings.family not in FAMILIES:
        raise TrainingRefused(
            f"{settings.family} cannot be trained here: choose one of {', '.join(FAMILIES)}"
        )
    groups = readable(groups, lambda note: on_progress(Progress(0, options.steps, note=note)))
    family: Any = colvision.load(settings)._family
    folder = checkpoints.fetch(settings.model, settings.revision)
    budget = TokenBudget(settings.batch_tokens)
    base = lora.Base(family.model, family.placement, folder, settings)
    with ThreadPoolExecutor(thread_name_prefix="pages") as threads:

        def loss(batch: Sequence[PageGroup]) -> Iterator[Tensor]:
            questions = [family.query(checkpoints.plain(g.question, family.tokenizer)) for g in batch]
            images = [page for group in batch for page in (group.positive, *group.negatives)]
            pages = list(threads.map(lambda page: family.page(page.image()), images))
            shown = vectors(family, budget, pages)
            yield batch_loss(vectors(family, budget, questions), _split(shown, batch), batch, options)

        lora.fit(base, loss, groups, out, options, on_progress)


def merge(out: Path) -> Path:
    """`out/merged/`: the model with its adapter folded in, to be loaded by giving that path as `model`.

    On the processor, in the dtype of the training's settings. Raises TrainingRefused where the training has
    not come to its end, or its base is not what it was.
    """

    def load(given: Mapping[str, Any]) -> lora.Base:
        settings = configs.ColVision.model_validate(given)
        placement = checkpoints.place("cpu", settings.dtype, "sdpa")
        folder = checkpoints.fetch(settings.model, settings.revision)
        model_class, _ = colvision.CLASSES[settings.family]
        head = colvision.LM_HEAD
        model = checkpoints.load_checkpoint(model_class, folder, placement, may_lack=head, may_have=head)
        return lora.Base(model, placement, folder, settings)

    return lora.merge(out, load)


def vectors(family: Family, budget: TokenBudget, items: Sequence[Inputs]) -> list[Tensor]:
    """(length, dim) of each question or page, unit length, float32, with gradients."""

    def batch(places: Sequence[int]) -> list[Tensor]:
        return _batch_vectors(family, [items[i] for i in places])

    return budget.run([len(item) for item in items], batch)


def _batch_vectors(family: Family, items: Sequence[Inputs]) -> list[Tensor]:
    with lora.autocast(family.placement):
        found, _ = family.padded(items)
    return family.own(torch.nn.functional.normalize(found[..., : family.keep].float(), dim=-1), items)


def batch_loss(
    questions: Sequence[Tensor],
    pages: Sequence[Sequence[Tensor]],
    batch: Sequence[PageGroup],
    options: LoraOptions,
) -> Tensor:
    """() from the vectors of each group's question and of its pages, the positive first."""
    explicit = ColbertNegativeCELoss(TEMPERATURE, normalize_scores=False, in_batch_term_weight=0.0)
    scaled = [question / len(question) for question in questions]
    losses = []
    for question, shown, group in zip(scaled, pages, batch, strict=True):
        stacked = _filled(shown)
        own = explicit(question[None], stacked[:1], stacked[None, 1:])
        losses.append(lora.distilled(own, logits(question, shown), group.scores, options))
    mean = torch.stack(losses).mean()
    if len(batch) == 1:
        return mean
    padded = torch.nn.utils.rnn.pad_sequence(scaled, batch_first=True)
    others = ColbertLoss(TEMPERATURE, normalize_scores=False)(padded, _filled([shown[0] for shown in pages]))
    return (1 - IN_BATCH) * mean + IN_BATCH * others


def logits(question: Tensor, pages: Sequence[Tensor]) -> Tensor:
    """(n,): MaxSim of a question (q, d) with each page (p, d), divided by the losses' temperature."""
    return torch.stack([(question @ page.T).amax(1).sum() for page in pages]) / TEMPERATURE


def _filled(pages: Sequence[Tensor]) -> Tensor:
    """(n, longest, d)."""
    longest = max(map(len, pages))
    return torch.stack([torch.cat([page, page[:1].expand(longest - len(page), -1)]) for page in pages])


def _split(shown: Sequence[Tensor], batch: Sequence[PageGroup]) -> list[list[Tensor]]:
    """One list for each group, of its positive and its negatives."""
    waiting = iter(shown)
    return [[next(waiting) for _ in (group.positive, *group.negatives)] for group in batch]
