"""What the trainings of both small models share: from groups to `model.safetensors`, by `retrieval.train.run`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from retrieval.train import run
from retrieval.train.course import OnProgress, Options, Progress, batch_at, check, curriculum
from retrieval.train.groups import Group, digest_of

CPU = torch.device("cpu")
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model, how its weights are moved, what it should have less of, and how good it is."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    loss: Callable[[Sequence[Group], int], Tensor]
    """() of a batch at a step (from 0)."""
    judge: Callable[[Sequence[Group]], object]


def fit(
    kind: str,
    make: Callable[[], Trainee],
    groups: Sequence[Group],
    out: Path,
    options: Options,
    start: Path | None,
    held_out: Sequence[Group],
    on_progress: OnProgress,
) -> None:
    """Train into `out`; called again with the same `out`, it goes on where it was stopped.

    start: the folder of an earlier training, whose weights are taken. held_out: judged at each checkpoint, and told.
    Raises TrainingRefused.
    """
    check(groups, options)
    record = {
        "kind": kind,
        "options": asdict(options),
        "start": str(start or ""),
        "groups": f"{len(groups)} groups ({digest_of(groups)})",
    }
    run.remember(out, record, [group.question for group in groups])
    with run.seeded(options.seed, CPU):
        trainee = make()
        if start:
            trainee.model.load_state_dict(load_file(start / WEIGHTS))
        course = curriculum(groups)

        def parts(step: int) -> list[Tensor]:
            return [trainee.loss(batch_at(course, step, options), step)]

        def judged(step: int) -> None:
            if held_out:
                on_progress(Progress(step, options.steps, note=f"held out: {trainee.judge(held_out)}"))

        run.train(trainee.model, trainee.optimizer, parts, out, options, on_progress, CPU, judged)
    judged(options.steps)
    save(trainee.model, out)


def adamw(
    body: nn.Module, heads: Iterable[nn.Parameter], rate: float, faster: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """The new layers learn `faster` than those that were trained before."""
    trained = [weight for weight in body.parameters() if weight.requires_grad]
    groups = [{"params": trained, "lr": rate}, {"params": list(heads), "lr": rate * faster}]
    return torch.optim.AdamW(groups, weight_decay=0.01, betas=betas)


def save(model: nn.Module, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    run.replace_file(folder / WEIGHTS, lambda part: save_file(weights, part))
