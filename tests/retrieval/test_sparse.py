"""Sparse vectors of passages: their encoders, their lists, and what a search makes of them."""

from collections.abc import Sequence
from datetime import timedelta
from math import log
from pathlib import Path

import numpy as np
import pytest

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.encoders.sparse import LENGTH, PassageEncoder, SparseVector
from retrieval.errors import IndexBusy
from retrieval.recall.sparse import upkeep
from retrieval.recall.sparse.lists import MANIFEST
from retrieval.recall.sparse.segment import STEPS
from retrieval.search import Searcher
from retrieval.store.locks import locked
from retrieval.store.store import Store
from retrieval.types import Document, Filter
from tests.build import ADDED, add_document
from ui import factory

SPARSE = configs.Search(sparse=configs.Passages())
OCEAN = ["walrus on ice", "a walrus and a seal", "seal", ""]


class Letters:
    """A sparse encoder whose tokens are letters: a word is a passage, a letter weighs as often as it is there."""

    name = "letters"
    most = 5.0
    by_rarity = False

    def encode_pages(self, pages: Sequence[Sequence[str]]) -> list[list[SparseVector]]:
        return [[self.encode_query(word) for word in page] for page in pages]

    def encode_query(self, query: str) -> SparseVector:
        letters = sorted(set(query))
        counts = np.array([query.count(letter) for letter in letters], np.float32)
        return SparseVector(np.array([ord(letter) for letter in letters], np.uint32), counts)


def documents(store: Store) -> dict[str, Document]:
    return {document.doc_id: document for document in store.documents()}


def scores(store: Store, query: str, where: Filter | None = None, count: int = 10) -> dict[str, float]:
    encoder = Letters()
    lists = upkeep.load_lists(store, encoder)
    assert lists is not None
    allowed = {document.doc_id: document for document in store.documents(where or Filter())}
    found = lists.scores(encoder.encode_query(query), False, allowed, where.scanned if where else None)
    return found.best(count)


@pytest.fixture
def lettered(store: Store, encoder: HashingEncoder) -> Store:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["aab b", "bbb", ""])
        add_document(store, encoder, "b.pdf", ["ba ba"], source="ocr")
    assert upkeep.refresh(store, Letters())
    return store


def test_a_page_scores_as_its_best_passage(lettered: Store) -> None:
    # Page 1 has the passages aab (2 a, 1 b) and b; the question weighs a once and b twice.
    assert scores(lettered, "abb") == pytest.approx({"a#1": 4.0, "a#2": 6.0, "b#1": 3.0}, abs=3 * 5 / STEPS)
    assert list(scores(lettered, "abb")) == ["a#2", "a#1", "b#1"]
    assert list(scores(lettered, "abb", count=1)) == ["a#2"]
    assert scores(lettered, "xyz") == {}


def test_filters_leave_pages_out(lettered: Store) -> None:
    assert list(scores(lettered, "abb", Filter(documents=("b.pdf",)))) == ["b#1"]
    assert list(scores(lettered, "abb", Filter(scanned=False))) == ["a#2", "a#1"]


