"""Replay, tuning and calibration on made candidates, whose relevant pages are known by construction."""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval import confidence, fuse
from retrieval.confidence import Calibration, CalibrationMismatch
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadQuery, FolioscopeError
from retrieval.evaluation import calibrate, evaluate
from retrieval.evaluation.calibrate import ece, fit_calibration, reliability
from retrieval.evaluation.evaluate import Dataset, Question
from retrieval.evaluation.replay import JudgedCandidates, RerankPolicy, judge_candidates, order, replay
from retrieval.evaluation.tune import tune
from retrieval.fuse import ZScores
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Page
from tests.build import add_document

PAGES = 30


def make_candidates(
    count: int, *, rerank_noise: float, first_noise: float, seed: int = 0
) -> tuple[Dataset, list[JudgedCandidates]]:
    """Questions with one relevant page each, whose MaxSim is 1 and rerank score 4 above the others', plus noise."""
    rng = np.random.default_rng(seed)
    questions, qrels, candidates = [], {}, []
    for n in range(count):
        relevant = np.zeros(PAGES, np.bool_)
        relevant[rng.integers(PAGES)] = True
        question = Question(f"q{n}", f"question {n}")
        pages = tuple(Page("d", at + 1, "d.pdf") for at in range(PAGES))
        vectors = relevant + rng.normal(0, first_noise, PAGES) + 10
        rerank = 4 * relevant - 2 + rng.normal(0, rerank_noise, PAGES)
        candidates.append(
            JudgedCandidates(
                question=question,
                pages=pages,
                vectors=vectors,
                text=np.zeros(PAGES),
                place=np.zeros(PAGES),
                rerank=rerank,
                relevant=relevant,
                first_s=0.05,
                page_s=0.02,
            )
        )
        questions.append(question)
        qrels[f"q{n}"] = {pages[int(relevant.argmax())].name: 1}
    return Dataset(Path("made"), Path("made/pdfs"), tuple(questions), qrels), candidates


