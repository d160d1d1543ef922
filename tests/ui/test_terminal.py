"""What `folioscope search` prints: answers first, honest confidence, and what the reranker had no time for."""

import pytest

from retrieval.types import Answer, Decision, Highlight, Hit, Note, Page, SearchResult
from ui.cli import terminal

PAGE = Page("a", 3, "tessaly.pdf")
OTHER = Page("b", 1, "other.pdf")
BOX = (0.1, 0.2, 0.3, 0.22)


def printed(result: SearchResult, capsys: pytest.CaptureFixture[str], **options: bool) -> list[str]:
    terminal.console.width = 160
    highlights = [Highlight(hit.page, (), (), "a snippet", ()) for hit in result.hits]
    terminal.print_result(result, highlights, **options)
    return capsys.readouterr().out.splitlines()


def result(*notes: Note, decision: Decision | None = None, answers: tuple[Answer, ...] = ()) -> SearchResult:
    hits = (
        Hit(PAGE, 1.25, 1, 2, {"rerank": 3.0}, True, 0.634),
        Hit(OTHER, -0.5, 2, 1, {"text": 0.5}),
    )
    return SearchResult(
        "how many?", hits, hits, (), decision or Decision("reranked", "reranked by x", 2, 2), {}, notes,
        answers=answers,
    )  # fmt: skip


def test_the_answer_is_the_first_line_with_its_page_and_its_passage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = tuple(
        Answer(PAGE, text, (BOX,), 0.63, f"Passengers: {text}.", (BOX,), 12)
        for text in ("733 thousand", "734", "735", "736")
    )
    lines = printed(result(answers=answers), capsys)
    assert lines[:2] == [
        "733 thousand  tessaly.pdf#page=3  63% likely",
        "       Passengers: 733 thousand.",
    ]
    assert lines[2].startswith("734  ")
    assert not any("736" in line for line in lines)
    assert lines[6:8] == ["", "  1  tessaly.pdf#page=3  63% likely to answer  ▲1 was 2"]


def test_a_page_that_the_reranker_did_not_read_has_no_confidence_and_scores_are_only_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(result(), capsys)
    assert lines[2] == "  2  other.pdf#page=1"
    assert not any("1.25" in line for line in lines)
    assert "       score: +1.25, from rerank 3.000" in printed(result(), capsys, explain=True)


def test_that_no_page_answers_well_is_said_before_the_pages_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(
        result(Note("unknown_words", "Unknown words."), Note("weak_match", "No page answers this well.")),
        capsys,
    )
    assert lines[0] == "No page answers this well."
    assert lines.count("No page answers this well.") == 1
    assert lines[-2] == "Unknown words."


def test_a_reranking_that_was_cut_says_how_far_it_came_and_which_option_reads_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut = Decision("reranked_in_part", "reranked the first 7 of 20", 7, 20)
    assert printed(result(decision=cut), capsys)[-2] == (
        "Read 7 of 20 pages in time; the rest keep their first place. A larger --budget-ms reads the rest."
    )
