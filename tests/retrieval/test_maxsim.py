import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import ModelBroken
from retrieval.highlight import focus
from retrieval.recall.maxsim import maxsim, maxsim_many, maxsim_ragged, weighted
from retrieval.recall.memory_part import MemoryPart
from retrieval.recall.page_cache import maxsim_stored
from retrieval.recall.part import Pages
from retrieval.recall.threads import on_all_cores, readers
from retrieval.types import PageEmbedding, QueryEmbedding, Vectors


def query(vectors: list[list[float]], weights: list[float] | None = None) -> QueryEmbedding:
    count = len(vectors)
    return QueryEmbedding(
        np.array(vectors, np.float32).reshape(count, -1),
        ("t",) * count,
        (True,) * count,
        None if weights is None else np.array(weights, np.float32),
    )


def page(*vectors: list[float]) -> Vectors:
    return np.array(vectors, np.float32)


def test_each_query_vector_takes_its_best_match() -> None:
    # first: max(1*0.6, 1*0) = 0.6; second: max(0.8, 1) = 1
    assert maxsim(query([[1, 0], [0, 1]]), page([0.6, 0.8], [0, 1])) == pytest.approx(1.6)


def test_weights_multiply_each_best_match() -> None:
    assert maxsim(query([[1, 0], [0, 1]], [0.5, 0]), page([0.6, 0.8], [0, 1])) == pytest.approx(0.3)


def test_a_page_without_vectors_scores_zero() -> None:
    assert maxsim(query([[1, 0]]), np.zeros((0, 2), np.float32)) == 0


def test_a_negative_best_match_is_not_hidden_by_padding() -> None:
    scores = maxsim_many(query([[1, 0]]), [page([-0.5, 0]), page([-0.9, 0], [-0.8, 0], [-0.7, 0])])
    assert scores.tolist() == pytest.approx([-0.5, -0.7])


def test_a_score_does_not_depend_on_the_other_pages() -> None:
    rng = np.random.default_rng(0)
    pages = [rng.standard_normal((n, 16), np.float32) for n in rng.integers(0, 40, 400)]
    asked = query(rng.standard_normal((7, 16)).tolist())
    together = maxsim_many(asked, pages)
    alone = np.array([maxsim(asked, p) for p in pages])
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-5)


def test_every_way_of_scoring_uses_the_weights_in_the_same_way() -> None:
    # first vector: best 0.6, times 2; second: best 1, times 0.5; the third has no weight: 1.2 + 0.5
    asked = query([[1, 0], [0, 1], [-1, 0]], [2, 0.5, 0])
    stored = page([0.6, 0.8], [0, 1])
    part = MemoryPart(
        Pages(
            ("a",),
            np.zeros(1, np.int32),
            np.ones(1, np.int32),
            np.ones((1, 2), np.float32),
            np.ones(1, np.bool_),
        ),
        stored,
        np.array([0, 2]),
    )
    scores = {
        "one page": maxsim(asked, stored),
        "weighted": maxsim(query(weighted(asked).tolist()), stored),
        "stored": float(maxsim_stored(asked, [stored.astype(np.float16)])[0]),
        "scan": float(part.scores(asked, np.ones(1, np.bool_))[0]),
    }
    assert scores == pytest.approx(dict.fromkeys(scores, 1.7), abs=1e-3)
    assert weighted(asked).tolist() == [[2, 0], [0, 0.5]]


def test_the_regions_for_a_reranker_follow_the_weights() -> None:
    regions = np.array([[0, 0, 0.1, 0.1], [0.5, 0.5, 0.6, 0.6]], np.float32)
    found = PageEmbedding(page([1, 0], [0, 1]), regions)
    assert focus(query([[1, 0], [0, 1]], [2, 1]), found)[0] == pytest.approx((0, 0, 0.1, 0.1))
    assert focus(query([[1, 0], [0, 1]], [1, 2]), found)[0] == pytest.approx((0.5, 0.5, 0.6, 0.6))
    assert focus(query([[1, 0]], [0]), found) == ()


def test_a_negative_weight_is_refused_with_its_word() -> None:
    with pytest.raises(ModelBroken, match=r"gave 'pump' the weight -0\.5; weights are 0 or more"):
        QueryEmbedding(
            np.eye(2, dtype=np.float32), ("the", "pump"), (False, True), np.array([0.5, -0.5], np.float32)
        )


