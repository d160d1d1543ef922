import pytest

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
    assert stems("2023s 1990") == ["2023s", "1990"]


def test_scripts_without_spaces_are_noticed() -> None:
    assert has_unspaced_script("売上高は?")
    assert not has_unspaced_script("revenue, выручка")
