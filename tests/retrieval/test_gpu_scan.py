"""Vectors in a GPU's memory: what a scan finds there, and how its parts follow the index.

The tests need no GPU: the kernel's own reference runs on the processor, and the kernel itself in Triton's interpreter.
"""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import DeviceMissing, MissingExtra
from retrieval.recall import gpu, gpu_scan, part_cache, planner
from retrieval.recall.gpu_scan import GpuPart
from retrieval.recall.ivf import upkeep
from retrieval.recall.maxsim import maxsim
from retrieval.recall.part import COLUMNS, NoRoom
from retrieval.recall.part_cache import ResidentPart
from retrieval.recall.planner import GpuScan, gpu_scan_for
from retrieval.recall.recall import Recall, RecallResult
from retrieval.store.store import Store
from retrieval.types import Filter, QueryEmbedding, Vectors
from tests.retrieval.test_ivf import DIM, exactly, filled, made, names, put, question, unit

if sys.platform != "linux":
    pytest.skip("the kernel's package is for Linux", allow_module_level=True)
CPU = torch.device("cpu")
ON_PROCESSOR = GpuScan("the GPU", partial(GpuPart.gathered, device=CPU))
SETTINGS = configs.Search(reference_weight=0)


@pytest.fixture
def large(tmp_path: Path) -> Store:
    """600 pages of 8 to 24 vectors in 20 documents, three pages of 70 to 300 vectors, and one without vectors."""
    store = filled(Store.create(str(tmp_path / "index.lance"), HashingEncoder(dim=DIM).fingerprint))
    rng = np.random.default_rng(5)
    long = [np.concatenate(made(pages, seed=int(rng.integers(99)))) for pages in (5, 9, 18)]
    with store.writing():
        put(store, "long", [*long, np.zeros((0, DIM), np.float32)])
    return store


def recall_on_gpu(store: Store, **settings: float) -> Recall:
    return Recall(store, SETTINGS.model_copy(update=settings), ON_PROCESSOR)


def ask(
    searching: Recall, query: QueryEmbedding, depth: int = 20, where: Filter | None = None
) -> RecallResult:
    return searching.candidates("", query, depth, where or Filter())


def resident(searching: Recall) -> tuple[ResidentPart, ...]:
    plan, is_current = searching.planner.current()
    assert is_current
    return plan.resident


def note(searching: Recall) -> str:
    return ask(searching, question(0)).stage.note


# Results


@pytest.mark.parametrize("block", [gpu_scan.BLOCK, 500 * DIM])
def test_the_result_is_exact(large: Store, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(gpu_scan, "BLOCK", block)
    searching = recall_on_gpu(large)
    for seed in range(4):
        found = ask(searching, question(seed))
        assert names(found) == exactly(large, question(seed))
        for hit in found.hits[::5]:
            stored = large.vectors([hit.page])[hit.page.page_id].astype(np.float32)
            assert hit.scores["vectors"] == pytest.approx(maxsim(question(seed), stored), abs=2e-6)
    assert found.stage.note.startswith("exact scan on the GPU of 604 pages, BM25")


def test_filters_come_before_the_cut(large: Store) -> None:
    searching = recall_on_gpu(large)
    where = Filter(documents=("d03.pdf", "long.pdf"))
    found = ask(searching, question(1), 40, where)
    assert names(found) == exactly(large, question(1), 40, where)
    assert len(found.hits) == 34  # the page without vectors too
    assert not ask(searching, question(1), 40, Filter(scanned=True)).hits


def test_pages_that_float16_cannot_tell_apart_come_in_their_true_order(tmp_path: Path) -> None:
    """All pages are about equally near, each in another direction: rounding the query to float16 changes the order."""
    store = Store.create(str(tmp_path / "index.lance"), HashingEncoder(dim=DIM).fingerprint)
    rng = np.random.default_rng(2)
    query = QueryEmbedding(unit(rng.standard_normal((6, DIM))), ("w",) * 6, (True,) * 6)

    def as_near() -> Vectors:
        other = rng.standard_normal((6, DIM))
        aside = unit(other - (other * query.vectors).sum(axis=1, keepdims=True) * query.vectors)
        return unit(0.5 * query.vectors + 0.75**0.5 * aside)

    with store.writing():
        put(store, "near", [as_near() for _ in range(300)])
        put(store, "other", made(100))
    (part,) = GpuPart.gathered(store.stream_pages(["near", "other"], COLUMNS), 2**30, CPU)
    everything = np.ones(400, np.bool_)
    scores = part.scores(query, everything).astype(np.float64)
    depth, true = 10, part.maxsim(query, np.arange(400), scores, {})
    best_of_all = set(np.argsort(-true, kind="stable")[:depth].tolist())
    assert best_of_all != set(np.argsort(-scores, kind="stable")[:depth].tolist())
    shortlist = part.shortlist(query, scores, depth)
    assert best_of_all <= set(shortlist.tolist())
    assert len(shortlist) <= 300
    assert names(ask(recall_on_gpu(store), query, depth)) == exactly(store, query, depth)


def test_int8_vectors_are_scanned_in_float16(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "index.lance"), HashingEncoder(dim=DIM).fingerprint, "int8")
    with store.writing():
        put(store, "bytes", made(50))
    searching = recall_on_gpu(store)
    for seed in range(5):
        found = {hit.page.name: hit.scores["vectors"] for hit in ask(searching, question(seed), 50).hits}
        hits = ask(Recall(store, SETTINGS), question(seed), 50).hits
        assert found == pytest.approx({hit.page.name: hit.scores["vectors"] for hit in hits}, abs=1e-3)


