"""LoRA of the vision models on tiny checkpoints: learning, resuming, merging, and errors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import configs.settings as configs
import rerankers
import rerankers.train.vision as train_reranker
import retrieval.encoders
import retrieval.train.vision as train_encoder
from retrieval.recall.maxsim import maxsim
from retrieval.train.curriculum import Curriculum, Progress, TrainingRefused, batch_at, curriculum
from retrieval.train.pages import LoraOptions, PageGroup
from retrieval.types import Page, PageContent
from tests.vision import tiny
from tests.vision.conftest import content

Score = Callable[[str, list[PageContent]], list[float]]
QUESTIONS = ("quarterly revenue by region", "net income and margin", "annual budget of energy")
SHORT = LoraOptions(steps=4, batch=2, negatives=2, rank=4, alpha=8, checkpoint_every=2)
KINDS = ("reranker", "encoder")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda name: tiny.checkpoint(name, root)


@pytest.fixture(scope="session")
def pages() -> list[PageContent]:
    return [content(tiny.page(160, 192, seed=k), k + 1) for k in range(4)]


@pytest.fixture(scope="session")
def groups(pages: list[PageContent]) -> list[PageGroup]:
    """Three questions, each with one page as its answer and the other pages as negatives."""
    return [
        PageGroup("made", question, pages[k], tuple(page for page in pages if page is not pages[k]))
        for k, question in enumerate(QUESTIONS)
    ]


def settings(kind: str, path: Path, **more: Any) -> Any:
    given = {"model": str(path), "device": "cpu", "dtype": "float32", "max_visual_tokens": 16, **more}
    if kind == "reranker":
        return configs.Qwen3VL.model_validate(given)
    return configs.ColVision.model_validate({"family": "colqwen2", **given})


def base(kind: str) -> str:
    return {"reranker": "qwen3_vl", "encoder": "colqwen2"}[kind]


def trainer(kind: str) -> Any:
    return {"reranker": train_reranker, "encoder": train_encoder}[kind]


def scorer(model_settings: Any) -> Score:
    """Returns a function that scores as search does with these settings."""
    if isinstance(model_settings, configs.Qwen3VL):
        reranker = rerankers.load_reranker(model_settings)
        assert reranker is not None
        return reranker.score
    encoder = retrieval.encoders.load_encoder(model_settings)

    def score(question: str, pages: list[PageContent]) -> list[float]:
        query = encoder.encode_queries([question])[0]
        return [maxsim(query, page.vectors) for page in encoder.encode_pages(pages)]

    return score


def adapter(out: Path) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_file(out / "adapter" / "adapter_model.safetensors")
    return weights


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Stopped(Exception):
    pass


def stop_after(step: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.step == step:
            raise Stopped

    return on_progress


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_page_comes_first_in_the_merged_model(
    kind: str,
    folder: Callable[[str], Path],
    groups: list[PageGroup],
    pages: list[PageContent],
    tmp_path: Path,
) -> None:
    model_settings = settings(kind, folder(base(kind)))
    options = LoraOptions(steps=36, batch=3, negatives=3, learning_rate=3e-3, dropout=0.0)
    losses: list[float] = []
    trainer(kind).fit(
        model_settings, groups, tmp_path, options, lambda progress: losses.append(progress.loss)
    )
    assert len(losses) == 36
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    merged = trainer(kind).merge(tmp_path)
    score = scorer(model_settings.model_copy(update={"model": str(merged)}))
    for group, k in zip(groups, range(3), strict=True):
        assert np.argmax(score(group.question, pages)) == k


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_gives_the_same_weights_whether_it_was_stopped_or_not(
    kind: str, folder: Callable[[str], Path], groups: list[PageGroup], tmp_path: Path
) -> None:
    model_settings, fit = settings(kind, folder(base(kind))), trainer(kind).fit
    fit(model_settings, groups, tmp_path / "whole", SHORT)
    with pytest.raises(Stopped):
        fit(model_settings, groups, tmp_path / "parts", SHORT, stop_after(1))  # before the first checkpoint
    with pytest.raises(Stopped):
        fit(model_settings, groups, tmp_path / "parts", SHORT, stop_after(3))  # a step after the checkpoint
    with pytest.raises(TrainingRefused, match=r"the training in .* is not done"):
        trainer(kind).merge(tmp_path / "parts")
    steps: list[int] = []
    fit(model_settings, groups, tmp_path / "parts", SHORT, lambda progress: steps.append(progress.step))
    assert steps == [3, 4]
    assert same(adapter(tmp_path / "parts"), adapter(tmp_path / "whole"))
    fit(
        model_settings, groups, tmp_path / "parts", SHORT, stop_after(4)
    )  # it is done, so no step is reported
    fit(model_settings, groups, tmp_path / "other", replace(SHORT, seed=1))
    assert not same(adapter(tmp_path / "other"), adapter(tmp_path / "whole"))
    assert not list((tmp_path / "parts").glob("*.part"))


@pytest.mark.parametrize("kind", KINDS)
def test_another_training_in_the_same_folder_is_an_error_that_names_the_differences(
    kind: str, folder: Callable[[str], Path], groups: list[PageGroup], tmp_path: Path
) -> None:
    model_settings, fit = settings(kind, folder(base(kind))), trainer(kind).fit
    with pytest.raises(Stopped):
        fit(model_settings, groups, tmp_path, SHORT, stop_after(1))
    with pytest.raises(TrainingRefused, match=r"rank is 4, not 8; steps is 4, not 5"):
        fit(model_settings, groups, tmp_path, replace(SHORT, rank=8, steps=5))
    with pytest.raises(TrainingRefused, match=r"groups is 3 groups \(\w+\), not 2 groups"):
        fit(model_settings, groups[:2], tmp_path, SHORT)
    with pytest.raises(TrainingRefused, match="max_visual_tokens is 16, not 32"):
        fit(settings(kind, folder(base(kind)), max_visual_tokens=32), groups, tmp_path, SHORT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_changes_the_loss_and_gradient_checkpointing_does_not(
    kind: str, folder: Callable[[str], Path], groups: list[PageGroup], tmp_path: Path
) -> None:
    model_settings, fit = settings(kind, folder(base(kind))), trainer(kind).fit
    taught = [replace(group, scores=(2.0, 1.0, 0.0, -1.0)) for group in groups]
    options = replace(SHORT, steps=2, batch=3)
    first: dict[str, list[float]] = {"plain": [], "taught": [], "unheard": [], "again": []}
    for name, given, how in (
        ("plain", groups, options),
        ("taught", taught, options),
        ("unheard", taught, replace(options, distil=0.0)),
        ("again", taught, replace(options, gradient_checkpointing=True)),
    ):
        fit(
            model_settings,
            given,
            tmp_path / name,
            how,
            lambda progress, name=name: first[name].append(progress.loss),
        )
    assert not same(adapter(tmp_path / "taught"), adapter(tmp_path / "unheard"))
    assert first["taught"][0] != pytest.approx(first["unheard"][0], rel=1e-3)
    assert first["again"] == pytest.approx(first["taught"], abs=1e-5)


@pytest.mark.parametrize("name", ["qwen3_vl", "colqwen2", "colqwen3", "colqwen3_5"])
def test_merged_and_as_an_adapter_it_scores_as_it_was_trained_and_can_be_trained_further(
    name: str,
    folder: Callable[[str], Path],
    groups: list[PageGroup],
    pages: list[PageContent],
    tmp_path: Path,
) -> None:
    kind = "reranker" if name == "qwen3_vl" else "encoder"
    more = {} if kind == "reranker" else {"family": name}
    model_settings = settings(kind, folder(name), **more)
    options = replace(SHORT, learning_rate=1e-2)
    trainer(kind).fit(model_settings, groups, tmp_path / "one", options)
    merged = trainer(kind).merge(tmp_path / "one")
    trained = trained_scores(model_settings, tmp_path / "one" / "adapter", pages)
    whole = scorer(model_settings.model_copy(update={"model": str(merged)}))(QUESTIONS[0], pages)
    assert whole == pytest.approx(trained, abs=1e-4)
    assert whole != pytest.approx(scorer(model_settings)(QUESTIONS[0], pages), abs=1e-3)
    by_adapter = model_settings.model_copy(update={"model": str(tmp_path / "one" / "adapter")})
    assert scorer(by_adapter)(QUESTIONS[0], pages) == pytest.approx(trained, abs=1e-4)
    trainer(kind).fit(
        by_adapter, groups, tmp_path / "two", options
    )  # starting from the result of the first training
    twice = scorer(model_settings.model_copy(update={"model": str(trainer(kind).merge(tmp_path / "two"))}))
    expected = trained_scores(by_adapter, tmp_path / "two" / "adapter", pages)
    assert twice(QUESTIONS[0], pages) == pytest.approx(expected, abs=1e-4)
    tower = [key for key in adapter(tmp_path / "one") if "visual" in key]
    assert not tower
    projection = any("custom_text_proj" in key for key in adapter(tmp_path / "one"))
    assert projection == (kind == "encoder")


def trained_scores(model_settings: Any, path: Path, pages: list[PageContent]) -> list[float]:
    """Returns the scores of peft's own model, loaded by peft, which adds LoRA's products to the frozen weights'."""
    from peft import PeftModel

    from rerankers.qwen3_vl import load
    from retrieval.encoders import colvision
    from retrieval.train.lora import _without_adapter

    if isinstance(model_settings, configs.Qwen3VL):
        reranker = load(model_settings)
        PeftModel.from_pretrained(_without_adapter(reranker._model), path)
        return reranker.score(QUESTIONS[0], pages)
    encoder = colvision.load(model_settings)
    family: Any = encoder._family
    PeftModel.from_pretrained(_without_adapter(family.model), path)
    query = encoder.encode_queries([QUESTIONS[0]])[0]
    return [maxsim(query, page.vectors) for page in encoder.encode_pages(pages)]


