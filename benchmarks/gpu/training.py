"""One training step on a GPU: low-rank adaptation of an encoder and of a reranker, by the losses that we train with.

A step is one group of a question, its page and three pages that do not answer it: forward, backward and optimizer.
"""

from typing import Any

import torch

from benchmarks.gpu.encoders import family_of, linear_attention
from benchmarks.gpu.measure import QUERY, Bench
from benchmarks.gpu.models import ENCODERS, Model, random_model
from benchmarks.gpu.pages import pages
from benchmarks.gpu.rerankers import reranker
from rerankers.train import vision as reranker_training
from retrieval.models.token_batches import TokenBudget
from retrieval.train import lora, training_run
from retrieval.train import vision as encoder_training
from retrieval.train.pages import LoraOptions, PageGroup

NEGATIVES = 3
STEPS = 3


def measure(spec: Model, bench: Bench) -> None:
    """Measures steps of one model's training, and puts the numbers in the bench's row."""
    model, processor = random_model(spec, bench.placement, bench.tiny)
    made = pages(1 + NEGATIVES, bench.tiny)
    group = PageGroup("made", QUERY, made[0], tuple(made[1:]), (2.0, 0.5, 0.0, -1.0))
    options = LoraOptions(gradient_checkpointing=False)
    adapted = lora.adapted(model, "made", None, options)
    weights = training_run.trained_weights(adapted)
    optimizer = torch.optim.AdamW(weights.values(), lr=1e-5)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    loss = _encoder_loss if spec in ENCODERS else _reranker_loss

    def step() -> None:
        optimizer.zero_grad()
        loss(spec, model, processor, group, options, bench).backward()
        optimizer.step()

    # fla's backward kernels would be tuned for a minute first.
    with linear_attention(model, False), bench.peak_gb() as peak:
        seconds = bench.seconds(step, STEPS)
    moved = sum(not torch.equal(weight, before[name]) for name, weight in weights.items())
    bench.put_as("trained parameters", sum(weight.numel() for weight in weights.values()))
    bench.put_as("trained tensors that moved", round(moved / len(weights), 3))
    bench.put_as("s a step", round(seconds, 4))
    bench.put_as("pages/s", round(len(made) / seconds, 2))
    if peak:
        bench.put_as("peak GB", peak[0])


def _encoder_loss(
    spec: Model, model: Any, processor: Any, group: PageGroup, options: LoraOptions, bench: Bench
) -> torch.Tensor:
    family = family_of(model, processor, bench)
    budget = TokenBudget(spec.batch_tokens)
    images = [family.page(page.image()) for page in (group.positive, *group.negatives)]
    page_vectors = encoder_training.vectors(family, budget, images)
    questions = encoder_training.vectors(family, budget, [family.query(group.question)])
    return encoder_training.batch_loss(questions, [page_vectors], [group], options)


def _reranker_loss(
    spec: Model, model: Any, processor: Any, group: PageGroup, options: LoraOptions, bench: Bench
) -> torch.Tensor:
    ours: Any = reranker(spec, model, processor, bench)
    return reranker_training.group_loss(reranker_training.logits(ours, group), group.scores, options)
