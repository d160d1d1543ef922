"""Training in minutes on a GPU, here on a CPU with tiny random models of the same architectures."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import MPNetConfig as OriginalConfig
from transformers import MPNetModel

from benchmarks.gpu_train import carry, gptq, reading
from benchmarks.gpu_train.align import PageWords, Span, forms
from benchmarks.gpu_train.clock import Phase, Trainer
from benchmarks.gpu_train.documents import Heading, ReadPage, read_document
from benchmarks.gpu_train.encoding import EncoderOptions, train_encoder
from benchmarks.gpu_train.fit import FitOptions, fit, thawed
from benchmarks.gpu_train.held import Held, ranking
from benchmarks.gpu_train.judge import judge
from benchmarks.gpu_train.pack import Answered, build
from benchmarks.gpu_train.reading import ReaderOptions, read_scores, train_reader
from benchmarks.gpu_train.resident import Resident
from benchmarks.gpu_train.starts import read_start, write_start
from benchmarks.gpu_train.unpack import unpack
from benchmarks.gpu_train.variants import variants
from rerankers.train import reader
from rerankers.train.export import export
from retrieval.models.onnx import MODELS
from retrieval.train import bi_encoder, words_model
from retrieval.train.curriculum import question_hash
from retrieval.train.groups import Group
from retrieval.train.minilm import load_bert, load_tokenizer
from retrieval.train.mpnet import MPNet, MPNetConfig, rows_of, trimmed
from retrieval.train.packed import SETS, Packed, Role, read_packed, write_packed
from tests.pdfs import make_pdf

CPU = torch.device("cpu")
TOPICS = ("pumps", "valves", "boilers", "fans", "filters", "motors")


def page(document: str, number: int, topic: str) -> ReadPage:
    text = f"The {topic} of hall {number} cost {number}7 euros a year . " + f"More about {topic} here . " * 30
    return ReadPage(document, number, "Yearly report", tuple(text.split()), (Heading(-1, f"On {topic}"),))


def question(document: str, number: int, split: str, **more: object) -> dict[str, object]:
    topic = TOPICS[number - 1]
    return {
        "file": document,
        "page": number,
        "q": f"What do the {topic} cost?",
        "kind": "number",
        "answer": f"{number}7 euros",
        "evidence": f"hall {number} cost {number}7 euros a year",
        "split": split,
        **more,
    }


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(MODELS / "folio-2")


@pytest.fixture(scope="module")
def packed(tokenizer: Tokenizer) -> Packed:
    pages = [page(f"{name}.pdf", n, TOPICS[n - 1]) for name in "abcd" for n in range(1, 5)]
    rows = [
        question("a.pdf", 1, "train", **{"not": [2]}),
        question("a.pdf", 2, "train", also=[["a.pdf", 3]]),
        question("b.pdf", 3, "train", extract=False),
        *(question("c.pdf", n, "held") for n in (1, 2, 3)),
        question("d.pdf", 4, "held"),
    ]
    contrast = [
        {
            "q": "Who signs?",
            "pos": "The board signs it.",
            "negs": ["The board reads it.", "The bank signs it."],
            "kind": "role",
            "answer": "The board",
            "split": split,
        }
        for split in ("train", "held")
    ]
    groups = [Group("squad-dev", "what is a pump?", "a pump moves water", ("a fan moves air", "it rains"))]
    sources = [{"file": f"{name}.pdf", "kind": "report"} for name in "abcd"]
    facts = [f"The {topic} were built in {1900 + i} by two men." for i, topic in enumerate(TOPICS)]
    answers = [
        Answered(f"When were the {topic} built?", fact, str(1900 + i), fact.find(str(1900 + i)), "en")
        for i, (topic, fact) in enumerate(zip(TOPICS * 3, facts * 3, strict=True))
        if i < len(TOPICS) or i >= 2 * len(TOPICS)
    ]
    built = build(tokenizer, pages, rows, sources, contrast=contrast, groups=groups, answers=answers)
    return built.packer.packed()


def of(packed: Packed, part: str) -> list[int]:
    return [g for g in range(len(packed.group_set)) if SETS[packed.group_set[g]] == part]


def roles(packed: Packed, group: int) -> dict[int, set[Role]]:
    """Returns the roles of a group's windows, by text."""
    found: dict[int, set[Role]] = {}
    for item in packed.items(group):
        text = int(packed.window_text[packed.item_window[item]])
        found.setdefault(text, set()).add(Role(packed.item_role[item]))
    return found


