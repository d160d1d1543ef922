"""A training that can be stopped at any moment and gone on with. It lives in one folder:

- `run.json`: the settings, the options and what names the groups; a run that differs is refused.
- `checkpoint.pt`: the trained weights, the optimizer, the step and the states of the random numbers, replaced whole.
- `trained_on.json`: a hash of each question, so that nobody judges the model by what it has seen.

On a processor, a run that was stopped ends with the very weights of one that was not. On a GPU, the kernels' own
rounding may differ from run to run.
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

from retrieval.train.course import OnProgress, Options, Progress, TrainingRefused, question_hash

WARM_UP = 0.1
CLIP = 1.0
"""Gradients are cut to this norm."""
FREE = frozenset({"device", "cache"})
"""Settings that may change while a training goes on: they change no result but by rounding."""

Parts = Callable[[int], Iterable[Tensor]]
"""The loss of a step, in parts whose sum it is: each part's graph is freed before the next is made."""


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers of their own, for making the model and training it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    parts: Parts,
    out: Path,
    options: Options,
    on_progress: OnProgress,
    device: torch.device,
    kept: Callable[[int], None] = lambda _: None,
) -> None:
    """The steps that are not done yet. `kept` hears how many are, after each checkpoint but the last.

    Raises TrainingRefused where the loss is no number any more, or the device's memory too small: `out` then holds the
    last checkpoint before.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(_restore(out, model, optimizer, device), options.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * _rate(step, options.steps)
        try:
            value = _step(model, optimizer, parts(step), step, options)
        except torch.OutOfMemoryError as error:
            raise TrainingRefused(
                f"{device} has too little memory for step {step + 1}: choose a batch below {options.batch}, fewer "
                f"than {options.negatives} negatives, gradient_checkpointing or fewer visual tokens"
            ) from error
        done = step + 1
        if done % options.checkpoint_every == 0 or done == options.steps:
            _keep(out, model, optimizer, done, device)
            if done < options.steps:
                kept(done)
        on_progress(Progress(done, options.steps, value))


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def distilled(loss: Tensor, logits: Tensor, scores: Tensor, known: Tensor, options: Options) -> Tensor:
    """() from losses (n,) of groups, and the divergence of their softmax from the teacher's, weighted.

    logits, scores (n, m) of the same texts, the positive's first, -inf where a group has fewer; known (n,) says which
    groups the teacher scored. Listwise distillation as in ListNet (Cao et al., 2007).
    """
    if options.distil == 0 or not known.any():
        return loss.mean()
    teacher = (scores[known] / options.teacher_temperature).log_softmax(1)
    student = logits[known].log_softmax(1)
    real = teacher.isfinite()
    terms = torch.where(
        real, teacher.exp() * (teacher.nan_to_num(neginf=0) - student.nan_to_num(neginf=0)), 0.0
    )
    divergence = torch.zeros_like(loss)
    divergence[known] = terms.sum(1)
    share = options.distil * known.float()
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
            f"the loss of step {step + 1} is {value}: try a learning_rate below {options.learning_rate:g}, or "
            "dtype: bfloat16 or float32"
        )
    torch.nn.utils.clip_grad_norm_(trained(model).values(), CLIP)
    optimizer.step()
    return value


def _rate(step: int, steps: int) -> float:
    """The share of the peak rate at a step (from 0): up over the first tenth, then down to nothing after the last."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm + 1))


def remember(out: Path, record: Mapping[str, Any], questions: Iterable[str]) -> None:
    """Write down what is trained in `out`, or refuse (TrainingRefused) where it is something else."""
    path = out / "run.json"
    if path.is_file():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        differing = _differences(earlier, record)
        if differing:
            raise TrainingRefused(
                f"{out} holds a training in which {'; '.join(differing)}: choose another folder, or go on as it began"
            )
    out.mkdir(parents=True, exist_ok=True)
    hashes = json.dumps(sorted({question_hash(question) for question in questions}))
    replace_file(out / "trained_on.json", lambda part: part.write_text(hashes, encoding="utf-8"))
    replace_file(path, lambda part: part.write_text(json.dumps(record, indent=1), encoding="utf-8"))


def _differences(earlier: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """`name is this, not that` for everything that differs, but for what is FREE to."""
    found = []
    for name in sorted({*earlier, *asked} - FREE):
        old, new = earlier.get(name), asked.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new)
        elif old != new:
            found.append(f"{name} is {old}, not {new}")
    return found


def _keep(
    out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int, device: torch.device
) -> None:
    state = {
        "step": step,
        "weights": {name: weight.detach().cpu() for name, weight in trained(model).items()},
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "random_gpu": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }
    replace_file(out / "checkpoint.pt", lambda part: torch.save(state, part))


def _restore(out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int:
    """How many steps are done already."""
    path = out / "checkpoint.pt"
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    weights = trained(model)
    with torch.no_grad():
        for name, kept in state["weights"].items():
            weights[name].copy_(kept)
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    if device.type == "cuda" and state["random_gpu"] is not None:
        torch.cuda.set_rng_state(state["random_gpu"], device)
    return int(state["step"])


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """All of the file or what was there before, even if the power fails."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which then stands at `path`."""
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)
