"""Reading of our own data sets, their errors, and the measures of every stage."""

from pathlib import Path

import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadDataset, NotFound
from retrieval.evaluation import evaluate
from retrieval.search import Searcher
from retrieval.store.store import Store
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


def test_reading_a_data_set_leaves_out_questions_without_judgements(folder: Path) -> None:
    dataset = evaluate.read_dataset(folder)
    assert [q.query_id for q in dataset.questions] == ["q1", "q2"]
    assert dataset.qrels["q2"] == {"b c.pdf#page=1": 2, "a.pdf#page=1": 0}


def test_a_folder_that_is_not_a_data_set_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="it has no pdfs"):
        evaluate.read_dataset(tmp_path)


QUERIES = '{"query_id": "q1", "text": "pump"}\n'
QRELS = "q1 0 a.pdf#page=2 1\n"


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        (QUERIES + "\n{no json\n", QRELS, r"queries\.jsonl, line 3: '{no json' is not JSON .*; expected a JSON object"),
        ("[1, 2]", QRELS, r"queries\.jsonl, line 1: the line is \[1, 2\]; expected a JSON object"),
        ('{"text": "x"}', QRELS, r"line 1: 'query_id' is missing; the keys are text; expected query_id: a text"),
        ("{}", QRELS, r"line 1: 'query_id' is missing; expected query_id"),
        ('{"query_id": "q1"}', QRELS, r"queries\.jsonl, line 1: 'text' is missing; the keys are query_id;"),
        ('{"query_id": 1, "text": "x"}', QRELS, r"queries\.jsonl, line 1: query_id is 1; expected query_id: a text"),
        ('{"query_id": "q1", "text": null}', QRELS, r"line 1: text is None; expected text: a text"),
        ('{"query_id": "q1", "text": " "}', QRELS, r"line 1: text is ' '; expected text: a text"),
        ('{"query_id": "q 1", "text": "x"}', QRELS, r"line 1: query_id is 'q 1'; expected a name without blanks"),
        ('{"query_id": "q1", "text": "x", "document": ["a"]}', QRELS, r"document is \['a'\]; expected document"),
        ('{"query_id": "q1", "text": "x", "sources": {"a": 1}}', QRELS, r"sources is {'a': 1}; .* a list of texts"),
        ('{"query_id": "q1", "text": "x", "kind": [1]}', QRELS, r"kind is \[1\]; expected kind: a text or a list"),
        (QUERIES * 2, QRELS, r"queries\.jsonl, line 2: query_id 'q1' is also on line 1; expected a different query_id"),
        ("\n \n", QRELS, r"queries\.jsonl is empty: it needs a line for each question, such as"),
        (QUERIES, "\nq1 1\n", r"qrels\.txt, line 2: the line is 'q1 1'; expected 'QUERY_ID 0 report\.pdf"),
        (QUERIES, "q1 0 1\n", r"qrels\.txt, line 1: the line is 'q1 0 1'"),
        (QUERIES, "q1 0 a.pdf#page=2 yes\n", r"qrels\.txt, line 1: the grade is 'yes'; expected a whole number"),
        (QUERIES, "q1 0 a.pdf#page=2 0.5\n", r"qrels\.txt, line 1: the grade is '0\.5'; expected a whole number"),
        (QUERIES, QRELS + "q7 0 a.pdf#page=2 1", r"qrels\.txt, line 2: the question is 'q7'; expected a query_id of"),
        (QUERIES, QRELS + "q1 0 a.pdf#page=2 0", r"gives 'a.pdf#page=2' the grade 0, and an earlier line gives it 1"),
        (QUERIES, "", r"qrels\.txt is empty: it needs lines like"),
        (QUERIES, "q1 0 a.pdf#page=2 0\n", r"qrels\.txt has no grade above 0"),
    ],
)  # fmt: skip
def test_the_error_for_a_line_that_cannot_be_used_names_the_line_and_the_expected_content(
    tmp_path: Path, queries: str, qrels: str, message: str
) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "queries.jsonl").write_text(queries)
    (tmp_path / "qrels.txt").write_text(qrels)
    with pytest.raises(BadDataset, match=message):
        evaluate.read_dataset(tmp_path)


def test_a_byte_order_mark_is_accepted_and_another_encoding_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "queries.jsonl").write_bytes(b"\xef\xbb\xbf" + QUERIES.encode())
    (tmp_path / "qrels.txt").write_text("q1\t0\ta.pdf#page=2\t1\n")
    assert evaluate.read_dataset(tmp_path).qrels == {"q1": {"a.pdf#page=2": 1}}
    (tmp_path / "queries.jsonl").write_bytes(QUERIES.encode() + '{"text": "Überprüfung"}'.encode("latin-1"))
    with pytest.raises(BadDataset, match=r"queries\.jsonl, line 2: b.* is not UTF-8; expected text in UTF-8"):
        evaluate.read_dataset(tmp_path)


def test_measures_equal_those_calculated_by_hand(folder: Path) -> None:
    dataset = evaluate.read_dataset(folder)
    run = {"q1": {"x#page=1": 3.0, "a.pdf#page=2": 2.0}, "q2": {"b c.pdf#page=1": 1.0}}
    values = evaluate.judge(dataset, run)
    assert values["RR@10"] == (0.5, 1.0)
    assert values["nDCG@10"] == pytest.approx((0.6309, 1.0), abs=1e-4)  # 1 / log2(3)
    assert evaluate.judge(dataset, {})["R@100"] == (0.0, 0.0)


def test_every_stage_is_measured(folder: Path, store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump passed", "pump failed"])
        add_document(store, encoder, "b c.pdf", ["revenue"])
    searcher = Searcher(store, encoder, OverlapReranker(), configs.Search())
    result = evaluate.evaluate(evaluate.read_dataset(folder), searcher, store, within=True)
    assert {stage: result.mean(stage, "nDCG@10") for stage in result.values} == dict.fromkeys(
        evaluate.STAGES, 1.0
    )
    assert len(result.seconds["recall"]) == 2


def test_an_index_without_the_judged_documents_is_rejected(
    folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    with pytest.raises(NotFound, match="lacks 2 judged documents"):
        evaluate.evaluate(
            evaluate.read_dataset(folder),
            Searcher(store, encoder, None, configs.Search()),
            store,
            within=True,
        )


def test_the_randomization_test_distinguishes_a_gain_from_chance() -> None:
    assert evaluate.paired_p([0.5] * 30, [0.6] * 30) < 0.001
    assert evaluate.paired_p([0.1, 0.9] * 15, [0.9, 0.1] * 15) > 0.5
