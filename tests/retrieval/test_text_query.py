"""Names, codes, part numbers and amounts are found as phrases among pages that have all their words elsewhere."""

import pytest
from lancedb.index import FTS

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.recall.recall import Recall
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.store.text_query import TextQuery, parse_text_query
from retrieval.types import Filter, QueryEmbedding
from tests.build import add_document
from tests.retrieval.test_ivf import ALWAYS

PAGES = [
    "The plant is certified to ISO 9001 since March",
    "ISO 14001 was audited; the plant made 9001 tons, and 9001 more",
    "Order part AB-12/4 from stock",
    "Parts 4 and 12 of type AB, 12 of AB, 4 of AB",
    "Margin rose to 12.3% as § 4.2 explains",
    "Margin fell to 3.12% as § 2.4 explains, 12 of 3 and 4 or 2",
    "The board approved the net interest margin of the bank",
    "interest on the margin, net of tax, net interest and margin interest",
    "amortization of goodwill", "amortised cost of loans", "the amount of loans", "Section 3 was amended",
]  # fmt: skip


@pytest.fixture
def filled(store: Store, encoder: HashingEncoder) -> Store:
    with store.writing():
        add_document(store, encoder, "a.pdf", PAGES)
        store.optimize()
    return store


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("net interest margin", TextQuery("net interest margin", (), ())),
        (
            'the "net interest margin" in 2023',
            TextQuery("net interest margin 2023", ("net interest margin",), ()),
        ),
        (
            "„Netto Marge“ und «le chiffre»",
            TextQuery("netto marge chiffre", ("netto marge", "le chiffre"), ()),
        ),
        ("ISO 9001?", TextQuery("iso 9001", ("iso 9001",), ())),
        ("what says § 4.2", TextQuery("says 4.2", ("4.2",), ())),
        ("part AB-12/4", TextQuery("part ab-12/4", ("ab-12/4",), ())),
        ("12.3%", TextQuery("12.3", ("12.3",), ())),
        ("1,234.50 EUR", TextQuery("1234.50 eur", ("1234.50",), ())),
        ("amorti* and Übertra*", TextQuery("amorti ubertra", (), ("amorti", "ubertra"))),
        ("a* ** x*", TextQuery("x", (), ())),
        ('"one" said', TextQuery("one said", (), ())),
        ("state-of-the-art method", TextQuery("state-of-the-art method", (), ())),
        ("", TextQuery("", (), ())),
    ],
)
def test_a_question_is_parsed_into_words_phrases_and_prefixes(query: str, expected: TextQuery) -> None:
    assert parse_text_query(query) == expected


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("ISO 9001", 1),
        ("AB-12/4", 3),
        ("12.3%", 5),
        ("§ 4.2", 5),
        ('"net interest margin"', 7),
        ("“Net Interest  Margin”", 7),
    ],
)
def test_a_page_with_the_phrase_comes_first(filled: Store, query: str, page: int) -> None:
    hits = filled.search_text(query, 5)
    assert hits[0][0] == f"a#{page}"
    assert len(hits) == 1 or hits[0][1] > hits[1][1]


def test_a_word_is_found_by_its_prefix(filled: Store) -> None:
    assert {page_id for page_id, _ in filled.search_text("amorti*", 5)} == {"a#9", "a#10"}
    assert set(filled.expand_prefix("amorti")) == {"amortization", "amortised"}
    assert filled.search_text("zzz*", 5) == []
    assert filled.expand_prefix("%%%") == ()


def test_a_prefix_does_not_match_inside_words(
    store: Store, encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.store.text_search.PREFIX_PAGES", 3)
    with store.writing():
        add_document(store, encoder, "a.pdf", ["report"] * 8 + ["the portfolio"])
    assert store.expand_prefix("port") == ("portfolio",)


def test_a_question_has_at_most_two_prefixes(filled: Store) -> None:
    assert len(parse_text_query(" ".join(f"abc{number}*" for number in range(50))).prefixes) == 2


def test_a_prefix_finds_the_words_of_a_new_document(filled: Store, encoder: HashingEncoder) -> None:
    assert filled.expand_prefix("zebra") == ()
    with filled.writing():
        add_document(filled, encoder, "b.pdf", ["zebras graze", "zebra's 50%_\\' zebrano"])
    assert set(filled.expand_prefix("zebra")) == {"zebras", "zebra", "zebrano"}


def test_the_stage_reports_phrases_and_prefixes(filled: Store) -> None:
    nothing = QueryEmbedding(HashingEncoder(64).encode_queries([""])[0].vectors, (), ())
    note = (
        Recall(filled, ALWAYS)
        .candidates('"net interest margin" amorti* ISO 9001', nothing, 5, Filter())
        .stage.note
    )
    assert '("net interest margin"; "iso 9001"; amorti* as amorti' in note


def test_a_text_index_without_positions_is_reported_and_replaced_by_optimize(filled: Store) -> None:
    plain = FTS(base_tokenizer="icu", language="English", stem=True, remove_stop_words=False)
    filled.tables.pages.create_index("search_text", config=plain, replace=True)
    nothing = QueryEmbedding(HashingEncoder(64).encode_queries([""])[0].vectors, (), ())
    assert filled.search_text("ISO 9001", 5)
    note = Recall(filled, ALWAYS).candidates("ISO 9001", nothing, 5, Filter()).stage.note
    assert "(no phrases, because the text index is missing: optimizing the index makes it)" in note
    filled.optimize()
    assert '("iso 9001")' in Recall(filled, ALWAYS).candidates("ISO 9001", nothing, 5, Filter()).stage.note


@pytest.mark.parametrize(
    ("query", "missing"),
    [
        ('which pages have "valve plate"?', ["valve plate"]),
        ("“NET interest   margin” of 2023", []),
        ('"interest margin net"', ["interest margin net"]),
        ("net interest margin", []),
    ],
)
def test_a_quoted_phrase_that_stands_nowhere_is_said(
    filled: Store, encoder: HashingEncoder, query: str, missing: list[str]
) -> None:
    searcher = Searcher(filled, encoder, None, configs.Search())
    notes = [note for note in searcher.search(query).notes if note.kind == "missing_phrase"]
    assert [note.text for note in notes] == [f"“{phrase}” stands on no page." for phrase in missing]
