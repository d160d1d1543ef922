import itertools
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import snowballstemmer

from retrieval.text import fold, has_unspaced_script, stem, stems, words


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Überprüfung", "uberprufung"),
        ("1,234,567.8", "1234567.8"),
        ("1.234,5", "1234,5"),
        ("STRASSE Straße", "strasse strasse"),
        ("3.14", "3.14"),
        ("2024,12", "2024,12"),
        ("Arden's car, Arden’s", "arden car, arden"),
    ],
)
def test_folding_drops_case_accents_and_digit_grouping(text: str, folded: str) -> None:
    assert fold(text) == folded


def test_codes_stay_one_word() -> None:
    assert words("Order FX-2207-B, rev. 1.2!") == ["order", "fx-2207-b", "rev", "1.2"]


def test_inflections_share_a_stem_and_numbers_keep_theirs() -> None:
    assert stem("inspections") == stem("inspected") == "inspect"
    assert stems("2023s 1990") == ("2023s", "1990")
    assert stems("The Inspections, 1,234!") == ("the", "inspect", "1234")


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("frequent_switches")
def test_threads_that_stem_new_words_at_once_get_the_stems_that_one_thread_gets() -> None:
    heads = ["".join(letters) for letters in itertools.product("bcdfghkl", "aeiou", "mnprst")]
    new = [
        f"{head}{end}" for head in heads for end in ("ationally", "iveness", "ousli", "ied", "ings", "ement")
    ]
    alone = snowballstemmer.stemmer("english")
    expected = [alone.stemWord(word) for word in new]
    start = threading.Barrier(4)

    def work(
        first: int,
    ) -> list[str]:  # each thread begins at another word, so that every word is new to somebody
        start.wait()
        return [stem(word) for word in (*new[first:], *new[:first])]

    firsts = range(0, len(new), len(new) // 4)
    with ThreadPoolExecutor(4) as pool:
        for first, found in zip(firsts, pool.map(work, firsts), strict=True):
            assert found == [*expected[first:], *expected[:first]]
    assert [stem(word) for word in new] == expected, "a wrong stem was cached"


def test_a_text_too_long_to_be_cached_has_the_same_stems() -> None:
    assert stems("Inspections " * 100) == ("inspect",) * 100
    assert stem("x" * 70 + "ings") == "x" * 70 + "ing"


def test_scripts_without_spaces_are_noticed() -> None:
    assert has_unspaced_script("売上高は?")
    assert not has_unspaced_script("revenue, выручка")
