"""Searches: recall, reranking and their decisions, with the encoder and the reranker that count words."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import configs.settings as configs
from rerankers.overlap import OverlapReranker
from retrieval.confidence import Calibration
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadQuery
from retrieval.recall.maxsim import maxsim
from retrieval.recall.memory_part import MemoryPart
from retrieval.recall.part import COLUMNS
from retrieval.recall.planner import Plan
from retrieval.recall.recall import Recall, RecallResult
from retrieval.search import CACHED_QUERIES, Searcher, reorder
from retrieval.store.store import Store
from retrieval.types import Decision, Filter, Hit, Note, Page, PageContent, SearchRequest
from tests.build import ADDED, add_document

PAGES = [
    "the pump failed the test",
    "the pump passed the test",
    "no pump here",
    "revenue grew in 2023",
    "revenue fell in 2022",
]


@pytest.fixture
def filled(store: Store, encoder: HashingEncoder) -> Store:
    with store.writing():
        add_document(store, encoder, "a.pdf", PAGES)
        add_document(store, encoder, "s.pdf", ["pump pump pump scanned"], source="ocr", collection="scans")
    return store


def searcher(store: Store, encoder: HashingEncoder, **settings: object) -> Searcher:
    return Searcher(store, encoder, OverlapReranker(), configs.Search(**settings))  # type: ignore[arg-type]


def found(hits: Sequence[Hit]) -> list[str]:
    return [hit.page.name for hit in hits]


def test_the_page_with_all_words_comes_first(filled: Store, encoder: HashingEncoder) -> None:
    result = searcher(filled, encoder).search("which pump failed?")
    assert found(result.hits)[0] == "a.pdf#page=1"
    assert [hit.rank for hit in result.hits] == list(range(1, len(result.hits) + 1))


def test_vector_scores_are_exact_maxsim_over_the_stored_vectors(
    filled: Store, encoder: HashingEncoder
) -> None:
    result = searcher(filled, encoder).search("pump passed 2023")
    query = encoder.encode_queries(["pump passed 2023"])[0]
    assert result.candidates
    for hit in result.candidates:
        stored = filled.embeddings([hit.page])[0]
        assert hit.scores["vectors"] == pytest.approx(maxsim(query, stored.vectors), abs=1e-5)


def test_filters_restrict_both_kinds_of_evidence(filled: Store, encoder: HashingEncoder) -> None:
    search = searcher(filled, encoder).search
    assert {h.page.document for h in search("pump", where=Filter(documents=("a.pdf",))).candidates} == {
        "a.pdf"
    }
    assert found(search("pump", where=Filter(collections=("scans",))).hits) == ["s.pdf#page=1"]
    assert found(search("pump", where=Filter(scanned=True)).hits) == ["s.pdf#page=1"]
    assert "s.pdf" not in {h.page.document for h in search("pump", where=Filter(scanned=False)).candidates}


def test_streaming_from_disk_ranks_as_memory_does(filled: Store, encoder: HashingEncoder) -> None:
    in_memory = searcher(filled, encoder).search("pump test revenue")
    settings = configs.Search().model_copy(update={"exact_mb": 0})
    from_disk = Searcher(filled, encoder, OverlapReranker(), settings).search("pump test revenue")
    assert found(from_disk.hits) == found(in_memory.hits)
    assert "in memory" in in_memory.stages[1].note
    assert "from disk" in from_disk.stages[1].note


def test_an_index_over_the_memory_limit_still_shows_all_changes(
    filled: Store, encoder: HashingEncoder
) -> None:
    settings = configs.Search().model_copy(update={"exact_mb": 0})
    search = Searcher(filled, encoder, None, settings).search
    assert search("pump").stages[1].pages == 6
    with filled.writing():
        add_document(filled, encoder, "n.pdf", ["zebra"])
    result = search("zebra pump")
    assert result.stages[1].pages == 7
    assert {hit.page.document for hit in result.candidates} == {"a.pdf", "s.pdf", "n.pdf"}
    with filled.writing():
        filled.remove(["a", "s"])
    assert search("zebra").stages[1].pages == 1


def test_a_document_that_was_removed_and_came_back_is_read_anew(
    filled: Store, encoder: HashingEncoder
) -> None:
    search = searcher(filled, encoder).search
    assert search("zebra", rerank=False).hits[0].scores["vectors"] < 0.9
    with filled.writing():
        filled.remove(["s"])
        pending = add_document(filled, encoder, "s.pdf", ["zebra"], added_at=ADDED.replace(year=2027))
    assert pending.doc_id == "s"
    assert search("zebra", rerank=False).hits[0].scores["vectors"] > 0.9


def test_each_kind_of_evidence_keeps_its_own_order(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump " * 9, "pump valve"])
    rankings = searcher(store, encoder).search("pump").rankings
    assert [page.number for page in rankings["text"]] == [1, 2]
    assert [page.number for page in rankings["vectors"]] == [1, 2]  # equal: in the order of their names
    both = searcher(store, encoder).search("valve").rankings
    assert [page.number for page in both["text"]] == [2]
    assert [page.number for page in both["vectors"]] == [2, 1]


def test_the_next_search_sees_what_another_process_has_written_or_removed(
    filled: Store, encoder: HashingEncoder
) -> None:
    search = searcher(filled, encoder).search
    assert "n.pdf#page=1" not in found(search("brand new zebra").candidates)
    other = Store.open(filled.uri)
    with other.writing():
        add_document(other, encoder, "n.pdf", ["zebra brand"])
    assert found(search("brand new zebra").hits)[0] == "n.pdf#page=1"
    with other.writing():
        other.remove(["n"])
    assert "n.pdf#page=1" not in found(search("brand new zebra").candidates)


class SlowReading:
    """Makes every read of whole documents wait until `go_on` is set, as if there were a great many pages."""

    def __init__(self, store: Store) -> None:
        self.go_on = threading.Event()
        self._pages = store.stream_pages
        store.stream_pages = self._slow  # type: ignore[method-assign]

    def _slow(self, doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if doc_ids:
            assert self.go_on.wait(60)
        return self._pages(doc_ids, columns)


def candidates(
    recall: Recall, encoder: HashingEncoder, text: str, where: Filter | None = None
) -> RecallResult:
    return recall.candidates(text, encoder.encode_queries([text])[0], 100, where or Filter())


def test_a_search_does_not_wait_long_for_new_documents_and_says_that_they_are_missing(
    filled: Store, encoder: HashingEncoder
) -> None:
    recall = Recall(filled, configs.Search(), plan_wait_s=0.05)
    assert candidates(recall, encoder, "zebra").complete
    reading = SlowReading(filled)
    with filled.writing():
        add_document(filled, encoder, "n.pdf", ["zebra", "zebra"])
        filled.remove(["s"])
    meanwhile = candidates(recall, encoder, "zebra pump")
    assert {hit.page.document for hit in meanwhile.hits} == {"a.pdf"}  # s.pdf is in the plan, but was removed
    assert not meanwhile.complete
    note = "2 pages just added or changed could not be searched yet (n.pdf): search again in a moment."
    assert meanwhile.notes == (Note("not_searched_yet", note),)
    assert "exact scan in memory of 5 pages" in meanwhile.stage.note
    assert ", 2 new pages not searched yet" in meanwhile.stage.note
    elsewhere = candidates(recall, encoder, "zebra pump", Filter(documents=("a.pdf",)))
    assert (elsewhere.complete, elsewhere.notes) == (True, ())  # the filter leaves nothing that is missing
    reading.go_on.set()
    recall.planner.current(wait_s=None)
    later = candidates(recall, encoder, "zebra pump")
    assert (later.complete, later.notes) == (True, ())
    assert {hit.page.document for hit in later.hits} == {"a.pdf", "n.pdf"}


def test_a_document_that_was_read_again_is_not_found_by_its_old_pages(
    filled: Store, encoder: HashingEncoder
) -> None:
    recall = Recall(filled, configs.Search(), plan_wait_s=0.05)
    assert candidates(recall, encoder, "scanned").hits[0].page.document == "s.pdf"
    reading = SlowReading(filled)
    with filled.writing():
        add_document(filled, encoder, "s.pdf", ["zebra"], added_at=ADDED.replace(year=2027))
    meanwhile = candidates(recall, encoder, "scanned")
    assert "s.pdf" not in {hit.page.document for hit in meanwhile.hits}
    assert meanwhile.notes[0].text.startswith(
        "1 page just added or changed could not be searched yet (s.pdf)"
    )
    reading.go_on.set()
    recall.planner.current(wait_s=None)
    assert candidates(recall, encoder, "zebra").hits[0].page.document == "s.pdf"


def test_a_reader_sees_the_note_about_pages_that_are_not_searched_yet(
    filled: Store, encoder: HashingEncoder
) -> None:
    search = searcher(filled, encoder).search
    assert search("pump").complete
    reading = SlowReading(filled)
    with filled.writing():
        add_document(filled, encoder, "n.pdf", ["zebra"])
    result = search("pump")
    reading.go_on.set()
    assert not result.complete
    assert result.notes[0].text.startswith("1 page just added or changed could not be searched yet (n.pdf)")


def test_the_first_search_waits_for_the_vectors_however_long_they_take(
    filled: Store, encoder: HashingEncoder
) -> None:
    reading = SlowReading(filled)
    recall = Recall(filled, configs.Search(), plan_wait_s=0)
    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(candidates, recall, encoder, "pump") for _ in range(3)]
        reading.go_on.wait(0.2)
        assert not any(search.done() for search in searches)
        reading.go_on.set()
        assert [len(search.result(30).hits) for search in searches] == [6, 6, 6]


def test_an_error_while_vectors_are_read_reaches_the_search_and_the_next_one_tries_again(
    filled: Store, encoder: HashingEncoder
) -> None:
    recall, pages = Recall(filled, configs.Search()), filled.stream_pages

    def failing(doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        raise OSError("the disk is gone")

    filled.stream_pages = failing  # type: ignore[method-assign]
    with pytest.raises(OSError, match="the disk is gone"):
        candidates(recall, encoder, "pump")
    filled.stream_pages = pages  # type: ignore[method-assign]
    assert len(candidates(recall, encoder, "pump").hits) == 6


def test_text_is_searched_for_several_readers_at_once(filled: Store, encoder: HashingEncoder) -> None:
    recall, search_text, together = Recall(filled, configs.Search()), filled.search_text, threading.Barrier(4)

    def waiting(*given: Any, **named: Any) -> list[tuple[str, float]]:
        together.wait(30)  # until four searches are here
        return search_text(*given, **named)

    filled.search_text = waiting  # type: ignore[method-assign]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda text: candidates(recall, encoder, text), ["pump"] * 4))
    assert [len(result.hits) for result in results] == [6] * 4


def test_reading_vectors_into_memory_takes_little_more_memory_than_they_do(
    store: Store, encoder: HashingEncoder
) -> None:
    words = " ".join(f"word{n}" for n in range(60))
    with store.writing():
        for i in range(20):
            add_document(store, encoder, f"d{i}.pdf", [words] * 64)
    batches = list(store.stream_pages([d.doc_id for d in store.documents()], COLUMNS))
    tracemalloc.start()
    (part,) = MemoryPart.gathered(iter(batches), 2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(part.pages) == 1280
    assert peak < 1.5 * part.bytes
    expected = MemoryPart.read(batches[0])
    assert (part.vectors[: expected.count] == expected.vectors).all()


def test_many_small_documents_are_all_scanned(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        for i in range(30):
            add_document(store, encoder, f"d{i:02}.pdf", [f"common unique{i}"])
            if i == 3:
                settings = configs.Search()
                recall = Recall(store, settings)
                recalled = recall.candidates("common", encoder.encode_queries(["common"])[0], 100, Filter())
                assert recalled.stage.pages == 4
    recalled = recall.candidates("common", encoder.encode_queries(["common"])[0], 100, Filter())
    assert (len(recalled.hits), recalled.stage.pages) == (30, 30)


def test_one_query_too_many_evicts_only_the_oldest_from_the_cache(
    filled: Store, encoder: HashingEncoder
) -> None:
    search = searcher(filled, encoder)
    for number in range(CACHED_QUERIES + 1):
        search.search(f"pump {number}", rerank=False)
    assert not search.remembers("pump 0")
    assert all(search.remembers(f"pump {number}") for number in range(1, CACHED_QUERIES + 1))


ALWAYS_UNLIKELY = Calibration(
    reranker="overlap",
    encoder="",
    method="platt",
    x=(),
    y=(0.0, -4.6),
    dataset="",
    questions=0,
    pages=0,
    relevant=0,
    log_loss=0,
    log_loss_before=0,
    ece=0,
    ece_before=0,
)
"""Gives every page the probability 1 / (1 + e^4.6) = 0.01."""


@pytest.mark.parametrize("gate", [None, 0.5])
@pytest.mark.parametrize("where", [Filter(collections=("scans",)), Filter()])
def test_unlikely_pages_are_left_out_or_noted_whether_they_are_many_or_one(
    filled: Store, encoder: HashingEncoder, where: Filter, gate: float | None
) -> None:
    settings = configs.Search(gate=gate)
    search = Searcher(filled, encoder, OverlapReranker(), settings, ALWAYS_UNLIKELY).search
    result = search("pump", where=where, min_confidence=0.5)
    assert result.hits == ()
    assert (
        Note("below_min_confidence", "No page is 50% likely to answer; the likeliest is 1%.") in result.notes
    )
    some = search("pump", where=where, min_confidence=0.005).hits
    assert len(some) == (1 if where.collections else 6)
    assert {round(hit.confidence or 0, 3) for hit in some} == {0.01}


@pytest.mark.parametrize("gate", [None, 0.5])
def test_a_single_candidate_is_reranked_if_that_gives_its_confidence(
    filled: Store, encoder: HashingEncoder, gate: float | None
) -> None:
    settings, where = configs.Search(gate=gate), Filter(collections=("scans",))
    calibrated = Searcher(filled, encoder, OverlapReranker(), settings, ALWAYS_UNLIKELY).search(
        "pump", where=where
    )
    assert [(hit.reranked, round(hit.confidence or 0, 3)) for hit in calibrated.hits] == [(True, 0.01)]
    assert calibrated.notes[-1].kind == "weak_match"
    assert "the likeliest does with a probability of 1%." in calibrated.notes[-1].text
    plain = Searcher(filled, encoder, OverlapReranker(), settings).search("pump", where=where)
    assert plain.decision == Decision(
        "too_few_candidates", "not reranked: 1 candidate can be put in one order only"
    )


def test_a_profile_without_reranker_refuses_to_give_a_confidence(
    filled: Store, encoder: HashingEncoder
) -> None:
    with pytest.raises(BadQuery, match="it comes from the reranker's scores"):
        Searcher(filled, encoder, None, configs.Search(), ALWAYS_UNLIKELY).search("pump", min_confidence=0.5)


@pytest.mark.parametrize("question", ["What does Figure 2 show?", "pump on page 2", "pump on the last page"])
def test_streaming_looks_for_named_places_on_no_more_pages_than_memory_does(
    store: Store, encoder: HashingEncoder, question: str
) -> None:
    """The 600 pages come from disk 256 at a time, which makes three streamed parts."""
    with store.writing():
        for name in ("a", "b", "c"):
            texts = [f"Figure {n % 9}. pump {name}{n} " + "pump " * (n % 7) for n in range(20)]
            add_document(store, encoder, f"{name}.pdf", texts)
            for part in range(9):
                add_document(store, encoder, f"{name}{part}.pdf", texts)
    read: list[int] = []
    present = store.present_contents

    def counted(pages: Sequence[Page]) -> dict[str, PageContent]:
        read.append(len(pages))
        return present(pages)

    store.present_contents = counted  # type: ignore[method-assign]
    settings = configs.Search(depth=10)
    in_memory = Searcher(store, encoder, None, settings).search(question)
    disk = settings.model_copy(update={"exact_mb": 0})
    streamed = Searcher(store, encoder, None, disk).search(question)
    assert "from disk" in streamed.stages[1].note
    assert streamed.hits == in_memory.hits
    assert (
        read[0] == read[1] <= 30 + 10 + 10
    )  # three times the depth by vectors, and the depth by text and by number


class LookingReranker(OverlapReranker):
    """Reads each page's image, after it has called `meanwhile`."""

    batch_pages = 2

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self.meanwhile = meanwhile

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        self.meanwhile()
        for page in pages:
            page.read_image()
        return super().score(query, pages)


