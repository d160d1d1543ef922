"""Places that questions name: how they are parsed in three languages, found on pages, and change the ranking."""

from collections.abc import Sequence

import pytest

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.recall import locators
from retrieval.recall.locators import AT_PLACE, CAPTION, MENTION
from retrieval.recall.recall import Recall
from retrieval.store.store import Store
from retrieval.types import Filter, Page, PageContent, Word
from tests.build import add_document


@pytest.mark.parametrize(
    ("question", "pages", "labels"),
    [
        ("the chart on page 14 of the report", {14}, set()),
        ("What do slides 3-5 say?", {3, 4, 5}, set()),
        ("from Page 3 to Page 10", {3, 4, 5, 6, 7, 8, 9, 10}, set()),
        ("pages 2 and 9", {2, 9}, set()),
        ("pp. 51–53", {51, 52, 53}, set()),
        ("pages 1 to 90000", {1, 90000}, set()),
        ("the first page, and the last page", {1, -1}, set()),
        ("on the 12th slide", {12}, set()),
        ("auf Seite 12, Abbildung 3", {12}, {("figure", "3")}),
        ("à la page 4, tableau 2", {4}, {("table", "2")}),
        ("Figures 1-3", set(), {("figure", n) for n in ("1", "2", "3", "1-3")}),
        ("Table1-1", set(), {("table", "1-1")}),
        ("Fig. 2b and § 3.2", set(), {("figure", "2b"), ("section", "3.2")}),
        ("Appendix B", set(), {("appendix", "b")}),
        ("Notes 4 and 5", set(), {("note", "4"), ("note", "5")}),
        ("How many pages are there? 5 pages about 20 slides", set(), set()),
        ("Which figure is largest, and does the chart a reader sees say 14%?", set(), set()),
        ("page 10% of the width, or page 3.5", set(), set()),
        ("The table I need", set(), set()),
    ],
)
def test_places_are_parsed_from_questions(
    question: str, pages: set[int], labels: set[tuple[str, str]]
) -> None:
    asked = locators.parse_locators(question)
    assert asked.pages == pages
    assert asked.labels == labels
    assert bool(asked) == bool(pages or labels)


def content(number: int, *lines: str, at: Sequence[float] = ()) -> PageContent:
    """A page with each line at its height in `at`, or one below the other from 0.3 of the page's height on."""
    words = []
    for row, line in enumerate(lines):
        top = at[row] if at else 0.3 + 0.03 * row
        words += [
            Word(text, (0.1 + 0.08 * i, top, 0.17 + 0.08 * i, top + 0.02))
            for i, text in enumerate(line.split())
        ]
    return PageContent(Page("d", number, "d.pdf"), tuple(words), "text layer", lambda: None)  # type: ignore[arg-type, return-value]


def matched(question: str, *pages: PageContent, count: int = 20) -> list[float]:
    return locators.match_locators(locators.parse_locators(question), pages, [count] * len(pages))


def test_a_page_matches_by_its_position_in_the_file_and_by_its_printed_number() -> None:
    by_place = content(14, "nothing here")
    printed = content(16, "Annual report 14", at=[0.95])
    in_text = content(17, "there were 14 of them")
    total = content(18, "Sheet 3 of 14", at=[0.03])
    assert matched("chart on page 14", by_place, printed, in_text, total) == [AT_PLACE, AT_PLACE, 0, 0]
    assert matched("the last page", content(20, "end"), content(19, "nearly")) == [AT_PLACE, 0]


def test_a_caption_counts_more_than_a_mention_and_other_numbers_do_not() -> None:
    caption = content(1, "Some text above", "Figure 2. Removal by week")
    mention = content(2, "as we saw in figure 2 above")
    other = content(3, "Figure 12. Another", "Table 2. The groups", "Figure 2.1 too")
    assert matched("what does Fig. 2 show", caption, mention, other) == [CAPTION, MENTION, 0]
    assert matched("Abbildung 2", caption, other) == [CAPTION, 0]
    heading = content(4, "3.2 Results of the trial", "and 3.3 follows")
    assert matched("section 3.2", heading, other) == [CAPTION, 0]
    assert matched("section 3.3", heading) == [0]
    assert (
        matched("items in Table1-1?", content(5, "Table 1-1: items"), content(6, "Table1-1: items"))
        == [CAPTION] * 2
    )


def recalled(
    store: Store, encoder: HashingEncoder, question: str, weight: float, depth: int = 5
) -> list[int]:
    settings = configs.Search(reference_weight=weight)
    query = encoder.encode_queries([question])[0]
    found = Recall(store, settings).candidates(question, query, depth, Filter(documents=("a.pdf",)))
    return [hit.page.number for hit in found.hits]


def test_a_page_that_the_question_names_is_ranked_higher_even_from_outside_the_candidates(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        texts = [f"revenue grew chart {n}" for n in range(30)]
        add_document(store, encoder, "a.pdf", [*texts, "pictures only", *texts])
    question = "revenue chart on page 31"
    assert 31 not in recalled(store, encoder, question, weight=0)
    assert recalled(store, encoder, question, weight=5)[0] == 31
    assert recalled(store, encoder, "revenue chart", weight=2) == recalled(
        store, encoder, "revenue chart", weight=0
    )


def test_the_stage_says_which_place_the_question_names(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["one", "two", "three"])
    query = encoder.encode_queries(["two on page 2"])[0]
    found = Recall(store, configs.Search()).candidates("two on page 2", query, 5, Filter())
    assert "1 have what the question names: page 2" in found.stage.note
    assert {hit.page.number: hit.scores.get("place") for hit in found.hits} == {1: None, 2: 2.0, 3: None}
