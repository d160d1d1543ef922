"""Documents written together: the order of writes keeps each complete or absent, wherever the writer is interrupted."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import IndexDamaged
from retrieval.store import write_batch
from retrieval.store.documents import DocumentList
from retrieval.store.schema import LedgerEntry, PageRecord, revision
from retrieval.store.store import Store
from retrieval.store.tables import connect
from retrieval.store.write_batch import WriteBatch
from retrieval.types import Document, Page
from tests.build import ADDED, add_document, content, webp

ENCODER = HashingEncoder(dim=64)


def document(doc_id: str, pages: int, uri: str = "") -> Document:
    return Document(
        doc_id=doc_id,
        name=f"{doc_id}.pdf",
        uri=uri or f"file:///{doc_id}.pdf",
        pages=pages,
        added_at=ADDED,
    )


def records(doc_id: str, texts: list[str], first: int = 1) -> list[PageRecord]:
    pages = [
        replace(content(text), page=Page(doc_id=doc_id, number=n, document=f"{doc_id}.pdf"))
        for n, text in enumerate(texts, first)
    ]
    return [
        PageRecord(
            page=c.page,
            words=c.words,
            source=c.source,
            title="",
            embedding=e,
            image=webp(),
            thumbnail=b"t",
        )
        for c, e in zip(pages, ENCODER.encode_pages(pages), strict=True)
    ]


def entry(doc_id: str) -> LedgerEntry:
    return LedgerEntry(
        uri=f"file:///{doc_id}.pdf",
        doc_id=doc_id,
        size=1,
        modified=ADDED,
        outcome="done",
        reason="new",
        message="",
        pages=1,
        seconds=0.0,
        at=ADDED,
    )


def versions(store: Store) -> dict[str, int]:
    return {name: table.version for name, table in store.tables.by_name().items()}


def rows(store: Store) -> dict[str, int]:
    return {name: table.count_rows() for name, table in store.tables.by_name().items()}


def test_a_commit_makes_one_version_of_each_table_however_many_documents_it_lists(store: Store) -> None:
    with store.writing(), store.begin_batch() as batch:
        before = versions(store)
        for number in range(20):
            batch.add(f"d{number}", records(f"d{number}", ["alpha", "beta"]))
            batch.record(entry(f"d{number}"))
        assert (versions(store), Store.open(store.uri).documents()) == (before, [])
        batch.commit([document(f"d{number}", 2) for number in range(20)])
    assert versions(store) == {name: version + 1 for name, version in before.items()}
    assert rows(store) == {"documents": 20, "pages": 40, "images": 40, "ledger": 20}
    assert len(Store.open(store.uri).documents()) == len(store.documents()) == 20


def test_documents_that_are_not_committed_stay_open_or_are_dropped(store: Store) -> None:
    with store.writing():
        with store.begin_batch() as batch:
            for doc_id in ("a", "b", "c"):
                batch.add(doc_id, records(doc_id, ["alpha"]))
            batch.abandon(["b"])
            batch.commit([document("a", 1)])
            assert rows(store) == {"documents": 1, "pages": 2, "images": 2, "ledger": 0}  # c is still open
            batch.add("c", records("c", ["beta"], first=2))
            batch.commit([document("c", 2)])
            batch.add("d", records("d", ["alpha"]))
            batch.store_pages()
            batch.add("e", records("e", ["alpha"]))
        assert rows(store) == {"documents": 2, "pages": 3, "images": 3, "ledger": 0}
    assert [d.doc_id for d in store.documents()] == ["a", "c"]


def test_a_long_document_is_stored_in_pieces_and_is_never_in_memory_as_a_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    piece = records("long", ["alpha"] * 10)
    size = sum(len(r.image) + len(r.thumbnail) + r.embedding.vectors.nbytes for r in piece)
    monkeypatch.setattr(write_batch, "BUFFERED", 3 * size)
    with store.writing(), store.begin_batch() as batch:
        for number in range(20):
            batch.add("long", records("long", ["alpha"] * 10, first=1 + 10 * number))
            assert batch.size < 3 * size
        assert store.tables.pages.count_rows() == 180  # six pieces of thirty
        assert store.documents() == []
        batch.commit([document("long", 200)])
    assert rows(store) == {"documents": 1, "pages": 200, "images": 200, "ledger": 0}


def test_a_document_without_one_of_its_pages_is_named_and_none_of_its_group_is_listed(store: Store) -> None:
    with store.writing(), store.begin_batch() as batch:
        batch.add("a", records("a", ["alpha", "beta"]))
        batch.add("b", records("b", ["gamma", "delta"]))
        batch.store_pages()
        store.tables.pages.delete("page_id = 'b#2'")
        with pytest.raises(IndexDamaged, match=r"b\.pdf: 2 pages were written, but 1 are in"):
            batch.commit([document("a", 2), document("b", 2)])
    assert rows(store) == {"documents": 0, "pages": 0, "images": 0, "ledger": 0}


class PowerCut(BaseException):
    """Ends the writer like a power cut."""


class CutConnection:
    """A connection of LanceDB whose tables can be written to `writes` times, all together."""

    def __init__(self, uri: str, writes: int) -> None:
        self._connection = connect(uri)
        self._left = writes

    def open_table(self, name: str) -> "CutTable":
        return CutTable(self._connection.open_table(name), self)

    def count_write(self) -> None:
        if self._left == 0:
            raise PowerCut
        self._left -= 1


class CutTable:
    """A table of LanceDB whose writes are counted by its connection."""

    def __init__(self, table: Any, connection: CutConnection) -> None:
        self._table = table
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        if name in ("add", "delete", "merge_insert"):
            self._connection.count_write()
        return getattr(self._table, name)


def _write(batch: WriteBatch) -> None:
    """Write a new document, one that replaces another, and one that is read again; then a second group."""
    batch.add("new", records("new", ["alpha", "beta"]))
    batch.add("next", records("next", ["gamma"]))
    batch.add("same", records("same", ["delta", "epsilon"]))
    for doc_id in ("new", "next", "same"):
        batch.record(entry(doc_id))
    batch.commit([document("new", 2), document("next", 1, "file:///old.pdf"), document("same", 2)])
    batch.add("last", records("last", ["zeta", "eta", "theta"]))
    batch.record(entry("last"))
    batch.commit([document("last", 3)])


@pytest.mark.parametrize("buffered", ["pages stored with the commit", "pages stored at once"])
def test_every_listed_document_is_complete_before_whichever_write_the_writer_is_interrupted(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, buffered: str
) -> None:
    if buffered == "pages stored at once":
        monkeypatch.setattr(write_batch, "BUFFERED", 1)
    seen: list[tuple[str, ...]] = []
    for writes in range(100):
        uri = str(tmp_path / f"cut{writes}.lance")
        with (undisturbed := Store.create(uri, ENCODER.fingerprint)).writing():
            add_document(undisturbed, ENCODER, "old.pdf", ["old words", "more"], doc_id="old")
            add_document(undisturbed, ENCODER, "same.pdf", ["delta", "epsilon"], doc_id="same")
        try:
            _write(Store(uri, CutConnection(uri, writes)).begin_batch())
        except PowerCut:
            pass
        else:
            break
        after = Store.open(uri)
        listed = after.documents()
        for each in listed:
            numbers = Counter(
                row["number"] for b in after.stream_pages([each.doc_id], ["number"]) for row in b.to_pylist()
            )
            assert numbers == Counter(range(1, each.pages + 1))
            assert all(after.image(f"{each.doc_id}#{number}") for number in numbers)
        assert {e.doc_id for e in after.ledger()} <= {each.doc_id for each in listed}
        assert after.has("old") != after.has("next")  # exactly one of them is listed
        with after.writing():  # sweeps
            assert after.tables.pages.count_rows() == sum(each.pages for each in listed)
        seen.append(tuple(sorted(each.doc_id for each in listed)))
    assert list(dict.fromkeys(seen)) == [
        ("old", "same"),
        ("new", "next", "same"),
        ("last", "new", "next", "same"),
    ]


def test_overwritten_pages_have_another_revision_than_they_had_while_they_were_being_overwritten(
    store: Store,
) -> None:
    with store.writing():
        add_document(store, ENCODER, "same.pdf", ["delta"], doc_id="same")
    during: list[str] = []

    class Watched(CutConnection):
        """Notes the revision that another reader sees before each write."""

        def count_write(self) -> None:
            during.append(revision(Store.open(store.uri).document("same")))

    with Store(store.uri, Watched(store.uri, 0)).begin_batch() as batch:
        batch.add("same", records("same", ["epsilon"]))
        batch.store_pages()
    assert len(during) == 4  # the mark, the image, the page, the second mark
    assert revision(Store.open(store.uri).document("same")) not in during


def test_pages_that_a_killed_writer_left_in_an_object_store_are_replaced(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No lock keeps other writers out of an object store, so nothing is swept when writing begins."""
    with store.writing():
        killed = store.begin_batch()
        killed.add("a", records("a", ["alpha", "beta"]))
        killed.store_pages()
        with WriteBatch(DocumentList(store.tables, store.uri), store.tables, remote=True) as batch:
            batch.add("a", records("a", ["alpha", "beta"]))
            batch.commit([document("a", 2)])
    assert rows(store) == {"documents": 1, "pages": 2, "images": 2, "ledger": 0}