def test_a_quote_is_found_by_its_letters_and_else_by_most_of_its_words() -> None:
    words = PageWords(["Of", "45", "com-", "panies", ",", "31", "(", "69%", ")", "answered", "in", "May"])
    assert words.find("companies, 31 (69 %)") == Span(2, 7, True)
    assert words.find("31 answered of firms in May") == Span(0, 11, False)
    assert words.find("nothing like it stands there") is None
    assert words.find_near("69%", Span(2, 5, True)) == Span(7, 7, True)
    assert words.find_near("9%", Span(2, 5, True)) is None  # a part of a word


def page_words(text: str) -> PageWords:
    return PageWords(text.split())


def test_an_answer_in_other_words_is_found_if_its_numbers_agree() -> None:
    words = page_words("In 2016 , 25 in-scope companies reported and reconciled $4.83 billion of revenues")
    page = Span(0, 12, True)
    assert words.find_similar("25 companies, $4.83 billion", page) == Span(3, 10, False)
    assert words.find_similar("26 companies, $4.83 billion", page) is None
    assert words.find_similar("25 firms from abroad paid $4.83 billion in taxes", page) is None
    assert forms("General Services Administration (GSA), Action 14") == [
        "General Services Administration (GSA), Action 14",
        "General Services Administration, Action 14",
        "General Services Administration",
    ]
    assert forms("March 19, 2014") == ["March 19, 2014"]
    assert forms("black, white, red") == ["black, white, red"]


def test_evidence_of_interleaved_columns_is_only_its_own_words() -> None:
    words = page_words("net assets fell our mission is open to all by two per cent")
    place = words.find("net assets fell by two per cent")
    assert place == Span(0, 12, False)
    assert list(words.runs("net assets fell by two per cent", place)) == [(0, 2), (9, 12)]


def test_a_variant_lacks_what_the_question_asks_for() -> None:
    text = "The minimum fee in Lisbon was 45 euros in 2016 ."
    words, others = text.split(), ["Bergen", "and"]
    asked = "What was the minimum fee of Lisbon Bank in 2016?"
    made = {
        " ".join(variant)
        for seed in range(9)
        for variant in variants(asked, "", words, (6, 7), others, random.Random(seed))
    }
    years = {variant for variant in made if "2016" not in variant}
    assert made - years == {
        "The maximum fee in Lisbon was 45 euros in 2016 .",
        "The minimum fee in bergen was 45 euros in 2016 .",
        "The minimum fee in Lisbon was in 2016 .",
    }
    assert years
    assert all(re.sub(r"201\d", "2016", variant) == text for variant in years)
    assert variants("Who?", "", words, None, others, random.Random(0)) == []


def test_a_documents_words_title_and_headings_are_read(tmp_path: Path) -> None:
    pages = read_document(make_pdf(tmp_path / "yearly_report.pdf", ["one two", "three"]))
    assert [(p.number, p.title, p.words) for p in pages] == [
        (1, "yearly report", ("one", "two")),
        (2, "yearly report", ("three",)),
    ]


def test_the_answer_in_a_window_is_where_the_span_says(packed: Packed, tokenizer: Tokenizer) -> None:
    group = of(packed, "train")[0]
    spans = [i for i in packed.items(group) if packed.item_role[i] == Role.POSITIVE]
    assert spans
    for item in spans:
        pieces = packed.window(packed.item_window[item])
        answer = pieces[packed.item_first[item] : packed.item_last[item] + 1]
        assert tokenizer.decode(answer.tolist()) == "17 euros"


def test_evidence_and_answers_of_all_sources_are_where_they_say(packed: Packed, tokenizer: Tokenizer) -> None:
    shown: dict[str, set[tuple[str, str]]] = {}
    for run, item in enumerate(packed.evidence_item):
        pieces = packed.window(packed.item_window[item])
        group = int(np.searchsorted(packed.group_starts, item, "right")) - 1
        source = packed.sources[packed.question_source[packed.group_question[group]]]
        first, last = packed.evidence_first[run], packed.evidence_last[run]
        answer = pieces[packed.item_first[item] : packed.item_last[item] + 1].tolist()
        evidence = tokenizer.decode(pieces[first : last + 1].tolist())
        shown.setdefault(source, set()).add((evidence, tokenizer.decode(answer)))
    assert ("hall 1 cost 17 euros a year", "17 euros") in shown["questions"]
    assert ("the pumps were built in 1900 by two men.", "1900") in shown["answers"]
    of_variants = [
        group
        for group in range(len(packed.group_set))
        if packed.sources[packed.question_source[packed.group_question[group]]] == "variants"
    ]
    assert of_variants
    for group in of_variants:
        positive, *rest = [
            tokenizer.decode(packed.window(packed.item_window[i]).tolist()) for i in packed.items(group)
        ]
        assert "17 euros" in positive or "27 euros" in positive
        assert positive not in rest


