import numpy as np
import pytest

from retrieval.errors import ModelBroken
from retrieval.highlight import focus
from retrieval.recall.maxsim import maxsim, maxsim_many, maxsim_ragged, weighted
from retrieval.recall.page_cache import maxsim_stored
from retrieval.recall.parts import MemoryPart, Pages
from retrieval.types import PageEmbedding, QueryEmbedding, Vectors


def query(vectors: list[list[float]], weights: list[float] | None = None) -> QueryEmbedding:
    count = len(vectors)
    return QueryEmbedding(
        np.array(vectors, np.float32).reshape(count, -1),
        ("t",) * count,
        (True,) * count,
        None if weights is None else np.array(weights, np.float32),
    )


def page(*vectors: list[float]) -> Vectors:
    return np.array(vectors, np.float32)


def test_each_query_vector_takes_its_best_match() -> None:
    # first: max(1*0.6, 1*0) = 0.6; second: max(0.8, 1) = 1
    assert maxsim(query([[1, 0], [0, 1]]), page([0.6, 0.8], [0, 1])) == pytest.approx(1.6)


def test_weights_multiply_each_best_match() -> None:
    assert maxsim(query([[1, 0], [0, 1]], [0.5, 0]), page([0.6, 0.8], [0, 1])) == pytest.approx(0.3)


def test_a_page_without_vectors_scores_zero() -> None:
    assert maxsim(query([[1, 0]]), np.zeros((0, 2), np.float32)) == 0


def test_a_negative_best_match_is_not_hidden_by_padding() -> None:
    scores = maxsim_many(query([[1, 0]]), [page([-0.5, 0]), page([-0.9, 0], [-0.8, 0], [-0.7, 0])])
    assert scores.tolist() == pytest.approx([-0.5, -0.7])


def test_a_score_does_not_depend_on_the_other_pages() -> None:
    rng = np.random.default_rng(0)
    pages = [rng.standard_normal((n, 16), np.float32) for n in rng.integers(0, 40, 400)]
    asked = query(rng.standard_normal((7, 16)).tolist())
    together = maxsim_many(asked, pages)
    alone = np.array([maxsim(asked, p) for p in pages])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-5)


def test_every_way_of_scoring_reads_the_weights_alike() -> None:
    # first vector: best 0.6, times 2; second: best 1, times 0.5; the third has no weight: 1.2 + 0.5
    asked = query([[1, 0], [0, 1], [-1, 0]], [2, 0.5, 0])
    stored = page([0.6, 0.8], [0, 1])
    part = MemoryPart(
        Pages(
            ("a",),
            np.zeros(1, np.int32),
            np.ones(1, np.int32),
            np.ones((1, 2), np.float32),
            np.ones(1, np.bool_),
        ),
        stored,
        np.array([0, 2]),
    )
    scores = {
        "one page": maxsim(asked, stored),
        "weighted": maxsim(query(weighted(asked).tolist()), stored),
        "stored": float(maxsim_stored(asked, [stored.astype(np.float16)])[0]),
        "scan": float(part.scores(asked, np.ones(1, np.bool_))[0]),
    }
    assert scores == pytest.approx(dict.fromkeys(scores, 1.7), abs=1e-3)
    assert weighted(asked).tolist() == [[2, 0], [0, 0.5]]


def test_where_a_reranker_should_read_follows_the_weights() -> None:
    regions = np.array([[0, 0, 0.1, 0.1], [0.5, 0.5, 0.6, 0.6]], np.float32)
    found = PageEmbedding(page([1, 0], [0, 1]), regions)
    assert focus(query([[1, 0], [0, 1]], [2, 1]), found)[0] == pytest.approx((0, 0, 0.1, 0.1))
    assert focus(query([[1, 0], [0, 1]], [1, 2]), found)[0] == pytest.approx((0.5, 0.5, 0.6, 0.6))
    assert focus(query([[1, 0]], [0]), found) == ()


def test_a_negative_weight_is_refused_with_its_word() -> None:
    with pytest.raises(ModelBroken, match=r"gave 'pump' the weight -0\.5; weights are 0 or more"):
        QueryEmbedding(
            np.eye(2, dtype=np.float32), ("the", "pump"), (False, True), np.array([0.5, -0.5], np.float32)
        )


def test_it_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(1)
    pages = [rng.standard_normal((n, 8), np.float32) for n in (1, 5, 3, 90)]
    asked = query(rng.standard_normal((4, 8)).tolist(), [0.1, 0.2, 0.3, 0.4])
    assert asked.weights is not None
    expected = [
        sum(w * max(float(q @ v) for v in p) for q, w in zip(asked.vectors, asked.weights, strict=True))
        for p in pages
    ]
    offsets = np.cumsum([0, *map(len, pages)])
    np.testing.assert_allclose(maxsim_ragged(asked, np.concatenate(pages), offsets), expected, rtol=1e-5)


def test_no_pages_have_no_scores() -> None:
    assert maxsim_many(query([[1, 0]]), []).shape == (0,)
