"""Windows of lines: their pieces belong to words of the page, or to none."""

from collections.abc import Sequence

import pytest

from rerankers.line_windows import encode_lines, line_windows
from retrieval.reading_lines import INSERTED, ReadingLine

LINES = [
    ReadingLine(("Total", "|", "2023", ":", "1,5"), (0, INSERTED, INSERTED, INSERTED, 1)),
    ReadingLine(("It", "fell", "again"), (2, 3, 4)),
    ReadingLine(("in", "spring"), (5, 6)),
]


def encode(texts: Sequence[str]) -> list[list[int]]:
    """A piece for each character."""
    return [[ord(character) for character in text] for text in texts]


def test_windows_overlap_by_half_and_are_never_longer_than_the_room() -> None:
    lines = encode_lines(encode, LINES, 20)
    windows = line_windows(lines, 20)
    assert [(window.first, window.end) for window in windows] == [(0, 1), (1, 3)]
    assert all(len(window.pieces) == len(window.words) <= 20 for window in windows)


def test_the_words_of_the_page_are_found_among_the_pieces() -> None:
    (window,) = line_windows(encode_lines(encode, LINES, 90), 90)
    words, begins, stretches = window.spots()
    assert list(words) == [0, 1, 2, 3, 4, 5, 6]
    assert list(stretches) == [0, 1, 1, 1, 1, 1, 1]
    assert "".join(map(chr, window.pieces[begins[1] : begins[2]])) == "1,5"


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [(1, 1, "1,5"), (3, 5, "fellagainin"), (0, 1, None), (6, 7, None)],
    ids=["one word", "over a line's end", "with a head between", "not in the window"],
)
def test_a_place_is_words_that_stand_together(first: int, last: int, text: str | None) -> None:
    (window,) = line_windows(encode_lines(encode, LINES, 90), 90)
    place = window.place(first, last)
    assert (place and "".join(map(chr, window.pieces[place[0] : place[1] + 1]))) == text


def test_a_line_longer_than_the_room_goes_on_in_the_next() -> None:
    lines = encode_lines(encode, LINES[1:2], 5)
    assert ["".join(map(chr, line.pieces)) for line in lines] == ["Itfel", "lagai", "n"]
    assert [line.line for line in lines] == [0, 0, 0]
    windows = line_windows(lines, 5)
    assert {word for window in windows for word in window.words} == {2, 3, 4}
    assert line_windows([], 5) == []
