"""How the first stage fuses vectors and BM25, and how the coefficients for it are fitted."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

import configs.settings as configs
from retrieval import fuse
from retrieval.encoders.hashing import HashingEncoder
from retrieval.encoders.words import WordsEncoder
from retrieval.errors import BadDataset, ModelBroken
from retrieval.evaluation.evaluate import Question
from retrieval.evaluation.fit_fusion import cross_validate, fit_log_odds
from retrieval.evaluation.replay import RerankPolicy, replay
from retrieval.fuse import LogOdds, ZScores
from retrieval.search import Searcher
from retrieval.store.store import Store
from tests.build import add_document
from tests.retrieval.test_tune import make_candidates


def test_log_odds_let_a_sure_list_count_more_than_an_unsure_one() -> None:
    vectors = np.array([0.60, 0.30, 0.10])
    unsure, sure = np.array([0.0, 0.5, 0.0]), np.array([0.0, 20.0, 0.0])
    # Log-odds 12, 6.1, 2 for the unsure list; 12, 10, 2 for the sure one, and 12, 14, 2 if text counts twice as much.
    assert fuse.first_stage(vectors, unsure, 3, LogOdds(20, 0.2))[0] == [0, 1, 2]
    assert fuse.first_stage(vectors, sure, 3, LogOdds(20, 0.2))[0] == [0, 1, 2]
    assert fuse.first_stage(vectors, sure, 3, LogOdds(20, 0.4))[0] == [1, 0, 2]
    # z-scores cannot tell the lists apart.
    both = [fuse.first_stage(vectors, text, 3, ZScores(0.6)) for text in (unsure, sure)]
    np.testing.assert_allclose(both[0][1], both[1][1])


def test_fused_log_odds_have_a_standard_deviation_of_one_before_the_bonus() -> None:
    vectors, text = np.array([0.5, 0.4, 0.3]), np.array([0.0, 10.0, 0.0])
    # Log-odds 10, 10, 6: a mean of 26/3, and deviations 4/3, 4/3, -8/3, whose root mean square is sqrt(32/9).
    order, scores = fuse.first_stage(vectors, text, 3, LogOdds(20, 0.2))
    assert order == [0, 1, 2]
    np.testing.assert_allclose(scores, [0.5**0.5, 0.5**0.5, -(2**0.5)])
    order, scores = fuse.first_stage(vectors, text, 3, LogOdds(20, 0.2), bonus=np.array([0.0, 0.0, 2.2]))
    assert order == [2, 0, 1]
    assert scores[0] == pytest.approx(2.2 - 2**0.5)


def test_a_query_without_vectors_is_ranked_by_text_whatever_the_fusion() -> None:
    text = np.array([1.0, 3.0, 0.0])
    for fusion in (ZScores(0.0), LogOdds(20, 0.1)):
        assert fuse.first_stage(None, text, 3, fusion)[0] == [1, 0]


def test_the_shipped_encoder_carries_coefficients_and_the_default_profile_uses_them() -> None:
    settings = configs.load_profile("cpu")
    assert isinstance(settings.encoder, configs.Words)
    fusion = fuse.choose_fusion(settings.search, WordsEncoder(settings.encoder))
    assert isinstance(fusion, LogOdds)
    assert fusion.vectors > 0
    assert fusion.text > 0


def test_an_encoder_without_coefficients_is_an_error_and_not_another_fusion() -> None:
    encoder = HashingEncoder()
    assert fuse.choose_fusion(configs.Search(text_weight=0.3), encoder) == ZScores(0.3)
    with pytest.raises(ModelBroken, match=r"hashing blake2b has no fitted coefficients.*z_scores"):
        fuse.choose_fusion(configs.Search(fuse="log_odds"), encoder)


def test_a_search_adds_the_scores_as_they_are(store: Store) -> None:
    class Fitted(HashingEncoder):
        fusions: ClassVar = {"none": LogOdds(1.0, 0.25)}

    encoder = Fitted()
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump passed", "pump failed twice", "oil", "pump oil"])
    settings = configs.Search(fuse="log_odds")
    hits = Searcher(store, encoder, None, settings).search("failed pump").candidates
    odds = np.array([hit.scores["vectors"] + 0.25 * hit.scores["text"] for hit in hits])
    np.testing.assert_allclose([hit.score for hit in hits], fuse.z_scores(odds))


def test_the_fit_finds_the_coefficients_that_made_the_answers() -> None:
    """Answers are drawn by log-odds of 8 for a unit of MaxSim and 0.5 for one of BM25."""
    rng = np.random.default_rng(0)
    _, made = make_candidates(1500, rerank_noise=1.0, first_noise=1.0)
    drawn = []
    for each in made:
        vectors, text = rng.normal(0.5, 0.2, 30), rng.gamma(2.0, 2.0, 30)
        odds = 8 * vectors + 0.5 * text
        relevant = np.zeros(30, np.bool_)
        relevant[rng.choice(30, p=np.exp(odds) / np.exp(odds).sum())] = True
        drawn.append(replace(each, vectors=vectors, text=text, relevant=relevant))
    fitted = fit_log_odds(drawn)
    assert fitted.vectors == pytest.approx(8, rel=0.1)
    assert fitted.text == pytest.approx(0.5, rel=0.1)
    worthless = fit_log_odds([replace(each, text=rng.permutation(each.text)) for each in drawn])
    assert abs(worthless.text) < 0.1


def test_questions_that_name_a_place_teach_nothing() -> None:
    _, made = make_candidates(20, rerank_noise=1.0, first_noise=0.5)
    named = replace(made[0], place=np.ones(30), vectors=-made[0].vectors)
    assert fit_log_odds([*made, named]) == fit_log_odds(made)
    with pytest.raises(BadDataset, match="no question has both"):
        fit_log_odds([named])


def test_a_document_is_judged_with_coefficients_that_have_not_seen_it() -> None:
    """In one document the vectors are right, in the other one the text: each fit has seen the opposite only."""
    dataset, made = make_candidates(20, rerank_noise=1.0, first_noise=0.0)
    opposed = [
        replace(
            each,
            question=Question(each.question.query_id, "", document="vectors.pdf"),
            text=-each.vectors + 20,
        )
        for each in made[:10]
    ] + [
        replace(
            each,
            question=Question(each.question.query_id, "", document="text.pdf"),
            vectors=-each.vectors + 20,
            text=each.vectors,
        )
        for each in made[10:]
    ]
    assert replay(dataset, opposed[:10], RerankPolicy(fit_log_odds(opposed[:10]), 0.0, 0)).values.mean() == 1
    assert cross_validate(dataset, opposed).max() < 1