@pytest.mark.parametrize("when", ["before the reranker reads", "while the reranker reads"])
def test_a_search_goes_on_without_a_page_that_another_process_removes(
    filled: Store, encoder: HashingEncoder, when: str
) -> None:
    other = Store.open(filled.uri)

    def remove() -> None:
        with other.writing():
            other.remove(["s"])

    reranker = LookingReranker(remove if when.startswith("while") else lambda: None)
    steps = Searcher(filled, encoder, reranker, configs.Search(rules=(configs.Fold(),))).steps(
        SearchRequest("pump scanned")
    )
    first = next(steps)
    assert first.hits[0].page.name == "s.pdf#page=1"
    if when.startswith("before"):
        remove()
    (last,) = steps
    assert {hit.page.document for hit in last.hits} == {"a.pdf"}
    assert [hit.rank for hit in last.hits] == list(range(1, 6))
    assert last.decision.kind == "reranked"
    assert last.decision.reason.startswith("reranked the first 5 of 5")


def test_nothing_is_found_if_every_candidate_is_removed_meanwhile(
    filled: Store, encoder: HashingEncoder
) -> None:
    steps = searcher(filled, encoder).steps(SearchRequest("pump"))
    next(steps)
    with filled.writing():
        filled.remove(["a", "s"])
    (last,) = steps
    assert (last.hits, last.decision.kind) == ((), "removed")