def test_a_replay_ranks_pages_as_the_search_does(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(
            store, encoder, "a.pdf", ["pump passed", "pump failed twice", "oil", "pump oil", "failed"]
        )
        add_document(store, encoder, "b.pdf", ["revenue pump", "nothing", "failed pump test"])
    dataset = Dataset(Path("x"), Path("x"), (Question("q", "pump failed"),), {"q": {"a.pdf#page=2": 1}})
    generous = Searcher(store, encoder, OverlapReranker(), configs.Search(depth=200, rerank=50))
    (seen,) = judge_candidates(dataset, generous, within=False)
    for depth in (1, 2, 3, 8):
        for weight in (0.0, 0.4, 1.0):
            settings = configs.Search(text_weight=weight, rerank_weight=2.0, rerank=depth)
            result = Searcher(store, encoder, OverlapReranker(), settings).search(
                "pump failed", budget_ms=1e9
            )
            ranked, read = order(seen, RerankPolicy(ZScores(weight), 2.0, depth))
            assert [seen.pages[at].name for at in ranked] == [hit.page.name for hit in result.hits]
            assert read == sum(hit.reranked for hit in result.hits)


def test_nothing_is_reranked_if_the_lead_of_the_first_stages_best_page_passes_the_gate(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump failed", "oil", "lamps", "seals"])
    open_gate = Searcher(store, encoder, OverlapReranker(), configs.Search(gate=0.01))
    decision = open_gate.search("pump failed").decision
    assert not decision.reranked
    assert decision.kind == "gate"
    assert (
        Searcher(store, encoder, OverlapReranker(), configs.Search(gate=99)).search("pump").decision.reranked
    )


def test_a_replay_reranks_up_to_the_first_page_without_a_recorded_score() -> None:
    _, (one,) = make_candidates(1, rerank_noise=0.1, first_noise=1.0)
    first, _ = fuse.first_stage(one.vectors, one.text, 100, ZScores(0.4))
    rerank = one.rerank.copy()
    rerank[first[3]] = np.nan
    ranked, read = order(replace(one, rerank=rerank), RerankPolicy(ZScores(0.4), 1.0, 10))
    assert (read, ranked[3:]) == (3, first[3:])


def test_an_informed_reranker_pays_and_a_random_one_does_not() -> None:
    before = RerankPolicy(ZScores(0.4), 0.5, 20)
    dataset, informed = make_candidates(60, rerank_noise=0.3, first_noise=1.0)
    tuned = tune(dataset, informed, before)
    assert tuned.pays
    assert tuned.chosen.policy.depth > 0
    assert tuned.chosen.ndcg > tuned.first.ndcg + 0.2
    assert tuned.held_out >= tuned.held_out_before
    dataset, random = make_candidates(60, rerank_noise=50.0, first_noise=0.3)
    tuned = tune(dataset, random, before)
    assert not tuned.pays
    assert tuned.chosen.policy.depth == 0
    assert tuned.chosen.p95 == pytest.approx(0.05)


def test_a_gate_is_chosen_if_the_first_stage_decides_half_of_the_questions() -> None:
    dataset, sure = make_candidates(40, rerank_noise=0.3, first_noise=0.01)
    _, unsure = make_candidates(40, rerank_noise=0.3, first_noise=2.0, seed=1)
    renamed = [replace(one, question=Question(f"u{n}", "")) for n, one in enumerate(unsure)]
    grades = {f"u{n}": {one.pages[int(one.relevant.argmax())].name: 1} for n, one in enumerate(unsure)}
    both = Dataset(Path("x"), Path("x"), (), {**dataset.qrels, **grades})
    tuned = tune(both, [*sure, *renamed], RerankPolicy(ZScores(0.4), 0.5, 20))
    assert tuned.chosen.policy.gate < inf
    assert 0.3 < tuned.chosen.gated <= 0.6
    ungated = replay(both, [*sure, *renamed], replace(tuned.chosen.policy, gate=inf))
    assert tuned.chosen.ndcg == pytest.approx(ungated.values.mean(), abs=0.02)


def test_no_trial_beats_the_pareto_front_and_too_few_questions_are_rejected() -> None:
    dataset, candidates = make_candidates(30, rerank_noise=0.5, first_noise=1.0)
    tuned = tune(dataset, candidates, RerankPolicy(ZScores(0.4), 0.5, 20))
    for trial in tuned.front:
        assert not any(other.ndcg > trial.ndcg and other.p95 <= trial.p95 for other in tuned.tried)
    assert [trial.p95 for trial in tuned.front] == sorted(trial.p95 for trial in tuned.front)
    with pytest.raises(ValueError, match="9 questions are too few"):
        tune(dataset, candidates[:9], RerankPolicy(ZScores(0.4), 0.5, 20))


# Calibration


def fit(candidates: Sequence[JudgedCandidates]) -> Calibration:
    return fit_calibration(candidates, reranker="ours", encoder="theirs", dataset="made")


def test_a_calibrated_score_is_the_share_of_relevant_pages() -> None:
    _, candidates = make_candidates(300, rerank_noise=1.5, first_noise=1.0)
    calibration = fit(candidates)
    assert calibration.ece < 0.02 < calibration.ece_before
    assert calibration.log_loss < calibration.log_loss_before
    # By Bayes: of pages with score s, relevant ones are 1 : 29 * exp(-(s - 2)^2 / 2v + (s + 2)^2 / 2v) with v = 2.25.
    for score in (0.0, 1.0, 2.0):
        odds = np.exp(((score + 2) ** 2 - (score - 2) ** 2) / 4.5) / (PAGES - 1)
        assert calibration.probability(np.array([score]))[0] == pytest.approx(odds / (1 + odds), abs=0.08)
    plot = reliability(candidates, calibration.method)
    assert sum(one.pages for one in plot) == 300 * PAGES
    assert [one.predicted for one in plot] == sorted(one.predicted for one in plot)


def test_the_curve_never_falls_and_never_reaches_0_or_1() -> None:
    _, candidates = make_candidates(100, rerank_noise=2.0, first_noise=1.0)
    for method in ("platt", "isotonic"):
        scores, labels, _ = calibrate._reranked(candidates)
        curve = confidence.predict(method, *calibrate._fit(method, scores, labels), np.linspace(-9, 9, 200))
        assert (np.diff(curve) >= -1e-12).all()
        assert 0 < curve.min() < curve.max() < 1


def test_isotonic_regression_pools_adjacent_violators() -> None:
    """By hand: 1 and 0, in the wrong order, are pooled to a half; the last value is 1."""
    x, y = calibrate._isotonic(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, True, False, True]))
    assert x.tolist() == [1.0, 2.5, 4.0]
    assert y.tolist() == [0.0, 0.5, 1.0]


