"""evaluate, tune and calibrate: from a data set on disk to tables, a profile, a report and confidences."""

import json
import logging
from functools import partial
from pathlib import Path

import pymupdf
import pytest

import configs.settings as configs
from configs.settings import load_profile
from retrieval.errors import FolioscopeError, NotFound
from ui import factory
from ui.cli.answer_evaluation import run_answer_evaluation
from ui.cli.evaluation import run_calibrate, run_evaluation, run_tune

QUESTIONS = 40


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pages, each with a word that no other page has, and a question for each; every fifth is about a table."""
    folder = tmp_path_factory.mktemp("data") / "harbours"
    (folder / "pdfs").mkdir(parents=True)
    with pymupdf.open() as pdf:
        for n in range(QUESTIONS):
            others = " ".join(f"common{(n * k) % 7}" for k in range(1, 9))
            pdf.new_page().insert_text((72, 90), f"harbour{n:02d} has {others}", fontsize=9)
        pdf.save(folder / "pdfs" / "a.pdf")
    rows = [
        {"query_id": f"q{n}", "text": f"what has harbour{n:02d} with common{n % 7}?", "document": "a.pdf"}
        | ({"sources": ["Table"]} if n % 5 == 0 else {})
        for n in range(QUESTIONS)
    ]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 a.pdf#page={n + 1} 1\n" for n in range(QUESTIONS)))
    return folder


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("profile") / "quick.yaml"
    place.write_text(
        "encoder: {kind: hashing}\nreranker: {kind: overlap}\ningest: {ocr: off}\n".replace("off", "'off'")
    )
    return str(place)


def test_stages_slices_and_profiles_are_compared_on_the_same_questions(
    dataset: Path,
    profile: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = tmp_path / "plain.yaml"
    plain.write_text(Path(profile).read_text().replace("overlap", "none"))
    page = tmp_path / "report.html"
    run_evaluation(
        str(dataset), index="", profiles=[profile, str(plain)], within=False, read=10, as_json=True, html=page
    )
    first, second, comparison = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["questions"], first["stages"]["reranked"]["R@10"]) == (QUESTIONS, 1.0)
    assert [(row["attribute"], row["value"], row["questions"]) for row in first["slices"]] == [
        ("sources", "Table", 8)
    ]
    assert set(first["slices"][0]["ndcg"]) == {"text", "vectors", "first_stage", "reranked"}
    assert first["pages_read"] == 20  # the profile's depth, though more may be read
    assert second["pages_read"] == 0
    assert second["stages"]["reranked"] == second["stages"]["first_stage"]
    assert comparison["questions"] == QUESTIONS
    text = page.read_text()
    assert text.count("<svg") >= 5
    assert "Is a score a probability?" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_answers_are_counted_and_profiles_compared_on_the_same_questions(
    dataset: Path,
    profile: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    cases, gold, unanswered = tmp_path / "cases.jsonl", tmp_path / "gold.jsonl", tmp_path / "unanswered.jsonl"
    top: list[float] = [0.1, 0.09, 0.9, 0.12]  # the line of each page
    rows = [
        {
            "query_id": f"q{n}",
            "form": "list" if n % 2 else "span",
            "answers": [
                {"page": f"a.pdf#page={n + 1}", "text": f"harbour{n:02d}", "boxes": [top], "passage": [top]}
            ],
        }
        for n in range(QUESTIONS)
    ]
    gold.write_text("\n".join(map(json.dumps, rows)))
    unanswered.write_text('{"query_id": "u1", "text": "what has harbour99?"}\n')
    measure = partial(run_answer_evaluation, str(dataset), unanswered=unanswered, index="", within=False)
    measure(gold=gold, profiles=[profile, profile], as_json=True, cases=cases)
    first, second, light, exact = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    every, lists, spans = first["tallies"]
    assert (every["attribute"], lists["value"], spans["value"]) == ("", "list", "span")
    assert (every["questions"], lists["questions"], every["by_itself"]) == (QUESTIONS, QUESTIONS // 2, 0)
    assert every["right"] == sum(every["lights"].values()) == QUESTIONS
    assert every["lines"]["silent"] == QUESTIONS
    assert (every["misleading"], every["f1"]) == (0, None)
    assert (first["refusal"]["answered"], first["refusal"]["unanswered"]) == (QUESTIONS, 1)
    assert set(first["refusal"]["auc"]) == {"reranker_score"}
    assert [(row["measure"], row["difference"]) for row in (light, exact)] == [
        ("light on the answer", 0),
        ("answer exact", 0),
    ]
    lines = [json.loads(line) for line in cases.read_text().splitlines()]
    assert len(lines) == 2 * QUESTIONS
    assert lines[0]["query_id"] == "q0"
    assert lines[0]["line"] == "silent"
    measure(gold=gold, profiles=[profile], as_json=False, cases=None)
    printed = " ".join(capsys.readouterr().out.split())
    assert "40 questions over all documents" in printed
    assert "AUC of answered against not answered" in printed
    with pytest.raises(NotFound, match=r"there is no file .*answers\.jsonl"):
        measure(gold=None, profiles=[profile], as_json=True, cases=None)


def test_tuning_writes_a_profile_with_a_comment_on_its_measurement(
    dataset: Path, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned, page = tmp_path / "tuned.yaml", tmp_path / "tuned.html"
    run_tune(
        str(dataset),
        index=str(tmp_path / "t.lance"),
        profile=profile,
        within=False,
        read=10,
        as_json=False,
        write=tuned,
        html=page,
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "settings that were tried" in printed
    assert "Reranking" in printed
    head = tuned.read_text().splitlines()[0]
    assert head.startswith("# Tuned on harbours, 40 questions, from the profile ")
    settings = load_profile(str(tuned))
    assert settings.encoder == configs.Hashing()
    assert settings.ingest.ocr == "off"
    assert "Pareto front" in page.read_text()


def test_a_profile_without_a_reranker_has_nothing_to_tune_or_calibrate(dataset: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text("encoder: {kind: hashing}\nreranker: {kind: none}\n")
    index = str(tmp_path / "p.lance")
    with pytest.raises(FolioscopeError, match="nothing to tune"):
        run_tune(
            str(dataset),
            index=index,
            profile=str(plain),
            within=False,
            read=5,
            as_json=True,
            write=None,
            html=None,
        )
    with pytest.raises(FolioscopeError, match="no scores to calibrate"):
        run_calibrate(
            str(dataset), index=index, target="", profile=str(plain), within=False, as_json=True, html=None
        )


def test_searches_of_a_calibrated_index_report_the_probability_that_a_page_answers(
    dataset: Path, profile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = str(tmp_path / "c.lance")
    run_calibrate(
        str(dataset),
        index=index,
        target="",
        profile=profile,
        within=False,
        as_json=False,
        html=tmp_path / "c.html",
    )
    printed = " ".join(capsys.readouterr().out.split())
    assert "expected calibration error" in printed
    settings = load_profile(profile)
    searcher, _ = factory.open_searcher(index, settings)
    best = searcher.search("what has harbour07 with common0?").hits[0]
    assert best.page.number == 8
    assert best.confidence is not None
    assert best.confidence > 0.5
    other = settings.model_copy(update={"encoder": configs.Hashing(dim=32)})
    elsewhere, _ = factory.create_store(str(tmp_path / "other.lance"), other)
    with pytest.raises(FolioscopeError, match="calibrate with the profile of that index"):
        run_calibrate(
            str(dataset),
            index=index,
            target=elsewhere.uri,
            profile=profile,
            within=False,
            as_json=True,
            html=None,
        )


def test_a_calibration_of_another_reranker_is_reported_and_not_used(
    dataset: Path,
    profile: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="folioscope")
    index = str(tmp_path / "d.lance")
    run_calibrate(
        str(dataset), index=index, target="", profile=profile, within=False, as_json=True, html=None
    )
    file = tmp_path / "d.lance" / "calibration.json"
    file.write_text(file.read_text().replace('"reranker": "overlap"', '"reranker": "another"'))
    searcher, _ = factory.open_searcher(index, load_profile(profile))
    assert "not used:" in caplog.text
    assert searcher.search("harbour07").hits[0].confidence is None


def test_the_error_for_a_folder_without_a_data_set_says_so(profile: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not a data set"):
        run_evaluation(
            str(tmp_path),
            index=str(tmp_path / "n.lance"),
            profiles=[profile],
            within=False,
            read=5,
            as_json=True,
            html=None,
        )
