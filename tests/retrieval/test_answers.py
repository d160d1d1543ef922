"""Answers and highlights judged against gold answers: what is right, what misleads, and how often."""

import json
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadDataset
from retrieval.evaluation.answer_tally import area_under_curve, refusal, tallies
from retrieval.evaluation.answers import (
    Signs,
    area,
    judge_answer,
    judge_answers,
    judge_light,
    judge_line,
    judge_refusals,
    same_text,
    shared,
    strongest_light,
    token_f1,
)
from retrieval.evaluation.evaluate import Dataset, Question, read_dataset
from retrieval.evaluation.gold import Gold, GoldAnswer, read_gold, read_unanswered
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import (
    Answer,
    Box,
    Decision,
    Highlight,
    Hit,
    Page,
    Region,
    RegionKind,
    SearchResult,
)
from tests.build import add_document

PAGE = Page("a", 3, "a.pdf")
ROW: Box = (0.1, 0.50, 0.9, 0.52)  # a row of a table...
CELL: Box = (0.5, 0.50, 0.6, 0.52)  # ... and the cell that answers
OTHER: Box = (0.1, 0.70, 0.9, 0.72)
ONE = GoldAnswer("a.pdf#page=3", "733", ("733 thousand",), (CELL,), (ROW,))


def lit(*regions: tuple[Box, float, RegionKind]) -> Highlight:
    return Highlight(PAGE, (), tuple(Region(*region) for region in regions), "", ())


def answer(text: str, *boxes: Box, page: Page = PAGE, passage: Box = ROW) -> Answer:
    return Answer(page, text, boxes, 0.9, "", (passage,))


def result(*answers: Answer, page: Page = PAGE, confidence: float | None = None) -> SearchResult:
    hit = Hit(page, 1.0, 1, 1, {"rerank": 2.0}, True, confidence)
    return SearchResult("q", (hit,), (hit,), (), Decision("reranked", ""), answers=answers)


# Boxes and texts


def test_the_area_of_boxes_counts_what_they_share_once() -> None:
    first, second = (0.0, 0.0, 0.4, 0.5), (0.2, 0.0, 0.6, 0.5)  # each 0.2, and 0.1 of both
    assert area([first, second]) == pytest.approx(0.3)
    assert shared([first], [second]) == pytest.approx(0.1)
    assert shared([first, second], [(0.0, 0.25, 1.0, 1.0)]) == pytest.approx(0.15)
    assert shared([first], []) == 0
    assert shared([first], [(0.5, 0.5, 1.0, 1.0)]) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("£41.2  Million", "£41.2 million.", True),
        ("“three months’ notice”", "three months' notice", True),
        ("max.0.30 %", "max. 0.30 %", True),  # OCR lost a blank
        ("(4.6)", "4.6", True),
        ("-8", "8", False),
        ("733", "73.3", False),
    ],
)
def test_texts_are_the_same_but_for_case_blanks_quotes_and_punctuation_around(
    one: str, other: str, same: bool
) -> None:
    assert same_text(one, other) is same


def test_token_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    assert token_f1("within four hours", "four hours") == pytest.approx(2 * 2 / 5)
    assert token_f1("four hours", "Four hours.") == 1
    assert token_f1("four", "five") == 0
    assert token_f1("", "") == 0


# Light


def test_the_strongest_light_is_what_is_lit_as_the_answer_and_otherwise_what_is_nearly_strongest() -> None:
    words = ((ROW, 1.0, "word"), (OTHER, 0.995, "word"), (CELL, 0.9, "near"))
    assert strongest_light(lit(*words)) == ((ROW, OTHER), False)  # type: ignore[arg-type]
    assert strongest_light(lit(*words, (CELL, 0.3, "answer"))) == ((CELL,), True)  # type: ignore[arg-type]
    assert strongest_light(lit()) == ((), False)


@pytest.mark.parametrize(
    ("light", "verdict"),
    [
        ([CELL], "answer"),
        ([(0.5, 0.50, 0.56, 0.52)], "answer"),  # six tenths of the cell
        ([(0.5, 0.50, 0.54, 0.52)], "passage"),  # four tenths
        ([ROW], "answer"),  # the row is 0.016 of the page
        ([(0.1, 0.44, 0.9, 0.55)], "answer"),  # 5.5 times the row
        ([(0.1, 0.40, 0.9, 0.53)], "wide"),  # 6.5 times the row
        ([(0.0, 0.0, 1.0, 1.0)], "wide"),
        ([(0.1, 0.50, 0.3, 0.52)], "passage"),
        ([OTHER], "elsewhere"),
        ([(0.1, 0.519, 0.9, 0.539)], "elsewhere"),  # the next line overlaps the row by a twentieth
        ([], "none"),
    ],
)
def test_light_is_on_the_answer_if_it_covers_half_of_it_and_little_else(
    light: list[Box], verdict: str
) -> None:
    assert judge_light([ONE], light) == verdict


