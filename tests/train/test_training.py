"""Training and export, on a tiny random checkpoint of the real architecture and data in the real layout."""

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
from safetensors.torch import load_file, save_file

import configs.settings as configs
from rerankers.reader import READER_WINDOW, TextReader
from rerankers.text import TITLE_PIECES, TextReranker
from rerankers.train import cross_encoder, export, reader
from rerankers.train.dequantise import read_int8_reader
from retrieval.encoders.words import WordsEncoder
from retrieval.errors import NotFound
from retrieval.models.onnx import ModelFolder, RowRunner, write_manifest
from retrieval.train import bi_encoder, training_run, words_model
from retrieval.train.curriculum import (
    Options,
    Progress,
    TrainingRefused,
    batch_at,
    check_training_input,
    curriculum,
    question_hash,
)
from retrieval.train.groups import Group, hold_out, read_groups, read_xquad, write_groups
from retrieval.train.minilm import load_bert, load_tokenizer
from retrieval.train.trained_on import read_trained_on, write_trained_on
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
    training, held_out = hold_out(groups, each=10)
    assert len(held_out) == 10
    assert {g.positive for g in training}.isdisjoint(g.positive for g in held_out)
    assert len(training) + len(held_out) == len(groups)


def test_cross_language_groups_pair_a_question_with_its_paragraph_in_another_language(data: Path) -> None:
    groups = read_xquad(data / "xquad.jsonl.gz")
    assert {g.source for g in groups} >= {"xquad-en-de", "xquad-fr-en"}
    for group in groups:
        _, question_language, text_language = group.source.split("-")
        assert group.question.startswith(question_language)
        assert all(text.startswith(f"{text_language} text") for text in (group.positive, *group.negatives))
        assert group.positive not in group.negatives


def scored(count: int) -> list[Group]:
    """Returns groups from hard to easy: the margin of group n is n."""
    return [Group("s", f"q{n}", f"p{n}", ("a", "b", "c"), (float(n), 0.0, -1.0, -2.0)) for n in range(count)]


def test_no_batch_has_a_positive_twice_and_a_step_always_has_the_same_batch() -> None:
    pool = [Group("s", f"q{n}", f"p{n % 5}", ("a", "b", "c")) for n in range(20)]
    options = Options(steps=10, batch=4, negatives=2)
    for step in range(10):
        batch = batch_at(curriculum(pool), step, options)
        assert len({g.positive for g in batch}) == len(batch)
        assert all(len(g.negatives) == 2 for g in batch)
        assert batch == batch_at(curriculum(pool), step, options)


def test_easy_groups_come_first_and_sampled_negatives_keep_their_scores() -> None:
    course = curriculum(scored(40))
    options = Options(steps=40, batch=8, negatives=2)
    margins = [
        np.mean([g.scores[0] for g in batch_at(course, step, options)]) for step in range(options.steps)
    ]
    assert np.mean(margins[:10]) > np.mean(margins[-10:]) + 5
    for group in batch_at(course, 0, options):
        at = {"a": 0.0, "b": -1.0, "c": -2.0}
        assert group.scores[1:] == tuple(at[text] for text in group.negatives)


def test_groups_and_options_that_cannot_be_trained_on_are_errors() -> None:
    with pytest.raises(TrainingRefused, match="no groups"):
        check_training_input([], Options())
    with pytest.raises(TrainingRefused, match="'q' has no negative"):
        check_training_input([Group("s", "q", "p", ())], Options())
    with pytest.raises(TrainingRefused, match="2 teacher scores for 3 texts"):
        check_training_input([Group("s", "q", "p", ("a", "b"), (1.0, 2.0))], Options())
    with pytest.raises(TrainingRefused, match=r"batch is 0.*distil is 2"):
        check_training_input([Group("s", "q", "p", ("a",))], Options(batch=0, distil=2))


