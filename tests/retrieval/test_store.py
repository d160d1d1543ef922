"""What readers and writers of an index may rely on."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import EncoderMismatch, IndexBusy, IndexDamaged, IndexMissing, NotFound, SchemaMismatch
from retrieval.store.reading import in_order
from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.store.tables import connect, indices
from retrieval.types import Document, Filter, Page, PageContent, PageEmbedding
from tests.build import ADDED, add_document, content, webp


def page(doc_id: str, number: int) -> Page:
    return Page(doc_id=doc_id, number=number, document=f"{doc_id}.pdf")


def document(doc_id: str, pages: int) -> Document:
    return Document(
        doc_id=doc_id,
        name=f"{doc_id}.pdf",
        uri=f"file:///{doc_id}.pdf",
        pages=pages,
        added_at=ADDED,
    )


def names(store: Store, where: Filter | None = None) -> list[str]:
    return [d.name for d in store.documents(where)]


def test_a_document_comes_back_as_it_was_written(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        written = add_document(
            store,
            encoder,
            "a.pdf",
            ["alpha beta", ""],
            title="Títle",
            tags=("x", "y"),
            date="2024-05-06",
            meta={"author": "Ada"},
        )
    reopened = Store.open(store.uri)
    assert reopened.documents() == [written]
    first, second = reopened.contents([page("a", 1), page("a", 2)])
    assert [w.text for w in first.words] == ["alpha", "beta"]
    assert first.words[1].box == pytest.approx((0.19, 0.1, 0.27, 0.12), abs=1e-4)
    assert (first.title, first.source, first.page.width) == ("Títle", "text layer", 612)
    assert second.words == ()
    assert first.image().size == (60, 80)


def test_vectors_and_regions_come_back_in_the_order_given(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha", "beta gamma", ""])
    pages = [page("a", 3), page("a", 1), page("a", 2)]
    empty, one, two = store.embeddings(pages)
    assert (empty.vectors.shape, one.vectors.shape, two.vectors.shape) == ((0, 64), (1, 64), (2, 64))
    expected = encoder.encode_queries(["beta gamma"])[0].vectors
    np.testing.assert_allclose(two.vectors, expected, atol=1e-3)  # stored as float16
    assert two.regions[1].tolist() == pytest.approx([0.19, 0.1, 0.27, 0.12])


class CountedTable:
    """A table of LanceDB that counts its queries."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.queries = 0

    def search(self, *arguments: Any, **options: Any) -> Any:
        self.queries += 1
        return self._table.search(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)


class CountedConnection:
    """A connection of LanceDB whose tables count their queries."""

    def __init__(self, uri: str) -> None:
        self._connection = connect(uri)
        self.tables: dict[str, CountedTable] = {}

    def open_table(self, name: str) -> CountedTable:
        return self.tables.setdefault(name, CountedTable(self._connection.open_table(name)))

    def queries(self) -> int:
        return sum(table.queries for table in self.tables.values())


