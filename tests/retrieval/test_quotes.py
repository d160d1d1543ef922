"""Quotes on a page: which differences are accepted, and which ones change what is said."""

import pytest

from retrieval.answering.parse import Claim, Evidence, Part, Reply
from retrieval.answering.quotes import QuotablePage, missing_numbers, negation_differs, normal_number
from retrieval.types import PageContent, Word
from tests.build import content

PAGE = content(
    "Net revenue rose by 12.5 % to $1,234 million in 2023.\n"
    "The tenant shall not be permitted to sublet.\n"
    "The employer pays the premium of the policy² in advance\n"
    "Reve- nue of 1 234 567 was not audited\n"
    "You don't pay -3.5 % for items 10-12"
)


@pytest.mark.parametrize(
    ("quote", "text", "exact"),
    [
        ("net REVENUE rose by 12.5% to $1,234 million", "Net revenue rose by 12.5 % to $1,234 million", True),
        ("Revenue of 1,234,567", "Reve- nue of 1 234 567", True),  # hyphenated, and grouped by spaces
        ("premium of the policy in advance", "premium of the policy² in advance", True),  # a footnote's mark
        ("you do not pay -3.5%", "You don't pay -3.5 %", True),
        ("items 10–12", "items 10-12", True),
        ("Net revenue … in 2023", "Net revenue … in 2023.", True),  # parts, in their order
        ("rose 12.5% to $1,234 million", "rose by 12.5 % to $1,234 million", False),  # a filler word left out
        ("The ernployer pays premium of the poliey", "The employer pays the premium of the policy²", False),
    ],
)
def test_a_quote_is_found_with_differences_that_say_nothing(quote: str, text: str, exact: bool) -> None:
    found = QuotablePage(PAGE).find(quote)
    assert found is not None
    assert (found.text, found.exact) == (text, exact)


@pytest.mark.parametrize(
    "quote",
    [
        "rose by 125 % to $1,234 million",  # the decimal point
        "rose by 12.5 % to $1,235 million",
        "234 million",  # the end of a number
        "you do not pay 3.5%",  # the sign
        "shall be permitted to sublet",  # the negation
        "you pay -3.5%",
        "The employee pays the premium",  # one letter, another party
        "Net revenue fell by 12.5 %",
        "Net revenue rose by 12.5 % to $1,234 thousand",
        "in 2023 … Net revenue",  # parts in another order
        "million to $1,234",
        "... …",
        "",
    ],
)
def test_a_quote_that_says_something_else_is_not_found(quote: str) -> None:
    assert QuotablePage(PAGE).find(quote) is None


def test_a_quote_that_leaves_out_the_negation_before_it_is_marked() -> None:
    page = QuotablePage(PAGE)
    assert [page.find(q).behind_negation for q in ("permitted to sublet", "shall not be permitted", "in advance")] == [  # type: ignore[union-attr]
        True, False, False,
    ]  # fmt: skip


def test_a_table_row_is_found_although_the_page_stores_columns() -> None:
    rows = [("Rent", "1,250"), ("Fee", "40")]
    words = [
        Word(rows[r][c], (0.1 + 0.4 * c, 0.1 + 0.05 * r, 0.2 + 0.4 * c, 0.12 + 0.05 * r))
        for c in (0, 1)
        for r in (0, 1)
    ]
    table = PageContent(PAGE.page, tuple(words), "text layer", bytes)
    found = QuotablePage(table).find("Rent 1,250")
    assert found is not None
    assert [box[0] for box in found.boxes] == [0.1, 0.5]  # two cells, not the gap between them


def test_lines_have_boxes_of_their_own() -> None:
    found = QuotablePage(PAGE).find("in 2023. The tenant shall not")
    assert found is not None
    assert [box[1] for box in found.boxes] == pytest.approx([0.1, 0.13])


def test_a_part_of_a_sentence_without_spaces_is_found() -> None:
    page = QuotablePage(content("本公司不承担运费 12 元"))
    assert page.find("不承担运费") is not None
    assert page.find("本公司承担运费") is None


@pytest.mark.parametrize(
    ("text", "normal"),
    [("1,234.50", "1234.5"), ("1.234,50", "1234.5"), ("-12", "-12"), ("$1,234", "1234"), ("0.125", "0.125"),
     ("12.0", "12"), ("1.5.2", "1.5.2"), ("1,234,567", "1234567"), ("1.234.567,8", "1234567.8"), ("007", "7")],
)  # fmt: skip
def test_numbers_have_one_notation(text: str, normal: str) -> None:
    assert normal_number(text) == normal


@pytest.mark.parametrize(
    ("sentence", "quote", "missing"),
    [
        ("Revenue was $1 234 million, up 12.50 % [1].", "rose by 12.5% to 1,234 million", []),
        ("It was 13 %", "12 %", ["13"]),
        ("It fell by 3.5 %", "-3.5 %", []),
        ("It took 3 days", "three days", []),
        ("In 2023 it was 5", "it was 5", ["2023"]),
    ],
)
def test_the_numbers_of_a_sentence_must_be_in_its_quotes(
    sentence: str, quote: str, missing: list[str]
) -> None:
    assert missing_numbers(sentence, [quote]) == missing


def test_a_negation_on_one_side_only_differs_unless_a_word_denies_too() -> None:
    assert negation_differs("It does not apply", ["it applies to all"])
    assert negation_differs("It applies", ["it doesn't apply"])
    assert not negation_differs("Dogs are not allowed", ["dogs are prohibited"])
    assert not negation_differs("It does not apply", ["this never applies"])


@pytest.mark.parametrize("step", [1, 3, 7, 1000])
def test_a_reply_is_read_the_same_in_pieces_of_any_size(step: int) -> None:
    both = (Claim('He "said"\n so.', (Evidence(1, 'a "b"'),)), Claim("No.", ()))
    as_json = (
        '{"claims": [{"evidence": [{"page": 1, "quote": "a \\"b\\""}], "text": "He \\"said\\"\\n so."}, '
        '{"evidence": [], "text": "No."}]}'
    )
    rose = Claim("It rose", (Evidence(1, "it rose"),))
    fell = Claim("Then fell", (Evidence(2, "a"), Evidence(3, "b")))
    expected: dict[str, tuple[Claim, ...]] = {
        as_json: both,
        f"```json\n{as_json}\n```": both,
        as_json[:-24]: both[:1],
        '<think>{"c"</think>It rose [1] "it rose". Then fell [2] "a" [3] “b”.\nDone': (rose, fell, Claim("Done", ())),
        "I do [not] know": (Claim("I do [not] know", ()),),
        "It rose [1] \"it rose": (Claim("It rose", (Evidence(1, ""),)), Claim('"it rose', ())),
        "NOT_FOUND": (),
        "": (),
    }  # fmt: skip
    for text, claims in expected.items():
        reply = Reply()
        events = [event for at in range(0, len(text), step) for event in reply.feed(text[at : at + step])]
        events += reply.end()
        assert tuple(event for event in events if isinstance(event, Claim)) == claims, text
        assert "".join(event.text for event in events if isinstance(event, Part)) == "".join(
            c.text for c in claims
        )
        assert reply.not_found == (text == "NOT_FOUND")
        assert reply.is_broken == (text == as_json[:-24])