@pytest.mark.parametrize("kind", KINDS)
def test_training_computes_the_same_scores_as_search(
    kind: str, folder: Callable[[str], Path], groups: list[PageGroup], pages: list[PageContent]
) -> None:
    model_settings = settings(kind, folder(base(kind)))
    group_pages = [groups[0].positive, *groups[0].negatives]
    served = scorer(model_settings)(QUESTIONS[0], group_pages)
    if kind == "reranker":
        from rerankers.qwen3_vl import load

        actual = torch.sigmoid(train_reranker.logits(load(model_settings), groups[0])).tolist()
    else:
        from retrieval.encoders import colvision
        from retrieval.models.token_batches import TokenBudget

        family: Any = colvision.load(model_settings)._family
        budget = TokenBudget(1_000)
        made = train_encoder.vectors(family, budget, [family.page(page.image()) for page in group_pages])
        (query,) = train_encoder.vectors(family, budget, [family.query(QUESTIONS[0])])
        actual = (train_encoder.logits(query, made) * train_encoder.TEMPERATURE).tolist()
    assert actual == pytest.approx(served, abs=1e-5)


def test_padding_of_pages_of_different_lengths_does_not_change_the_encoders_loss(
    groups: list[PageGroup],
) -> None:
    draw = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    questions = [unit(torch.randn(n, 8, generator=draw), dim=-1) for n in (3, 5)]
    pages = [
        [unit(torch.randn(n, 8, generator=draw), dim=-1) for n in lengths] for lengths in ((4, 9), (7, 2, 5))
    ]
    options = LoraOptions()
    mean = []
    for question, group_pages in zip(questions, pages, strict=True):
        actual = (
            torch.stack([(question @ page.T).amax(1).mean() for page in group_pages])
            / train_encoder.TEMPERATURE
        )
        mean.append(torch.nn.functional.softplus(actual[1:] - actual[0]).mean())
    across = torch.stack([
        torch.stack([(question @ group_pages[0].T).amax(1).mean() for group_pages in pages]) for question in questions
    ]) / train_encoder.TEMPERATURE  # fmt: skip
    expected = 0.5 * torch.stack(mean).mean() + 0.5 * torch.nn.functional.cross_entropy(
        across, torch.arange(2)
    )
    assert float(train_encoder.batch_loss(questions, pages, groups[:2], options)) == pytest.approx(
        float(expected)
    )