def test_light_on_a_whole_page_shows_nothing_though_the_passage_is_a_large_picture() -> None:
    chart = replace(ONE, passage=((0.1, 0.3, 0.9, 0.7),))
    assert judge_light([chart], [(0.1, 0.3, 0.9, 0.7)]) == "answer"
    assert judge_light([chart], [(0.0, 0.0, 1.0, 1.0)]) == "wide"


def test_a_list_is_lit_if_each_of_its_items_on_the_page_is() -> None:
    second = replace(ONE, item=2, boxes=(OTHER,), passage=(OTHER,))
    items = [replace(ONE, item=1), replace(ONE, item=1, boxes=((0.1, 0.1, 0.2, 0.12),)), second]
    assert judge_light(items, [CELL]) == "passage"
    assert judge_light(items, [CELL, OTHER]) == "answer"
    assert judge_light([*items, replace(ONE, item=None)], [CELL]) == "answer"  # a list by itself


# The answer line


@pytest.mark.parametrize(
    ("given", "line", "f1"),
    [
        (answer("733", CELL), "exact", 1),
        (answer("733 Thousand", CELL), "exact", 1),
        (answer("7B3", CELL), "exact", 0),  # the right words, misread by OCR
        (answer("about 733 in 2023", (0.45, 0.50, 0.9, 0.52)), "part", 2 / 5),
        (answer("512", OTHER), "wrong", 0),
        (answer("733", CELL, page=Page("a", 4, "a.pdf")), "wrong", 0),
    ],
)
def test_an_answer_line_is_exact_in_part_or_wrong(given: Answer, line: str, f1: float) -> None:
    judged, agreement = judge_line(Gold("span", (ONE,)), given)
    assert judged == line
    assert agreement == pytest.approx(f1)


def test_where_a_passage_answers_the_words_may_be_any_within_it_if_their_passage_holds_the_gold() -> None:
    gold = Gold("yes_no", (ONE,))
    within: Box = (0.1, 0.50, 0.4, 0.52)
    assert judge_line(gold, answer("never", within))[0] == "exact"
    assert judge_line(gold, answer("never", within, passage=within))[0] == "wrong"
    assert judge_line(gold, answer("never", OTHER))[0] == "wrong"
    assert judge_line(Gold("span", (ONE,)), answer("never", within))[0] == "wrong"


def test_an_item_of_a_list_is_a_part_of_the_answer_and_all_items_are_exact() -> None:
    second = replace(ONE, item=2, text="Kelsby", also=(), boxes=(OTHER,), passage=(OTHER,))
    gold = Gold("list", (replace(ONE, item=1), second))
    assert judge_line(gold, answer("Kelsby", OTHER)) == ("part", 1)
    assert judge_line(gold, answer("733 Kelsby", CELL, OTHER)) == ("exact", 1)
    elsewhere = replace(second, page="a.pdf#page=9")
    assert judge_line(Gold("list", (replace(ONE, item=1), elsewhere)), answer("733", CELL))[0] == "part"


# Whole results


def test_a_result_is_judged_by_its_first_page_its_light_and_its_answer_line() -> None:
    question = Question("q1", "how many?", attributes={"kind": ("chart", "number")})
    gold = Gold("span", (ONE,))
    right = judge_answer(
        question, gold, {"a.pdf#page=3": 2}, result(answer("733", CELL)), lit((CELL, 1.0, "answer"))
    )
    assert (right.page, right.grade, right.light, right.line) == ("a.pdf#page=3", 2, "answer", "exact")
    misleading = judge_answer(
        question, gold, {"a.pdf#page=3": 1}, result(answer("512", OTHER)), lit((OTHER, 1.0, "answer"))
    )
    assert misleading.misleads
    faint = judge_answer(question, gold, {"a.pdf#page=3": 1}, result(), lit((OTHER, 1.0, "word")))
    assert (faint.light, faint.misleads, faint.line) == ("elsewhere", False, "silent")
    other = judge_answer(
        question, gold, {"a.pdf#page=3": 2}, result(page=Page("a", 1, "a.pdf")), lit((CELL, 1.0, "answer"))
    )
    assert (other.grade, other.light, other.misleads) == (0, None, False)
    every, by_form, chart, number = tallies([right, misleading, faint, other])
    assert (every.attribute, by_form.value, chart.value, number.value) == ("", "span", "chart", "number")
    assert (every.questions, every.right, every.by_itself, every.judged) == (4, 3, 1, 3)
    assert every.lights == {"answer": 1, "wide": 0, "passage": 0, "elsewhere": 2, "none": 0}
    assert every.misleading == 1
    assert every.lines == {"exact": 1, "part": 0, "wrong": 1, "silent": 2}
    assert every.lines_of_right == {"exact": 1, "part": 0, "wrong": 1, "silent": 1}
    assert every.f1 == pytest.approx(0.5)  # of 733 and 512
    assert isnan(tallies([faint])[0].f1)