def test_it_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(1)
    pages = [rng.standard_normal((n, 8), np.float32) for n in (1, 5, 3, 90)]
    asked = query(rng.standard_normal((4, 8)).tolist(), [0.1, 0.2, 0.3, 0.4])
    assert asked.weights is not None
    expected = [
        sum(w * max(float(q @ v) for v in p) for q, w in zip(asked.vectors, asked.weights, strict=True))
        for p in pages
    ]
    offsets = np.cumsum([0, *map(len, pages)])
    np.testing.assert_allclose(maxsim_ragged(asked, np.concatenate(pages), offsets), expected, rtol=1e-5)


def test_no_pages_have_no_scores() -> None:
    assert maxsim_many(query([[1, 0]]), []).shape == (0,)


def ragged(lengths: NDArray[np.int64], dim: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Random vectors of pages with these lengths, and the pages' offsets."""
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((int(lengths.sum()), dim)).astype(np.float32)
    return vectors, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def part_of(vectors: Vectors, offsets: NDArray[np.int64]) -> MemoryPart:
    """One document."""
    count = len(offsets) - 1
    numbers, sizes = np.arange(1, count + 1, dtype=np.int32), np.ones((count, 2), np.float32)
    pages = Pages(("a",), np.zeros(count, np.int32), numbers, sizes, np.zeros(count, np.bool_))
    return MemoryPart(pages, vectors, offsets)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_pages_that_a_filter_hides_score_minus_infinity_and_the_others_as_before(share: float) -> None:
    rng = np.random.default_rng(3)
    vectors, offsets = ragged(rng.integers(0, 12, 700), 16)
    keep = rng.random(700) < share
    asked = query(rng.standard_normal((5, 16)).tolist(), [0.1, 0.2, 0, 1, 2])
    scores = maxsim_ragged(asked, vectors, offsets, keep)
    assert np.isneginf(scores[~keep]).all()
    np.testing.assert_allclose(scores[keep], maxsim_ragged(asked, vectors, offsets)[keep], rtol=0, atol=2e-5)
    if share == 1:
        assert (scores == maxsim_ragged(asked, vectors, offsets)).all()


def test_a_filter_that_hides_one_page_copies_no_vectors() -> None:
    vectors, offsets = ragged(np.full(1_000, 50), 128)  # 25.6 MB
    part, keep = part_of(vectors, offsets), np.ones(1_000, np.bool_)
    asked = query(np.eye(128)[:3].tolist())
    part.scores(asked, keep)  # starts the threads
    keep[500] = False
    tracemalloc.start()
    part.scores(asked, keep)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000  # similarities of a block for each core: 64 x 50 x 3 x 4 bytes = 38 kB


def test_removed_pages_are_hidden_until_they_hold_three_tenths_of_the_vectors() -> None:
    part, keep = part_of(*ragged(np.full(10, 5), 8)), np.ones(10, np.bool_)
    assert part.select(keep) is part
    keep[:3] = False
    few = part.select(keep)
    assert few.vectors is part.vectors
    assert few.pages.of({"a": None}).tolist() == [False] * 3 + [True] * 7
    keep[3] = False
    many = few.select(keep)
    assert (len(many.vectors), many.pages.number.tolist()) == (30, [5, 6, 7, 8, 9, 10])
    assert (many.vectors == part.vectors[20:]).all()


def test_scans_share_threads_that_are_kept() -> None:
    def name(_: int) -> str:
        return threading.current_thread().name

    names = {*on_all_cores(name, range(20)), *on_all_cores(name, range(20))}
    assert all(thread.startswith("scan") for thread in names)
    assert names <= {thread.name for thread in threading.enumerate()}


def test_work_may_itself_use_all_cores() -> None:
    assert on_all_cores(lambda n: sum(on_all_cores(lambda m: n * m, range(5))), range(40))[39] == 390


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_a_thread_of_low_priority_does_not_lend_its_priority_to_searches() -> None:
    def priority(_: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    usual, low = priority(0), []

    def work() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        low.extend(on_all_cores(priority, range(20)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(low) == {19}
    assert set(on_all_cores(priority, range(20))) == {usual}


def scores_in_child(connection: "multiprocessing.connection.Connection") -> None:
    connection.send((on_all_cores(abs, [-1, -2]), readers().submit(abs, -3).result()))


@pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    on_all_cores(abs, range(20))
    readers().submit(abs, 1).result()
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=scores_in_child, args=(there,))
    child.start()
    answered = here.poll(30)
    if not answered:
        child.kill()
    child.join()
    assert answered
    assert here.recv() == ([1, 2], 3)


def test_text_searches_of_several_readers_run_at_once() -> None:
    together = threading.Barrier(8)
    assert len({future.result(30) for future in [readers().submit(together.wait, 30) for _ in range(8)]}) == 8
