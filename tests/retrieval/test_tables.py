"""Rows, columns, heads and sections of tables, among words at these places, and the lines that a reader gets."""

import time
from collections.abc import Sequence

import pytest

from retrieval.layout import Layout
from retrieval.reading_lines import INSERTED, reading_lines
from retrieval.tables import Row, Tables
from retrieval.types import Word
from tests.retrieval.test_page_layout import TABLE, page

TWO_TABLES = """
Planned for 2024
Measure                    Cost, euro   Saving, MWh
New ventilation            745,000      310
Heat pump                  186,000      82

The money comes from the county, which pays for a third of all windows in schools.

Revenue by quarter
£ million                  Q1       Q2       2023
Ferry Services             28.7     47.9     176.3
  Of which summer          1.2      30.1     61.0
Assets
Goodwill                   48.0     48.1     48.2
"""


def tables(text: str | Sequence[Word]) -> Tables:
    words = page(text) if isinstance(text, str) else text
    return Tables(Layout(words, 600, 800))


def row_with(found: Tables, text: str) -> Row:
    at = next(i for i, word in enumerate(found.layout.words) if word.text == text)
    row = found.row_at(at)
    assert row is not None
    return row


def texts(found: Tables, row: Row) -> list[tuple[str, str]]:
    """The heads and the text of each cell."""
    layout = found.layout
    return [
        (" ".join(layout.text(head.first, head.end) for head in heads), layout.text(cell.first, cell.end))
        for cell, heads in zip(row.cells, row.heads, strict=True)
    ]


def lines(found: Tables) -> list[str]:
    return [" ".join(line.texts) for line in reading_lines(found)]


def test_each_value_has_the_head_above_it() -> None:
    found = tables(TABLE)
    assert texts(found, row_with(found, "17,940"))[1:] == [
        ("2021", "16,210"),
        ("2022", "17,940"),
        ("2023", "18,020"),
    ]


def test_prose_is_in_no_row() -> None:
    found = tables(TABLE)
    at = next(i for i, word in enumerate(found.layout.words) if word.text == "hedged.")
    assert found.row_at(at) is None


def test_prose_between_two_tables_ends_the_first_with_its_heads() -> None:
    found = tables(TWO_TABLES)
    assert texts(found, row_with(found, "186,000")) == [
        ("Measure", "Heat pump"),
        ("Cost, euro", "186,000"),
        ("Saving, MWh", "82"),
    ]
    assert texts(found, row_with(found, "47.9")) == [
        ("£ million", "Ferry Services"),
        ("Q1", "28.7"),
        ("Q2", "47.9"),
        ("2023", "176.3"),
    ]


def test_a_line_alone_names_the_rows_below_it() -> None:
    found = tables(TWO_TABLES)
    section = row_with(found, "48.1").section
    assert section is not None
    assert found.layout.text(section.first, section.end) == "Assets"


def test_labels_are_no_heads_of_the_labels_below_them() -> None:
    found = tables(TABLE)
    assert texts(found, row_with(found, "301"))[0] == ("", "Sailings cancelled, weather")


def test_a_head_over_two_columns_in_the_last_line_of_heads_is_shared_out_by_its_words() -> None:
    text = """
Building     Heat 2022 Heat 2023
Town hall      1,486     2,441
School         1,512     2,468
"""
    found = tables(text)
    assert texts(found, row_with(found, "2,441"))[1:] == [
        ("Heat 2022", "1,486"),
        ("Heat 2023", "2,441"),
    ]


def test_the_years_under_the_bars_of_a_chart_are_heads() -> None:
    text = """
Accidents a year
412       405       398
2021      2022      2023
"""
    found = tables(text)
    assert texts(found, row_with(found, "405")) == [("2021", "412"), ("2022", "405"), ("2023", "398")]


def test_years_below_a_row_that_has_heads_change_nothing() -> None:
    text = """
Item         Alpha     Beta      Gamma
Employees    120       340       560

             2019      2020
"""
    found = tables(text)
    assert texts(found, row_with(found, "340"))[1:] == [("Alpha", "120"), ("Beta", "340"), ("Gamma", "560")]


def test_a_row_of_years_is_a_row() -> None:
    text = """
Item         Alpha     Beta      Gamma
Employees    120       340       560
Founded      1998      2003      2011
Revenue      10        20        30
"""
    found = tables(text)
    assert texts(found, row_with(found, "2003"))[2] == ("Beta", "2003")
    assert texts(found, row_with(found, "20"))[2] == ("Beta", "20")


