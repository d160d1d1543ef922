"""The jobs of the web page: one thread, a list that outlives it, and words for whatever happens."""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

from ingest.progress import Progress
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadSource, IndexBusy
from retrieval.store import Store
from tests.build import add_document
from ui import jobs as jobs_module
from ui.jobs import Ingest, Job, Jobs


class Make(Protocol):
    def __call__(self, ingest: Ingest, other: Store | None = None) -> Jobs: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def make(folder: Path, store: Store) -> Iterator[Make]:
    made: list[Jobs] = []

    def make(ingest: Ingest, other: Store | None = None) -> Jobs:
        made.append(Jobs(folder, other or store, ingest))
        return made[-1]

    yield make
    for jobs in made:
        jobs.close()


def reads(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
    """What the pipeline tells of files of two pages; one named `bad`, or empty, fails."""
    yield Progress("found", files=len(paths))
    for path in paths:
        uri = path.as_uri()
        if "bad" in path.name or not path.read_bytes():
            yield Progress(
                "failed", uri, path.name, reason="empty file", message=f"{path.name} is empty (0 bytes)"
            )
        else:
            yield Progress("page", uri, path.name, page=1, pages=2)
            yield Progress("done", uri, path.name, page=2, pages=2, message="2 pages")
    yield Progress("finished")


def never(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
    yield Progress("found")
    raise AssertionError("nothing was to be ingested")


def settled(jobs: Jobs) -> list[Job]:
    deadline = time.monotonic() + 10
    while jobs.busy():
        assert time.monotonic() < deadline, jobs.list()
        time.sleep(0.01)
    return jobs.list()


def file(folder: Path, name: str, content: bytes = b"%PDF-") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_each_file_ends_with_its_own_state_and_message(make: Make, folder: Path) -> None:
    jobs = make(reads)
    jobs.add([file(folder, "good.pdf"), file(folder, "bad.pdf")])
    assert [job.state for job in jobs.list()] == ["queued", "queued"]
    jobs.start()
    good, bad = settled(jobs)
    assert (good.name, good.state, good.page, good.pages, good.message) == (
        "good.pdf",
        "done",
        2,
        2,
        "2 pages",
    )
    assert (bad.name, bad.state, bad.message) == ("bad.pdf", "failed", "bad.pdf is empty (0 bytes)")
    jobs.clear()
    assert jobs.list() == []


def test_a_restart_takes_up_what_was_under_way(make: Make, folder: Path) -> None:
    begun = threading.Event()

    def hangs(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        yield Progress("page", paths[0].as_uri(), paths[0].name, page=1, pages=2)
        begun.set()
        stop.wait(10)

    first = make(hangs)
    first.add([file(folder, "a.pdf"), file(folder, "b.pdf")])
    first.start()
    assert begun.wait(10)
    first.close()
    again = make(reads)
    assert [(job.name, job.state) for job in again.list()] == [("a.pdf", "queued"), ("b.pdf", "queued")]
    again.start()
    assert [job.state for job in settled(again)] == ["done", "done"]


def test_while_another_process_writes_the_files_wait_and_say_so(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "BUSY_RETRY", 0.05)
    free = threading.Event()

    def busy(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        if not free.is_set():
            raise IndexBusy("another process is writing")
        yield from reads(paths, stop=stop)

    jobs = make(busy)
    jobs.add([file(folder, "a.pdf")])
    jobs.start()
    deadline = time.monotonic() + 10
    while jobs.list()[0].message != "Waiting: another process is writing":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    free.set()
    assert [(job.state, job.message) for job in settled(jobs)] == [("done", "2 pages")]


def test_a_file_that_has_gone_fails_and_the_others_go_on(make: Make, folder: Path) -> None:
    def strict(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        for path in paths:
            if not path.exists():
                raise BadSource(f"{path}: no such file")
        yield from reads(paths, stop=stop)

    jobs = make(strict)
    jobs.add([file(folder, "a.pdf"), folder / "gone.pdf"])
    jobs.start()
    assert [(job.name, job.state) for job in settled(jobs)] == [("a.pdf", "done"), ("gone.pdf", "failed")]


def test_an_unexpected_error_is_told_and_the_thread_lives_on(make: Make, folder: Path) -> None:
    def breaks(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        if "worse" in paths[0].name:
            raise RuntimeError("out of disk")
        yield from reads(paths, stop=stop)

    jobs = make(breaks)
    jobs.start()
    jobs.add([file(folder, "worse.pdf")])
    (worse,) = settled(jobs)
    assert (worse.state, "out of disk" in worse.message) == ("failed", True)
    jobs.add([file(folder, "a.pdf")])
    assert settled(jobs)[1].state == "done"


def test_a_failed_file_can_be_tried_again(make: Make, folder: Path) -> None:
    jobs = make(reads)
    path = file(folder, "report.pdf", b"")
    jobs.add([path])
    jobs.start()
    (bad,) = settled(jobs)
    assert bad.state == "failed"
    path.write_bytes(b"%PDF-")
    jobs.retry(bad.id)
    assert [(job.state, job.message) for job in settled(jobs)] == [("done", "2 pages")]


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("torn")])
def test_a_removal_that_fails_says_so_and_can_be_tried_again(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder, error: Exception
) -> None:
    broken = [error]

    class BreaksOnce(Store):
        def remove(self, doc_ids: Iterable[str]) -> None:
            if broken:
                raise broken.pop()
            super().remove(doc_ids)

    jobs = make(reads, BreaksOnce.open(store.uri))
    path = file(folder, "mine.pdf")
    add_document(store, encoder, "mine.pdf", ["one"], uri=path.as_uri())
    jobs.remove("mine")
    jobs.start()
    (failed,) = settled(jobs)
    assert (failed.state, failed.message.startswith("Not removed."), str(error) in failed.message) == (
        "failed",
        True,
        True,
    )
    jobs.retry(failed.id)
    assert (settled(jobs), store.documents(), path.exists()) == ([], [], False)


def test_a_document_whose_file_is_being_read_is_removed_after_that(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        begun.set()
        go_on.wait(10)
        add_document(store, encoder, "new.pdf", ["two"], uri=paths[0].as_uri())
        yield from reads(paths, stop=stop)

    jobs = make(slow)
    path = file(folder, "mine.pdf")
    add_document(store, encoder, "old.pdf", ["one"], uri=path.as_uri())
    jobs.add([path])
    jobs.start()
    assert begun.wait(10)
    jobs.remove("old")
    go_on.set()
    assert (settled(jobs), store.documents(), path.exists()) == ([], [], False)


def test_clearing_deletes_the_uploads_that_came_to_nothing(
    make: Make, folder: Path, tmp_path: Path, store: Store, encoder: HashingEncoder
) -> None:
    jobs = make(reads)
    bad, good, elsewhere = file(folder, "bad.pdf"), file(folder, "good.pdf"), file(tmp_path, "bad too.pdf")
    in_use = file(folder, "bad but once good.pdf")
    for path in (good, in_use):
        add_document(store, encoder, path.name, ["one"], uri=path.as_uri())
    jobs.add([bad, good, elsewhere, in_use])
    jobs.start()
    settled(jobs)
    jobs.clear()
    assert [path.exists() for path in (bad, good, elsewhere, in_use)] == [False, True, True, True]


def test_removing_takes_an_upload_along_but_never_a_file_elsewhere(
    make: Make, folder: Path, tmp_path: Path, store: Store, encoder: HashingEncoder
) -> None:
    jobs = make(never)
    uploaded, elsewhere = file(folder, "mine.pdf"), file(tmp_path, "theirs.pdf")
    add_document(store, encoder, "mine.pdf", ["one"], uri=uploaded.as_uri())
    add_document(store, encoder, "theirs.pdf", ["two"], uri=elsewhere.as_uri())
    jobs.remove("mine")
    jobs.remove("theirs")
    assert [(job.doc_id, job.state) for job in jobs.list()] == [("mine", "removing"), ("theirs", "removing")]
    jobs.start()
    assert settled(jobs) == []
    assert store.documents() == []
    assert (uploaded.exists(), elsewhere.exists()) == (False, True)
