"""The regressions behind answers: their gradients, and what they learn from examples made by hand."""

import random
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import answer_weights
from benchmarks.answer_weights import READER_FEATURES, Example, fit, right_passages
from retrieval.answers import Candidate, choose

NAMES = (*READER_FEATURES, "head named")


def example(seed: int, *, seen: bool = False, page_right: bool = True) -> Example:
    """Four candidates: the head of the right one is named; the reader knows it if the page was seen, else nothing."""
    rng = random.Random(seed)
    right = [page_right and i == seed % 4 for i in range(4)]
    found = []
    for i in range(4):
        reader = 3.0 * (i == seed % 4) if seen else rng.random()
        features = dict.fromkeys(READER_FEATURES, reader) | {"head named": float(i == seed % 4) * page_right}
        found.append(Candidate(i, i + 1, ((0, 2),) if i < 2 else ((2, 4),), None, features))
    return Example(f"{seed % 7}.pdf", page_right, True, found, right, seen)


def test_the_best_candidate_is_learned_and_how_sure_it_is() -> None:
    examples = [example(seed, page_right=seed % 3 > 0) for seed in range(60)]
    weights, report = fit(examples)
    assert report["the best is right, of right pages"] == 100
    assert report["AUC"] > 0.95
    some = choose(example(1).candidates, weights)
    assert some is not None
    assert (some.candidate.first, some.probability > 0.5) == (1, True)
    wrong = choose(example(3, page_right=False).candidates, weights)
    assert wrong is not None
    assert wrong.probability < 0.5


def test_pages_that_were_seen_teach_what_heads_are_worth_and_not_what_the_reader_is() -> None:
    few = [example(seed, page_right=seed % 3 > 0) for seed in range(8)]
    alone, _ = fit(few)
    both, report = fit([*few, *(example(seed, seen=True) for seed in range(100))])
    assert report["examples"] == len(few)
    assert both["choice"]["head named"] > alone["choice"]["head named"]
    assert both["choice"]["support"] < 0.5  # on the seen pages alone it would be the best sign of all


def test_a_passage_is_right_if_a_right_candidate_stands_in_it() -> None:
    assert right_passages(example(1)) == [True, True, False, False]
    assert right_passages(example(1, page_right=False)) == [False] * 4


@pytest.mark.parametrize("loss", ["choice", "sure"])
def test_gradients_are_those_of_the_losses(loss: str) -> None:
    rng = np.random.default_rng(0)
    table, right = rng.normal(size=(5, 3)), np.array([True, False, True, False, False])

    def value(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return calculate(weights)[0]

    def calculate(weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, np.ndarray]:
        if loss == "choice":
            return answer_weights._conditional_loss(weights, [(table, right)])
        return answer_weights._logistic_loss(weights, table, right)

    at = rng.normal(size=3)
    steps = np.eye(3) * 1e-5
    numeric = [(value(at + step) - value(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(calculate(at)[1], numeric, rtol=1e-5)


def test_an_example_without_candidates_is_judged_as_silent() -> None:
    examples = [example(seed, page_right=seed % 3 > 0) for seed in range(30)]
    _, report = fit([*examples, replace(example(1), candidates=(), right=())])
    assert report["examples"] == 31
