"""How often a search reads its pages from the store: once for reranking, rules and highlights together."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval import search
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import NotFound
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Page, PageContent, PageEmbedding
from tests.build import ADDED, add_document

TEXTS = ["the pump failed the test", "the pump passed the test", "no pump here"]


class CountingStore(Store):
    """Counts how often each page's content or embedding is read."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.reads = Counter[str]()
        self.queries = 0

    def _count(self, pages: Sequence[Page]) -> None:
        self.reads.update(page.name for page in pages)
        self.queries += 1

    def read(self, pages: Sequence[Page]) -> dict[str, tuple[PageContent, PageEmbedding]]:
        self._count(pages)
        return super().read(pages)

    def present_contents(self, pages: Sequence[Page]) -> dict[str, PageContent]:
        self._count(pages)
        return super().present_contents(pages)

    def present_embeddings(self, pages: Sequence[Page]) -> dict[str, PageEmbedding]:
        self._count(pages)
        return super().present_embeddings(pages)


@pytest.fixture
def counting(store: Store, encoder: HashingEncoder) -> CountingStore:
    with store.writing():
        add_document(store, encoder, "a.pdf", TEXTS)
    opened = CountingStore.open(store.uri)
    assert isinstance(opened, CountingStore)
    return opened


def searcher(store: Store, encoder: HashingEncoder) -> Searcher:
    return Searcher(store, encoder, OverlapReranker(), configs.Search(rules=(configs.Fold(),)))


def test_the_pages_of_an_answer_are_read_once(counting: CountingStore, encoder: HashingEncoder) -> None:
    searching = searcher(counting, encoder)
    result = searching.search("pump test")
    assert [stage.name for stage in result.stages] == ["encode query", "recall", "rerank", "rules"]
    pages = [hit.page for hit in result.hits]
    highlights = searching.highlight("pump test", pages)
    searching.inspect_page("pump test", pages[0])
    assert searching.highlight("pump test", pages) == highlights
    assert counting.reads == {f"a.pdf#page={number}": 1 for number in (1, 2, 3)}
    assert counting.queries == 1


def test_pages_that_were_not_reranked_are_read_for_their_highlights(
    counting: CountingStore, encoder: HashingEncoder
) -> None:
    settings = configs.Search(rerank=2)
    searching = Searcher(counting, encoder, OverlapReranker(), settings)
    hits = searching.search("pump test").hits
    assert [hit.reranked for hit in hits] == [True, True, False]
    assert sum(counting.reads.values()) == 2
    searching.highlight("pump test", [hit.page for hit in hits])
    assert set(counting.reads.values()) == {1}
    assert len(counting.reads) == 3


def test_a_document_that_changed_is_read_again(counting: CountingStore, encoder: HashingEncoder) -> None:
    searching, page = searcher(counting, encoder), Page("a", 1, "a.pdf")
    assert searching.highlight("pump", [page])[0].snippet == "the pump failed the test"
    with counting.writing():
        add_document(
            counting, encoder, "a.pdf", ["an oil pump", *TEXTS[1:]], added_at=ADDED + timedelta(seconds=1)
        )
    assert searching.highlight("pump", [page])[0].snippet == "an oil pump"


def test_a_renamed_document_has_its_new_name(counting: CountingStore, encoder: HashingEncoder) -> None:
    searching, page = searcher(counting, encoder), Page("a", 1, "a.pdf")
    searching.highlight("pump", [page])
    add_document(counting, encoder, "b.pdf", TEXTS, doc_id="a")
    ((content, _),) = searching.highlighted("pump", [page])
    assert content.page.name == "b.pdf#page=1"


def test_a_removed_page_is_not_found_though_it_was_read(
    counting: CountingStore, encoder: HashingEncoder
) -> None:
    searching, page = searcher(counting, encoder), Page("a", 1, "a.pdf")
    searching.highlight("pump", [page])
    with counting.writing():
        counting.remove(["a"])
    with pytest.raises(NotFound, match="page=1: no longer in the index"):
        searching.highlight("pump", [page])


def test_pages_beyond_the_bound_are_read_again(
    counting: CountingStore, encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One page: 5 words, each a vector of 64 floats with a box of 4 floats; 300 bytes are counted for each word.
    one_page = 5 * (64 + 4) * 4 + 5 * 300
    for limit, expected in ((one_page, 1), (one_page - 1, 2)):
        monkeypatch.setattr(search, "CACHED_PAGE_BYTES", limit)
        searching, page = searcher(counting, encoder), Page("a", 1, "a.pdf")
        counting.reads.clear()
        for _ in range(2):
            searching.highlight("pump", [page])
        assert counting.reads == {"a.pdf#page=1": expected}
