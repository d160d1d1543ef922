"""Runs a training that can be stopped at any moment and resumed. Its state is in one folder:

- `run.json`: the settings, the options and a digest of the groups; a training with others cannot go on in this folder.
- `checkpoint.pt`: the trained weights, the optimizer, the step and the random states; the file is replaced as a whole.
- `trained_on.json`: a hash of each question, so that nobody evaluates the model on questions it was trained on.

On a CPU, a training that was stopped and resumed ends with exactly the weights of one that was not. On a GPU, the
rounding of the kernels may differ from run to run.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from retrieval.train.curriculum import OnProgress, Options, Progress, TrainingRefused, question_hash

WARM_UP = 0.1
MOST_NORM = 1.0
"""Gradients are clipped to this norm."""
CHANGEABLE = frozenset({"device", "cache"})
"""Settings that may differ when a training is resumed: they change the result only in its rounding."""

Parts = Callable[[int], Iterable[Tensor]]
"""Gives the parts of a step's loss, which is their sum: each part's graph is freed before the next is computed."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random numbers within the block, and restore their state afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def run_steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Parts,
    out: Path,
    *,
    options: Options,
    on_progress: OnProgress,
    device: torch.device,
    on_checkpoint: Callable[[int], None] = lambda _: None,
) -> None:
    """Train the steps that are not done yet, and write checkpoints to `out`.

    on_checkpoint: called with the number of steps done, after each checkpoint except the last. Raises TrainingRefused
    if the loss is not finite or the device has too little memory; `out` then holds the last checkpoint.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(_restore(out, model, optimizer, device), options.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _rate(step, options.steps)
        try:
            value = _step(model, optimizer, parts(step), step, options)
        except torch.OutOfMemoryError as error:
            raise TrainingRefused(
                f"{device} has too little memory for step {step + 1}",
                remedy=f"choose a batch below {options.batch}, fewer than {options.negatives} negatives, "
                "gradient_checkpointing, or fewer visual tokens",
            ) from error
        done = step + 1
        if done % options.checkpoint_every == 0 or done == options.steps:
            _write_checkpoint(out, model, optimizer, done, device)
            if done < options.steps:
                on_checkpoint(done)
        on_progress(Progress(done, options.steps, value))


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Returns the weights that are not frozen, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def with_distillation(
    loss: Tensor, logits: Tensor, *, scores: Tensor, scored: Tensor, options: Options
) -> Tensor:
    """Returns the mean loss () of groups, in which the teacher's share is listwise distillation (Cao et al., 2007).

    That is the divergence of the groups' softmax from the teacher's. loss (n,) of each group; logits and teacher's
    scores (n, m) of the same texts, the positive's first, -inf after the end of shorter groups; scored (n,) says which
    groups the teacher scored.
    """
    if options.distil == 0 or not scored.any():
        return loss.mean()
    teacher = (scores[scored] / options.teacher_temperature).log_softmax(1)
    student = logits[scored].log_softmax(1)
    real = teacher.isfinite()
    terms = torch.where(
        real, teacher.exp() * (teacher.nan_to_num(neginf=0) - student.nan_to_num(neginf=0)), 0.0
    )
    divergence = torch.zeros_like(loss)
    divergence[scored] = terms.sum(1)
    share = options.distil * scored.float()
    return ((1 - share) * loss + share * divergence).mean()


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, parts: Iterable[Tensor], step: int, options: Options
) -> float:
    optimizer.zero_grad()
    value = 0.0
    for part in parts:
        part.backward()
        value += float(part.detach())
    if not math.isfinite(value):
        raise TrainingRefused(
            f"the loss of step {step + 1} is {value}",
            remedy=f"choose a learning_rate below {options.learning_rate:g}, or dtype: bfloat16 or float32",
        )
    torch.nn.utils.clip_grad_norm_(trained_weights(model).values(), MOST_NORM)
    optimizer.step()
    return value


def _rate(step: int, steps: int) -> float:
    """Returns the fraction of the highest rate at a step (from 0): it rises for a tenth, and is zero after the last."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))


def start_or_resume(out: Path, record: Mapping[str, Any], questions: Iterable[str]) -> None:
    """Write the record of a training to `out`. Raises TrainingRefused if `out` holds a training with another record."""
    path = out / "run.json"
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differing = _differences(earlier, record)
        if differing:
            raise TrainingRefused(
                f"{out} holds a training in which {'; '.join(differing)}",
                remedy="choose another folder, or the options and groups that it started with",
            )
    out.mkdir(parents=True, exist_ok=True)
    hashes = json.dumps(sorted({question_hash(question) for question in questions}))
    replace_file(out / "trained_on.json", lambda part: part.write_text(hashes, encoding="utf-8"))
    replace_file(path, lambda part: part.write_text(json.dumps(record, indent=1), encoding="utf-8"))


def _differences(earlier: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Returns `NAME is OLD, not NEW` for everything that differs and is not CHANGEABLE."""
    differences = []
    for name in sorted({*earlier, *record} - CHANGEABLE):
        old, new = earlier.get(name), record.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            differences += _differences(old, new)
        elif old != new:
            differences.append(f"{name} is {old}, not {new}")
    return differences


def _write_checkpoint(
    out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, device: torch.device
) -> None:
    state = {
        "step": step,
        "weights": {name: weight.detach().cpu() for name, weight in trained_weights(model).items()},
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_gpu": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    replace_file(out / "checkpoint.pt", lambda part: torch.save(state, part))


def _restore(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """Load the checkpoint in `out`, if there is one, and return the number of steps done."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = trained_weights(model)
    with torch.no_grad():
        for name, stored in state["weights"].items():
            weights[name].copy_(stored)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if device.type == "cuda" and state["random_gpu"] is not None:
        torch.cuda.set_rng_state(state["random_gpu"], device)
    return int(state["step"])


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the file by what `write` writes: even after a power cut, it is either complete or the earlier one."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill, which replaces `path` at the end of the block; after an error it does not."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
