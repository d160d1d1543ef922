"""Keeps a run within its budget of seconds: each phase trains until its end, with a learning rate that knows it."""

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

WARM_UP = 0.08
MOST_NORM = 1.0
LEAST_STEPS = 1


@dataclass(slots=True)
class Clock:
    """Seconds since the run began."""

    budget: float
    began: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def left(self) -> float:
        return self.budget - self.elapsed()


@dataclass(slots=True)
class Phase:
    """The time of one phase: `seconds` of training, or `steps` if that is not 0."""

    seconds: float
    steps: int = 0
    began: float = field(default_factory=time.monotonic)
    done: int = 0

    def fraction(self) -> float:
        """Returns the share of the phase that is over, by time, or by steps."""
        if self.steps:
            return self.done / self.steps
        return (time.monotonic() - self.began) / max(self.seconds, 1e-3)

    def is_over(self) -> bool:
        return self.done >= LEAST_STEPS and self.fraction() >= 1

    def elapsed(self) -> float:
        return time.monotonic() - self.began


def rate(fraction: float) -> float:
    """Returns the share of the highest learning rate: it rises for a while, then falls as a cosine to a hundredth."""
    if fraction < WARM_UP:
        return max(0.02, fraction / WARM_UP)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, (fraction - WARM_UP) / (1 - WARM_UP)))) / 2


class Average:
    """An exponential moving average of a model's trained weights."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.live = [weight for weight in model.parameters() if weight.requires_grad]
        self.mean = [weight.detach().clone() for weight in self.live]

    def update(self) -> None:
        """Take the weights after a step into the average; the first steps are forgotten sooner."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.mean, [weight.detach() for weight in self.live], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the average within the block."""
        kept = [weight.detach().clone() for weight in self.live]
        self._copy(self.mean)
        try:
            yield
        finally:
            self._copy(kept)

    def _copy(self, weights: Iterable[torch.Tensor]) -> None:
        with torch.no_grad():
            for live, weight in zip(self.live, weights, strict=True):
                live.copy_(weight)


class Trainer:
    """AdamW on a model within a phase: learning rate by time, clipped gradients, and a stop at numbers not finite."""

    def __init__(
        self, model: nn.Module, heads: list[nn.Parameter], learning_rate: float, faster: float, decay: float
    ) -> None:
        """heads: new weights, trained `faster` times as fast. decay: of the average."""
        new = {id(weight) for weight in heads}
        body = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in new]
        self.rates = [learning_rate, learning_rate * faster]
        groups = [{"params": body, "lr": self.rates[0]}, {"params": heads, "lr": self.rates[1]}]
        fused = body[0].device.type == "cuda"
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01, fused=fused)
        self.average = Average(model, decay)
        self.weights = [*body, *heads]
        self.broken = ""

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs to go on as if there had been no interruption, beside the model's weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "mean": self.average.mean,
            "steps": self.average.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.mean, self.average.steps = list(state["mean"]), state["steps"]

    def step(self, loss: torch.Tensor, phase: Phase) -> bool:
        """Returns whether the step was made: False if loss or gradients are not finite, and the phase must stop."""
        share = rate(phase.fraction())
        for group, highest in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = highest * share
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, MOST_NORM)
        if not bool(torch.isfinite(norm + loss.detach())):
            self.broken = (
                f"step {phase.done + 1}: loss {float(loss.detach()):g}, gradient {float(norm.detach()):g}"
            )
            return False
        self.optimizer.step()
        self.average.update()
        phase.done += 1
        return True
