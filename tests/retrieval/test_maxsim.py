import numpy as np
import pytest

from retrieval.maxsim import maxsim, maxsim_many, maxsim_ragged
from retrieval.types import QueryEmbedding, Vectors


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