def test_pages_that_answer_are_never_negatives_and_held_pages_are_never_trained_on(packed: Packed) -> None:
    first, second, third = of(packed, "train")
    texts = {packed.documents[packed.text_document[t]] for t in roles(packed, first)}
    assert texts == {"a.pdf", "b.pdf"}
    answers = [
        set(map(int, packed.question_answers[packed.group_question[g]])) - {-1} for g in (first, second)
    ]
    assert [len(pages) for pages in answers] == [1, 2]
    negative = {Role.NEGATIVE, Role.NEAR_MISS, Role.OTHER_DOCUMENT}
    for group, pages in zip((first, second), answers, strict=True):
        assert all(not roles(packed, group).get(text, set()) & negative for text in pages)
    near = [text for text, found in roles(packed, first).items() if Role.NEAR_MISS in found]
    assert near == [text for text in sorted(roles(packed, first)) if text in near]
    assert len(near) == 1
    items = packed.items(third)  # its evidence does not hold the answer: it ranks, without a span
    positives = [i for i in items if packed.item_role[i] == Role.POSITIVE]
    assert len(positives) == 1
    assert packed.item_first[positives[0]] == -1


def test_a_packed_set_survives_its_file(packed: Packed, tmp_path: Path) -> None:
    write_packed(tmp_path / "data.xz", packed)
    again = read_packed(tmp_path / "data.xz")
    assert again.documents == packed.documents
    for name in ("tokens", "item_first", "evidence_item", "evidence_last", "item_window", "question_answers"):
        assert np.array_equal(getattr(again, name), getattr(packed, name))


def test_rows_on_the_device_are_question_title_heading_and_window(
    packed: Packed, tokenizer: Tokenizer
) -> None:
    data = Resident(packed, carry.continuing(tokenizer), CPU)
    draw = data.draw(data.groups("train"), 3)
    asked, window = data.group_question[draw.group][:1], draw.window[:1, 0]
    yes = torch.tensor([True])
    rows = data.pairs(asked, window, yes, yes, int(data.pair_lengths(asked, window, yes, yes)[0]))
    text = tokenizer.decode(rows.ids[0].tolist(), skip_special_tokens=False)
    assert text.startswith(
        "[CLS] what do the pumps cost? [SEP] yearly report on pumps the pumps of hall 1 cost 17"
    )
    assert text.endswith("[SEP]")
    assert rows.ids[rows.body].tolist() == packed.window(int(window[0])).tolist()
    ids, mask, words = data.questions(asked)
    assert tokenizer.decode(ids[0][mask[0] == 1].tolist()) == "[unused0] what do the pumps cost?"
    assert words[0][mask[0] == 1].tolist() == [-1, -1, 0, 1, 2, 3, 4, 5, -1]


def test_our_mpnet_computes_what_the_original_does() -> None:
    torch.manual_seed(0)
    original = MPNetModel(
        OriginalConfig(
            vocab_size=30527,
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            layer_norm_eps=1e-5,
            max_position_embeddings=64,
        ),
        add_pooling_layer=False,
    ).eval()
    own, rows = rows_of(torch.arange(30522))
    model = MPNet(MPNetConfig(16, 3, 2, 32, 64), rows).eval()
    model.load_state_dict(trimmed(original.state_dict(), 3, own))
    ids = torch.tensor([[101, 2054, 2024, 102, 3000, 4000, 102], [101, 2054, 102, 3000, 102, 0, 0]])
    shifted = torch.where(ids == 0, 1, torch.where(ids == 101, 0, torch.where(ids == 102, 2, ids + 4)))
    mask = (ids != 0).long()
    with torch.inference_mode():
        expected = original(input_ids=shifted, attention_mask=mask).last_hidden_state
        actual = model(ids, mask).last_hidden_state
    assert torch.allclose(actual[mask.bool()], expected[mask.bool()], atol=1e-5)


