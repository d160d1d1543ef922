"""The inverted index: what it finds compared with exact search, and how it follows an index that changes."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import configs.settings as configs
from retrieval import fuse
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import IndexBusy, ModelBroken
from retrieval.recall.agreement import measure_agreement, sample_queries
from retrieval.recall.ivf import codebook, inverted_index, kernels, segment, upkeep
from retrieval.recall.ivf.inverted_index import InvertedIndex
from retrieval.recall.maxsim import maxsim
from retrieval.recall.page_cache import PageVectorCache, maxsim_stored
from retrieval.recall.recall import Recall, RecallResult
from retrieval.store.schema import REVISION_KEY, PageRecord
from retrieval.store.store import Store
from retrieval.store.verify import verify
from retrieval.types import Document, Filter, PageEmbedding, QueryEmbedding, Vectors
from tests.build import ADDED, add_document, content

DIM = 40  # not a multiple of 16, so that no loop is tested at the width of a register alone
TOPICS = 30
ALWAYS = configs.Search(recall_ms=0, reference_weight=0)
"""Settings with which searches use the inverted index, however small it is."""


def unit(vectors: NDArray[Any]) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return made


def topics(rng: np.random.Generator) -> Vectors:
    return unit(rng.standard_normal((TOPICS, DIM)))


def made(pages: int, seed: int = 0) -> list[Vectors]:
    """Pages of 8 to 24 vectors around three of the topics each."""
    rng = np.random.default_rng(seed)
    about = topics(np.random.default_rng(99))
    return [
        unit(about[rng.choice(TOPICS, 3)[rng.integers(0, 3, n)]] + 0.12 * rng.standard_normal((n, DIM)))
        for n in rng.integers(8, 25, pages)
    ]


def question(seed: int) -> QueryEmbedding:
    """Seven vectors about two topics, of unlike weights."""
    rng = np.random.default_rng(1_000 + seed)
    about = topics(np.random.default_rng(99))[rng.choice(TOPICS, 2)]
    vectors = unit(about[rng.integers(0, 2, 7)] + 0.1 * rng.standard_normal((7, DIM)))
    return QueryEmbedding(vectors, ("w",) * 7, (True,) * 7, rng.uniform(0.2, 1, 7).astype(np.float32))


def put(store: Store, doc_id: str, pages: Sequence[Vectors], **facts: object) -> None:
    pending = store.begin_document(doc_id)
    contents = [content("words", f"{doc_id}.pdf", number) for number in range(1, len(pages) + 1)]
    pending.add(
        [
            PageRecord(
                c.page,
                c.words,
                "text layer",
                "",
                PageEmbedding(v, np.zeros((len(v), 4), np.float32)),
                b"",
                b"",
            )
            for c, v in zip(contents, pages, strict=True)
        ]
    )
    given = {"added_at": ADDED, **facts}
    pending.commit(Document(doc_id, f"{doc_id}.pdf", f"file:///{doc_id}", len(pages), **given))  # type: ignore[arg-type]


@pytest.fixture
def large(tmp_path: Path) -> Store:
    """600 pages in 20 documents."""
    return filled(Store.create(str(tmp_path / "index.lance"), HashingEncoder(dim=DIM).fingerprint))


def filled(store: Store) -> Store:
    pages = made(600)
    with store.writing():
        for number in range(20):
            put(store, f"d{number:02}", pages[30 * number : 30 * number + 30])
    return store


def unpacked(signs: NDArray[np.uint64]) -> NDArray[np.float64]:
    """(n, d) of 1 and -1."""
    bits = np.unpackbits(signs.view(np.uint8), axis=1, bitorder="little")
    return 2.0 * bits.astype(np.float64) - 1


def ask(store: Store, query: QueryEmbedding, depth: int = 20, where: Filter | None = None) -> RecallResult:
    return Recall(store, ALWAYS).candidates("", query, depth, where or Filter())


def names(recalled: RecallResult) -> list[str]:
    return [hit.page.name for hit in recalled.hits]


def exactly(store: Store, query: QueryEmbedding, depth: int = 20, where: Filter | None = None) -> list[str]:
    scan = configs.Search(recall_ms=1e9, reference_weight=0)
    return names(Recall(store, scan).candidates("", query, depth, where or Filter()))


# Results


def test_the_inverted_index_finds_what_exact_search_finds_and_scores_it_exactly(large: Store) -> None:
    upkeep.build(large)
    shares = []
    for seed in range(20):
        found = ask(large, question(seed))
        assert "inverted lists of 600 pages" in found.stage.note
        shares.append(len({*names(found)} & {*exactly(large, question(seed))}) / 20)
        for hit in found.hits[:3]:
            stored = large.vectors([hit.page])[hit.page.page_id].astype(np.float32)
            assert hit.scores["vectors"] == pytest.approx(maxsim(question(seed), stored), abs=1e-5)
    assert np.mean(shares) > 0.99


def test_only_the_shortlist_is_scored_exactly(large: Store) -> None:
    upkeep.build(large)
    assert "100 scored exactly" in ask(large, question(0)).stage.note


@pytest.mark.parametrize("kept", ["d07", "d19"])
def test_a_filter_that_keeps_few_pages_returns_all_of_them_that_it_keeps(large: Store, kept: str) -> None:
    upkeep.build(large)
    where = Filter(documents=(kept,))
    found = names(ask(large, question(3), 30, where))
    assert found == exactly(large, question(3), 30, where)
    assert len(found) == 30


def test_approximate_scores_are_what_the_codes_define(large: Store) -> None:
    """Computes the definition: the centroid's similarity plus the signs' estimate of the rest, best of each page."""
    upkeep.build(large)
    found = upkeep.load_inverted_index(large)
    assert found is not None
    (part,), book, query = found.segments, found.book, question(5)
    assert query.weights is not None
    signs = unpacked(part.signs)
    of_list = np.repeat(np.arange(len(book.centroids)), np.diff(part.starts))
    factor = part.factor * (book.largest / 255)
    expected = np.zeros(len(part))
    none = (
        min((w * (book.centroids @ v)).min() for v, w in zip(query.vectors, query.weights, strict=True)) - 1
    )
    for vector, weight in zip(query.vectors * query.weights[:, None], query.weights, strict=True):
        rotated = vector @ book.rotation
        unit = (rotated.max() - rotated.min()) / 15
        rounded = rotated.min() + unit * np.rint((rotated - rotated.min()) / unit)
        estimate = (book.centroids @ vector)[of_list] + factor * (signs @ rounded)
        best = np.full(len(part), -np.inf)
        np.maximum.at(best, part.page, estimate)
        expected += np.maximum(best - none, 0)
        assert weight > 0
    approximate_scores = found.approximate_scores(query, np.ones(len(part), np.bool_))
    assert found._probes(1.0) == len(book.centroids)  # so small an index is visited whole
    shift = approximate_scores.mean() - expected.mean()  # each thread has its own floor below all lists
    assert np.allclose(approximate_scores - shift, expected, atol=1e-3)


def test_codes_estimate_dot_products_without_bias() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate(made(400))
    book = codebook.train_codebook(vectors.astype(np.float16), 64)
    codes = book.encode(vectors)
    signs = unpacked(codes.signs)
    rotated = signs * (codes.factors * (book.largest / 255))[:, None]
    queries = unit(rng.standard_normal((200, DIM)))
    error = (
        book.centroids[codes.centroids] @ queries.T + rotated @ (queries @ book.rotation).T
    ) - vectors @ queries.T
    coarse = book.centroids[codes.centroids] @ queries.T - vectors @ queries.T
    assert abs(error.mean()) < 0.002
    assert error.std() < 0.75 * coarse.std()


@pytest.mark.parametrize("dim", [40, 128, 320])
def test_codes_agree_with_their_definition(dim: int) -> None:
    rng = np.random.default_rng(dim)
    vectors = unit(rng.standard_normal((2_000, dim)))
    book = codebook.train_codebook(vectors, 50)
    centroids, signs, factors = book.apart(vectors)
    left = (vectors - book.centroids[centroids]) @ book.rotation
    assert ((unpacked(signs) > 0) == (left > 0))[np.abs(left) > 1e-6].all()
    assert factors == pytest.approx((left**2).sum(axis=1) / np.abs(left).sum(axis=1), rel=1e-4)


def test_each_row_is_added_to_the_sum_of_its_centroid() -> None:
    rng = np.random.default_rng(0)
    vectors, own = rng.standard_normal((500, 33)).astype(np.float32), rng.integers(0, 9, 500)
    sums = np.zeros((10, 33), np.float32)
    kernels.add_to(sums, own, vectors)
    assert sums == pytest.approx(np.stack([vectors[own == row].sum(axis=0) for row in range(10)]), abs=1e-4)


@settings(deadline=None)  # on a busy machine a single example may take long
@given(st.lists(st.integers(0, 6), min_size=0, max_size=40), st.integers(0, 45))
def test_the_best_are_the_first_of_the_sorted_scores(values: list[int], count: int) -> None:
    scores = np.array(values, np.float64)
    assert fuse.best(scores, count).tolist() == fuse.best_first(scores)[:count]


@pytest.mark.parametrize(("asked", "dim"), [(1, 3), (4, 16), (7, 40), (21, 128)])
def test_stored_pages_are_scored_as_floats_are(asked: int, dim: int) -> None:
    rng = np.random.default_rng(asked)
    pages = [unit(rng.standard_normal((n, dim))).astype(np.float16) for n in (1, 5, 0, 300)]
    pages[1][0, :2] = [6e-8, -0.0]  # the smallest there is, and nothing
    query = QueryEmbedding(unit(rng.standard_normal((asked, dim))), ("",) * asked, (True,) * asked)
    expected = [maxsim(query, page.astype(np.float32)) for page in pages]
    assert maxsim_stored(query, pages) == pytest.approx(expected, abs=1e-5)
    weighted = QueryEmbedding(
        query.vectors, query.tokens, query.content, np.linspace(0, 1, asked, dtype=np.float32)
    )
    expected = [maxsim(weighted, page.astype(np.float32)) for page in pages]
    assert maxsim_stored(weighted, pages) == pytest.approx(expected, abs=1e-5)


def test_every_finite_half_is_widened_exactly() -> None:
    halves = np.arange(65_536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    one = QueryEmbedding(np.ones((1, 1), np.float32), ("",), (True,))
    assert (maxsim_stored(one, list(halves.reshape(-1, 1, 1))) == halves.astype(np.float32)).all()


def test_int8_finds_the_same_pages_in_half_the_space(large: Store, tmp_path: Path) -> None:
    bytes_ = Store.create(str(tmp_path / "bytes.lance"), large.fingerprint, "int8")
    assert (large.precision, filled(bytes_).precision) == ("float16", "int8")
    assert (
        Store.create(bytes_.uri, large.fingerprint, "float16").precision == "int8"
    )  # an index keeps its own
    upkeep.build(bytes_)
    shares = []
    for seed in range(20):
        truth = exactly(large, question(seed))
        found = ask(bytes_, question(seed))
        assert names(found) == names(ask(bytes_, question(seed)))
        shares.append(
            [len({*ranking} & {*truth}) / 20 for ranking in (names(found), exactly(bytes_, question(seed)))]
        )
        (first,) = bytes_.embeddings([found.hits[0].page])
        assert np.linalg.norm(first.vectors, axis=1) == pytest.approx(1, abs=1e-5)
        assert found.hits[0].scores["vectors"] == pytest.approx(
            maxsim(question(seed), first.vectors), abs=1e-5
        )
    assert np.mean(shares, axis=0) == pytest.approx([1, 1], abs=0.03)
    assert not any("of length 1" in problem.message for problem in verify(bytes_).problems)
    sizes = [
        sum(f.stat().st_size for f in Path(s.uri, "pages.lance", "data").iterdir()) for s in (large, bytes_)
    ]
    vectors = sum(map(len, made(600))) * DIM
    assert sizes[0] - sizes[1] == pytest.approx(vectors, rel=0.1)


# How it follows the index


def test_new_documents_are_found_at_once_and_a_refresh_adds_only_them(large: Store) -> None:
    upkeep.build(large)
    before = {path: path.stat().st_mtime_ns for path in upkeep.folder(large.uri).rglob("*.np?")}
    with large.writing():
        put(large, "new", [question(1).vectors, question(2).vectors])
    found = ask(large, question(1))
    assert names(found)[0] == "new.pdf#page=1"
    assert "exact scan in memory of 2 new pages" in found.stage.note
    assert upkeep.stats(large).missing == 2
    assert upkeep.refresh(large)
    assert upkeep.stats(large).missing == 0
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    found = ask(large, question(1))
    assert names(found)[0] == "new.pdf#page=1"
    assert "new pages" not in found.stage.note
    assert not upkeep.refresh(large)


def test_removed_pages_are_hidden_at_once_and_dropped_once_they_are_many(large: Store) -> None:
    upkeep.build(large)
    first = ask(large, question(4)).hits[0].page
    with large.writing():
        large.remove([first.doc_id])
    assert first.doc_id not in {hit.page.doc_id for hit in ask(large, question(4)).hits}
    assert upkeep.stats(large).removed == 30
    assert not upkeep.refresh(large)  # one of twenty documents is not much
    with large.writing():
        large.remove([f"d{number:02}" for number in range(10)])
    assert upkeep.refresh(large)
    assert upkeep.stats(large).removed == 0
    assert names(ask(large, question(4))) == exactly(large, question(4))


def test_a_document_that_is_read_again_is_found_by_its_new_pages(large: Store) -> None:
    upkeep.build(large)
    recall = Recall(large, ALWAYS)
    assert "d03.pdf#page=1" not in names(recall.candidates("", question(6), 5, Filter()))[:1]
    pages = [question(6).vectors, *made(29, seed=5)]
    with large.writing():
        put(large, "d03", pages, meta={REVISION_KEY: "2026-05-05"})
    assert names(recall.candidates("", question(6), 5, Filter()))[0] == "d03.pdf#page=1"
    assert upkeep.refresh(large)
    found = recall.candidates("", question(6), 5, Filter())
    assert names(found)[0] == "d03.pdf#page=1"
    assert "new pages" not in found.stage.note


def test_many_refreshes_leave_few_segments_with_the_same_results(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "AT_ONCE", 500)  # so that merging goes list by list, many times
    upkeep.build(large)
    pages = made(60, seed=8)
    for number in range(12):
        with large.writing():
            put(large, f"n{number:02}", pages[5 * number : 5 * number + 5])
        assert upkeep.refresh(large)
    found = upkeep.load_inverted_index(large)
    assert found is not None
    assert len(found.segments) <= upkeep.MOST_SEGMENTS + 1
    assert upkeep.stats(large).pages == 660
    assert found.vectors == sum(map(len, made(600))) + sum(map(len, pages))
    shares = [
        len({*names(ask(large, question(seed)))} & {*exactly(large, question(seed))}) / 20
        for seed in range(10)
    ]
    assert np.mean(shares) > 0.99


def test_merged_segments_give_each_page_the_score_that_they_gave_before(large: Store, tmp_path: Path) -> None:
    upkeep.build(large)
    with large.writing():
        put(large, "new", made(40, seed=3))
    upkeep.refresh(large)
    apart = upkeep.load_inverted_index(large)
    assert apart is not None
    assert len(apart.segments) == 2
    keep = [part.pages["document"] % 2 == 0 for part in apart.segments]
    segment.merge_segments(tmp_path / "one", apart.segments, keep)
    one = InvertedIndex(apart.manifest, apart.book, (segment.load_segment(tmp_path / "one"),))
    mask = np.concatenate(keep)
    expected = apart.approximate_scores(question(0), mask)[mask]
    assert one.approximate_scores(question(0), np.ones(int(mask.sum()), np.bool_)) == pytest.approx(
        expected, abs=1e-4
    )


def test_an_index_that_has_outgrown_its_codebook_gets_another(
    large: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep.build(large)
    before = upkeep.load_inverted_index(large)
    monkeypatch.setattr(upkeep, "OUTGROWN", 1.2)
    with large.writing():
        for number in range(10):
            put(large, f"n{number}", made(30, seed=number))
    assert upkeep.refresh(large)
    after = upkeep.load_inverted_index(large)
    assert before is not None
    assert after is not None
    assert after.manifest.codebook != before.manifest.codebook
    assert upkeep.stats(large).pages == 900


def test_pages_are_scanned_after_the_inverted_index_is_dropped(large: Store) -> None:
    upkeep.build(large)
    upkeep.drop(large)
    assert upkeep.stats(large) == upkeep.Stats(missing=600)
    found = ask(large, question(2))
    assert "exact scan in memory of 600 pages" in found.stage.note
    assert "an inverted index would make it quicker" in found.stage.note
    assert [path.name for path in upkeep.folder(large.uri).iterdir()] == [".upkeep"]


KILLED = """
import os, signal, sys
from retrieval.recall.ivf import upkeep
from retrieval.store.store import Store
def on_progress(what, done, of):
    if what == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
