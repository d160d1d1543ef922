"""Lines, cells and sentences are found among words that a page has at these places."""

import pytest

from retrieval.layout import Layout
from retrieval.types import Word

TABLE = """
Punctuality and cancellations
                              2021     2022     2023
Sailings planned              16,210   17,940   18,020
Sailings cancelled, weather   301      233      274
Fuel costs are not hedged. A surcharge follows the price with a delay of two months.
It brought five million pounds.
"""


def page(text: str) -> list[Word]:
    """The words of monospaced text: a character is 1% of the page wide, a line 2% high; several blanks are a gap."""
    words = []
    for row, line in enumerate(text.strip("\n").split("\n")):
        at = 0
        for part in line.split(" "):
            if part:
                left, top = 0.05 + at / 120, 0.1 + 0.03 * row
                words.append(Word(part, (left, top, left + (len(part) - 0.1) / 120, top + 0.02)))
            at += len(part) + 1
    return words


@pytest.fixture(scope="module")
def layout() -> Layout:
    return Layout(page(TABLE), 600, 800)


def at(layout: Layout, text: str) -> int:
    return next(i for i, word in enumerate(layout.words) if word.text == text)


def test_a_line_of_prose_is_one_cell_and_one_of_a_table_has_several(layout: Layout) -> None:
    assert len(layout.line_at(at(layout, "hedged.")).cells) == 1
    assert len(layout.line_at(at(layout, "17,940")).cells) == 4


def test_values_are_told_from_words(layout: Layout) -> None:
    numeric = [
        layout.text(cell.first, cell.end)
        for line in layout.lines
        for cell in line.cells
        if layout.is_numeric(cell)
    ]
    assert numeric == ["2021", "2022", "2023", "16,210", "17,940", "18,020", "301", "233", "274"]


def test_a_sentence_goes_over_lines_and_ends_at_its_full_stop(layout: Layout) -> None:
    word = at(layout, "surcharge")
    assert layout.text(*layout.sentence(word, word + 1)) == (
        "A surcharge follows the price with a delay of two months."
    )
    word = at(layout, "brought")
    assert layout.text(*layout.sentence(word, word + 1)) == "It brought five million pounds."


def test_a_title_is_no_part_of_the_sentence_below_it() -> None:
    layout = Layout(page("Fuel\n\n\nWe do not hedge it."), 600, 800)
    assert layout.text(*layout.sentence(1, 2)) == "We do not hedge it."


def test_words_over_two_lines_have_a_box_for_each_line() -> None:
    layout = Layout(page("It was closed in the\nspring of that year."), 600, 800)
    first, second = layout.boxes(3, 7)
    assert first[1] < second[1]
    assert first == (layout.words[3].box[0], *layout.words[3].box[1:2], *layout.words[4].box[2:])


def test_a_page_without_words_has_no_lines() -> None:
    assert Layout([]).lines == []