def test_groups_that_were_written_are_read_unchanged(tmp_path: Path) -> None:
    groups = [*scored(3), Group("t", "q", "p", ("n",), pages=("a.pdf#page=1", "a.pdf#page=2"))]
    assert write_groups(tmp_path / "g.jsonl.gz", groups) == 4
    assert read_groups(tmp_path / "g.jsonl.gz") == groups
    (tmp_path / "bad.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(NotFound, match=r"bad\.jsonl\.gz holds no training groups"):
        read_groups(tmp_path / "bad.jsonl.gz")
    with pytest.raises(NotFound, match="folioscope train mine"):
        read_groups(tmp_path / "none.jsonl.gz")


def test_with_a_teacher_the_loss_is_the_divergence_from_its_order() -> None:
    logits = torch.tensor([[2.0, 1.0, float("-inf")], [0.0, 1.0, 2.0]], requires_grad=True)
    losses = torch.nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long), reduction="none")
    scores = torch.tensor([[2.0, 1.0, float("-inf")], [float("-inf")] * 3])
    scored = torch.tensor([True, False])

    def mixed(distil: float) -> torch.Tensor:
        options = Options(distil=distil)
        return training_run.with_distillation(losses, logits, scores=scores, scored=scored, options=options)

    assert mixed(0).item() == pytest.approx(losses.mean().item())
    # The first group agrees with its teacher, so its divergence is 0; the second has no teacher.
    assert mixed(1).item() == pytest.approx(losses[1].item() / 2, abs=1e-5)
    mixed(1).backward()
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
        def on_progress(progress: Progress) -> None:
            if stop and progress.step == stop and progress.loss is not None:
                raise Stopped

        chosen: dict[str, Any] = {**SMALL, "bf16": False, "frozen_layers": 0, **changed}
        if kind == "text":
            text = cross_encoder.TextOptions(**chosen)
            cross_encoder.fit(minilm, groups, folder, text, on_progress=on_progress)
        else:
            words = bi_encoder.WordsOptions(dim=8, **chosen)
            bi_encoder.fit(minilm, groups, folder, words, on_progress=on_progress)

    fitted(tmp_path / "whole")
    with pytest.raises(Stopped):
        fitted(tmp_path / "stopped", stop=5)
    fitted(tmp_path / "stopped")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(TrainingRefused, match="batch is 6, not 5"):
        fitted(tmp_path / "whole", batch=5)
    fitted(tmp_path / "seed", seed=1)
    assert any(not torch.equal(whole[name], value) for name, value in weights(tmp_path / "seed").items())


def test_passages_get_other_text_around_them_as_in_a_window_of_a_page() -> None:
    group = Group("s", "q", "the answer", tuple(f"{word} " * 60 for word in ("one", "two", "three")))
    rng = random.Random(0)
    surrounded = cross_encoder.with_surroundings(group, rng, 1.0)
    assert "the answer" in surrounded.positive
    assert 50 < len(surrounded.positive.split()) <= cross_encoder.WINDOW_WORDS
    assert cross_encoder.with_surroundings(group, rng, 0.0) == group
    mined = replace(group, pages=("a#page=1",) * 4)
    assert cross_encoder.with_surroundings(mined, rng, 1.0) == mined


