"""The rules after reranking: what they move, what they fold, and how they describe it."""

from collections.abc import Sequence

import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.rules import apply_rules
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Document, Hit, Page, PageContent
from tests.build import ADDED, add_document, content

LONG = "the pump of station four failed twice in the spring of that year and was replaced by another"


def hit(doc: str, number: int, score: float, rank: int) -> Hit:
    return Hit(Page(doc, number, f"{doc}.pdf"), score, rank, rank, reranked=True)


def hits(*given: tuple[str, int, float]) -> list[Hit]:
    return [hit(doc, number, score, rank) for rank, (doc, number, score) in enumerate(given, start=1)]


def dated(**dates: str) -> dict[str, Document]:
    return {doc: Document(doc, f"{doc}.pdf", "", 9, ADDED, date=date) for doc, date in dates.items()}


def reading(texts: dict[tuple[str, int], str]):  # type: ignore[no-untyped-def]
    def read(pages: Sequence[Page]) -> dict[str, PageContent]:
        there = [page for page in pages if (page.doc_id, page.number) in texts]
        return {p.page_id: content(texts[p.doc_id, p.number], p.document, p.number) for p in there}

    return read


def order(found: Sequence[Hit]) -> list[tuple[str, int]]:
    return [(one.page.doc_id, one.page.number) for one in found]


def test_pages_that_repeat_a_better_one_stand_with_it() -> None:
    texts = {
        ("a", 1): LONG,
        ("b", 1): LONG + " today",
        ("c", 1): "quite another text " * 5,
        ("d", 1): "short",
        ("e", 1): "short",
    }
    found, (note,) = apply_rules(
        [configs.Fold(likeness=0.8)],
        hits(("a", 1, 5), ("c", 1, 4), ("b", 1, 3), ("d", 1, 2), ("e", 1, 1)),
        {},
        reading(texts),
    )
    assert order(found) == [("a", 1), ("c", 1), ("d", 1), ("e", 1)]  # too short to be told apart: kept
    assert [one.rank for one in found] == [1, 2, 3, 4]
    assert found[0].same == ("b.pdf#page=1",)
    assert note == "1 page folded into near-duplicates"


def test_a_page_that_was_removed_meanwhile_repeats_nothing() -> None:
    texts = {("a", 1): LONG, ("c", 1): LONG}
    found, _ = apply_rules([configs.Fold()], hits(("a", 1, 3), ("b", 1, 2), ("c", 1, 1)), {}, reading(texts))
    assert order(found) == [("a", 1), ("b", 1)]


def test_a_document_has_at_most_so_many_pages_in_front() -> None:
    given = hits(("a", 1, 9), ("a", 2, 8), ("a", 3, 7), ("b", 1, 6), ("a", 4, 5))
    found, (note,) = apply_rules([configs.PerDocument(most=2)], given, {}, reading({}))
    assert order(found) == [("a", 1), ("a", 2), ("b", 1), ("a", 3), ("a", 4)]
    assert note == "2 pages beyond the first 2 of a document put behind the others"


def test_of_nearly_equal_pages_the_newer_comes_first() -> None:
    given = hits(("old", 1, 2.0), ("new", 1, 1.9), ("newest", 1, 1.0), ("undated", 1, 0.99))
    found, (note,) = apply_rules(
        [configs.NewerFirst(within=0.2)],
        given,
        dated(old="2019", new="2023-05", newest="2024", undated=""),
        reading({}),
    )
    assert order(found) == [("new", 1), ("old", 1), ("newest", 1), ("undated", 1)]
    assert note == "1 page put before older ones of nearly the same score"


def test_rules_work_one_after_the_other() -> None:
    texts = {
        ("a", 1): LONG,
        ("a", 2): LONG,
        ("a", 3): "something else " * 9,
        ("b", 1): "and more besides " * 9,
    }
    given = hits(("a", 1, 4), ("a", 2, 3), ("a", 3, 2), ("b", 1, 1))
    found, notes = apply_rules([configs.Fold(), configs.PerDocument(most=1)], given, {}, reading(texts))
    assert order(found) == [("a", 1), ("b", 1), ("a", 3)]
    assert len(notes) == 2


@pytest.mark.parametrize("rerank", [True, False])
def test_a_search_says_what_its_rules_did(store: Store, encoder: HashingEncoder, rerank: bool) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", [LONG, LONG + " too", "pump oil"])
        add_document(store, encoder, "b.pdf", ["pump"])
    rules = (configs.Fold(likeness=0.8), configs.PerDocument(most=1))
    searcher = Searcher(store, encoder, OverlapReranker(), configs.Search(rules=rules))
    result = searcher.search("pump failed", rerank=rerank)
    assert result.stages[-1].name == "rules"
    assert "1 page folded" in result.stages[-1].note
    assert [one.rank for one in result.hits] == [1, 2, 3]
    assert result.hits[1].page.document == "b.pdf"
    assert len(result.candidates) == 4
