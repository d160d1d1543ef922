"""Lines, rows, cells, heads and sentences are found among words that a page has at these places."""

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


def cells(layout: Layout, word: str) -> list[str]:
    return [layout.text(cell.first, cell.end) for cell in layout.row_at(at(layout, word))]


def test_a_row_has_cells_and_a_line_of_prose_is_one_cell(layout: Layout) -> None:
    assert cells(layout, "17,940") == ["Sailings planned", "16,210", "17,940", "18,020"]
    assert cells(layout, "hedged.") == []
    assert len(layout.line_at(at(layout, "hedged.")).cells) == 1


def test_a_column_has_the_head_above_its_values(layout: Layout) -> None:
    heads = layout.heads_of(layout.cell_at(at(layout, "233")))
    assert [layout.text(head.first, head.end) for head in heads] == ["2022"]


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


def test_a_row_whose_cells_are_apart_in_reading_order_is_put_together() -> None:
    """Some PDFs draw their tables column by column."""
    rows = [("Holm", "733"), ("Scarra", "512")]
    names = [Word(name, (0.1, 0.1 + 0.03 * i, 0.2, 0.12 + 0.03 * i)) for i, (name, _) in enumerate(rows)]
    values = [Word(value, (0.5, 0.1 + 0.03 * i, 0.55, 0.12 + 0.03 * i)) for i, (_, value) in enumerate(rows)]
    layout = Layout([*names, *values], 600, 800)
    assert cells(layout, "512") == ["Scarra", "512"]


def test_a_page_without_words_has_no_lines() -> None:
    assert Layout([]).lines == []