def test_weights_in_few_bits_lose_what_their_steps_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = {"a.weight": rng.normal(size=(64, 256)).astype(np.float32), "a.bias": np.ones(3, np.float32)}
    write_start(tmp_path / "start.bin", weights, lambda _: 4.0, {"layers": 1})
    again, facts = read_start(tmp_path / "start.bin")
    wrong = np.sqrt(np.mean((again["a.weight"] - weights["a.weight"]) ** 2))
    assert 0.06 < wrong < 0.08  # a step of 1/4, over the square root of 12
    assert (
        tmp_path / "start.bin"
    ).stat().st_size < 64 * 256 * 4.4 / 8  # bits: log2(4) + 2.05, and the scales
    assert facts == {"layers": 1}


def test_rounding_for_some_inputs_changes_their_outputs_less_than_rounding_alone() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(400, 8) @ torch.randn(8, 48) + 0.1 * torch.randn(
        400, 48
    )  # they vary in few directions
    weight, scale = torch.randn(16, 48), torch.full((16, 1), 0.5)
    fitted = gptq.rounded(weight, inputs.T @ inputs / 400, scale)
    assert torch.allclose(fitted / scale, (fitted / scale).round())
    plain = (weight / scale).round() * scale
    assert ((fitted - weight) @ inputs.T).norm() < 0.5 * ((plain - weight) @ inputs.T).norm()


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    model = torch.nn.Linear(2, 1)
    trainer = Trainer(model, [model.bias], 0.1, 1.0, 0.5)
    before = model.weight.detach().clone()
    assert not trainer.step((model.weight * float("nan")).sum(), Phase(1.0))
    assert torch.equal(model.weight, before)
    assert "nan" in trainer.broken


def test_pages_are_ranked_by_their_best_window(packed: Packed) -> None:
    groups = np.array(of(packed, "held")[:1])
    items = packed.items(int(groups[0]))
    windows = packed.item_window[items.start : items.stop].astype(np.int64)[None]
    none = np.zeros((0, 144), bool)
    held = Held(packed, groups, windows, windows * 0, windows, windows, windows * 0 - 1, none, none[:, 0])
    answer = packed.question_answers[packed.group_question[groups[0]]][0]
    scores = np.zeros(windows.shape, np.float32)
    scores[0, np.flatnonzero(packed.window_text[windows[0]] == answer)[-1]] = 1.0
    assert ranking(held, scores)["all"] == {"nDCG@10": 100.0, "MRR": 100.0, "questions": 1}
    assert ranking(held, -scores)["all"]["MRR"] == 25.0  # the last of four pages: ties count against it