def test_a_table_of_years_has_rows() -> None:
    text = """
Plan         From      To
Harbour      2019      2023
Bridge       2020      2024
"""
    found = tables(text)
    assert texts(found, row_with(found, "2023")) == [("Plan", "Harbour"), ("From", "2019"), ("To", "2023")]


def test_short_lines_of_prose_in_two_columns_are_no_rows() -> None:
    text = """
rose to a record of             the ship left the harbour
45 million euro in              at noon and came back
the year to June                in the evening
"""
    assert tables(text).rows == []


@pytest.mark.parametrize("mark", ["–", "•", "2.", "(a)"])
def test_a_mark_of_a_list_is_no_cell(mark: str) -> None:
    found = tables(f"{mark}      Increase the share of ferries\n{mark}      Fewer accidents")
    assert found.rows == []


def test_the_second_line_of_a_label_and_a_footnote_name_no_rows() -> None:
    text = """
Item              2021      2022
Property, plant   10        20
and equipment
Cash              5         6
1) restated
Staff             7         8
"""
    found = tables(text)
    assert row_with(found, "5").section is None
    assert row_with(found, "7").section is None


def turned(words: Sequence[Word]) -> list[Word]:
    """The words of a page turned by 90 degrees."""
    return [Word(word.text, (b, x0, d, x1)) for word in words for x0, b, x1, d in [word.box]]


def test_text_that_was_turned_is_in_no_table() -> None:
    assert tables(turned(page("They paid 40 for it\nand sold 12 ships\nafter that year"))).rows == []


def test_the_upright_label_of_an_axis_does_not_move_a_row() -> None:
    words = [*page(TABLE), Word("Tonnes", (0.01, 0.12, 0.03, 0.2))]
    assert tables(words).rows[0].cells[0].first == tables(page(TABLE)).rows[0].cells[0].first


def test_a_page_written_from_right_to_left_has_no_tables() -> None:
    assert tables(page("בעיר חיפה     1998     2003\nעל ידי     12     40")).rows == []


def test_a_page_full_of_scattered_numbers_is_read_in_little_time() -> None:
    """Thousands of cells that stand below each other by chance are a map: no columns are made of them."""
    words = [
        Word(
            str(i),
            (
                (i * 37 % 997) / 1000,
                (i * 11 % 463) / 470,
                (i * 37 % 997) / 1000 + 0.004,
                (i * 11 % 463) / 470 + 0.002,
            ),
        )
        for i in range(6000)
    ]
    began = time.process_time()
    tables(words)
    assert time.process_time() - began < 3


def test_a_table_without_numbers_has_its_first_line_as_heads() -> None:
    text = """
Exit      Place      State
S1        Store      open
S3        Yard       closed for works
"""
    found = tables(text)
    assert texts(found, row_with(found, "closed")) == [
        ("Exit", "S3"),
        ("Place", "Yard"),
        ("State", "closed for works"),
    ]


def test_rows_whose_cells_are_apart_in_reading_order_are_put_together() -> None:
    """Some PDFs draw their tables column by column."""
    rows = [("Holm", "733"), ("Scarra", "512")]
    names = [Word(name, (0.1, 0.1 + 0.03 * i, 0.2, 0.12 + 0.03 * i)) for i, (name, _) in enumerate(rows)]
    values = [Word(value, (0.5, 0.1 + 0.03 * i, 0.55, 0.12 + 0.03 * i)) for i, (_, value) in enumerate(rows)]
    found = tables([*names, *values])
    assert lines(found) == ["Holm | 733", "Scarra | 512"]


def test_a_reader_gets_the_heads_beside_the_values_and_each_word_once() -> None:
    found = tables(TWO_TABLES)
    assert "Planned for 2024 / Measure : Heat pump | Cost, euro : 186,000 | Saving, MWh : 82" in lines(found)
    own = [word for line in reading_lines(found) for word in line.words if word != INSERTED]
    assert sorted(own) == list(range(len(found.layout.words)))


@pytest.mark.parametrize("columns", [12, 40])
def test_a_long_row_is_cut_and_each_part_begins_with_its_label(columns: int) -> None:
    head = "Site      " + "".join(f"{f'H{i}':12}" for i in range(columns))
    values = "Hexley    " + "".join(f"{f'{i},111':12}" for i in range(columns))
    made = lines(tables(f"{head}\n{values}\n{values.replace('Hexley', 'Other ')}"))
    parts = [line for line in made if " H0 :" in line or f" H{columns - 1} :" in line]
    assert len(parts) == 4  # the first and the last part of both rows
    assert all("Hexley" in line.split("|")[0] or "Other" in line.split("|")[0] for line in parts)


def test_a_page_without_words_has_no_rows() -> None:
    assert tables([]).rows == []
    assert reading_lines(tables([])) == []
