from pathlib import Path

import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval import evaluate
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import NotFound
from retrieval.search import Searcher
from retrieval.store import Store
from tests.build import add_document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pdfs").mkdir()
    lines = [
        '{"query_id": "q1", "text": "pump failed", "document": "a.pdf", "sources": ["Table"]}',
        '{"query_id": "q2", "text": "revenue"}',
        '{"query_id": "q3", "text": "never judged"}',
    ]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines))
    (tmp_path / "qrels.txt").write_text("q1 0 a.pdf#page=2 1\nq2 0 b c.pdf#page=1 2\nq2 0 a.pdf#page=1 0\n")
    return tmp_path


def test_a_data_set_is_read_and_unjudged_questions_are_left_out(folder: Path) -> None:
    dataset = evaluate.read(folder)
    assert [q.query_id for q in dataset.questions] == ["q1", "q2"]
    assert dataset.qrels["q2"] == {"b c.pdf#page=1": 2, "a.pdf#page=1": 0}


def test_a_folder_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="it has no pdfs"):
        evaluate.read(tmp_path)


def test_measures_are_those_worked_out_by_hand(folder: Path) -> None:
    dataset = evaluate.read(folder)
    run = {"q1": {"x#page=1": 3.0, "a.pdf#page=2": 2.0}, "q2": {"b c.pdf#page=1": 1.0}}
    values = evaluate.judge(dataset, run)
    assert values["RR@10"] == (0.5, 1.0)
    assert values["nDCG@10"] == pytest.approx((0.6309, 1.0), abs=1e-4)  # 1 / log2(3)
    assert evaluate.judge(dataset, {})["R@100"] == (0.0, 0.0)


def test_every_stage_is_judged(folder: Path, store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump passed", "pump failed"])
        add_document(store, encoder, "b c.pdf", ["revenue"])
    searcher = Searcher(store, encoder, OverlapReranker(), configs.Search())
    result = evaluate.evaluate(evaluate.read(folder), searcher, store, within=True)
    assert {stage: result.mean(stage, "nDCG@10") for stage in result.values} == dict.fromkeys(
        evaluate.STAGES, 1.0
    )
    assert len(result.seconds["recall"]) == 2


def test_an_index_without_the_judged_documents_is_refused(
    folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    with pytest.raises(NotFound, match="lacks 2 judged documents"):
        evaluate.evaluate(
            evaluate.read(folder), Searcher(store, encoder, None, configs.Search()), store, within=True
        )


def test_the_randomization_test_tells_chance_from_gain() -> None:
    assert evaluate.paired_p([0.5] * 30, [0.6] * 30) < 0.001
    assert evaluate.paired_p([0.1, 0.9] * 15, [0.9, 0.1] * 15) > 0.5