def unreadable(number: int) -> PageContent:
    return PageContent(Page("gone", number, "gone.pdf"), (), "none", lambda: b"not an image")


def test_groups_that_cannot_be_trained_on_are_skipped_and_reported_or_an_error(
    folder: Callable[[str], Path], groups: list[PageGroup], tmp_path: Path
) -> None:
    model_settings = settings("reranker", folder("qwen3_vl"))
    fit = train_reranker.fit
    with pytest.raises(TrainingRefused, match="no groups"):
        fit(model_settings, [], tmp_path, SHORT)
    with pytest.raises(TrainingRefused, match="'alone' has no negative"):
        fit(model_settings, [replace(groups[0], question="alone", negatives=())], tmp_path, SHORT)
    with pytest.raises(TrainingRefused, match="has 2 teacher scores for 4 texts or pages"):
        fit(model_settings, [replace(groups[0], scores=(1.0, 0.0))], tmp_path, SHORT)
    with pytest.raises(TrainingRefused, match=r"batch is 0: .*; distil is 2: "):
        fit(model_settings, groups, tmp_path, replace(SHORT, batch=0, distil=2))
    broken = replace(groups[0], question="broken", negatives=(*groups[0].negatives, unreadable(9)))
    with pytest.raises(TrainingRefused, match=r"none of the 1 groups can be trained on.*gone\.pdf#page=9"):
        fit(model_settings, [broken], tmp_path, SHORT)
    notes: list[str] = []
    few = replace(groups[1], negatives=groups[1].negatives[:1])
    fit(
        model_settings,
        [broken, few],
        tmp_path,
        replace(SHORT, steps=1),
        lambda progress: notes.append(progress.note),
    )
    assert "skipped the question 'broken': the image of gone.pdf#page=9 cannot be read" in notes[0]
    assert notes[1:] == [""]
    other = configs.ColVision(family="colpali", model="any/model")
    with pytest.raises(TrainingRefused, match="the family colpali cannot be trained: choose one of colqwen2"):
        train_encoder.fit(other, groups, tmp_path, SHORT)


