"""Trains a small model from groups to `model.safetensors`: the parts that both small models share."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval.train import training_run
from retrieval.train.curriculum import (
    OnProgress,
    Options,
    Progress,
    batch_at,
    check_training_input,
    curriculum,
)
from retrieval.train.groups import Group, digest_of

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model with its optimizer, its loss and its measure of quality."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Sequence[Group], int], Tensor]
    """Returns the loss () of a batch at a step (from 0)."""
    evaluate: Callable[[Sequence[Group]], object]
    """Returns the quality on held-out groups, as it is printed."""


def train_small_model(
    kind: str,
    make: Callable[[], Trainee],
    groups: Sequence[Group],
    out: Path,
    *,
    options: Options,
    start: Path | None,
    held_out: Sequence[Group],
    on_progress: OnProgress,
) -> None:
    """Train into `out`; a second call with the same `out` resumes the training.

    kind: "text" or "words", for the record. start: the folder of an earlier training whose weights this one starts
    from. held_out: groups to evaluate and report at each checkpoint. Raises TrainingRefused.
    """
    check_training_input(groups, options)
    record = {
        "kind": kind,
        "options": asdict(options),
        "start": str(start or ""),
        "groups": f"{len(groups)} groups ({digest_of(groups)})",
    }
    training_run.start_or_resume(out, record, [group.question for group in groups])
    with training_run.seeded(options.seed, CPU):
        trainee = make()
        if start:
            trainee.model.load_state_dict(load_file(start / WEIGHTS))
        course = curriculum(groups)

        def parts(step: int) -> list[Tensor]:
            return [trainee.loss(batch_at(course, step, options), step)]

        def evaluate(step: int) -> None:
            if held_out:
                on_progress(Progress(step, options.steps, note=f"held out: {trainee.evaluate(held_out)}"))

        training_run.run_steps(
            trainee.model,
            trainee.optimizer,
            parts,
            out,
            options=options,
            on_progress=on_progress,
            device=CPU,
            on_checkpoint=evaluate,
        )
    evaluate(options.steps)
    save_weights(trainee.model, out)


def adamw(
    body: nn.Module, heads: Iterable[nn.Parameter], rate: float, *, faster: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Returns an optimizer for the trained body, at this rate, and the new heads, at `faster` times the rate."""
    trained = [weight for weight in body.parameters() if weight.requires_grad]
    groups = [{"params": trained, "lr": rate}, {"params": list(heads), "lr": rate * faster}]
    return torch.optim.AdamW(groups, weight_decay=0.01, betas=betas)


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write the model's weights to `folder/model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    training_run.replace_file(folder / WEIGHTS, lambda part: save_file(weights, part))
