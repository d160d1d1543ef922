"""The rerankers that ship; the small cross-encoder runs with its real model."""

from dataclasses import replace

import pytest

import configs.settings as configs
import rerankers
from rerankers.reader import READER_WINDOW, TextReader
from rerankers.text import NOTHING, QUESTION_PIECES, TITLE_PIECES
from tests.build import content

RIGHT = "The inspector found that the north gate did not pass because its hinges were corroded"
WRONG = "The annual picnic of the rowing club takes place at the north gate in July"


@pytest.fixture(scope="module")
def text() -> TextReader:
    return TextReader(configs.Text())


def test_the_passage_that_answers_scores_higher(text: TextReader) -> None:
    right, wrong = text.score("why did the north gate fail the inspection?", [content(RIGHT), content(WRONG)])
    assert right > wrong + 1


def test_scores_come_in_the_order_given_and_do_not_depend_on_the_others(text: TextReader) -> None:
    query = "why did the north gate fail the inspection?"
    pages = [content(WRONG), content(""), content(RIGHT)]
    together = text.score(query, pages)
    assert together == [text.score(query, [page])[0] for page in pages]
    assert together[1] == NOTHING
    assert text.score(query, []) == []


def test_it_reads_where_the_first_stage_found_something(text: TextReader) -> None:
    filler = "\n".join("meeting minutes were read and approved by all" for _ in range(80))
    page = content(filler + "\n" + "Its coupling had rusted away entirely" + "\n" + filler)
    answer = next(word.box for word in page.words if word.text == "coupling")
    query = "what was wrong with the drive shaft?"
    unfocused, focused = text.score(query, [page, replace(page, focus=(answer,))])
    assert focused > unfocused


def test_a_window_never_exceeds_what_the_model_was_trained_on(text: TextReader) -> None:
    seen: list[int] = []
    run_outputs = text._runner.run_outputs

    def watch(rows: list[list[int]], lengths: list[int]) -> object:
        seen.extend(map(len, rows))
        return run_outputs(rows, lengths)

    text._runner.run_outputs = watch  # type: ignore[method-assign, assignment]
    try:
        text.score("why? " * 60, [replace(content(RIGHT * 40), title="A very long title " * 20)])
    finally:
        text._runner.run_outputs = run_outputs  # type: ignore[method-assign]
    assert seen
    assert max(seen) <= 3 + QUESTION_PIECES + TITLE_PIECES + READER_WINDOW


def test_overlap_is_the_fraction_of_the_questions_words() -> None:
    overlap = rerankers.load_reranker(configs.Overlap())
    assert overlap is not None
    pages = [content("gate passed"), content("gate"), content("")]
    assert overlap.score("which gates passed?", pages) == [1.0, 0.5, 0.0]
    assert overlap.score("is it?", [content("it is")]) == [0.0]


def test_a_profile_may_have_no_reranker() -> None:
    assert rerankers.load_reranker(configs.NoReranker()) is None