def test_a_result_has_both_ranks_and_the_decision(filled: Store, encoder: HashingEncoder) -> None:
    result = searcher(filled, encoder).search("pump test")
    assert result.decision.reranked
    assert result.decision.kind == "reranked"
    assert [s.name for s in result.stages] == ["encode query", "recall", "rerank"]
    assert {h.first_rank for h in result.hits} == set(range(1, len(result.hits) + 1))


@pytest.mark.parametrize("off", ["by request", "by profile"])
def test_without_reranking_the_order_of_the_first_stage_stays(
    filled: Store, encoder: HashingEncoder, off: str
) -> None:
    reranker = None if off == "by profile" else OverlapReranker()
    result = Searcher(filled, encoder, reranker, configs.Search()).search(
        "pump test", rerank=off == "by profile"
    )
    assert not result.decision.reranked
    assert result.decision.kind == ("no_reranker" if off == "by profile" else "off")
    assert result.hits == result.candidates


class Clock:
    """Stands for `time` in the search: `perf_counter` returns `now`, in seconds, which the reranker moves on."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class TimedReranker:
    """Takes `seconds` for each page and `load` more for its first call; reverses the order."""

    name = "timed"
    batch_pages = 8
    notes = ()

    def __init__(self, clock: Clock, seconds: float, load: float = 0.0, listwise: bool = False) -> None:
        self.clock, self.seconds, self.load, self.listwise = clock, seconds, load, listwise
        self.calls: list[int] = []

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        self.clock.now += self.seconds * len(pages) + (0 if self.calls else self.load)
        read = sum(self.calls)
        self.calls.append(len(pages))
        return [float(read + i) for i in range(len(pages))]


@pytest.mark.parametrize(
    ("reranker", "calls"),
    [
        ({"seconds": 2.0}, [1]),  # the first page takes more than all of the time
        ({"seconds": 0.25}, [1, 3]),  # 0.75 of 1.00 s are left: three pages
        ({"seconds": 0.4}, [1, 1, 1]),  # 0.2 s are left after two, and while there is time one page is read
        ({"seconds": 0.01}, [1, 8, 3]),  # as many as a call may have, and the rest
        (
            {"seconds": 0.1, "load": 0.5},
            [1, 1, 3],
        ),  # 0.4 s left at 0.6 s a page: one; 0.3 s left at 0.1 s: three
        ({"seconds": 2.0, "listwise": True}, [12]),
    ],
)
def test_reranking_ends_with_its_budget_of_one_second(
    store: Store,
    encoder: HashingEncoder,
    monkeypatch: pytest.MonkeyPatch,
    reranker: dict[str, Any],
    calls: list[int],
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", [f"pump {'pump ' * i}" for i in range(12)])
    clock = Clock()
    monkeypatch.setattr("retrieval.search.time", clock)
    timed = TimedReranker(clock, **reranker)
    search = Searcher(store, encoder, timed, configs.Search(top=12))
    result = search.search("pump", budget_ms=1000)
    assert timed.calls == calls
    read = sum(calls)
    assert result.decision.kind == ("reranked" if read == 12 else "reranked_in_part")
    assert ("budget of 1,000 ms" in result.decision.reason) == (read < 12)
    assert (result.decision.read, result.decision.shortlist) == (read, 12)
    assert [h.first_rank for h in result.hits[read:]] == list(range(read + 1, 13))
    assert [h.reranked for h in result.hits] == [True] * read + [False] * (12 - read)


def test_the_reranker_is_fused_with_the_first_stage_by_z_scores() -> None:
    # first stage z of (2, 1, 0): (1.2247, 0, -1.2247); reranker z of (0, 1, 3), mean 4/3, sd 1.2472:
    # (-1.0690, -0.2673, 1.3363). Half the reranker: 0.6902, -0.1336, -0.5566; twice: -0.9133, -0.5345, 1.4478.
    hits = [Hit(Page("a", n, "a.pdf"), score, n, n) for n, score in ((1, 2.0), (2, 1.0), (3, 0.0), (4, -9.0))]
    half = reorder(hits, [0, 1, 3], 0.5)
    assert [(h.page.number, round(h.score, 4)) for h in half[:3]] == [(1, 0.6902), (2, -0.1336), (3, -0.5566)]
    twice = reorder(hits, [0, 1, 3], 2)
    assert [h.page.number for h in twice] == [3, 2, 1, 4]
    assert (twice[0].rank, twice[0].first_rank, twice[3].reranked) == (1, 3, False)


@pytest.mark.parametrize(
    ("query", "message"), [("", "empty"), (" \n\t", "empty"), ("x" * 10_000, "10,000 characters")]
)
def test_an_empty_or_far_too_long_query_is_refused_with_the_reason(
    store: Store, encoder: HashingEncoder, query: str, message: str
) -> None:
    with pytest.raises(BadQuery, match=message):
        searcher(store, encoder).search(query)


@pytest.mark.parametrize(
    "day",
    [
        "Jan 2020",
        "2024-13",
        "2024-00",
        "2024-02-30",
        "2024-01-32",
        "2024-1-5",
        "2024-",
        "0000",
        "24",
        "２０２４",
    ],
)
def test_a_filter_refuses_dates_that_do_not_exist(day: str) -> None:
    for field in ("since", "until"):
        with pytest.raises(
            BadQuery, match=f"^'{day}' is not a date: write it as 2024-01-31, 2024-01 or 2024$"
        ):
            Filter(**{field: day})  # type: ignore[arg-type]


def test_a_filter_takes_years_months_and_days(filled: Store, encoder: HashingEncoder) -> None:
    with filled.writing():
        add_document(filled, encoder, "d.pdf", ["pump dated"], date="2024-02-29")
    search = searcher(filled, encoder).search
    for since, until in [("2024", "2024"), ("2024-02", "2024-02"), ("2024-02-29", "2024-02-29")]:
        assert found(search("pump", where=Filter(since=since, until=until)).hits) == ["d.pdf#page=1"]


def test_a_note_says_that_the_index_is_empty(store: Store, encoder: HashingEncoder) -> None:
    result = searcher(store, encoder).search("anything")
    assert result.hits == ()
    assert [note.kind for note in result.notes] == ["empty_index"]


def test_a_note_says_that_the_filters_leave_nothing(filled: Store, encoder: HashingEncoder) -> None:
    result = searcher(filled, encoder).search("pump", where=Filter(tags=("none",)))
    assert result.hits == ()
    assert [note.kind for note in result.notes] == ["filtered_out"]


def test_a_note_says_that_a_language_is_written_without_spaces(
    filled: Store, encoder: HashingEncoder
) -> None:
    result = searcher(filled, encoder).search("売上高はいくらですか")
    assert [note.kind for note in result.notes] == ["unspaced_script"]


def test_many_threads_may_search_at_once(filled: Store, encoder: HashingEncoder) -> None:
    search = searcher(filled, encoder).search
    expected = found(search("pump test").hits)
    results: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: results.append(found(search("pump test").hits))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8


def test_equal_pages_keep_the_order_of_their_names(
    store: Store, encoder: HashingEncoder, tmp_path: Path
) -> None:
    with store.writing():
        for name in ("b.pdf", "c.pdf", "a.pdf"):
            add_document(store, encoder, name, ["pump"])
    result = searcher(store, encoder).search("pump")
    assert found(result.hits) == ["a.pdf#page=1", "b.pdf#page=1", "c.pdf#page=1"]
    assert np.allclose([h.score for h in result.hits], 0)


def test_a_document_that_is_committed_after_the_plan_was_made_is_reported_as_not_searched(
    filled: Store, encoder: HashingEncoder
) -> None:
    recall = Recall(filled, configs.Search())
    candidates(recall, encoder, "zebra")
    current = recall.planner.current

    def current_just_before_a_commit(wait_s: float | None = None) -> tuple[Plan, bool]:
        plan = current(wait_s)
        with filled.writing():
            add_document(filled, encoder, "z.pdf", ["zebra"])
        return plan

    recall.planner.current = current_just_before_a_commit  # type: ignore[method-assign]
    result = candidates(recall, encoder, "zebra")
    assert "z.pdf" not in {hit.page.document for hit in result.hits}
    assert not result.complete
    assert [note.kind for note in result.notes] == ["not_searched_yet"]


def test_pages_of_documents_that_are_left_out_do_not_use_up_the_depth_of_the_text_search(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "leaving.pdf", ["walrus"] * 150)  # shorter pages have higher scores
        add_document(store, encoder, "staying.pdf", ["walrus and many other words besides"])
        store.optimize()
    (leaving,) = [d.doc_id for d in store.documents() if d.name == "leaving.pdf"]
    hits = store.search_text("walrus", 20, without=frozenset({leaving}))
    staying = store.document("staying.pdf").doc_id
    assert [page_id for page_id, _ in hits] == [f"{staying}#1"]
    where = Filter(without=frozenset({leaving}))
    found_by_text = candidates(Recall(store, configs.Search()), encoder, "walrus", where).rankings["text"]
    assert [page.document for page in found_by_text] == ["staying.pdf"]
