"""What a page answers, from a reading made by hand: rows, columns, sentences, units and heads."""

import math

import pytest

from retrieval.answers import AnswerWeights, Found, candidates, choose, locate, verbatim
from retrieval.tables import page_tables
from retrieval.types import Page, PageContent, PageReading, Passage
from tests.build import webp
from tests.retrieval.test_page_layout import TABLE, page

CHOICE = {"support": 1.0, "only head named": 9.0, "other head named": -9.0, "label": -9.0}
SURE: AnswerWeights = {"choice": CHOICE, "sure": {"bias": 5.0}, "passage": {"bias": 5.0}}
UNSURE: AnswerWeights = {"choice": CHOICE, "sure": {"bias": -1.0}, "passage": {"bias": 1.0}}


def content(text: str = TABLE) -> PageContent:
    return PageContent(Page("a", 3, "a.pdf", 600, 800), tuple(page(text)), "text layer", webp)


def read(on: PageContent, *spans: tuple[str, str, float]) -> PageReading:
    """A reading whose spans go from the first word to the last one of these."""
    texts = [word.text for word in on.words]
    places = tuple((texts.index(first), texts.index(last) + 1, p) for first, last, p in spans)
    evidence = tuple(0.9 if any(a <= i < b for a, b, _ in places) else 0.0 for i in range(len(texts)))
    return PageReading(2.0, 1.0, (Passage(0, len(texts), 2.0),), evidence, places)


def found(query: str, *spans: tuple[str, str, float], text: str = TABLE) -> tuple[str, Found]:
    on = content(text)
    result = choose(candidates(query, page_tables(on), read(on, *spans), 0.5), SURE)
    assert result is not None
    return verbatim(on, result.candidate.first, result.candidate.end), result


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("sailings planned in 2022", "17,940"),
        ("how many sailings were planned in 2021?", "16,210"),
        ("how many sailings were planned?", "18,020"),  # no column is named: the reader's own choice
    ],
)
def test_in_a_row_the_column_is_that_whose_head_the_question_names(query: str, answer: str) -> None:
    text, result = found(query, ("18,020", "18,020", 0.5))
    assert text == answer
    assert result.candidate.features["head named"] == float("20" in query)


def test_an_answer_in_a_row_is_a_whole_cell_and_has_its_heads() -> None:
    on = content()
    located = locate("sailings cancelled in 2022", on, read(on, ("301", "301", 0.5)), 0.5, SURE, 0.5)
    assert located is not None
    assert located.answer.text == "233"
    assert located.answer.passage == "Sailings cancelled, weather · 301 · 233 · 274"
    assert located.answer.passage[located.answer.start :] == "233 · 274"
    assert len(located.answer.passage_boxes) == 4
    assert located.is_sure
    by_box = {word.box: word.text for word in on.words}
    assert [by_box.get(box, "row") for box in located.heads] == ["2022", "row"]
    assert located.answer.probability == pytest.approx(1 / (1 + math.exp(-5)))
    assert max(located.heat) == located.heat[3]  # the row is the warmest line


def test_spans_of_one_sentence_vote_together() -> None:
    on = content()
    spans = [("surcharge", "price", 0.15), ("delay", "months.", 0.1), ("hedged.", "hedged.", 0.2)]
    made = candidates("what happens with fuel?", page_tables(on), read(on, *spans), 0.5)
    by_text = {verbatim(on, each.first, each.end): each.features["unit"] for each in made}
    assert by_text["surcharge follows the price"] == pytest.approx(0.25 / 0.45)
    assert by_text["hedged."[:-1]] == pytest.approx(0.2 / 0.45)


def test_cells_of_a_row_that_the_question_names_are_candidates_whatever_the_reader_says() -> None:
    on = content()
    made = candidates(
        "cancelled for weather in 2022", page_tables(on), read(on, ("hedged.", "hedged.", 0.9)), 0.5
    )
    assert {"301", "233", "274"} <= {verbatim(on, each.first, each.end) for each in made}


def test_a_span_over_two_cells_is_no_candidate_and_one_over_a_lines_end_is() -> None:
    on = content()
    spans = [("16,210", "17,940", 0.5), ("months.", "It", 0.4)]
    made = candidates("what?", page_tables(on), read(on, *spans), 0.5)
    assert [verbatim(on, each.first, each.end) for each in made] == ["months. It"]


def test_currency_and_unit_belong_to_a_number() -> None:
    text, _ = found(
        "what did it cost?",
        ("4.6", "4.6", 0.5),
        text="The ship was written down by £ 4.6 million last year, we think.",
    )
    assert text == "£ 4.6 million"


def test_nothing_is_found_in_a_reading_without_spans() -> None:
    on = content()
    assert candidates("what?", page_tables(on), PageReading(1.0), 0.5) == []
    assert choose([], SURE) is None
    assert locate("what?", on, PageReading(1.0), 0.5, SURE, 0.5) is None


def test_verbatim_text_has_no_comma_at_its_end_and_no_lone_bracket() -> None:
    on = content("It fell (by 3.6%), to 12 (2022: 14), and ended.")
    texts = [word.text for word in on.words]
    assert verbatim(on, texts.index("(by"), texts.index("3.6%),") + 1) == "by 3.6%"
    assert verbatim(on, texts.index("12"), texts.index("12") + 1) == "12"
    assert verbatim(on, texts.index("12"), texts.index("14),") + 1) == "12 (2022: 14)"


def test_an_answer_that_is_not_sure_is_only_located() -> None:
    on = content()
    located = locate("sailings cancelled", on, read(on, ("301", "301", 0.5)), 0.5, UNSURE, 0.5)
    assert located is not None
    assert located.answer.probability < 0.5
    assert not located.is_sure
