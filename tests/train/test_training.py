"""Training and export, on a tiny random checkpoint of the true architecture and the data's true layout."""

import gzip
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

import configs.settings as configs
from rerankers.text import TextReranker
from rerankers.train import cross_encoder, export
from retrieval.encoders.words import WordsEncoder
from retrieval.errors import NotFound
from retrieval.models.onnx import write_manifest
from retrieval.train import bi_encoder, run
from retrieval.train.course import (
    Options,
    Progress,
    TrainingRefused,
    batch_at,
    check,
    curriculum,
    question_hash,
)
from retrieval.train.groups import Group, hold_out, read_groups, read_xquad, write_groups
from retrieval.train.minilm import load_tokenizer
from tests.build import content

TOPICS = ["pump", "bridge", "revenue", "contract", "harbour", "filter", "salary", "engine"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for n in range(160):
        topic = TOPICS[n % len(TOPICS)]
        others = [t for t in TOPICS if t != topic][:6]
        rows.append(
            {
                "src": f"made-{n % 2}",
                "q": f"what of the {topic} number {n}?",
                "pos": f"the {topic} number {n} is described here",
                "negs": [f"the {t} is here {n}" for t in others],
            }
        )
    with gzip.open(folder / "groups.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with gzip.open(folder / "xquad.jsonl.gz", "wt") as file:
        for n in range(12):
            for language in ("en", "de", "fr", "es", "zh"):
                file.write(
                    json.dumps(
                        {
                            "lang": language,
                            "id": str(n),
                            "q": f"{language} {TOPICS[n % 8]}?",
                            "context": f"{language} text {n} about {TOPICS[n % 8]}",
                        }
                    )
                    + "\n"
                )
    return folder


def test_groups_are_held_out_without_leaks(data: Path) -> None:
    groups = read_groups(data / "groups.jsonl.gz")
    training, held = hold_out(groups, each=10)
    assert len(held) == 10
    assert {g.positive for g in training}.isdisjoint(g.positive for g in held)
    assert len(training) + len(held) == len(groups)


def test_cross_language_groups_pair_a_question_with_its_paragraph_in_another_language(data: Path) -> None:
    groups = read_xquad(data / "xquad.jsonl.gz")
    assert {g.source for g in groups} >= {"xquad-en-de", "xquad-fr-en"}
    for group in groups:
        _, asked, written = group.source.split("-")
        assert group.question.startswith(asked)
        assert all(text.startswith(f"{written} text") for text in (group.positive, *group.negatives))
        assert group.positive not in group.negatives


def scored(count: int) -> list[Group]:
    """Group n's positive leads by n: from hard to easy."""
    return [Group("s", f"q{n}", f"p{n}", ("a", "b", "c"), (float(n), 0.0, -1.0, -2.0)) for n in range(count)]


def test_no_batch_has_the_same_positive_twice_and_the_same_step_has_the_same_batch() -> None:
    pool = [Group("s", f"q{n}", f"p{n % 5}", ("a", "b", "c")) for n in range(20)]
    options = Options(steps=10, batch=4, negatives=2)
    for step in range(10):
        batch = batch_at(curriculum(pool), step, options)
        assert len({g.positive for g in batch}) == len(batch)
        assert all(len(g.negatives) == 2 for g in batch)
        assert batch == batch_at(curriculum(pool), step, options)


def test_easy_groups_come_first_and_each_keeps_the_scores_of_what_it_shows() -> None:
    course = curriculum(scored(40))
    options = Options(steps=40, batch=8, negatives=2)
    margins = [
        np.mean([g.scores[0] for g in batch_at(course, step, options)]) for step in range(options.steps)
    ]
    assert np.mean(margins[:10]) > np.mean(margins[-10:]) + 5
    for group in batch_at(course, 0, options):
        at = {"a": 0.0, "b": -1.0, "c": -2.0}
        assert group.scores[1:] == tuple(at[text] for text in group.negatives)


def test_what_cannot_be_trained_on_is_said() -> None:
    with pytest.raises(TrainingRefused, match="no groups"):
        check([], Options())
    with pytest.raises(TrainingRefused, match="'q' has no negative"):
        check([Group("s", "q", "p", ())], Options())
    with pytest.raises(TrainingRefused, match="2 teacher scores for 3 texts"):
        check([Group("s", "q", "p", ("a", "b"), (1.0, 2.0))], Options())
    with pytest.raises(TrainingRefused, match=r"batch is 0.*distil is 2"):
        check([Group("s", "q", "p", ("a",))], Options(batch=0, distil=2))


def test_groups_come_back_as_they_were_written(tmp_path: Path) -> None:
    groups = [*scored(3), Group("t", "q", "p", ("n",), pages=("a.pdf#page=1", "a.pdf#page=2"))]
    assert write_groups(tmp_path / "g.jsonl.gz", groups) == 4
    assert read_groups(tmp_path / "g.jsonl.gz") == groups
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(NotFound, match=r"bad\.jsonl\.gz holds no training groups"):
        read_groups(tmp_path / "bad.jsonl.gz")
    with pytest.raises(NotFound, match="folioscope train mine"):
        read_groups(tmp_path / "none.jsonl.gz")


def test_a_teacher_pulls_the_loss_to_its_own_order() -> None:
    logits = torch.tensor([[2.0, 1.0, float("-inf")], [0.0, 1.0, 2.0]], requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long), reduction="none")
    scores = torch.tensor([[2.0, 1.0, float("-inf")], [float("-inf")] * 3])
    known = torch.tensor([True, False])
    alone = run.distilled(losses, logits, scores, known, Options(distil=0))
    assert alone.item() == pytest.approx(losses.mean().item())
    whole = run.distilled(losses, logits, scores, known, Options(distil=1))
    # the first group agrees with its teacher: nothing left to learn; the second has no teacher
    assert whole.item() == pytest.approx(losses[1].item() / 2, abs=1e-5)
    whole.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


SMALL = {"steps": 6, "batch": 6, "negatives": 2, "learning_rate": 0.003, "checkpoint_every": 2}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder / "model.safetensors"))


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", ["text", "words"])
def test_a_training_that_was_stopped_ends_with_the_same_weights(
    kind: str, minilm: Path, data: Path, tmp_path: Path
) -> None:
    groups = read_groups(data / "groups.jsonl.gz")[:40]
    groups = [replace(g, scores=tuple(float(-i) for i in range(1 + len(g.negatives)))) for g in groups]

    def fitted(folder: Path, stop: int = 0, **changed: int) -> None:
        def told(progress: Progress) -> None:
            if stop and progress.step == stop and progress.loss is not None:
                raise Stopped

        chosen: dict[str, Any] = {**SMALL, "bf16": False, "frozen_layers": 0, **changed}
        if kind == "text":
            cross_encoder.fit(minilm, groups, folder, cross_encoder.TextOptions(**chosen), on_progress=told)
        else:
            words = bi_encoder.WordsOptions(dim=8, **chosen)
            bi_encoder.fit(minilm, groups, folder, words, on_progress=told)

    fitted(tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(tmp_path / "stopped", stop=5)
    fitted(tmp_path / "stopped")
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(TrainingRefused, match="batch is 6, not 5"):
        fitted(tmp_path / "whole", batch=5)
    fitted(tmp_path / "seed", seed=1)
    assert any(not torch.equal(one[name], value) for name, value in weights(tmp_path / "seed").items())


def test_passages_are_shown_as_windows_of_a_page_are() -> None:
    group = Group("s", "q", "the answer", tuple(f"{word} " * 60 for word in ("one", "two", "three")))
    rng = random.Random(0)
    shown = cross_encoder.in_a_window(group, rng, 1.0)
    assert "the answer" in shown.positive
    assert 50 < len(shown.positive.split()) <= cross_encoder.WINDOW_WORDS
    assert cross_encoder.in_a_window(group, rng, 0.0) == group
    mined = replace(group, pages=("a#page=1",) * 4)
    assert cross_encoder.in_a_window(mined, rng, 1.0) == mined


def test_the_bi_encoder_scores_as_maxsim_does(minilm: Path) -> None:
    model, tokenizer = bi_encoder.BiEncoder(minilm, dim=8).eval(), load_tokenizer(minilm)
    with torch.inference_mode():
        questions = bi_encoder.encode_questions(
            model, tokenizer, ["the pump?", "what of contracts and harbours?"]
        )
        passages = bi_encoder.encode_passages(model, tokenizer, ["a pump", "a contract " * 20], length=4)
        dense, late = bi_encoder.scores(questions, passages)
    assert torch.allclose(questions.weights.sum(1), torch.ones(2))
    for q in range(2):
        for p in range(2):
            runs = passages.parts[p][passages.weights[p] > 0]
            expected = ((questions.parts[q] @ runs.T).amax(1) * questions.weights[q]).sum()
            assert float(late[q, p]) == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(dense, questions.whole @ passages.whole.T)


def test_trained_exported_and_loaded_the_models_agree_with_torch(
    minilm: Path, data: Path, tmp_path: Path
) -> None:
    groups = read_groups(data / "groups.jsonl.gz")
    training, held = hold_out(groups, each=5)
    told: list[Progress] = []
    words = bi_encoder.WordsOptions(
        steps=30, batch=8, learning_rate=0.003, dim=16, frozen_layers=0, bf16=False
    )
    bi_encoder.fit(minilm, training, tmp_path / "bi", words, held_out=held, on_progress=told.append)
    text = cross_encoder.TextOptions(
        steps=30, batch=8, learning_rate=0.003, frozen_layers=0, bf16=False, surroundings=0
    )
    cross_encoder.fit(minilm, training, tmp_path / "cross", text, held_out=held, on_progress=told.append)
    for half in (told[: len(told) // 2], told[len(told) // 2 :]):
        losses = [progress.loss for progress in half if progress.loss is not None]
        assert np.mean(losses[-5:]) < np.mean(losses[:5])
        assert "held out" in half[-1].note
    texts = [(g.question, g.positive) for g in groups[:20]]
    only = tmp_path / "words-only"
    export.export("words", tmp_path / "bi", minilm, only, texts)
    shutil.copy(only / "words.onnx", only / "cross.onnx")  # stands in for the other half
    write_manifest(only, "only", {"dim": 16, "whole": 0.5, "question_marker": 1, "passage_marker": 2})
    out = tmp_path / "tiny"
    parity = export.export("text", tmp_path / "cross", minilm, out, texts, only)
    assert parity.correlation > 0.99
    assert (out / "table.bin").stat().st_size == 30_522 * 32
    assert (out / "words.onnx").stat().st_size < 1_000_000
    seen = set(json.loads((out / "trained_on_text.json").read_text()))
    assert question_hash(training[0].question.upper() + "!") in seen
    assert question_hash("another question") not in seen

    ids = torch.tensor([[101, 2054, 1997, 1996, 10216, 102]])
    cross = cross_encoder.load(minilm, tmp_path / "cross")
    with torch.inference_mode():
        expected = cross(ids, torch.ones_like(ids), torch.zeros_like(ids))
    session = onnxruntime.InferenceSession(str(out / "cross.onnx"), providers=["CPUExecutionProvider"])
    feed = {"ids": ids.numpy(), "mask": np.ones_like(ids), "segments": np.zeros_like(ids)}
    assert session.run(None, feed)[0] == pytest.approx(expected.numpy(), abs=0.15)  # int8

    encoder = WordsEncoder(configs.Words(model=str(out)))
    assert encoder.fingerprint.dim == 16
    page = "the pump number 1 is described here"
    made = encoder.encode_pages([content(page)])[0].vectors[0]
    model = bi_encoder.load(minilm, tmp_path / "bi")
    with torch.inference_mode():
        whole = bi_encoder.encode_passages(model, load_tokenizer(minilm), [page], length=8).whole[0]
    assert float(made @ whole.numpy()) > 0.98  # the marker is where training had it
    asked = encoder.encode_queries(["what of the pump?"])[0]
    assert asked.tokens == ("[question]", "what", "of", "the", "pump", "?")
    with torch.inference_mode():
        side = bi_encoder.encode_questions(model, load_tokenizer(minilm), ["what of the pump?"])
    assert np.allclose((asked.vectors[1:] * side.parts[0].numpy()).sum(1), 1, atol=0.02)
    reranker = TextReranker(configs.Text(model=str(out)))
    assert len(reranker.score("pump?", [content("the pump"), content("tea")])) == 2


def test_a_model_that_int8_would_change_is_not_exported(
    minilm: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = read_groups(data / "groups.jsonl.gz")[:10]
    cross_encoder.fit(
        minilm, groups, tmp_path / "fit", cross_encoder.TextOptions(steps=1, negatives=2, bf16=False)
    )
    monkeypatch.setattr(export, "ALIKE", 1.1)
    with pytest.raises(TrainingRefused, match=r"correlate with float32 by [01]\.\d+, 1\.1 is the least"):
        export.export("text", tmp_path / "fit", minilm, tmp_path / "model", [("q", "p"), ("r", "a pump")])
    assert not (tmp_path / "model").exists()
    with pytest.raises(TrainingRefused, match="has not come to its end"):
        export.export("text", tmp_path / "none", minilm, tmp_path / "model", [("q", "p")])
