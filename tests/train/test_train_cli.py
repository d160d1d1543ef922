"""`folioscope train`, from a data set of PDFs to the decision whether to promote a model, with a tiny MiniLM."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rerankers.train.export import export
from retrieval.errors import FolioscopeError
from retrieval.models import onnx
from retrieval.models.onnx import MODELS, ModelFolder
from retrieval.store.store import Store
from retrieval.train.curriculum import TrainingRefused
from retrieval.train.groups import read_groups
from retrieval.train.trained_on import write_trained_on
from tests.pdfs import make_pdf
from ui.cli import promote, train_steps

THINGS = ["pump", "bridge", "harbour", "filter", "engine", "ferry", "crane", "tunnel", "valve", "boiler"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page for each thing, and a question that only this page answers."""
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "pdfs").mkdir()
    pages = [
        f"The {thing} was inspected in {1990 + n} and its state is sound" for n, thing in enumerate(THINGS)
    ]
    make_pdf(folder / "pdfs" / "plant.pdf", pages)
    questions = [
        {"query_id": f"q{n}", "text": f"When was the {thing} inspected?", "document": "plant.pdf"}
        for n, thing in enumerate(THINGS)
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "qrels.txt").write_text(
        "\n".join(f"q{n} 0 plant.pdf#page={n + 1} 1" for n in range(len(THINGS)))
    )
    return folder


def mined(source: str, folder: Path) -> Path:
    out = folder / "groups.jsonl.gz"
    options = {"negatives": 4, "read": 6, "likely": 1.0}
    train_steps.run_mine(
        source,
        out,
        index=str(folder / "index.lance"),
        profile="cpu",
        within=True,
        options=options,
        as_json=True,
    )
    return out