def test_the_calibration_error_is_the_mean_distance_from_the_diagonal() -> None:
    predicted = np.repeat([0.2, 0.8], 50)
    labels = np.concatenate(
        [np.arange(50) % 5 < 1, np.arange(50) % 5 < 3]
    )  # a fifth, and three fifths, of each bin
    assert ece(predicted, labels) == pytest.approx((0.0 * 50 + 0.2 * 50) / 100, abs=1e-9)


def test_a_calibration_is_stored_in_the_index_and_rejected_for_another_reranker(tmp_path: Path) -> None:
    _, candidates = make_candidates(60, rerank_noise=1.0, first_noise=1.0)
    calibration = fit(candidates)
    assert confidence.load_calibration(str(tmp_path), reranker="ours", encoder="theirs") is None
    place = confidence.save_calibration(calibration, str(tmp_path))
    assert confidence.load_calibration(str(tmp_path), reranker="ours", encoder="theirs") == calibration
    with pytest.raises(CalibrationMismatch, match="for the reranker ours, but this profile has another"):
        confidence.load_calibration(str(tmp_path), reranker="another", encoder="theirs")
    with pytest.raises(CalibrationMismatch, match="for the encoder theirs, but this profile has another"):
        confidence.load_calibration(str(tmp_path), reranker="ours", encoder="another")
    place.write_text(json.dumps({"x": [1]}))
    with pytest.raises(FolioscopeError, match="run 'folioscope calibrate' again"):
        confidence.load_calibration(str(tmp_path), reranker="ours", encoder="theirs")


def test_too_few_questions_are_not_calibrated() -> None:
    _, candidates = make_candidates(29, rerank_noise=1.0, first_noise=1.0)
    with pytest.raises(FolioscopeError, match="29 questions with 29 relevant pages"):
        fit(candidates)


def test_the_rank_of_a_document_is_that_of_its_best_page() -> None:
    pages = [Page("a", 1, "a.pdf"), Page("b", 1, "b.pdf"), Page("a", 2, "a.pdf")]
    assert evaluate.as_run(pages, "document") == {"a.pdf": 3.0, "b.pdf": 2.0}
    assert evaluate.document_of("a.pdf#page=12") == "a.pdf"
    assert evaluate.document_of("a#page=b.pdf") == "a#page=b.pdf"


def test_hits_have_a_confidence_and_min_confidence_drops_the_unlikely_ones(
    store: Store, encoder: HashingEncoder
) -> None:
    """The share of the question's words, 1, 1/2 or 0, as .8, .5 or .2."""
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump failed", "pump", "oil"])
    curve = Calibration(
        "overlap", "x", "isotonic", (0.0, 1.0), (0.2, 0.8), "d", 99, 99, 99, 0.1, 0.2, 0.01, 0.1
    )
    searcher = Searcher(store, encoder, OverlapReranker(), configs.Search(weak=0.3), curve)
    by_page = {hit.page.number: hit.confidence for hit in searcher.search("pump failed").hits}
    assert by_page == pytest.approx({1: 0.8, 2: 0.5, 3: 0.2})
    likely = searcher.search("pump failed", min_confidence=0.5)
    assert [hit.page.number for hit in likely.hits] == [1, 2]
    assert searcher.search("whales", min_confidence=0.5).hits == ()
    weak = searcher.search("whales sing")
    assert weak.notes[-1].kind == "weak_match"
    assert "No page answers this well; the likeliest does with a probability of 20%." in weak.notes[-1].text
    assert len(weak.hits) == 3
    with pytest.raises(BadQuery, match="without reranking"):
        searcher.search("pump", min_confidence=0.5, rerank=False)
    plain = Searcher(store, encoder, OverlapReranker(), configs.Search())
    assert plain.search("pump").hits[0].confidence is None
    with pytest.raises(BadQuery, match="folioscope calibrate"):
        plain.search("pump", min_confidence=0.5)