def many(count: int, scored: bool) -> list[PageGroup]:
    """Returns groups whose margins become smaller and smaller, each with another page."""
    blank = [PageContent(Page("d", k, "d.pdf"), (), "none", lambda: b"") for k in range(count + 2)]
    return [
        PageGroup("made", str(k), blank[k], (blank[-1], blank[-2]), (float(-k), 0.0, -5.0) if scored else ())
        for k in range(count)
    ]


def test_the_share_of_hard_groups_grows_with_the_steps() -> None:
    options = LoraOptions(steps=100, batch=10, negatives=1)
    course = curriculum(list(reversed(many(40, scored=True))))
    assert [group.question for group in course.easy] == [str(k) for k in range(20)]
    hard = [sum(int(g.question) >= 20 for g in batch_at(course, step, options)) for step in range(100)]
    assert [sum(hard[:20]), sum(hard[40:60]), sum(hard[80:])] == pytest.approx([36, 100, 164], abs=4)
    for step in (0, 50, 99):
        batch = batch_at(course, step, options)
        assert len({group.positive.page.page_id for group in batch}) == len(batch)
        assert all(len(group.negatives) == 1 and len(group.scores) == 2 for group in batch)


def test_without_a_teacher_every_group_is_used_once_before_any_is_used_twice() -> None:
    groups = many(12, scored=False)
    course = curriculum(groups)
    assert course == Curriculum(tuple(groups))
    options = LoraOptions(steps=9, batch=4)
    seen = [group.question for step in range(6) for group in batch_at(course, step, options)]
    assert sorted(seen[:12], key=int) == sorted(seen[12:], key=int) == [str(k) for k in range(12)]
    assert seen[:12] != seen[12:]
