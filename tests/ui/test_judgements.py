"""Thumbs, and the gain from reranking computed from them. The expected values are worked out by hand."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from ui.service.judgements import Judgements


@pytest.fixture
def judgements(tmp_path: Path) -> Iterator[Judgements]:
    judgements = Judgements(tmp_path / "judgements.sqlite")
    yield judgements
    judgements.close()


def test_lift_is_the_difference_between_both_orders_over_judged_questions(judgements: Judgements) -> None:
    judgements.judge("one", "d#1", "d.pdf#page=1", 1, first=["d#2", "d#1"], final=["d#1", "d#2"])
    judgements.judge("two", "d#3", "d.pdf#page=3", 1, first=["d#3"], final=["d#3"])
    judgements.judge("two", "d#4", "d.pdf#page=4", 0)
    judgements.judge("only down", "d#5", "d.pdf#page=5", 0, first=["d#5"], final=["d#5"])
    judgements.judge("never reranked", "d#6", "d.pdf#page=6", 1)
    (ndcg, rr), judged = judgements.lift()
    second = 1 / math.log2(3)  # the gain of rank 2
    assert (ndcg.measure, ndcg.final) == ("nDCG@10", 1.0)
    assert ndcg.first == pytest.approx((second + 1) / 2)
    assert (ndcg.wins, ndcg.ties, ndcg.losses) == (1, 1, 0)
    assert [rr.first, rr.difference] == pytest.approx([0.75, 0.25])
    assert ndcg.low == 0.0  # with two questions, a bootstrap sample may contain only the tie
    assert ndcg.high == pytest.approx(1 - second)
    assert [(row.query, row.up, row.down) for row in judged] == [("one", 1, 0), ("two", 1, 1)]


def test_a_reader_can_change_a_grade_and_grades_of_several_readers_are_averaged(
    judgements: Judgements,
) -> None:
    order = ["d#1", "d#2"]
    judgements.judge("q", "d#1", "d.pdf#page=1", 0, who="ada", first=order, final=order)
    judgements.judge("q", "d#1", "d.pdf#page=1", 1, who="ada", first=order, final=order)
    assert judgements.of("q", "ada") == {"d#1": 1}
    assert judgements.of("q", "bob") == {}
    judgements.judge("q", "d#2", "d.pdf#page=2", 0, who="ada")
    judgements.judge("q", "d#1", "d.pdf#page=1", 1, who="bob")
    assert judgements.lift()[1][0].up == 1
    judgements.judge("q", "d#1", "d.pdf#page=1", None, who="ada")
    judgements.judge("q", "d#1", "d.pdf#page=1", None, who="bob")
    assert judgements.lift() == ([], [])
    assert [row[:3] for row in judgements.everything()] == [("q", "d.pdf#page=2", 0)]


def test_judgements_survive_a_restart(tmp_path: Path) -> None:
    first = Judgements(tmp_path / "j.sqlite")
    first.judge("q", "d#1", "d.pdf#page=1", 1, first=["d#1"], final=["d#1"])
    first.close()
    again = Judgements(tmp_path / "j.sqlite")
    assert again.of("q") == {"d#1": 1}
    again.close()