def test_content_and_embedding_of_pages_come_from_one_query(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha", "beta gamma", ""])
    connection = CountedConnection(store.uri)
    counted = Store(store.uri, connection)
    pages = [page("a", 3), page("a", 1), page("a", 2)]
    rows = in_order(pages, counted.read(pages))
    assert connection.queries() == 1
    assert [[word.text for word in content_read.words] for content_read, _ in rows] == [
        [],
        ["alpha"],
        ["beta", "gamma"],
    ]
    assert [embedding.vectors.shape for _, embedding in rows] == [(0, 64), (1, 64), (2, 64)]
    for (content_read, embedding), alone, vectors in zip(
        rows, store.contents(pages), store.embeddings(pages), strict=True
    ):
        assert (content_read.page, content_read.words, content_read.title) == (
            alone.page,
            alone.words,
            alone.title,
        )
        np.testing.assert_array_equal(embedding.vectors, vectors.vectors)
        np.testing.assert_array_equal(embedding.regions, vectors.regions)
    assert connection.queries() == 1


def test_a_page_removed_meanwhile_is_missing_from_the_result_of_read(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        add_document(store, encoder, "b.pdf", ["beta"])
    pages = [page("a", 1), page("b", 1)]
    reader = Store.open(store.uri)
    assert set(reader.read(pages)) == {"a#1", "b#1"}
    with store.writing():
        store.remove(["a"])
    rows = reader.read(pages)
    assert set(rows) == {"b#1"}
    with pytest.raises(NotFound, match=r"a\.pdf#page=1: no longer in the index"):
        in_order(pages, rows)
    assert reader.read([]) == {}


def record(page: PageContent, embedding: PageEmbedding) -> PageRecord:
    return PageRecord(
        page=page.page,
        words=page.words,
        source=page.source,
        title="",
        embedding=embedding,
        image=webp(),
        thumbnail=b"t",
    )


def records(encoder: HashingEncoder, doc_id: str, texts: list[str]) -> list[PageRecord]:
    pages = [replace(content(text), page=page(doc_id, n)) for n, text in enumerate(texts, start=1)]
    return [record(*pair) for pair in zip(pages, encoder.encode_pages(pages), strict=True)]


def test_an_unfinished_document_is_invisible_however_many_pages_it_has(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha and other words"])
        pending = store.begin_document("b")
        pending.add(records(encoder, "b", ["alpha"] * 300))
        add_document(store, encoder, "c.pdf", ["alpha and more words"])
        assert names(store) == ["a.pdf", "c.pdf"]
        assert {page_id for page_id, _ in store.search_text("alpha", 10)} == {"a#1", "c#1"}
        with pytest.raises(NotFound):
            store.contents([page("b", 1)])


def test_a_document_without_all_its_pages_is_not_listed(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        pending = store.begin_document("b")
        pending.add(records(encoder, "b", ["alpha", "beta"]))
        store.tables.pages.delete("page_id = 'b#2'")
        with pytest.raises(IndexDamaged, match="2 pages were written, but 1 are in"):
            pending.commit(document("b", 2))
    assert names(store) == []


def test_an_index_without_its_list_of_documents_is_never_overwritten(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
    shutil.rmtree(Path(store.uri) / "documents.lance")
    with pytest.raises(IndexDamaged, match="no list of documents, but its images, pages are not empty"):
        Store.create(store.uri, encoder.fingerprint)


def test_a_document_that_moves_to_the_uri_of_another_replaces_it(
    store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        add_document(store, encoder, "b.pdf", ["beta"])
        store.update(replace(store.document("a"), uri="file:///b.pdf", name="b.pdf"))
    assert [(d.doc_id, d.name) for d in store.documents()] == [("a", "b.pdf")]
    assert store.search_text("beta", 5) == []


def test_the_next_writer_deletes_what_an_interrupted_one_left(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", ["alpha"])
    store.tables.documents.delete("doc_id = 'a'")  # pages without their document, as after a kill
    assert store.search_text("alpha", 10) == []
    with pytest.raises(NotFound):
        store.contents([page("a", 1)])
    assert store.tables.pages.count_rows() == 1
    with store.writing():
        assert store.tables.pages.count_rows() == 0
        assert store.tables.images.count_rows() == 0


def test_the_same_uri_again_replaces_the_document(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["old words"], doc_id="one", uri="file:///a.pdf")
        add_document(store, encoder, "a.pdf", ["new words", "more"], doc_id="two", uri="file:///a.pdf")
    assert [d.doc_id for d in store.documents()] == ["two"]
    assert store.search_text("old", 10) == []
    assert store.tables.pages.count_rows() == 2


def test_writing_the_same_document_twice_is_the_same_as_once(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        for _ in range(2):
            add_document(store, encoder, "a.pdf", ["alpha", "beta"])
    assert store.tables.pages.count_rows() == 2
    assert names(store) == ["a.pdf"]


def test_the_same_page_added_twice_is_rejected(store: Store, encoder: HashingEncoder) -> None:
    one = content("alpha")
    twice = [record(one, encoder.encode_pages([one])[0])] * 2
    with pytest.raises(ValueError, match="was added twice"):
        store.begin_document("a").add(twice)


def test_a_removed_document_leaves_no_rows(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        add_document(store, encoder, "b.pdf", ["alpha"])
        store.remove(["a"])
    assert names(store) == ["b.pdf"]
    assert [page_id for page_id, _ in store.search_text("alpha", 10)] == ["b#1"]
    with pytest.raises(NotFound, match="removed"):
        store.image("a#1")
    assert {name: getattr(store.tables, name).count_rows() for name in ("pages", "images")} == {
        "pages": 1,
        "images": 1,
    }


def test_removing_nothing_removes_nothing(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        store.remove([])
    assert names(store) == ["a.pdf"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), ["a.pdf", "b.pdf", "c.pdf"]),
        (Filter(documents=("b.pdf", "c")), ["b.pdf", "c.pdf"]),
        (Filter(collections=("law",)), ["b.pdf"]),
        (Filter(tags=("red",)), ["a.pdf", "b.pdf"]),
        (Filter(tags=("red",), collections=("law",)), ["b.pdf"]),
        (Filter(since="2024-01-01"), ["b.pdf"]),
        (Filter(until="2023-12-31"), ["a.pdf"]),
        (Filter(until="2023"), ["a.pdf"]),
        (Filter(documents=("none.pdf",)), []),
    ],
)
def test_filters_select_documents(
    store: Store, encoder: HashingEncoder, where: Filter, expected: list[str]
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["x"], tags=("red",), date="2023-06-01")
        add_document(
            store, encoder, "b.pdf", ["x"], tags=("red", "blue"), date="2024-06-01", collection="law"
        )
        add_document(store, encoder, "c.pdf", ["x"])
    assert names(store, where) == expected


def test_text_search_respects_documents_and_scans(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        add_document(store, encoder, "s.pdf", ["alpha"], source="ocr")
    assert [p for p, _ in store.search_text("alpha", 9, scanned=True)] == ["s#1"]
    assert [p for p, _ in store.search_text("alpha", 9, scanned=False)] == ["a#1"]
    assert [p for p, _ in store.search_text("alpha", 9, ["s"])] == ["s#1"]
    assert store.search_text("alpha", 9, []) == []


def test_a_filter_gives_the_same_pages_by_condition_and_after_the_search(
    store: Store, encoder: HashingEncoder
) -> None:
    """Page n has the word once among n others, so that BM25 ranks it n-th."""
    doc_ids = [f"d{number}" for number in range(300)]
    contents = [
        replace(content("alpha " + "other " * number), page=page(doc_id, 1))
        for number, doc_id in enumerate(doc_ids)
    ]
    with store.writing(), store.begin_batch() as batch:
        for each, embedding in zip(contents, encoder.encode_pages(contents), strict=True):
            batch.add(each.page.doc_id, [record(each, embedding)])
        batch.commit([document(doc_id, 1) for doc_id in doc_ids])
        store.optimize()
    connection = CountedConnection(store.uri)
    counted = Store(store.uri, connection)
    pages = connection.tables["pages"]
    scores = dict(store.search_text("alpha", 300))
    assert list(scores) == [f"{doc_id}#1" for doc_id in doc_ids]
    for allowed, queries in [
        (doc_ids, 1),  # wide: the best 69 rows are read
        (doc_ids[::2] + doc_ids[-40:], 1),
        (
            doc_ids[::-1][:200],
            2,
        ),  # none of the best rows is allowed, and reading four times more would cost too much
        (doc_ids[::100], 1),  # narrow: LanceDB gets the condition
        ([*doc_ids[:7], "elsewhere"], 1),
    ]:
        pages.queries = 0
        best = sorted((d for d in set(allowed) if d in doc_ids), key=doc_ids.index)[:5]
        assert counted.search_text("alpha", 5, allowed) == [(f"{d}#1", scores[f"{d}#1"]) for d in best]
        assert pages.queries == queries
        assert counted.search_text("alpha", 5, allowed, scanned=True) == []
    assert counted.search_text("alpha", 5, ["elsewhere"]) == []


@pytest.mark.parametrize("query", ["règlement", "REGLEMENTS", "1234.5", "(règlement) AND \"OR ' -- ;"])
def test_text_search_folds_accents_case_and_digits(store: Store, encoder: HashingEncoder, query: str) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["le Règlement: 1,234.5 EUR", "rien"])
        store.optimize()
    assert [p for p, _ in store.search_text(query, 9)] == ["a#1"]


@pytest.mark.parametrize("query", ["", "?!", "   "])
def test_text_search_for_no_words_finds_nothing(store: Store, query: str) -> None:
    assert store.search_text(query, 5) == []


def test_a_missing_index_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(IndexMissing, match="folioscope ingest"):
        Store.open(str(tmp_path / "none.lance"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(IndexMissing, match="no index"):
        Store.open(str(tmp_path / "empty"))


def test_an_index_of_another_encoder_is_rejected_with_both_names(store: Store) -> None:
    with pytest.raises(EncoderMismatch, match=r"64-d.*32-d"):
        Store.open(store.uri, HashingEncoder(32).fingerprint)
    with pytest.raises(EncoderMismatch):
        Store.create(store.uri, HashingEncoder(32).fingerprint)


def test_another_schema_version_is_rejected_with_both_numbers(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.store.schema.SCHEMA_VERSION", 2)
    with pytest.raises(SchemaMismatch, match="layout 1, this program reads layout 2"):
        Store.open(store.uri)


def test_a_rename_shows_on_the_pages_too(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        document = add_document(store, encoder, "a.pdf", ["alpha"])
        store.update(replace(document, name="it's new.pdf", tags=("t",)))
    assert store.document("it's new.pdf").tags == ("t",)
    assert store.page("it's new.pdf", 1).name == "it's new.pdf#page=1"


def test_only_one_process_writes(store: Store) -> None:
    with store.writing(), pytest.raises(IndexBusy, match="another process"), Store.open(store.uri).writing():
        pass
    with store.writing():
        pass  # the lock was released


def _write_documents(uri: str, count: int) -> None:
    encoder = HashingEncoder(64)
    store = Store.create(uri, encoder.fingerprint)
    with store.writing():
        for i in range(count):
            add_document(store, encoder, f"d{i}.pdf", [f"alpha word{i}", "beta", "gamma"])


def _read_until(uri: str, count: int, broken: "multiprocessing.Queue[str]") -> None:
    store = Store.open(uri)
    deadline = time.monotonic() + 60
    while len(store.documents()) < count and time.monotonic() < deadline:
        for document in store.documents():
            numbers = [
                row["number"]
                for b in store.stream_pages([document.doc_id], ["number"])
                for row in b.to_pylist()
            ]
            if sorted(numbers) != [1, 2, 3]:
                broken.put(f"{document.name}: {numbers}")
        if {i.partition("#")[0] for i, _ in store.search_text("alpha", 99)} - {
            d.doc_id for d in store.documents()
        }:
            broken.put("text search found an unlisted document")
    broken.put("end")


def test_two_processes_read_complete_documents_while_one_writes(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    broken: multiprocessing.Queue[str] = context.Queue()
    readers = [context.Process(target=_read_until, args=(store.uri, 12, broken)) for _ in range(2)]
    writer = context.Process(target=_write_documents, args=(store.uri, 12))
    for process in [*readers, writer]:
        process.start()
    ends = [broken.get(timeout=90) for _ in range(2)]
    for process in [*readers, writer]:
        process.join(30)
    assert ends == ["end", "end"]
    assert len(store.documents()) == 12


def test_after_a_kill_the_index_opens_and_every_listed_document_is_complete(tmp_path: Path) -> None:
    uri = str(tmp_path / "index.lance")
    script = f"from tests.retrieval.test_store import _write_documents as w; w({uri!r}, 500)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if len(Store.open(uri).documents()) >= 5:
                break
        except IndexMissing:
            time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = Store.open(uri)
    listed = store.documents()
    assert 5 <= len(listed) < 500
    for document in listed:
        assert sum(batch.num_rows for batch in store.stream_pages([document.doc_id], ["number"])) == 3
    with store.writing():  # the lock died with its process
        assert store.tables.pages.count_rows() == 3 * len(listed)


def test_a_page_image_is_read_once_however_often_it_is_used(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", ["one"])
    connection = CountedConnection(store.uri)
    counted = Store(store.uri, connection)
    (content,) = counted.contents([counted.page("a.pdf", 1)])
    assert connection.tables["images"].queries == 0  # only when somebody looks at it
    assert content.image_key() == content.image_key()
    assert content.image().size == (60, 80)
    assert connection.tables["images"].queries == 1


def test_an_index_of_page_ids_does_not_change_what_is_read(
    store: Store, encoder: HashingEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are added, removed, replaced and left unfinished after the index of ids was created."""
    monkeypatch.setattr("retrieval.store.upkeep.ID_INDEX_FROM", 4)

    def as_written(expected: dict[str, list[str]]) -> None:
        for reader in (store, Store.open(store.uri)):
            assert {d.doc_id for d in reader.documents()} == set(expected)
            for doc_id, texts in expected.items():
                pages = [page(doc_id, number) for number in range(1, len(texts) + 1)]
                assert [" ".join(w.text for w in c.words) for c in reader.contents(pages)] == texts
                stored, expected_embeddings = reader.embeddings(pages), encoder.encode_queries(texts)
                for embedding, query in zip(stored, expected_embeddings, strict=True):
                    np.testing.assert_allclose(embedding.vectors, query.vectors, atol=1e-3)
                assert all(
                    reader.image(page.page_id) and reader.page(page.document, page.number) for page in pages
                )

    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha", "beta"])
        add_document(store, encoder, "b.pdf", ["gamma"])
        store.optimize()
    assert not indices(store.tables.pages, "page_id")
    with store.writing():
        add_document(store, encoder, "c.pdf", ["delta", "epsilon"])
        store.optimize()
    assert indices(store.tables.pages, "page_id")
    assert indices(store.tables.images, "page_id")
    as_written({"a": ["alpha", "beta"], "b": ["gamma"], "c": ["delta", "epsilon"]})
    with store.writing():
        add_document(store, encoder, "d.pdf", ["zeta"])  # not in the index of ids
        add_document(
            store, encoder, "a.pdf", ["omega", "psi"], added_at=ADDED.replace(year=2027)
        )  # read again
        store.remove(["b"])
    as_written({"a": ["omega", "psi"], "c": ["delta", "epsilon"], "d": ["zeta"]})
    with store.writing():
        pending = store.begin_document("e")
        words = content("half", "e.pdf", 1)
        pending.add([record(words, encoder.encode_pages([words])[0])])
    as_written({"a": ["omega", "psi"], "c": ["delta", "epsilon"], "d": ["zeta"]})
    with store.writing():
        store.optimize()
    as_written({"a": ["omega", "psi"], "c": ["delta", "epsilon"], "d": ["zeta"]})
    with store.writing():
        add_document(store, encoder, "d.pdf", ["eta"], added_at=ADDED.replace(year=2028))
        store.remove(["a"])
        add_document(store, encoder, "b.pdf", ["gamma again"])
        store.optimize()
    as_written({"b": ["gamma again"], "c": ["delta", "epsilon"], "d": ["eta"]})
    assert store.tables.pages.count_rows() == 4