def test_signs_of_answered_and_unanswered_questions_are_compared_by_the_area_under_the_curve() -> None:
    def signs(confidence: float | None, probability: float) -> Signs:
        return Signs(probability == 0, probability > 0, confidence, None, probability)

    compared = refusal([signs(0.9, 0.8), signs(0.5, 0)], [signs(0.5, 0), signs(0.1, 0), signs(None, 0.4)])
    assert (compared.answered, compared.unanswered) == (2, 3)
    assert compared.weak == compared.silent == (1, 2)
    # 0.9 > 0.5, 0.9 > 0.1, 0.5 = 0.5, 0.5 > 0.1; and 0.8 > 0, 0, 0.4; 0 = 0, 0 and 0 < 0.4
    assert compared.auc == {
        "confidence": pytest.approx(3.5 / 4),
        "answer probability": pytest.approx(4 / 6),
    }
    assert area_under_curve([1], [1]) == 0.5


# Data sets

ANSWER: dict[str, object] = {
    "page": "a.pdf#page=2",
    "text": "pump failed",
    "boxes": [[0.1, 0.1, 0.27, 0.12]],
    "passage": [[0.1, 0.1, 0.9, 0.12]],
}
GOLD: dict[str, object] = {"query_id": "q1", "form": "span", "answers": [ANSWER]}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "queries.jsonl").write_text(
        '{"query_id": "q1", "text": "pump failed", "document": "a.pdf"}\n'
    )
    (tmp_path / "qrels.txt").write_text("q1 0 a.pdf#page=2 2\n")
    return read_dataset(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOLD | {"form": "word"}, r"line 1: form is 'word'; expected one of span, list"),
        (GOLD | {"answers": []}, r"line 1: answers is \[\]; expected answers: a list"),
        (GOLD | {"answers": [{"page": "a.pdf#page=2"}]}, r"line 1: the answer .* cannot be used; expected page, text"),
        (GOLD | {"answers": [ANSWER | {"text": 7}]}, r"cannot be used; expected page, text"),
        (GOLD | {"answers": [ANSWER | {"boxes": []}]}, r"cannot be used; expected page, text"),
        (GOLD | {"answers": [ANSWER | {"boxes": [[0.2, 0.1, 0.1, 0.2]]}]}, r"cannot be used; expected page, text"),
        (GOLD | {"query_id": "q2"}, r"no answers for 1 of the 1 questions of .*, 'q1' among them"),
    ],
)  # fmt: skip
def test_gold_that_cannot_be_used_is_rejected_with_its_line(
    dataset: Dataset, tmp_path: Path, line: dict[str, object], message: str
) -> None:
    (tmp_path / "gold.jsonl").write_text(json.dumps(line))
    with pytest.raises(BadDataset, match=message):
        read_gold(tmp_path / "gold.jsonl", dataset)


def test_questions_are_searched_over_the_whole_index_and_judged(dataset: Dataset, tmp_path: Path) -> None:
    encoder = HashingEncoder()
    store = Store.create(str(tmp_path / "index.lance"), encoder.fingerprint)
    add_document(store, encoder, "a.pdf", ["harbour dues", "pump failed\nin the north\nof the yard"])
    add_document(store, encoder, "b.pdf", ["quay wall"])
    searcher = Searcher(store, encoder, OverlapReranker(), configs.Search())
    (tmp_path / "gold.jsonl").write_text(json.dumps(GOLD))
    gold = read_gold(tmp_path / "gold.jsonl", dataset)
    seen: list[int] = []
    (judged,) = judge_answers(dataset, gold, searcher, store, within=False, on_progress=seen.append)
    assert (judged.page, judged.grade, seen) == ("a.pdf#page=2", 2, [1])
    assert (judged.light, judged.claims, judged.line) == (
        "answer",
        False,
        "silent",
    )  # "pump" and "failed" are lit
    (tmp_path / "none.jsonl").write_text('{"query_id": "u1", "text": "zebra crossing"}\n')
    (signs,) = judge_refusals(read_unanswered(tmp_path / "none.jsonl"), searcher, within=False)
    assert (signs.answers, signs.confidence, signs.probability) == (False, None, 0)