upkeep.build(Store.open(sys.argv[1]), on_progress)
"""


@pytest.mark.parametrize("moment", ["training", "encoding"])
def test_a_killed_build_leaves_the_earlier_inverted_index(large: Store, moment: str) -> None:
    upkeep.build(large)
    before = upkeep.load_inverted_index(large)
    killed = subprocess.run([sys.executable, "-c", KILLED, large.uri, moment], check=False)
    assert killed.returncode == -9
    after = upkeep.load_inverted_index(large)
    assert before is not None
    assert after is not None
    assert after.manifest == before.manifest
    upkeep.build(large)  # the lock died with its process
    now = upkeep.load_inverted_index(large)
    assert now is not None
    there = {path.name for path in upkeep.folder(large.uri).iterdir()}
    assert there == {".upkeep", inverted_index.MANIFEST, now.manifest.codebook, *now.manifest.segments}


def test_a_second_build_at_the_same_time_is_refused(large: Store) -> None:
    refused: list[str] = []

    def on_progress(what: str, done: int, of: int) -> None:
        with pytest.raises(IndexBusy) as busy:
            upkeep.refresh(large)
        refused.append(str(busy.value))

    upkeep.build(large, on_progress)
    assert "another process is building the inverted index" in refused[0]


@pytest.mark.parametrize("kept", [0, 9, 0.5])
@pytest.mark.parametrize("damage", ["manifest", "codebook", "signs.npy", "pages.arrow", "documents.json"])
def test_a_damaged_inverted_index_is_not_used_and_is_built_anew(
    large: Store, damage: str, kept: float
) -> None:
    upkeep.build(large)
    place = upkeep.folder(large.uri)
    found = upkeep.load_inverted_index(large)
    assert found is not None
    names_of = {"manifest": inverted_index.MANIFEST, "codebook": found.manifest.codebook}
    broken = place / names_of.get(damage, f"{found.manifest.segments[0]}/{damage}")
    whole = broken.read_bytes()
    broken.write_bytes(whole[: int(kept if kept >= 1 or not kept else kept * len(whole))])
    assert names(ask(large, question(0))) == exactly(large, question(0))
    assert "exact scan" in ask(large, question(0)).stage.note
    assert upkeep.refresh(large)
    assert "inverted lists of 600 pages" in ask(large, question(0)).stage.note


def test_the_inverted_index_has_pages_without_vectors_too(large: Store) -> None:
    upkeep.build(large)
    with large.writing():
        put(large, "blank", [np.zeros((0, DIM), np.float32)] * 3)
    assert upkeep.refresh(large)
    assert (upkeep.stats(large).pages, upkeep.stats(large).missing) == (603, 0)
    assert names(ask(large, question(0))) == exactly(large, question(0))


def test_an_index_that_was_emptied_gets_an_inverted_index_again(large: Store) -> None:
    upkeep.build(large)
    with large.writing():
        large.remove([d.doc_id for d in large.documents()])
    upkeep.refresh(large)
    assert ask(large, question(0)).hits == []
    with large.writing():
        put(large, "new", made(40))
    assert upkeep.is_refresh_due(large, 10)
    assert upkeep.refresh(large)
    assert names(ask(large, question(0))) == exactly(large, question(0))


def test_a_document_whose_new_reading_was_interrupted_is_not_found_by_its_old_pages(large: Store) -> None:
    upkeep.build(large)
    recall = Recall(large, ALWAYS)
    assert names(recall.candidates("", question(6), 5, Filter()))[0] != "d03.pdf#page=1"
    with large.writing():
        pending = large.begin_document("d03")
        page = content("words", "d03.pdf", 1)
        vectors = PageEmbedding(question(6).vectors, np.zeros((7, 4), np.float32))
        pending.add([PageRecord(page.page, page.words, "text layer", "", vectors, b"", b"")])
        pending.abandon()
    found = recall.candidates("", question(6), 5, Filter())
    assert names(found)[0] == "d03.pdf#page=1"
    assert "30 new pages" in found.stage.note
    upkeep.refresh(large)
    assert names(recall.candidates("", question(6), 5, Filter()))[0] == "d03.pdf#page=1"


def test_a_filter_that_keeps_half_the_pages_loses_none_of_the_best(large: Store) -> None:
    upkeep.build(large)
    where = Filter(documents=tuple(f"d{number:02}" for number in range(10)))
    for seed in range(10):
        assert names(ask(large, question(seed), 20, where)) == exactly(large, question(seed), 20, where)


def test_a_query_with_values_that_are_not_finite_is_refused(large: Store) -> None:
    upkeep.build(large)
    broken = QueryEmbedding(np.full((2, DIM), np.nan, np.float32), ("a", "b"), (True, True))
    with pytest.raises(ModelBroken, match="not finite numbers"):
        ask(large, broken)


def test_the_page_cache_is_filled_to_its_limit_and_no_more_is_read(large: Store) -> None:
    read: list[int] = []
    pages = large.stream_pages

    def counted(doc_ids: Sequence[str], columns: Sequence[str]) -> Iterator[Any]:
        for batch in pages(doc_ids, columns):
            read.append(batch.num_rows)
            yield batch

    large.stream_pages = counted  # type: ignore[method-assign]
    limit = 200 * 16 * DIM * 2
    kept = PageVectorCache(large, limit)
    kept.fill(large.documents())
    assert 0 < kept.bytes <= limit
    assert sum(read) < 600


def test_an_index_that_did_not_fit_into_memory_is_tried_again_once_it_is_smaller(large: Store) -> None:
    recall = Recall(large, configs.Search(recall_ms=1e9, exact_mb=1, reference_weight=0))
    note = recall.candidates("", question(0), 5, Filter()).stage.note
    assert "from disk of 600 pages (more than the 1 MiB of search.exact_mb" in note
    assert "an inverted index would make it quicker" in note
    with large.writing():
        large.remove([f"d{number:02}" for number in range(19)])
    assert "in memory of 30 pages" in recall.candidates("", question(0), 5, Filter()).stage.note


def test_an_empty_index_gets_no_inverted_index(tmp_path: Path) -> None:
    store = Store.create(str(tmp_path / "index.lance"), HashingEncoder(dim=DIM).fingerprint)
    upkeep.build(store)
    assert upkeep.stats(store) == upkeep.Stats()
    assert not upkeep.is_refresh_due(store, 0)


def test_a_refresh_is_due_if_a_scan_takes_too_long(large: Store) -> None:
    vectors = sum(map(len, made(600)))
    assert not upkeep.is_refresh_due(large, 2 * vectors)
    assert upkeep.is_refresh_due(large, vectors / 2)
    upkeep.build(large)
    assert not upkeep.is_refresh_due(large, vectors / 2)
    with large.writing():
        put(large, "new", made(150, seed=1))
    assert upkeep.is_refresh_due(large, vectors / 2)
    upkeep.refresh(large)
    with large.writing():
        large.remove([f"d{number:02}" for number in range(8)])
    assert upkeep.is_refresh_due(large, vectors / 2)


def test_the_inverted_index_is_compared_with_exact_search(store: Store, encoder: HashingEncoder) -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"word{number}" for number in range(300)]
    with store.writing():
        for number in range(10):
            pages = [" ".join(rng.choice(vocabulary, 30)) for _ in range(20)]
            add_document(store, encoder, f"d{number}.pdf", pages)
    upkeep.build(store)
    asked = sample_queries(store, encoder, 12)
    assert len(asked) == 12
    agreed = measure_agreement(store, asked)
    assert (agreed.questions, agreed.pages) == (12, 200)
    assert agreed.recall_10 > 0.9
    assert 0.5 < agreed.worst_100 <= agreed.recall_100 <= 1


def test_while_two_threads_write_four_search_and_no_page_is_wrong_or_missing(large: Store) -> None:
    """One thread adds and removes documents, one refreshes; readers know which pages must and must not be found."""
    upkeep.build(large)
    recall, ended = Recall(large, ALWAYS), threading.Event()
    there: dict[str, int] = {}  # documents that are committed, and the seed of the question that finds them
    gone: set[str] = set()
    wrong: list[str] = []
    searches = [0] * 4

    def adds() -> None:
        with large.writing():
            for number in range(24):
                put(large, f"n{number:02}", [question(100 + number).vectors, *made(4, seed=number)])
                there[f"n{number:02}"] = 100 + number
                if number % 3 == 2:
                    there.pop(f"n{number - 1:02}")
                    large.remove([f"n{number - 1:02}"])
                    gone.add(f"n{number - 1:02}")
        ended.set()

    def keeps() -> None:
        while not ended.is_set():
            upkeep.refresh(large)

    def searches_on(reader: int) -> None:
        rng = np.random.default_rng(reader)
        while not ended.is_set():
            known, lost = dict(there), set(gone)
            if not known:
                continue
            doc_id = str(rng.choice(sorted(known)))
            result = recall.candidates("", question(known[doc_id]), 10, Filter())
            hits = result.hits
            searches[reader] += 1
            if result.complete and hits[0].page.name != f"{doc_id}.pdf#page=1" and doc_id in there:
                wrong.append(f"{doc_id} is not first: {[hit.page.name for hit in hits[:3]]}")
            wrong.extend(f"{hit.page.name} was removed" for hit in hits if hit.page.doc_id in lost)

    threads = [threading.Thread(target=work) for work in (adds, keeps)]
    threads += [threading.Thread(target=searches_on, args=(reader,)) for reader in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(searches) > 0