def test_a_refresh_adds_only_what_is_missing_and_segments_do_not_change_scores(
    lettered: Store, encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not upkeep.refresh(lettered, Letters())
    with lettered.writing():
        add_document(lettered, encoder, "c.pdf", ["aaaa", "c"])
    assert upkeep.refresh(lettered, Letters())
    apart = upkeep.load_lists(lettered, Letters())
    assert apart is not None
    assert [len(segment) for segment in apart.segments] == [4, 2]
    before = scores(lettered, "abc")
    monkeypatch.setattr(upkeep, "MOST_SEGMENTS", 1)
    monkeypatch.setattr(upkeep, "SMALL", 2.0)
    assert upkeep.refresh(lettered, Letters())
    merged = upkeep.load_lists(lettered, Letters())
    assert merged is not None
    assert [len(segment) for segment in merged.segments] == [6]
    assert scores(lettered, "abc") == before


def test_removed_documents_are_not_found_and_are_dropped_once_they_are_many(lettered: Store) -> None:
    with lettered.writing():
        lettered.remove(["a"])
    assert list(scores(lettered, "abb")) == ["b#1"]
    assert upkeep.refresh(lettered, Letters())
    lists = upkeep.load_lists(lettered, Letters())
    assert lists is not None
    assert [doc_id for segment in lists.segments for doc_id, _ in segment.documents] == ["b"]
    assert list(scores(lettered, "abb")) == ["b#1"]


def test_a_document_that_changed_is_scored_as_it_is_now(lettered: Store, encoder: HashingEncoder) -> None:
    with lettered.writing():
        add_document(lettered, encoder, "a.pdf", ["c", "a", ""], added_at=ADDED + timedelta(seconds=1))
    lists = upkeep.load_lists(lettered, Letters())
    assert [d.doc_id for d in upkeep.missing_documents(lists, lettered.documents())] == ["a"]
    assert upkeep.refresh(lettered, Letters())
    assert scores(lettered, "c") == pytest.approx({"a#1": 1.0}, abs=5 / STEPS)


def test_lists_of_another_encoder_and_damaged_ones_are_not_used(lettered: Store) -> None:
    class Other(Letters):
        name = "other"

    assert upkeep.load_lists(lettered, Other()) is None
    segment = next(upkeep.folder(lettered.uri).glob("segment-*"))
    (segment / "impact.npy").write_bytes(b"")
    assert upkeep.load_lists(lettered, Letters()) is None
    assert upkeep.refresh(lettered, Letters())
    assert list(scores(lettered, "abb")) == ["a#2", "a#1", "b#1"]


def test_a_refresh_that_is_stopped_leaves_the_lists_as_they_were(
    lettered: Store, encoder: HashingEncoder
) -> None:
    class Stopped(Exception):
        pass

    def stop(what: str, done: int, of: int) -> None:
        raise Stopped

    with lettered.writing():
        add_document(lettered, encoder, "c.pdf", ["aaaa"])
    before = (upkeep.folder(lettered.uri) / MANIFEST).read_bytes()
    with pytest.raises(Stopped):
        upkeep.refresh(lettered, Letters(), stop)
    assert (upkeep.folder(lettered.uri) / MANIFEST).read_bytes() == before
    with locked(upkeep.folder(lettered.uri) / ".upkeep", IndexBusy("")), pytest.raises(IndexBusy):
        upkeep.refresh(lettered, Letters())


def test_a_refresh_that_is_stopped_keeps_the_groups_that_are_complete(
    store: Store, encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "GROUP", 1)
    with store.writing():
        add_document(store, encoder, "a.pdf", ["aa"])
        add_document(store, encoder, "b.pdf", ["b"])
    encoded = []

    def stop(what: str, done: int, of: int) -> None:
        encoded.append(done)
        if len(encoded) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upkeep.refresh(store, Letters(), stop)
    lists = upkeep.load_lists(store, Letters())
    assert [d.doc_id for d in upkeep.missing_documents(lists, store.documents())] == ["b"]
    assert upkeep.refresh(store, Letters())
    assert scores(store, "ab") == pytest.approx({"a#1": 2.0, "b#1": 1.0}, abs=5 / STEPS)


def test_passages_overlap_and_have_the_weights_of_bm25() -> None:
    encoder = PassageEncoder()
    (page,) = encoder.encode_pages([["pump", "Pumps", "oil"]])
    # Three words of 150: a length factor of 1 - 0.75 + 0.75 * 3 / 150 = 0.265.
    twice, once = 2 * 2.2 / (2 + 1.2 * 0.265), 2.2 / (1 + 1.2 * 0.265)
    assert sorted(page[0].weights.tolist()) == pytest.approx([once, twice])
    assert len(encoder.encode_pages([["word"] * LENGTH])[0]) == 1
    assert len(encoder.encode_pages([["word"] * (LENGTH + 1)])[0]) == 2
    assert encoder.encode_pages([[]]) == [[]]
    assert len(encoder.encode_query("what is the pump?").tokens) == 1
    assert len(encoder.encode_query("what is the").tokens) == 3


def test_a_rare_word_counts_more_than_a_common_one(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["oil pump", "oil", "oil", "pump oil"])
    passages = PassageEncoder()
    upkeep.refresh(store, passages)
    lists = upkeep.load_lists(store, passages)
    assert lists is not None
    found = lists.scores(passages.encode_query("oil pump"), True, documents(store), None).best(4)
    impact = 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 150))
    # Of four pages, four have "oil" and two have "pump".
    assert found["a#1"] == pytest.approx(impact * (log(1 + 0.5 / 4.5) + log(1 + 2.5 / 2.5)), rel=0.01)
    assert found["a#1"] == found["a#4"] > found["a#2"]


def test_a_search_uses_the_lists_once_they_have_every_document(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", OCEAN)
    searcher = Searcher(store, encoder, None, SPARSE)

    def search() -> tuple[set[str], str]:
        result = searcher.search("walrus seal")
        return {name for hit in result.candidates for name in hit.scores}, result.stages[1].note

    kinds, note = search()
    assert "sparse" not in kinds
    assert "no sparse vectors yet" in note
    assert factory.refresh_inverted_index(store, SPARSE, lambda *_: None)
    assert not factory.refresh_inverted_index(store, SPARSE, lambda *_: None)
    kinds, note = search()
    assert "sparse" in kinds
    assert "no sparse vectors" not in note
    with store.writing():
        add_document(store, encoder, "b.pdf", ["walrus"])
    assert "sparse" not in search()[0]


def test_words_that_stand_together_outrank_scattered_ones(store: Store, encoder: HashingEncoder) -> None:
    scattered = " ".join(["walrus", *["ice"] * 300, "seal"])
    together = " ".join([*["ice"] * 300, "walrus", "seal"])
    with store.writing():
        add_document(store, encoder, "a.pdf", [scattered, together, "ice"])
    factory.refresh_inverted_index(store, SPARSE, lambda *_: None)
    plain = Searcher(store, encoder, None, configs.Search()).search("walrus seal")
    assert [hit.page.number for hit in plain.hits][:2] == [1, 2]
    found = Searcher(store, encoder, None, SPARSE).search("walrus seal")
    assert [hit.page.number for hit in found.hits][:2] == [2, 1]
    assert found.hits[0].scores["sparse"] > found.hits[1].scores["sparse"]


def test_a_remote_index_has_its_lists_on_this_machine() -> None:
    assert upkeep.folder("s3://bucket/a") != upkeep.folder("s3://bucket/b")
    assert upkeep.folder("s3://bucket/a").is_relative_to(Path("~/.cache").expanduser())