@pytest.fixture(scope="module")
def groups(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mined(str(dataset), tmp_path_factory.mktemp("mined"))


def test_negatives_are_other_pages_that_the_first_stage_finds(groups: Path) -> None:
    mined_groups = read_groups(groups)
    assert len(mined_groups) >= len(THINGS) - 2
    for group in mined_groups:
        assert group.question.split()[3] in group.positive  # "When was the pump inspected?"
        assert all(group.question.split()[3] not in negative for negative in group.negatives)
        assert len(group.scores) == len(group.pages) == 1 + len(group.negatives)
        assert len(set(group.pages)) == len(group.pages)
        assert max(group.scores[1:]) < group.scores[0]  # candidates with higher scores were dropped


def test_passages_are_mined_among_those_of_their_source(tmp_path: Path) -> None:
    rows = [
        {
            "src": "made",
            "q": f"state of the {thing}?",
            "pos": f"the {thing} is sound",
            "negs": ["something else"],
        }
        for thing in THINGS
    ]
    path = tmp_path / "passages.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "work").mkdir()
    mined_groups = read_groups(mined(str(path), tmp_path / "work"))
    assert len(mined_groups) >= len(THINGS) - 2
    assert all("something else" not in group.negatives for group in mined_groups)
    assert {page for group in mined_groups for page in group.pages} <= {
        f"made.txt#page={n}" for n in range(1, 11)
    }


def fit(groups: Path, out: Path, minilm: Path, kind: str = "text", **chosen: Any) -> None:
    options = {"steps": 3, "batch": 4, "negatives": 2, "seed": 0, **chosen}
    train_steps.run_fit(
        kind,
        [groups],
        out,
        start=None,
        minilm=minilm,
        index="",
        profile="cpu",
        chosen=options,
        held_out=0,
        threads=1,
        as_json=True,
    )


def test_a_model_is_mined_trained_exported_and_evaluated_for_promotion(
    groups: Path, dataset: Path, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shipped = tmp_path / "models" / "folio-2"
    shutil.copytree(MODELS / "folio-2", shipped)
    monkeypatch.setattr(onnx, "MODELS", tmp_path / "models")
    fit(groups, tmp_path / "bi", minilm, "words", distil=0.0)
    words = tmp_path / "tiny-words"
    with pytest.raises(TrainingRefused, match=r"the word table of .* differs from that of"):
        train_steps.run_export(
            "words", tmp_path / "bi", out=words, base="folio-2", groups=groups, minilm=minilm, as_json=True
        )
    assert not words.exists()
    fit(groups, tmp_path / "cross", minilm)
    candidate = tmp_path / "candidate"
    # The tiny model's word table does not fit the shipped encoder, so it is evaluated without it.
    texts = [(g.question, g.positive) for g in read_groups(groups)]
    export("text", tmp_path / "cross", candidate, minilm=minilm, texts=texts)
    index = str(tmp_path / "judged.lance")
    with pytest.raises(TrainingRefused, match=r"was trained on .* of the 10 questions"):
        promote.run_promote(
            "text",
            str(candidate),
            str(dataset),
            index=index,
            profile="cpu",
            within=True,
            dry_run=False,
            as_json=True,
        )
    write_trained_on(candidate, {"text": set()})
    capsys.readouterr()
    before = ModelFolder("folio-2").revision("cross.onnx", "table.bin", "tokenizer.json")
    assert not promote.run_promote(
        "text",
        str(candidate),
        str(dataset),
        index=index,
        profile="cpu",
        within=True,
        dry_run=False,
        as_json=True,
    )
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["promoted"] is False
    assert printed["questions"] == 10
    assert ModelFolder("folio-2").revision("cross.onnx", "table.bin", "tokenizer.json") == before


def test_a_better_model_replaces_the_one_that_ships(
    groups: Path, dataset: Path, minilm: Path, tmp_path: Path
) -> None:
    fit(groups, tmp_path / "cross", minilm, steps=1)
    texts = [(g.question, g.positive) for g in read_groups(groups)]
    shipped = tmp_path / "shipped"
    export("text", tmp_path / "cross", shipped, minilm=minilm, texts=texts)  # orders the pages at random
    profile = tmp_path / "own.yaml"
    profile.write_text(f"reranker: {{kind: text, model: {shipped}}}\nsearch: {{rerank_weight: 50}}\n")
    better = tmp_path / "better"
    shutil.copytree(MODELS / "folio-2", better)
    write_trained_on(better, {"text": set()})
    index = str(tmp_path / "judged.lance")
    old = (shipped / "cross.onnx").read_bytes()
    assert promote.run_promote(
        "text",
        str(better),
        str(dataset),
        index=index,
        profile=str(profile),
        within=True,
        dry_run=True,
        as_json=True,
    )
    assert (shipped / "cross.onnx").read_bytes() == old  # a dry run
    assert promote.run_promote(
        "text",
        str(better),
        str(dataset),
        index=index,
        profile=str(profile),
        within=True,
        dry_run=False,
        as_json=True,
    )
    assert (shipped / "reader.onnx").read_bytes() == (better / "reader.onnx").read_bytes()
    folder = ModelFolder(str(shipped))
    assert folder.name == "shipped"
    assert folder.file("reader.onnx").is_file()  # its checksum is the new one's
    written = json.loads((shipped / "promoted.jsonl").read_text())
    assert written["p"] < 0.05
    assert written["candidate"] == "better"
    assert not promote.run_promote(
        "text",
        str(better),
        str(dataset),
        index=index,
        profile=str(profile),
        within=True,
        dry_run=False,
        as_json=True,
    )


def test_kinds_and_groups_that_cannot_be_trained_are_errors(
    groups: Path, minilm: Path, tmp_path: Path
) -> None:
    with pytest.raises(FolioscopeError, match="'tiny' is not a kind of model"):
        fit(groups, tmp_path / "x", minilm, "tiny")
    with pytest.raises(FolioscopeError, match="'qwen3_vl' is not a model that ships"):
        promote.run_promote(
            "qwen3_vl", "x", "y", index="", profile="cpu", within=True, dry_run=False, as_json=True
        )
    store = Store.create(
        str(tmp_path / "empty.lance"), Store.open(str(groups.parent / "index.lance")).fingerprint
    )
    with pytest.raises(TrainingRefused, match=r"plant.pdf#page=.* is not in the index"):
        train_steps.page_groups(read_groups(groups), store)
    pages = train_steps.page_groups(read_groups(groups), Store.open(str(groups.parent / "index.lance")))
    assert pages[0].positive.page.name == read_groups(groups)[0].pages[0]
    assert pages[0].positive.image().mode == "RGB"
