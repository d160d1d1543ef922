"""Training and export, on a tiny random checkpoint of the true architecture and the data's true layout."""

import gzip
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

import configs.settings as configs
from rerankers.text import TextReranker
from rerankers.train import cross_encoder, export
from retrieval.encoders.words import WordsEncoder
from retrieval.onnx import MODELS
from retrieval.train import bi_encoder
from retrieval.train.groups import Group, batches, hold_out, read_groups, read_xquad
from retrieval.train.minilm import load_tokenizer
from tests.build import content

TOPICS = ["pump", "bridge", "revenue", "contract", "harbour", "filter", "salary", "engine"]


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("minilm")
    torch.manual_seed(0)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.save_pretrained(folder)
    model = BertModel(config, add_pooling_layer=False)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "model.safetensors"
    )
    (folder / "tokenizer.json").write_bytes((MODELS / "folio-1" / "tokenizer.json").read_bytes())
    return folder


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


def test_no_batch_has_the_same_positive_twice() -> None:
    pool = [Group("s", f"q{n}", f"p{n % 5}", ("a", "b", "c")) for n in range(20)]
    stream = batches(pool, size=4, negatives=2)
    for _ in range(10):
        batch = next(stream)
        assert len({g.positive for g in batch}) == 4
        assert all(len(g.negatives) == 2 for g in batch)


def test_the_bi_encoder_scores_as_maxsim_does(minilm: Path) -> None:
    model, tokenizer = bi_encoder.BiEncoder(minilm, dim=8).eval(), load_tokenizer(minilm)
    with torch.inference_mode():
        questions = bi_encoder.encode_questions(
            model, tokenizer, ["the pump?", "what of contracts and harbours?"]
        )
        passages = bi_encoder.encode_passages(model, tokenizer, ["a pump", "a contract " * 20], run=4)
        dense, late = bi_encoder.scores(questions, passages)
    assert torch.allclose(questions.weights.sum(1), torch.ones(2))
    for q in range(2):
        for p in range(2):
            runs = passages.parts[p][passages.weights[p] > 0]
            expected = ((questions.parts[q] @ runs.T).amax(1) * questions.weights[q]).sum()
            assert float(late[q, p]) == pytest.approx(float(expected), abs=1e-5)
    assert torch.allclose(dense, questions.whole @ passages.whole.T)


def losses(output: str) -> list[float]:
    rows = [json.loads(line) for line in output.splitlines() if '"loss"' in line]
    return [sum(r["loss"]) if isinstance(r["loss"], list) else r["loss"] for r in rows]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:.*TorchScript-based.*")
@pytest.mark.filterwarnings("ignore:Exporting aten.*advanced indexing:UserWarning")
def test_trained_exported_and_loaded_the_models_agree_with_torch(
    minilm: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = ["--minutes", "0.08", "--freeze", "0", "--lr", "0.003", "--no-bf16"]
    bi_encoder.main([str(minilm), str(data), str(tmp_path / "bi"), "--batch", "8", "--dim", "16", *minutes])
    learnt = losses(capsys.readouterr().out)
    assert min(learnt[1:]) < learnt[0]
    cross_encoder.main([str(minilm), str(data), str(tmp_path / "cross"), "--batch", "8", *minutes])
    learnt = losses(capsys.readouterr().out)
    assert min(learnt[1:]) < learnt[0]
    out = tmp_path / "tiny"
    export.main(
        [
            str(minilm),
            str(tmp_path / "bi"),
            str(tmp_path / "cross"),
            str(out),
            "--name",
            "tiny",
            "--dim",
            "16",
        ]
    )
    assert (out / "table.bin").stat().st_size == 30_522 * 32
    assert (out / "words.onnx").stat().st_size < 1_000_000

    ids = torch.tensor([[101, 2054, 1997, 1996, 10216, 102]])
    cross = cross_encoder.load(minilm, tmp_path / "cross")
    with torch.inference_mode():
        expected = cross(ids, torch.ones_like(ids), torch.zeros_like(ids))
    session = onnxruntime.InferenceSession(str(out / "cross.onnx"), providers=["CPUExecutionProvider"])
    feed = {"ids": ids.numpy(), "mask": np.ones_like(ids), "segments": np.zeros_like(ids)}
    assert session.run(None, feed)[0] == pytest.approx(expected.numpy(), abs=0.15)  # int8

    encoder = WordsEncoder(configs.Words(model=str(out)))
    assert encoder.fingerprint.dim == 16
    assert encoder.encode_pages([content("the pump number 1 is described here")])[0].vectors.shape[1] == 16
    assert (
        len(TextReranker(configs.Text(model=str(out))).score("pump?", [content("the pump"), content("tea")]))
        == 2
    )
