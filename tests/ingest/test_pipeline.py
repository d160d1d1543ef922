"""Ingest with real files, worker processes and LanceDB, and the `hashing` encoder."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image

import configs.settings as configs
from ingest import embed as embedding
from ingest import pipeline
from ingest.known import EDITED
from ingest.pipeline import ingest
from ingest.progress import Progress
from ingest.sources import path_of
from ingest.workers.dispatch import prepare
from ingest.workers.messages import FailedPage, PreparedPage, Task, WorkerEvent
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadSource, IndexBusy
from retrieval.labels import BadLabel
from retrieval.store.store import Store
from retrieval.types import PageContent, PageEmbedding
from tests.pdfs import filler, make_pdf
from tests.permissions import shut

ROOT = Path(__file__).parents[2]
SETTINGS = configs.Ingest(workers=2, dpi=60, ocr="off")


def run(store: Store, encoder: HashingEncoder, *paths: Path, **options: Any) -> list[Progress]:
    return list(ingest(paths, store, encoder, SETTINGS, **options))


def ends(events: Iterable[Progress]) -> dict[str, tuple[str, str]]:
    return {
        e.name: (e.event, e.reason) for e in events if e.event in ("done", "skipped", "failed", "removed")
    }


def snapshot(store: Store) -> dict[str, Any]:
    """Everything that a search could see, except the times of ingest."""
    state = {}
    for document in store.documents():
        rows = [
            row
            for batch in store.stream_pages(
                [document.doc_id], ["page_id", "search_text", "vectors", "boxes", "regions"]
            )
            for row in batch.to_pylist()
        ]
        rows.sort(key=lambda row: int(row["page_id"].partition("#")[2]))
        images = [store.image(row["page_id"]) for row in rows]
        state[document.name] = (document.doc_id, document.pages, document.uri, json.dumps(rows), images)
    return state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_pdf(tmp_path / "in" / "a.pdf", [filler("alpha"), filler("beta")])
    make_pdf(tmp_path / "in" / "sub" / "b.pdf", [filler("gamma")])
    Image.new("RGB", (400, 300), "white").save(tmp_path / "in" / "picture.png")
    return tmp_path / "in"


def test_a_folder_becomes_documents_pages_words_and_images(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    events = run(store, encoder, folder)
    assert ends(events) == {
        "a.pdf": ("done", "new"),
        "b.pdf": ("done", "new"),
        "picture.png": ("done", "new"),
    }
    assert (events[0].event, events[0].files) == ("found", 3)
    assert (events[-1].event, events[-1].files_ended, events[-1].pages_done) == ("finished", 3, 4)
    assert {d.name: d.pages for d in store.documents()} == {"a.pdf": 2, "b.pdf": 1, "picture.png": 1}
    page = store.page("a.pdf", 2)
    content = store.contents([page])[0]
    assert (content.source, content.words[0].text) == ("text layer", "beta")
    x0, y0, x1, y1 = content.words[0].box
    assert (x0 * 595, 595 * (x1 - x0)) == pytest.approx((72, 24), abs=3)
    assert y0 * 842 < 72 < y1 * 842
    assert content.image().size == pytest.approx((595 * 60 / 72, 842 * 60 / 72), abs=1)
    assert store.thumbnail(page.page_id)[:4] == b"RIFF"
    assert [p for p, _ in store.search_text("gamma", 5)] == [f"{store.document('b.pdf').doc_id}#1"]


def test_a_second_run_ingests_nothing_twice(store: Store, encoder: HashingEncoder, folder: Path) -> None:
    run(store, encoder, folder)
    before = snapshot(store)
    events = run(store, encoder, folder)
    assert {event for event, _ in ends(events).values()} == {"skipped"}
    assert events[-1].pages_done == 0
    assert snapshot(store) == before


def test_the_same_content_under_two_names_is_ingested_once(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    shutil.copy(folder / "a.pdf", folder / "copy.pdf")
    assert ends(run(store, encoder, folder))["copy.pdf"] == ("skipped", "same content")
    shutil.copy(folder / "a.pdf", folder / "later.pdf")
    event = next(e for e in run(store, encoder, folder / "later.pdf") if e.event == "skipped")
    assert event.message == "the same content as a.pdf, which is in the index"


def test_changed_content_under_the_same_name_replaces_the_document(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    make_pdf(folder / "a.pdf", [filler("delta")])
    assert ends(run(store, encoder, folder))["a.pdf"] == ("done", "replaced")
    assert store.document("a.pdf").pages == 1
    assert store.search_text("alpha", 5) == []
    assert len(store.search_text("delta", 5)) == 1


def test_a_moved_file_keeps_its_pages_and_gets_its_new_name(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    (folder / "a.pdf").rename(folder / "renamed.pdf")
    events = run(store, encoder, folder)
    assert ends(events)["renamed.pdf"] == ("skipped", "moved")
    assert store.document("renamed.pdf").pages == 2
    assert store.page("renamed.pdf", 1).name == "renamed.pdf#page=1"


def test_files_with_the_same_name_in_two_folders_get_different_names(
    store: Store, encoder: HashingEncoder, tmp_path: Path
) -> None:
    make_pdf(tmp_path / "2023" / "report.pdf", [filler("one")])
    make_pdf(tmp_path / "2024" / "report.pdf", [filler("two")])
    run(store, encoder, tmp_path / "2023", tmp_path / "2024")
    assert sorted(d.name for d in store.documents()) == ["2024/report.pdf", "report.pdf"]


def test_sync_removes_documents_whose_file_is_gone_and_no_others(
    store: Store, encoder: HashingEncoder, folder: Path, tmp_path: Path
) -> None:
    outside = make_pdf(tmp_path / "elsewhere" / "o.pdf", [filler("outside")])
    run(store, encoder, folder, outside)
    (folder / "a.pdf").unlink()
    outside.unlink()
    assert ends(run(store, encoder, folder))["b.pdf"] == ("skipped", "unchanged")
    assert "a.pdf" in {d.name for d in store.documents()}
    assert ends(run(store, encoder, folder, sync=True))["a.pdf"] == ("removed", "file gone")
    assert {d.name for d in store.documents()} == {"b.pdf", "picture.png", "o.pdf"}


def test_sync_keeps_content_that_exists_under_another_name(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    shutil.copy(folder / "a.pdf", folder / "twin.pdf")
    run(store, encoder, folder)
    (folder / "a.pdf").unlink()
    run(store, encoder, folder, sync=True)
    assert store.document("twin.pdf").pages == 2


def test_two_files_that_swap_their_names_keep_their_own_content(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    first, second = folder / "a.pdf", folder / "sub" / "b.pdf"
    first_content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(first_content)
    run(store, encoder, folder)
    assert {d.name: (d.pages, path_of(d.uri).name) for d in store.documents()} == {
        "a.pdf": (1, "a.pdf"),
        "b.pdf": (2, "b.pdf"),
        "picture.png": (1, "picture.png"),
    }
    assert [p for p, _ in store.search_text("gamma", 5)] == [f"{store.document('a.pdf').doc_id}#1"]


def test_a_renamed_report_and_its_successor_are_both_in_the_index(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    (folder / "a.pdf").rename(folder / "a-old.pdf")
    make_pdf(folder / "a.pdf", [filler("delta")])
    run(store, encoder, folder)
    assert {d.name: d.pages for d in store.documents()} == {
        "a-old.pdf": 2,
        "a.pdf": 1,
        "b.pdf": 1,
        "picture.png": 1,
    }


@pytest.mark.parametrize("again", [False, True])
def test_a_moved_file_and_the_new_one_in_its_place_get_different_names(
    store: Store, encoder: HashingEncoder, tmp_path: Path, again: bool
) -> None:
    new, old = tmp_path / "in" / "a.pdf", tmp_path / "in" / "old" / "a.pdf"
    make_pdf(new, [filler("alpha")])
    run(store, encoder, new)
    doc_id = store.document("a.pdf").doc_id
    old.parent.mkdir()
    new.rename(old)
    make_pdf(new, [filler("beta")])
    run(store, encoder, new, old, again=again)
    assert {path_of(d.uri): d.name for d in store.documents()} == {new: "a.pdf", old: "old/a.pdf"}
    assert store.document("old/a.pdf").doc_id == doc_id


def test_a_file_moved_over_another_one_leaves_one_document(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    (folder / "a.pdf").replace(folder / "sub" / "b.pdf")
    run(store, encoder, folder)
    assert {d.name: d.pages for d in store.documents()} == {"b.pdf": 2, "picture.png": 1}
    assert store.search_text("gamma", 5) == []


def test_sync_keeps_documents_on_an_unmounted_disk_and_files_that_were_named(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    shutil.copy(make_pdf(folder.parent / "x.pdf", [filler("plain")]), folder / "scan001")
    run(store, encoder, folder, folder / "scan001")
    (folder / "sub" / "b.pdf").unlink()
    events = run(store, encoder, folder, sync=True)
    assert ends(events)["b.pdf"] == ("skipped", "folder empty")
    assert {d.name for d in store.documents()} == {"a.pdf", "b.pdf", "picture.png", "scan001"}


def test_sync_keeps_documents_in_a_folder_without_permission(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    (folder / "a.pdf").unlink()
    with shut(folder / "sub"):
        events = run(store, encoder, folder, sync=True)
    assert ends(events) == {
        "a.pdf": ("removed", "file gone"),
        "b.pdf": ("skipped", "folder empty"),
        "picture.png": ("skipped", "unchanged"),
        "sub": ("failed", "unreadable"),
    }
    assert events[-1].event == "finished"
    assert {d.name for d in store.documents()} == {"b.pdf", "picture.png"}


def test_a_copy_does_not_replace_a_file_that_cannot_be_reached(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    shutil.copy(folder / "sub" / "b.pdf", folder / "copy.pdf")
    with shut(folder / "sub"):
        events = run(store, encoder, folder, sync=True)
    assert ends(events)["copy.pdf"] == ("skipped", "same content")
    assert path_of(store.document("b.pdf").uri) == folder / "sub" / "b.pdf"


def test_files_whose_names_are_not_unicode_are_ingested(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    odd = os.fsdecode(os.fsencode(folder) + b"/r\xe9sum\xe9.pdf")
    shutil.copy(make_pdf(folder.parent / "x.pdf", [filler("plain")]), odd)
    assert [e.event for e in run(store, encoder, folder) if e.event == "failed"] == []
    assert len(store.documents()) == 4
    assert {e.event for e in run(store, encoder, folder)} == {"found", "skipped", "finished"}


class Refusing(HashingEncoder):
    """Cannot embed pages about beta."""

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        if any("beta" in page.text for page in pages):
            raise ArithmeticError("beta")
        return super().encode_pages(pages)


def test_a_document_that_cannot_be_embedded_fails_alone(store: Store, folder: Path) -> None:
    events = ends(run(store, Refusing(64), folder))
    assert events == {
        "a.pdf": ("failed", "not embedded"),
        "b.pdf": ("done", "new"),
        "picture.png": ("done", "new"),
    }
    assert store.tables.pages.count_rows() == 2


# Reading again


def test_known_files_are_read_again_on_request_and_keep_their_labels_and_edits(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder, collection="books", tags=["old"])
    before = {document.name: document for document in store.documents()}
    edited = replace(before["a.pdf"], name="A.pdf", title="A title", meta={EDITED: "name, title"})
    with store.writing():
        store.update(edited)
    sharper = SETTINGS.model_copy(update={"dpi": 90})
    events = list(ingest([folder], store, encoder, sharper, again=True, collection="other"))
    assert ends(events) == {
        "a.pdf": ("done", "read again"),
        "b.pdf": ("done", "read again"),
        "picture.png": ("done", "read again"),
    }
    after = {document.name: document for document in store.documents()}
    assert set(after) == {"A.pdf", "b.pdf", "picture.png"}
    assert {(d.collection, d.tags) for d in after.values()} == {("books", ("old",))}
    assert (after["A.pdf"].title, after["A.pdf"].added_at, after["A.pdf"].meta[EDITED]) == (
        "A title",
        edited.added_at,
        "name, title",
    )
    assert after["b.pdf"].title == before["b.pdf"].title
    (content,) = store.contents([store.page("A.pdf", 2)])
    assert content.image().size == pytest.approx((595 * 90 / 72, 842 * 90 / 72), abs=1)
    assert content.title == "A title"
    assert store.tables.pages.count_rows() == 4
    assert len(store.search_text("gamma", 5)) == 1
    assert {event for event, _ in ends(run(store, encoder, folder)).values()} == {"skipped"}


def test_reading_again_skips_a_copy_and_follows_a_moved_file(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    shutil.copy(folder / "a.pdf", folder / "copy.pdf")
    (folder / "sub" / "b.pdf").rename(folder / "moved.pdf")
    assert ends(run(store, encoder, folder, again=True)) == {
        "a.pdf": ("done", "read again"),
        "copy.pdf": ("skipped", "same content"),
        "moved.pdf": ("done", "read again"),
        "picture.png": ("done", "read again"),
    }
    assert {d.name: path_of(d.uri).name for d in store.documents()} == {
        "a.pdf": "a.pdf",
        "moved.pdf": "moved.pdf",
        "picture.png": "picture.png",
    }


def test_an_edit_made_while_the_file_is_read_again_is_kept(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder / "a.pdf")
    for event in ingest([folder / "a.pdf"], store, encoder, SETTINGS, again=True):
        if event.event == "page" and event.page == 0:
            document = store.document("a.pdf")
            store.update(replace(document, tags=("new",), date="1999", meta={EDITED: "date"}))
    document = store.document("a.pdf")
    assert (document.tags, document.date, document.meta[EDITED]) == (("new",), "1999", "date")


def test_a_document_that_can_no_longer_be_read_stays_as_it_was(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    run(store, encoder, folder)
    before = snapshot(store)
    events = list(ingest([folder], store, encoder, SETTINGS.model_copy(update={"max_pages": 1}), again=True))
    assert ends(events)["a.pdf"] == ("failed", "too many pages")
    assert ends(list(ingest([folder], store, Refusing(64), SETTINGS, again=True)))["a.pdf"][0] == "failed"
    assert snapshot(store) == before


def test_a_page_that_can_no_longer_be_rendered_leaves_the_document_as_it_was(
    store: Store, encoder: HashingEncoder, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "a.pdf"
    run(store, encoder, path)

    def loses_a_page(tasks: Iterable[Task], settings: configs.Ingest) -> Iterator[WorkerEvent]:
        for event in prepare(tasks, settings):
            if isinstance(event, PreparedPage) and event.number == 2:
                yield FailedPage(source=event.source, number=2, message="torn")
            else:
                yield event

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "prepare", loses_a_page)
        (failed,) = (e for e in run(store, encoder, path, again=True) if e.event == "failed")
    assert "could not be rendered this time (2)" in failed.message
    assert store.tables.pages.count_rows() == 2
    assert ends(run(store, encoder, path, again=True)) == {"a.pdf": ("done", "read again")}


def test_progress_counts_pages_read_and_pages_embedded(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    events = [e for e in run(store, encoder, folder / "a.pdf") if e.event in ("page", "done")]
    assert all(event.page <= event.read <= event.pages == 2 for event in events)
    assert [(event.page, event.read) for event in (events[0], events[-1])] == [(0, 0), (2, 2)]


class Slow(HashingEncoder):
    """Waits for `gate` before each batch."""

    batch_pages = 1

    def __init__(self) -> None:
        super().__init__(64)
        self.gate = threading.Event()

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        assert self.gate.wait(30)
        return super().encode_pages(pages)


def test_progress_of_reading_is_reported_while_a_slow_encoder_works(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "SIGN_OF_LIFE", 0.05)
    encoder = Slow()
    read = []
    for event in ingest([folder / "a.pdf"], store, encoder, SETTINGS):
        if event.event == "page":
            read.append((event.page, event.read))
        if read[-3:] == [(0, 2)] * 3:  # both pages are read, none is embedded
            encoder.gate.set()
    assert (0, 2) in read
    assert read[-1] == (2, 2)


def bad_files(folder: Path) -> dict[str, str]:
    """Create files that cannot be read, and return the expected reason for each name."""
    make_pdf(
        folder / "locked.pdf", [filler("secret")], encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="open"
    )
    (folder / "zero.pdf").write_bytes(b"")
    (folder / "text.pdf").write_text("this is no PDF at all, it only has the name of one\n" * 20)
    complete = make_pdf(folder.parent / "whole.pdf", [filler("cut")]).read_bytes()
    (folder / "cut.pdf").write_bytes(complete[: len(complete) // 2])
    (folder / "broken-link.pdf").symlink_to(folder / "nowhere.pdf")
    return {
        "locked.pdf": "encrypted",
        "zero.pdf": "empty file",
        "text.pdf": "not a document",
        "cut.pdf": "damaged",
        "broken-link.pdf": "unreadable",
    }


def test_each_bad_file_has_its_reason_and_does_not_stop_the_others(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    expected = bad_files(folder)
    events = run(store, encoder, folder)
    failed = {e.name: e.reason for e in events if e.event == "failed"}
    assert failed == expected
    assert all(e.name in e.message for e in events if e.event == "failed")
    assert {d.name for d in store.documents()} == {"a.pdf", "b.pdf", "picture.png"}
    recorded = {e.uri.rpartition("/")[2]: e.outcome for e in store.ledger()}
    assert recorded == dict.fromkeys(expected, "failed") | dict.fromkeys(
        ["a.pdf", "b.pdf", "picture.png"], "done"
    )


def test_a_password_opens_an_encrypted_file_on_the_next_run(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    bad_files(folder)
    run(store, encoder, folder)
    assert ends(run(store, encoder, folder / "locked.pdf", password="open"))["locked.pdf"] == ("done", "new")


def test_a_path_that_does_not_exist_is_an_error_before_anything_is_ingested(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    with pytest.raises(BadSource, match="nowhere"):
        run(store, encoder, folder, folder / "nowhere")
    assert store.documents() == []


def test_a_second_ingest_at_the_same_time_is_rejected(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    with store.writing(), pytest.raises(IndexBusy):
        run(Store.open(store.uri), encoder, folder)


def test_stopping_keeps_complete_documents_and_drops_the_rest(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    make_pdf(folder / "long.pdf", [filler(f"page{n}") for n in range(80)])
    stop = threading.Event()
    for event in ingest([folder], store, encoder, SETTINGS, stop=stop):
        if event.event == "page" and event.name == "long.pdf":
            stop.set()
    assert "long.pdf" not in {d.name for d in store.documents()}
    assert store.tables.pages.count_rows() == sum(d.pages for d in store.documents())
    assert ends(run(store, encoder, folder))["long.pdf"] == ("done", "new")


def test_closing_the_generator_early_leaves_the_index_in_order(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    events = ingest([folder], store, encoder, SETTINGS)
    next(e for e in events if e.event == "page")
    events.close()  # type: ignore[attr-defined]
    with store.writing():
        pass  # the lock was released
    assert store.tables.pages.count_rows() == sum(d.pages for d in store.documents())


def start(index: Path, folder: Path) -> "subprocess.Popen[bytes]":
    command = [
        sys.executable,
        "-m",
        "ui.cli",
        "ingest",
        str(folder),
        "--index",
        str(index),
        "--profile",
        "smoke",
        "--json",
    ]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("sent", "after"), list(itertools.product([signal.SIGKILL, signal.SIGINT], [2, 5])))
def test_an_ingest_killed_at_any_moment_and_started_again_ends_as_if_undisturbed(
    tmp_path: Path, sent: signal.Signals, after: int
) -> None:
    folder = tmp_path / "in"
    for n in range(6):
        make_pdf(folder / f"d{n}.pdf", [filler(f"topic{n}{page}") for page in range(3 + 7 * n)])
    process = start(tmp_path / "killed.lance", folder)
    assert process.stdout is not None
    for _ in itertools.islice(
        process.stdout, after
    ):  # one event per line, so that the kill comes in the middle of the work
        pass
    process.send_signal(sent)
    assert process.wait(30) != 0
    process.stdout.close()
    killed = Store.open(str(tmp_path / "killed.lance"))
    assert len(killed.documents()) < 6
    for document in killed.documents():
        assert sum(b.num_rows for b in killed.stream_pages([document.doc_id], ["number"])) == document.pages
    for index in ("killed.lance", "undisturbed.lance"):
        again = start(tmp_path / index, folder)
        again.communicate(timeout=120)
        assert again.returncode == 0
    assert snapshot(killed) == snapshot(Store.open(str(tmp_path / "undisturbed.lance")))


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    make_pdf(folder / "long.pdf", [filler(f"p{n}") for n in range(400)])
    process = start(tmp_path / "i.lance", folder)
    assert process.stdout is not None
    for _ in itertools.islice(process.stdout, 2):
        pass
    import psutil

    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 15
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < deadline, f"still running: {children}"
        time.sleep(0.2)


def test_an_invalid_label_ends_the_ingest_before_a_file_is_read(
    store: Store, encoder: HashingEncoder, folder: Path
) -> None:
    with pytest.raises(BadLabel, match="the tag 'sea,north' has a comma"):
        run(store, encoder, folder, tags=["sea,north"])
    with pytest.raises(BadLabel, match="a collection cannot be empty"):
        run(store, encoder, folder, collection=" ")
    assert (store.documents(), store.ledger()) == ([], [])
    run(store, encoder, folder, tags=[" sea ", "sea", ""], collection=" ports ")
    assert {(d.tags, d.collection) for d in store.documents()} == {(("sea",), "ports")}