def test_the_bi_encoder_scores_as_maxsim_does(minilm: Path) -> None:
    model, tokenizer = words_model.BiEncoder(minilm, dim=8).eval(), load_tokenizer(minilm)
    with torch.inference_mode():
        questions = bi_encoder.encode_questions(
            model, tokenizer, ["the pump?", "what of contracts and harbours?"]
        )
        passages = bi_encoder.encode_passages(model, tokenizer, ["a pump", "a contract " * 20], length=4)
        dense, late = words_model.scores(questions, passages)
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
    training, held_out = hold_out(groups, each=5)
    reports: list[Progress] = []
    words = bi_encoder.WordsOptions(
        steps=30, batch=8, learning_rate=0.003, dim=16, frozen_layers=0, bf16=False
    )
    bi_encoder.fit(minilm, training, tmp_path / "bi", words, held_out=held_out, on_progress=reports.append)
    text = cross_encoder.TextOptions(
        steps=30, batch=8, learning_rate=0.003, frozen_layers=0, bf16=False, surroundings=0
    )
    cross_encoder.fit(
        minilm, training, tmp_path / "cross", text, held_out=held_out, on_progress=reports.append
    )
    for half in (reports[: len(reports) // 2], reports[len(reports) // 2 :]):
        losses = [progress.loss for progress in half if progress.loss is not None]
        assert np.mean(losses[-5:]) < np.mean(losses[:5])
        assert "held out" in half[-1].note
    texts = [(g.question, g.positive) for g in groups[:20]]
    only = tmp_path / "words-only"
    export.export("words", tmp_path / "bi", only, minilm=minilm, texts=texts)
    shutil.copy(only / "words.onnx", only / "cross.onnx")  # replaces the model of the other kind
    write_manifest(only, "only", {"dim": 16, "whole": 0.5, "question_marker": 1, "passage_marker": 2})
    out = tmp_path / "tiny"
    parity = export.export("text", tmp_path / "cross", out, minilm=minilm, texts=texts, base=only)
    assert parity.correlation > 0.99
    assert (out / "table.bin").stat().st_size == 30_522 * 32
    assert (out / "words.onnx").stat().st_size < 1_000_000
    hashes = read_trained_on(out)["text"]
    assert question_hash(training[0].question.upper() + "!") in hashes
    assert question_hash("another question") not in hashes

    ids = torch.tensor([[101, 2054, 1997, 1996, 10216, 102]])
    cross = cross_encoder.load_trained(minilm, tmp_path / "cross")
    with torch.inference_mode():
        expected = cross(ids, torch.ones_like(ids), torch.zeros_like(ids))
    session = onnxruntime.InferenceSession(str(out / "cross.onnx"), providers=["CPUExecutionProvider"])
    feed = {"ids": ids.numpy(), "mask": np.ones_like(ids), "segments": np.zeros_like(ids)}
    assert session.run(None, feed)[0] == pytest.approx(expected.numpy(), abs=0.15)  # int8

    encoder = WordsEncoder(configs.Words(model=str(out)))
    assert encoder.fingerprint.dim == 16
    page = "the pump number 1 is described here"
    made = encoder.encode_pages([content(page)])[0].vectors[0]
    model = bi_encoder.load_trained(minilm, tmp_path / "bi")
    with torch.inference_mode():
        whole = bi_encoder.encode_passages(model, load_tokenizer(minilm), [page], length=8).whole[0]
    assert float(made @ whole.numpy()) > 0.98  # the marker is in the same place as in training
    query = encoder.encode_queries(["what of the pump?"])[0]
    assert query.tokens == ("[question]", "what", "of", "the", "pump", "?")
    with torch.inference_mode():
        side = bi_encoder.encode_questions(model, load_tokenizer(minilm), ["what of the pump?"])
    assert np.allclose((query.vectors[1:] * side.parts[0].numpy()).sum(1), 1, atol=0.02)
    reranker = TextReranker(configs.Text(model=str(out)))
    assert len(reranker.score("pump?", [content("the pump"), content("tea")])) == 2


@pytest.fixture(scope="module")
def fitted_reader(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader with large random heads, as `benchmarks.gpu_train unpack` writes it."""
    folder = tmp_path_factory.mktemp("reader")
    torch.manual_seed(0)
    model = reader.Reader(load_bert(minilm), 32)
    for head in model.heads():
        torch.nn.init.normal_(head.weight)
    for weight in model.parameters():
        weight.data += 0.01 * torch.randn_like(weight)  # The exporter would store equal vectors once.
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "trained_on.json").write_text("[]")
    return folder


def test_an_exported_reader_has_the_outputs_of_the_trained_one_and_reranks(
    minilm: Path, fitted_reader: Path, tmp_path: Path
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    texts = [(f"what of the {topic}?", f"the {topic} is described here") for topic in TOPICS]
    export.export("reader", fitted_reader, base, minilm=minilm, texts=texts)
    shutil.copy(base / "reader.onnx", base / "cross.onnx")  # replaces the models of the other kinds
    shutil.copy(base / "reader.onnx", base / "words.onnx")
    write_manifest(base, "base", {"dim": 16, "whole": 0.5})
    parity = export.export("reader", fitted_reader, out, minilm=minilm, texts=texts, base=base)
    assert parity.correlation > 0.99
    folder = ModelFolder(str(out))
    assert folder.names == ["reader.onnx", "table.bin", "tokenizer.json", "words.onnx"]
    assert folder.facts == {"dim": 16, "whole": 0.5, "reranker": "reader"}

    tokenizer = folder.tokenizer()
    question, title, text = (
        tokenizer.encode(part, add_special_tokens=False).ids for part in ("pump?", "tea rooms", "the pump")
    )
    row, length = [101, *question, 102, *title, *text, 102], len(question) + 2
    ids = torch.tensor([row])
    segments = (torch.arange(len(row)) >= length).long()[None]
    with torch.inference_mode():
        expected = reader.load_trained(minilm, fitted_reader)(ids, torch.ones_like(ids), segments)
    (outputs,) = RowRunner(folder.session("reader.onnx"), 1).run_outputs([row], [length])
    assert len(outputs) == 5
    for actual, wanted in zip(outputs, expected, strict=True):
        assert actual == pytest.approx(wanted[0].numpy(), abs=0.3)  # int8
    page = replace(content("the pump"), title="tea rooms")
    assert TextReader(configs.Text(model=str(out))).score("pump?", [page]) == [float(outputs[0])]


def test_the_weights_of_an_exported_reader_can_be_read_back(
    minilm: Path, fitted_reader: Path, tmp_path: Path
) -> None:
    texts = [(f"what of the {topic}?", f"the {topic} is described here") for topic in TOPICS]
    export.export("reader", fitted_reader, tmp_path / "out", minilm=minilm, texts=texts)
    trained = reader.load_trained(minilm, fitted_reader).state_dict()
    again = read_int8_reader(tmp_path / "out" / "reader.onnx", minilm).state_dict()
    assert again.keys() == trained.keys()
    for name, weight in trained.items():
        assert torch.allclose(again[name], weight, atol=float(weight.abs().max()) / 63), (
            name
        )  # 7 bits a column


def test_hashes_of_questions_are_stored_once_for_all_models_of_a_folder(tmp_path: Path) -> None:
    assert read_trained_on(tmp_path) == {}
    by_kind = {"reader": {"a", "b"}, "words": {"b", "c"}, "text": set[str]()}
    write_trained_on(tmp_path, by_kind)
    assert read_trained_on(tmp_path) == by_kind
    text = gzip.decompress((tmp_path / "trained_on.json.gz").read_bytes()).decode()
    assert text.count('"b"') == 1


def test_a_reader_reads_windows_of_the_length_that_it_was_trained_on(
    minilm: Path, fitted_reader: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    export.export("reader", fitted_reader, out, minilm=minilm, texts=[("what?", "a pump"), ("why?", "tea")])
    text = TextReader(configs.Text(model=str(out)))
    seen: list[int] = []

    def record(rows: list[list[int]], lengths: list[int]) -> list[float]:
        seen.extend(len(row) - length - 1 for row, length in zip(rows, lengths, strict=True))
        return [0.0] * len(rows)

    monkeypatch.setattr(text, "run", record)
    text.score("pump? " * 60, [replace(content("pump " * 500), title="A very long title " * 20)])
    assert seen == [TITLE_PIECES + READER_WINDOW] * 2


def test_a_model_whose_outputs_change_in_int8_is_not_exported(
    minilm: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = read_groups(data / "groups.jsonl.gz")[:10]
    cross_encoder.fit(
        minilm, groups, tmp_path / "fit", cross_encoder.TextOptions(steps=1, negatives=2, bf16=False)
    )
    monkeypatch.setattr(export, "LEAST_CORRELATION", 1.1)
    model, texts = tmp_path / "model", [("q", "p"), ("r", "a pump")]
    with pytest.raises(
        TrainingRefused, match=r"correlate with float32 by [01]\.\d+, below the limit of 1\.1"
    ):
        export.export("text", tmp_path / "fit", model, minilm=minilm, texts=texts)
    assert not model.exists()
    with pytest.raises(TrainingRefused, match="its training is not done"):
        export.export("text", tmp_path / "none", model, minilm=minilm, texts=texts)
