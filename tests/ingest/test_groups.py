"""Documents are committed in groups: one reported as done is in the index, and a kill repeats at most one group."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import configs.settings as configs
from ingest import pipeline, writer
from ingest.pipeline import ingest
from ingest.progress import Progress
from retrieval.encoders.hashing import HashingEncoder
from retrieval.store import write_batch
from retrieval.store.store import Store
from retrieval.types import PageContent, PageEmbedding
from tests.ingest.test_pipeline import snapshot
from tests.pdfs import filler, make_pdf

SETTINGS = configs.Ingest(workers=2, dpi=40, ocr="off")
FILES = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(FILES):
        make_pdf(tmp_path / "in" / f"d{number}.pdf", [filler(f"topic{number}")])
    return tmp_path / "in"


@pytest.fixture
def never_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are committed for their size, or when no file is being read, but never for their age."""
    monkeypatch.setattr(writer, "SECONDS", 3_600.0)


def test_a_document_reported_as_done_is_in_the_index_and_in_the_ledger(
    store: Store, encoder: HashingEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch, never_old: None
) -> None:
    monkeypatch.setattr(writer, "DOCUMENTS", 4)
    in_index = []
    for event in ingest([folder], store, encoder, SETTINGS):
        if event.event == "done":
            other = Store.open(store.uri)  # as another process sees it
            assert other.document(event.doc_id).uri == event.uri
            assert event.uri in {entry.uri for entry in other.ledger()}
            in_index.append(len(other.documents()))
    assert in_index == [4] * 4 + [8] * 4 + [10] * 2


def test_a_finished_document_does_not_wait_for_a_slow_page_of_another(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SECONDS", 0.3)
    quick = make_pdf(tmp_path / "quick.pdf", [filler("alpha")])
    slow = make_pdf(tmp_path / "slow.pdf", [filler("beta")])
    quick_is_done = threading.Event()

    class Waits(HashingEncoder):
        """Waits before pages about beta until the other document is done."""

        batch_pages = 1

        def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
            if any("beta" in page.text for page in pages):
                assert quick_is_done.wait(60)
            return super().encode_pages(pages)

    done = []
    one_worker = SETTINGS.model_copy(update={"workers": 1})  # so that the page about beta is the second one
    for event in ingest([quick, slow], store, Waits(64), one_worker):
        if event.event == "done":
            done.append(event.name)
            quick_is_done.set()
    assert done == ["quick.pdf", "slow.pdf"]


def test_stopping_commits_the_documents_that_are_complete_and_reports_them(
    store: Store, encoder: HashingEncoder, folder: Path, never_old: None
) -> None:
    stop, embedded, done = threading.Event(), 0, []
    encoder.batch_pages = 1
    for event in ingest([folder], store, encoder, SETTINGS, stop=stop):
        embedded += event.event == "page" and event.page == 1
        if embedded == 5:
            stop.set()
        if event.event == "done":
            done.append(event.name)
    assert 1 <= len(done) <= 5  # the ends of the last documents may not have arrived
    assert sorted(document.name for document in store.documents()) == sorted(done)
    assert store.tables.pages.count_rows() == len(done)


def test_an_edit_made_between_the_last_page_and_the_commit_is_kept(
    store: Store, encoder: HashingEncoder, folder: Path, never_old: None
) -> None:
    list(ingest([folder], store, encoder, SETTINGS))
    edited = False
    for event in ingest([folder], store, encoder, SETTINGS, again=True):
        if event.event == "page" and event.pages_done == FILES - 1 and not edited:
            edited = True
            for document in store.documents():
                store.update(replace(document, tags=("new",)))
    assert edited
    assert {document.tags for document in store.documents()} == {("new",)}


def test_committed_documents_are_reported_before_the_index_is_optimized(
    store: Store, encoder: HashingEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(Store):
        def optimize(self) -> None:
            raise OSError("no space left on device")

    monkeypatch.setattr(pipeline, "OPTIMIZE_EVERY", 1)
    full = FullDisk.open(store.uri)
    path = make_pdf(tmp_path / "a.pdf", [filler("alpha")])
    events: list[Progress] = []
    with pytest.raises(OSError, match="no space left"):
        events.extend(ingest([path], full, encoder, SETTINGS))  # has what came before the error
    done = [event.name for event in events if event.event == "done"]
    assert done == [document.name for document in full.documents()] == ["a.pdf"]


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("buffered", [write_batch.BUFFERED, 1])
def test_a_document_removed_while_it_is_read_again_stays_removed_and_the_others_are_done(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, never_old: None, page: int, buffered: int
) -> None:
    monkeypatch.setattr(write_batch, "BUFFERED", buffered)
    files = [make_pdf(tmp_path / f"{name}.pdf", [filler(name), filler("more")]) for name in "bcd"]
    encoder = HashingEncoder(dim=64)
    encoder.batch_pages = 1
    list(ingest(files, store, encoder, SETTINGS))
    removed = store.document("b.pdf").doc_id
    ends = {}
    for event in ingest(files, store, encoder, SETTINGS, again=True):
        if event.event == "page" and (event.name, event.page) == ("b.pdf", page):
            store.remove([removed])
        if event.event in ("done", "skipped", "failed"):
            ends[event.name] = event.event, event.reason
    assert ends == {
        "b.pdf": ("skipped", "removed meanwhile"),
        "c.pdf": ("done", "read again"),
        "d.pdf": ("done", "read again"),
    }
    assert event.event == "finished"
    assert event.files_ended == 3
    assert {document.name for document in store.documents()} == {"c.pdf", "d.pdf"}
    assert (store.tables.pages.count_rows(), store.tables.images.count_rows()) == (4, 4)


def ingest_and_die(index: str, folder: str, at: int) -> None:
    """Kill this process when `at` pages have been embedded; groups have four documents."""
    writer.DOCUMENTS, writer.SECONDS = 4, 3_600.0
    encoder = HashingEncoder(dim=64)
    store = Store.create(index, encoder.fingerprint)
    if at % 2:  # pages are stored before their group is committed
        write_batch.BUFFERED = 1
    for event in ingest([folder], store, encoder, SETTINGS):
        if event.event == "page" and event.pages_done == at and event.page == 1:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("at", [6, 7])
def test_after_a_kill_in_the_middle_of_a_group_the_index_has_complete_groups_and_the_next_run_adds_the_rest(
    tmp_path: Path, encoder: HashingEncoder, folder: Path, at: int
) -> None:
    index = str(tmp_path / "killed.lance")
    script = (
        f"from tests.ingest.test_groups import ingest_and_die as run; run({index!r}, {str(folder)!r}, {at})"
    )
    killed = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=False)
    assert killed.returncode == -signal.SIGKILL
    store = Store.open(index)
    before = {document.name for document in store.documents()}
    assert len(before) % 4 == 0
    assert len(before) <= at
    assert {entry.doc_id for entry in store.ledger()} <= {document.doc_id for document in store.documents()}
    done = [e.name for e in ingest([folder], store, encoder, SETTINGS) if e.event == "done"]
    assert set(done) == {f"d{number}.pdf" for number in range(FILES)} - before
    undisturbed = Store.create(str(tmp_path / "undisturbed.lance"), encoder.fingerprint)
    list(ingest([folder], undisturbed, encoder, SETTINGS))
    assert snapshot(store) == snapshot(undisturbed)
    assert store.tables.pages.count_rows() == FILES