@pytest.fixture(scope="module")
def carried(
    packed: Packed, tokenizer: Tokenizer, minilm: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder that would travel, with tiny models."""
    folder = tmp_path_factory.mktemp("carried")
    torch.manual_seed(0)
    mpnet = MPNet(MPNetConfig(16, 2, 2, 32), torch.arange(30522) + 4)
    save_file(
        {
            name: torch.cat([value, value[:1]]) if name == carry.WORDS else value.contiguous()
            for name, value in mpnet.state_dict().items()
        },
        folder / "model.safetensors",
    )
    pieces = carry.pieces_in(packed.tokens)
    write_packed(folder / "data.xz", packed)
    carry.write_minilm(minilm, folder / "minilm.bin", pieces, tokenizer, 12.0)
    samples = carry.samples_of(packed, 4)
    carry.write_mpnet(
        folder, folder / "mpnet.bin", pieces, layers=1, steps=4.0, word_steps=4.0, samples=samples
    )
    return folder


def small(budget_s: float, smoke: bool) -> FitOptions:
    reading = ReaderOptions(1e-3, groups=3, windows=4)
    return FitOptions(
        budget_s=budget_s,
        device="cpu",
        smoke=smoke,
        teacher=reading,
        student=reading,
        encoder=EncoderOptions(questions=3, windows=3, dim=8),
        scored_pieces=4000,
    )


def test_a_reader_and_an_encoder_learn_their_groups(
    packed: Packed, tokenizer: Tokenizer, minilm: Path
) -> None:
    torch.manual_seed(0)
    data = Resident(packed, carry.continuing(tokenizer), CPU)
    order = data.groups("train", "contrast")
    pupil = reader.Reader(thawed(load_bert(minilm)), 32)
    options = ReaderOptions(5e-3, groups=4, windows=4, faster=1.0, headings=1.0)
    losses = [course.losses for course, _ in train_reader(pupil, data, order, options, Phase(0, 40))][-1]
    assert losses[-1][1] < 0.5 * losses[0][1], losses
    encoder = words_model.BiEncoder(minilm, dim=16, frozen_layers=0, markers=True)
    steps = train_encoder(
        encoder, data, order, EncoderOptions(5e-3, questions=4, windows=3, faster=1.0), Phase(0, 30), None
    )
    losses = [course.losses for course, _ in steps][-1]
    assert losses[-1][1] < 0.6 * losses[0][1], losses


def test_a_training_that_was_killed_goes_on_as_if_it_had_not_been(
    packed: Packed, tokenizer: Tokenizer, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STATE_EVERY", 0.0)

    def trained(state: Path, stop: int) -> torch.Tensor:
        torch.manual_seed(0)
        data = Resident(packed, carry.continuing(tokenizer), CPU)
        pupil = reader.Reader(thawed(load_bert(minilm)), 32)
        options = ReaderOptions(5e-3, groups=3, windows=4)
        for course, _ in train_reader(pupil, data, data.groups("train"), options, Phase(0, 6), state=state):
            if course.steps == stop:
                break
        return pupil.span.weight.detach()

    expected = trained(tmp_path / "whole.state", 99)
    trained(tmp_path / "killed.state", 3)
    assert torch.equal(trained(tmp_path / "killed.state", 99), expected)


def test_an_exported_reader_is_judged_like_the_trained_one(
    carried: Path, packed: Packed, tokenizer: Tokenizer, minilm: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = reader.Reader(load_bert(minilm), 32).eval()
    for head in model.heads():
        torch.nn.init.normal_(head.weight)
    (tmp_path / "fit").mkdir()
    save_file(model.state_dict(), tmp_path / "fit" / "model.safetensors")
    (tmp_path / "fit" / "trained_on.json").write_text("[]")
    texts = [(f"what of the {topic}?", f"the {topic} is described here") for topic in TOPICS]
    export("reader", tmp_path / "fit", tmp_path / "model", minilm=minilm, texts=texts)
    data = Resident(packed, carry.continuing(tokenizer), CPU)
    (figures,) = judge([tmp_path / "model"], data, 1.0).values()
    assert figures["ranking"]["all"]["questions"] == 4
    assert figures["evidence"]["windows"] >= figures["spans"]["spans"] >= 4
    assert set(figures["contrast right"]) == {"all", "role"}


def test_what_comes_back_can_be_loaded(carried: Path, minilm: Path, tmp_path: Path) -> None:
    results = fit(carried, tmp_path / "out", small(60, smoke=True))
    written = json.loads((tmp_path / "out" / "train.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(results))
    assert [results[name]["steps"] for name in ("teacher", "reader", "encoder")] == [3, 3, 3]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "train.json",
        "log.txt",
        "teacher_scores.npz",
        "reader-1.safetensors",
        "reader-2.safetensors",
        "encoder-1.safetensors",
        "encoder-2.safetensors",
    }
    with np.load(tmp_path / "out" / "teacher_scores.npz") as scores:
        assert len(scores["group"]) == results["scoring"]["pairs"]
    data = Resident(read_packed(carried / "data.xz"), torch.zeros(30522, dtype=torch.bool), CPU)
    known = read_scores(tmp_path / "out" / "teacher_scores.npz", data).relevance.isfinite()
    contrast = torch.isin(data.group_set, torch.tensor([SETS.index("contrast")]))
    assert 0 < int(known.sum()) <= results["scoring"]["pairs"]
    assert not bool(known[contrast].any())
    (tmp_path / "trained_on.json").write_text(json.dumps([question_hash("What do the pumps cost?")]))
    folders = unpack(tmp_path / "out", tmp_path / "runs", minilm, tmp_path / "trained_on.json")
    assert [folder.name for folder in folders] == ["reader", "words"]
    ids = torch.tensor([[101, 2054, 102, 3000, 102]])
    reading = reader.load_trained(minilm, folders[0]).read(ids, torch.ones_like(ids), torch.zeros_like(ids))
    assert bool(torch.isfinite(reading.relevance).all())
    assert bi_encoder.load_trained(minilm, folders[1]).project.out_features == 8


def test_a_run_without_time_still_leaves_results(carried: Path, tmp_path: Path) -> None:
    results = fit(carried, tmp_path, small(0.1, smoke=False))
    assert results["reader"]["steps"] == results["encoder"]["steps"] == 1
    assert (tmp_path / "reader-2.safetensors").is_file()
    assert (tmp_path / "encoder-2.safetensors").is_file()