def test_a_question_without_vectors_is_answered_by_its_words(large: Store) -> None:
    nothing = QueryEmbedding(np.zeros((0, DIM), np.float32), (), ())
    assert not ask(recall_on_gpu(large), nothing).hits
    assert recall_on_gpu(large).candidates("words", nothing, 5, Filter()).hits


def test_many_pages_are_scored_again_in_several_groups(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = names(ask(recall_on_gpu(large), question(3), 600))
    monkeypatch.setattr(gpu_scan, "AT_ONCE", 50)
    assert names(ask(recall_on_gpu(large), question(3), 600)) == whole


# How parts follow the index


def test_changes_are_seen_and_only_new_documents_are_read(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching = recall_on_gpu(large)
    ask(searching, question(0))
    read: list[str] = []
    pages = large.stream_pages

    def watched(doc_ids: list[str], columns: list[str]) -> object:
        read.extend(doc_ids)
        return pages(doc_ids, columns)

    monkeypatch.setattr(large, "stream_pages", watched)
    with large.writing():
        put(large, "new", made(40, seed=8))
        large.remove(["d04", "d05", "long"])
    for seed in range(3):
        found = ask(searching, question(seed), 60)
        assert names(found) == exactly(large, question(seed), 60)
    assert found.stage.pages == 580
    assert set(read) - {"new"} == {f"d{i:02}" for i in range(20)} - {
        "d04",
        "d05",
    }  # by the exact scan beside it
    assert read.count("new") == 4
    assert read.count("d03") == 3


def test_many_small_parts_become_one(large: Store) -> None:
    searching = recall_on_gpu(large)
    for number in range(planner.PARTS_ON_GPU + 2):
        with large.writing():
            put(large, f"n{number:02}", made(3, seed=50 + number))
        ask(searching, question(0))
    parts = resident(searching)
    assert len(parts) < 4
    assert sum(len(part.pages) for part in parts) == 604 + 3 * (planner.PARTS_ON_GPU + 2)
    assert names(ask(searching, question(2), 80)) == exactly(large, question(2), 80)


def test_removed_pages_are_hidden_until_they_are_many(large: Store) -> None:
    searching = recall_on_gpu(large)
    (before,) = resident(searching)
    with large.writing():
        large.remove(["d02", "d03"])
    (after,) = resident(searching)
    assert isinstance(before, GpuPart)
    assert isinstance(after, GpuPart)
    assert [b.vectors.data_ptr() for b in after.blocks] == [b.vectors.data_ptr() for b in before.blocks]
    assert names(ask(searching, question(1), 70)) == exactly(large, question(1), 70)
    with large.writing():
        large.remove([f"d{i:02}" for i in range(4, 12)])
    (last,) = resident(searching)
    assert last.bytes < 0.7 * before.bytes
    assert len(last.pages) == 304
    assert names(ask(searching, question(1), 70)) == exactly(large, question(1), 70)


def test_an_index_that_does_not_fit_is_searched_without_the_gpu_and_the_stage_says_why(large: Store) -> None:
    searching = recall_on_gpu(large, gpu_mb=1, recall_ms=0)
    assert note(searching).startswith("exact scan on the GPU of 604 pages")
    with large.writing():
        put(large, "many", made(800, seed=3))  # 12,800 vectors of 40 values: 1.0 MB with what is there
    assert "(more than the 1 MiB of search.gpu_mb; longer than the 0 ms aimed at" in note(searching)
    upkeep.build(large)
    expected = "inverted lists of 1,404 pages (more than the 1 MiB of search.gpu_mb; a scan of"
    assert note(searching).startswith(expected)
    with large.writing():
        large.remove(["many"])
    assert note(searching).startswith("exact scan on the GPU of 604 pages, BM25")
    assert searching.planner.bytes_in_memory == 0


def test_removed_pages_make_room_before_an_index_is_refused(large: Store) -> None:
    searching = recall_on_gpu(large, gpu_mb=1)
    with large.writing():
        put(large, "many", made(150, seed=3))  # 1.02 MB with what is there
    ask(searching, question(0))
    with large.writing():
        large.remove(["many"])
        put(large, "others", made(160, seed=4))  # 1.03, or 1.22 beside what was removed
    assert note(searching).startswith("exact scan on the GPU of 764 pages, BM25")


def full(*_: object, **__: object) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


@pytest.mark.parametrize("moment", ["moving", "scanning", "scoring again", "warming"])
def test_a_full_gpu_is_reported_and_tried_again_later(
    large: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    searching = recall_on_gpu(large)
    if moment != "moving":
        ask(searching, question(0))
    name = {"moving": "from_numpy", "scoring again": "cat"}.get(moment)
    with monkeypatch.context() as patch:
        patch.setattr(torch, name, full) if name else patch.setattr(gpu, "kernel", lambda _: full)
        if moment == "warming":
            searching.warm()
        reason = "cpu is full: CUDA out of memory. Tried to allocate 2.00 GiB."
        assert note(searching).startswith(f"exact scan in memory of 604 pages ({reason}), BM25")
        assert names(ask(searching, question(1))) == exactly(large, question(1))
    with large.writing():
        put(large, "one", made(1))
    assert "cpu is full" in note(searching)
    monkeypatch.setattr(part_cache, "RETRY_S", 0.0)
    with large.writing():
        put(large, "two", made(1))
    assert note(searching).startswith("exact scan on the GPU of 606 pages, BM25")


def test_an_index_that_fits_only_without_its_earlier_parts_is_read_anew(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "PARTS_ON_GPU", 1)
    searching = recall_on_gpu(large)
    ask(searching, question(0))
    monkeypatch.setattr(GpuPart, "join", lambda *_: (_ for _ in ()).throw(NoRoom("full")))
    with large.writing():
        put(large, "one", made(1))
    assert note(searching).startswith("exact scan on the GPU of 605 pages, BM25")


def test_vectors_over_the_limit_are_refused_before_all_are_read(large: Store) -> None:
    batches = large.stream_pages([d.doc_id for d in large.documents()], COLUMNS)
    with pytest.raises(NoRoom):
        GpuPart.gathered(batches, 1_000, CPU)


def test_warming_scans_with_questions_of_the_usual_lengths(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    searching, asked = recall_on_gpu(large), set()
    kernel = gpu.kernel(CPU)

    def watched(_: torch.device) -> Any:
        def scan(query: torch.Tensor, *others: Any) -> Any:
            asked.add((len(query), others[-2]))
            return kernel(query, *others)

        return scan

    monkeypatch.setattr(gpu, "kernel", watched)
    searching.warm()
    assert asked == {(16, 16), (32, 32), (64, 64), (128, 128)}


def test_one_thread_launches_at_a_time(large: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    searching, kernel, inside = recall_on_gpu(large), gpu.kernel(CPU), threading.Lock()
    expected = [names(ask(searching, question(seed))) for seed in range(4)]

    def alone(*given: Any) -> Any:
        assert inside.acquire(blocking=False)
        time.sleep(0.002)
        scores = kernel(*given)
        inside.release()
        return scores

    monkeypatch.setattr(gpu, "kernel", lambda _: alone)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda seed: names(ask(searching, question(seed))), range(4))) == expected


@settings(deadline=None)  # on a busy machine a single example may take long
@given(st.integers(0, 10_000), st.sampled_from([8, 40, 320]), st.floats(0.01, 30))
def test_no_score_is_farther_off_than_the_slack(seed: int, dim: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    asked = weight * unit(rng.standard_normal((rng.integers(1, 40), dim)))
    pages = unit(rng.standard_normal((50, dim))).astype(np.float16).astype(np.float64)
    true = (asked.astype(np.float64) @ pages.T).max(axis=1).sum()
    found = (asked.astype(np.float16).astype(np.float32) @ pages.astype(np.float32).T).max(axis=1).sum()
    assert abs(found - true) <= gpu_scan.slack(asked)
    assert gpu_scan.slack(asked) < 0.002 * weight * len(asked)


# The device


def test_a_missing_gpu_and_one_that_cannot_scan_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceMissing, match=r"search\.device is cuda:1, and torch .* sees 0 CUDA GPUs here"):
        gpu.choose_gpu("cuda:1")
    assert gpu.choose_gpu("auto") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(gpu, "try_gpu", no_compiler)
    with pytest.raises(
        DeviceMissing, match=r"a first scan there fails: RuntimeError: Failed to find C compiler.*; fix"
    ):
        gpu.choose_gpu("cuda")
    assert gpu_scan_for("auto")[:2] == ("", None)
    assert "search.device is auto, and a first scan there fails" in gpu_scan_for("auto").why_not
    monkeypatch.setattr(gpu, "find_spec", lambda _: None)
    with pytest.raises(
        MissingExtra, match="late-interaction-kernels, which scans on a GPU, is not installed"
    ):
        gpu.choose_gpu("cuda")


def no_compiler(_: torch.device) -> None:
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable.")


def test_the_stage_says_why_auto_scans_on_no_gpu(large: Store) -> None:
    searching = Recall(large, SETTINGS, GpuScan(why_not="a first scan there fails"))
    assert note(searching).startswith("exact scan in memory of 604 pages (a first scan there fails), BM25")


def test_a_kernel_that_gives_wrong_scores_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.try_gpu(CPU)
    monkeypatch.setattr(gpu, "kernel", lambda _: lambda *given: torch.zeros(1, 1))
    with pytest.raises(ValueError, match=r"gives \[\[0.0\]\] for a page whose score is 16"):
        gpu.try_gpu(CPU)


INTERPRETED = """
import numpy as np, torch
from late_interaction_kernels import maxsim_varlen, varlen
from retrieval.recall import gpu, gpu_scan
from tests.retrieval.test_ivf import DIM, made, question

varlen._varlen_fwd_kernel.configs = varlen._varlen_fwd_kernel.configs[:1]  # no GPU to try the others on
pages = made(9) + [np.concatenate(made(6, seed=1)), np.zeros((0, DIM), np.float32)]
lengths = np.array([len(page) for page in pages])
vectors = torch.from_numpy(np.concatenate(pages).astype(np.float16))
rows = np.arange(len(pages))
part = gpu_scan.GpuPart(
    type("Pages", (), {"__len__": lambda self: len(rows)})(), (gpu_scan.Block.of(vectors, lengths, rows),),
    torch.device("cpu"),
)
every = rows >= 0
reference = [part.scores(question(seed), every) for seed in range(3)]
gpu.kernel = lambda device: maxsim_varlen
for seed in range(3):
    np.testing.assert_allclose(part.scores(question(seed), every), reference[seed], atol=2e-6)
print("equal")
"""


def test_the_kernel_gives_what_its_reference_gives() -> None:
    """Triton's interpreter runs the kernel as it is called here, in a process of its own: the variable is read once."""
    ended = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout.strip() == "equal", ended.stderr[-2000:]
