"""The jobs of the web page: one thread, a table that survives a restart, and a message for every outcome."""

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pytest

import configs.settings as configs
from ingest.pipeline import ingest
from ingest.progress import Progress
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import BadSource, FolioscopeError, IndexBusy, NotFound
from retrieval.store.store import Store
from tests.build import add_document
from tests.pdfs import filler, make_pdf
from tests.permissions import shut
from ui.service.jobs import thread as job_thread
from ui.service.jobs.eta import ThroughputEstimate
from ui.service.jobs.queue import BadLabel, Ingest, Job, Jobs
from ui.service.jobs.table import JobTable
from ui.service.jobs.types import File


class Make(Protocol):
    def __call__(
        self, ingest: Ingest, other: Store | None = None, clock: Callable[[], float] = time.time
    ) -> Jobs: ...


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def make(folder: Path, store: Store) -> Iterator[Make]:
    opened: list[Jobs] = []

    def make(ingest: Ingest, other: Store | None = None, clock: Callable[[], float] = time.time) -> Jobs:
        opened.append(Jobs(folder, other or store, ingest, clock=clock))
        return opened[-1]

    yield make
    for jobs in opened:
        jobs.close()


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def reads(
    paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
) -> Iterator[Progress]:
    """Reports what the pipeline does for files of two pages. A file that is empty, or has `bad` in its name, fails."""
    yield Progress("found", files=len(paths))
    done = 0
    for path in paths:
        uri = path.as_uri()
        if stop.is_set():
            break
        if "bad" in path.name or not path.read_bytes():
            yield Progress(
                "failed", uri, path.name, reason="empty file", message=f"{path.name} is empty (0 bytes)"
            )
        else:
            yield Progress("page", uri, path.name, page=1, read=2, pages=2, pages_done=done + 1)
            if stop.is_set():
                break
            done += 2
            yield Progress(
                "done", uri, path.name, page=2, read=2, pages=2, message="2 pages", pages_done=done
            )
    yield Progress("finished", pages_done=done)


def never(
    paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
) -> Iterator[Progress]:
    yield Progress("found")
    raise AssertionError("nothing was to be ingested")


class Gated:
    """Like `reads`, but stays at the first page of the first file until the gate is opened or the run is stopped.

    `runs` lists the names of the files of each run.
    """

    def __init__(self) -> None:
        self.begun, self.gate = threading.Event(), threading.Event()
        self.runs: list[list[str]] = []

    def __call__(
        self,
        paths: Sequence[Path],
        *,
        stop: threading.Event,
        again: bool,
        collection: str,
        tags: Sequence[str],
    ) -> Iterator[Progress]:
        self.runs.append([path.name for path in paths])
        for event in reads(paths, stop=stop, again=again, collection=collection, tags=tags):
            yield event
            while event.event == "page" and not self.gate.is_set() and not stop.is_set():
                self.begun.set()
                time.sleep(0.005)
                yield event  # as the pipeline reports that it is still at work


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def settled(jobs: Jobs) -> list[Job]:
    """Waits for all jobs to end, and returns them in the order in which they were added."""
    until(lambda: not jobs.is_busy())
    return sorted(jobs.listed(100), key=lambda job: job.id)


def states(jobs: Jobs) -> dict[str, str]:
    return {job.name: job.state for job in jobs.listed(100)}


def file(folder: Path, name: str, content: bytes = b"%PDF-") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_each_file_ends_with_its_own_state_and_message(make: Make, folder: Path) -> None:
    jobs = make(reads)
    assert jobs.add([file(folder, "good.pdf"), file(folder, "bad.pdf")]) == 2
    assert states(jobs) == {"good.pdf": "queued", "bad.pdf": "queued"}
    jobs.start()
    good, bad = settled(jobs)
    assert (good.name, good.state, good.page, good.read, good.pages, good.message, good.size) == (
        "good.pdf",
        "done",
        2,
        2,
        2,
        "2 pages",
        5,
    )
    assert (bad.state, bad.reason, bad.message) == ("failed", "empty file", "bad.pdf is empty (0 bytes)")
    jobs.clear()
    assert jobs.listed(100) == []


def test_after_a_restart_interrupted_files_are_read_again(make: Make, folder: Path) -> None:
    hangs = Gated()
    first = make(hangs)
    first.add([file(folder, "a.pdf"), file(folder, "b.pdf")])
    first.start()
    assert hangs.begun.wait(10)
    first.close()
    again = make(reads)
    assert states(again) == {"a.pdf": "queued", "b.pdf": "queued"}
    again.start()
    assert [job.state for job in settled(again)] == ["done", "done"]


def test_the_table_of_an_earlier_version_is_upgraded(make: Make, folder: Path) -> None:
    path = file(folder, "a.pdf")
    with sqlite3.connect(folder / ".jobs.sqlite") as database:
        database.execute(
            "CREATE TABLE jobs (id INTEGER PRIMARY KEY, uri TEXT UNIQUE NOT NULL, name TEXT NOT NULL, "
            "state TEXT NOT NULL, page INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0, "
            "message TEXT NOT NULL DEFAULT '', doc_id TEXT NOT NULL DEFAULT '')"
        )
        database.executemany(
            "INSERT INTO jobs (uri, name, state, message) VALUES (?, ?, ?, ?)",
            [(path.as_uri(), "a.pdf", "reading", ""), ("file:///b.pdf", "b.pdf", "failed", "torn")],
        )
    database.close()
    jobs = make(reads)
    assert [(job.name, job.state, job.message) for job in jobs.listed(9)] == [
        ("b.pdf", "failed", "torn"),
        ("a.pdf", "queued", ""),
    ]
    jobs.start()
    assert [job.state for job in settled(jobs)] == ["done", "failed"]


def test_while_another_process_writes_the_files_wait_and_the_summary_says_so(
    make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_thread, "BUSY_RETRY", 0.05)
    free = threading.Event()

    def busy(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        if not free.is_set():
            raise IndexBusy("another process is writing")
        yield from reads(paths, stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(busy)
    jobs.add([file(folder, "a.pdf")])
    jobs.start()
    until(lambda: jobs.summary().waiting == "another process is writing")
    assert (jobs.summary().busy, states(jobs)) == (True, {"a.pdf": "queued"})
    free.set()
    assert [(job.state, job.message) for job in settled(jobs)] == [("done", "2 pages")]
    assert jobs.summary().waiting == ""


def strict(
    paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
) -> Iterator[Progress]:
    """Like `reads`, but raises the error of the pipeline for a path that is not a file."""
    for path in paths:
        if not path.is_file():
            raise BadSource(f"{path}: no such file")
    yield from reads(paths, stop=stop, again=again, collection=collection, tags=tags)


def test_a_missing_file_fails_and_the_others_are_read(make: Make, folder: Path, tmp_path: Path) -> None:
    jobs = make(strict)
    jobs.add([file(folder, "a.pdf"), folder / "gone.pdf", tmp_path])
    jobs.start()
    a, gone, place = settled(jobs)
    assert (a.state, gone.state, place.state) == ("done", "failed", "failed")
    assert (gone.message, place.message) == (
        "The file is no longer there: add it again.",
        "This is a folder, not a file.",
    )


def test_an_unexpected_error_is_reported_and_the_thread_continues(make: Make, folder: Path) -> None:
    def breaks(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        if "worse" in paths[0].name:
            raise RuntimeError("out of disk")
        yield from reads(paths, stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(breaks)
    jobs.start()
    jobs.add([file(folder, "worse.pdf")])
    (worse,) = settled(jobs)
    assert (worse.state, worse.message) == (
        "failed",
        "Stopped by an unexpected error (RuntimeError: out of disk)",
    )
    jobs.add([file(folder, "a.pdf")])
    assert settled(jobs)[1].state == "done"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device", "/srv/index"), "(OSError: No space left on device)"),
        (
            FolioscopeError("the index is torn", remedy="run 'folioscope index verify /srv/index'"),
            "The index is torn",
        ),
    ],
)
def test_the_message_of_a_failed_file_has_neither_commands_nor_paths_of_the_server(
    make: Make, folder: Path, error: Exception, message: str
) -> None:
    def breaks(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        yield Progress("found")
        raise error

    jobs = make(breaks)
    jobs.start()
    jobs.add([file(folder, "a.pdf")])
    (failed,) = settled(jobs)
    assert (failed.state, failed.message.endswith(message), "/srv" in failed.message) == (
        "failed",
        True,
        False,
    )


def test_a_file_with_two_paths_is_read_once_and_an_unreported_file_fails(make: Make, folder: Path) -> None:
    def once(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        yield from reads(paths[:1], stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(once)
    (folder / "link.pdf").symlink_to(file(folder, "a.pdf"))
    jobs.add([folder / "a.pdf", folder / "link.pdf", file(folder, "unreported.pdf")])
    jobs.start()
    assert [(job.state, job.reason) for job in settled(jobs)] == [
        ("done", ""),
        ("skipped", "same file"),
        ("failed", "stopped"),
    ]


def test_one_or_all_failed_files_can_be_tried_again(make: Make, folder: Path) -> None:
    jobs = make(reads)
    paths = [file(folder, f"{n}.pdf", b"") for n in range(3)]
    jobs.add(paths)
    jobs.start()
    failed = settled(jobs)
    assert [job.state for job in failed] == ["failed"] * 3
    for path in paths:
        path.write_bytes(b"%PDF-")
    jobs.retry(failed[1].id)
    assert [job.state for job in settled(jobs)] == ["failed", "done", "failed"]
    jobs.retry_all_failed()
    assert [(job.state, job.message, job.reason) for job in settled(jobs)] == [("done", "2 pages", "")] * 3


def test_files_of_different_collections_are_read_in_separate_runs(make: Make, folder: Path) -> None:
    runs = []

    def recording(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        runs.append(([path.name for path in paths], again, collection, tags))
        return reads(paths, stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(recording)
    jobs.add([file(folder, "a.pdf")])
    jobs.add([file(folder, "b.pdf")], "books", ["old", "good"])
    jobs.add([file(folder, "c.pdf")])
    jobs.start()
    settled(jobs)
    assert runs == [
        (["a.pdf", "c.pdf"], False, "default", ()),
        (["b.pdf"], False, "books", ("old", "good")),
    ]
    with pytest.raises(BadLabel, match="comma"):
        jobs.add([folder / "a.pdf"], tags=["a,b"])


# Cancelling


def test_cancelling_a_file_that_is_being_read_stops_it_and_the_others_continue(
    make: Make, folder: Path
) -> None:
    gated = Gated()
    jobs = make(gated)
    jobs.add([file(folder, name) for name in ("a.pdf", "b.pdf", "c.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    until(lambda: jobs.listed(1)[0].read == 2)
    reading = jobs.listed(1)[0]
    assert (reading.name, reading.state, reading.page, reading.pages) == ("a.pdf", "reading", 1, 2)
    jobs.cancel(reading.id)
    gated.gate.set()
    assert [job.state for job in settled(jobs)] == ["cancelled", "done", "done"]
    assert gated.runs == [["a.pdf", "b.pdf", "c.pdf"], ["b.pdf", "c.pdf"]]


def test_a_cancelled_file_that_is_already_in_the_run_is_not_read(make: Make, folder: Path) -> None:
    gated = Gated()
    jobs = make(gated)
    jobs.add([file(folder, name) for name in ("a.pdf", "b.pdf", "c.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    (b,) = (job for job in jobs.listed(9) if job.name == "b.pdf")
    jobs.cancel(b.id)
    assert states(jobs)["b.pdf"] == "cancelled"
    gated.gate.set()
    assert [job.state for job in settled(jobs)] == ["done", "cancelled", "done"]
    assert gated.runs[1:] == [["c.pdf"]]


def test_a_cancelled_upload_is_kept_until_it_is_cleared_or_tried_again(make: Make, folder: Path) -> None:
    jobs = make(reads)
    first, second = file(folder, "a.pdf"), file(folder, "b.pdf")
    jobs.add([first, second])
    jobs.cancel_all()
    assert (set(states(jobs).values()), jobs.is_busy()) == ({"cancelled"}, False)
    jobs.retry(next(job.id for job in jobs.listed(9) if job.name == "a.pdf"))
    jobs.retry_all_failed()  # a cancelled job has not failed
    assert states(jobs) == {"a.pdf": "queued", "b.pdf": "cancelled"}
    jobs.clear()
    assert (first.exists(), second.exists()) == (True, False)


# Removing


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
    jobs.remove(["mine"], delay_s=0)
    jobs.start()
    (failed,) = settled(jobs)
    assert (failed.state, failed.message.startswith("Not removed:"), str(error) in failed.message) == (
        "failed",
        True,
        True,
    )
    assert jobs.pending_removals() == frozenset()
    jobs.retry(failed.id)
    assert (settled(jobs), store.documents(), path.exists()) == ([], [], False)


def test_a_document_whose_file_is_being_read_is_removed_after_that(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        yield Progress("page", paths[0].as_uri(), paths[0].name)
        begun.set()
        go_on.wait(10)
        yield Progress("page", paths[0].as_uri(), paths[0].name)
        assert [d.name for d in store.documents()] == ["old.pdf"]
        add_document(store, encoder, "new.pdf", ["two"], uri=paths[0].as_uri())
        yield from reads(paths, stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(slow)
    path = file(folder, "mine.pdf")
    add_document(store, encoder, "old.pdf", ["one"], uri=path.as_uri())
    jobs.add([path])
    jobs.start()
    assert begun.wait(10)
    jobs.remove(["old"], delay_s=0)
    go_on.set()
    assert (settled(jobs), store.documents(), path.exists()) == ([], [], False)


def test_a_removal_happens_between_two_events_of_an_ingest(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    gated = Gated()
    jobs = make(gated)
    add_document(store, encoder, "mine.pdf", ["one"], uri=file(folder, "mine.pdf").as_uri())
    jobs.add([file(folder, "a.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    jobs.remove(["mine"], delay_s=0)
    until(lambda: store.documents() == [])
    assert states(jobs)["a.pdf"] == "reading"
    gated.gate.set()
    assert [job.state for job in settled(jobs)] == ["done"]


def test_a_removal_can_be_undone_until_it_is_due(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    clock = Clock()
    jobs = make(never, clock=clock)
    for name in ("a.pdf", "b.pdf"):
        add_document(store, encoder, name, ["one"], uri=file(folder, name).as_uri())
    jobs.start()
    jobs.remove(["a", "b"], delay_s=10)
    assert jobs.pending_removals() == {"a", "b"}
    assert {job.due for job in jobs.listed(9)} == {clock.now + 10}
    assert jobs.undo(["a", "nonsense"]) == 1
    assert (jobs.pending_removals(), len(store.documents())) == (frozenset({"b"}), 2)
    clock.now += 10
    jobs.remove(["a"], delay_s=1000)  # wakes the thread, which then reads the clock
    until(lambda: jobs.pending_removals() == {"a"})
    assert [document.name for document in store.documents()] == ["a.pdf"]
    assert (jobs.undo(["b"]), jobs.undo(["a"]), jobs.is_busy()) == (0, 1, False)
    assert [path.name for path in sorted(folder.glob("*.pdf"))] == ["a.pdf"]


def test_a_restart_before_a_removal_is_due_neither_forgets_nor_hastens_it(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    clock = Clock()
    add_document(store, encoder, "mine.pdf", ["one"], uri=file(folder, "mine.pdf").as_uri())
    first = make(never, clock=clock)
    first.start()
    first.remove(["mine"], delay_s=10)
    first.close()
    second = make(reads, clock=clock)
    second.start()
    second.add([file(folder, "a.pdf")])
    until(lambda: states(second)["a.pdf"] == "done")
    assert (second.pending_removals(), len(store.documents())) == (frozenset({"mine"}), 1)
    second.close()
    clock.now += 10
    third = make(never, clock=clock)
    third.start()
    assert states(third) in ({"a.pdf": "done"}, {"a.pdf": "done", "mine.pdf": "removing"})
    settled(third)
    assert (third.pending_removals(), store.documents()) == (frozenset(), [])


def test_a_queued_file_is_not_read_after_its_document_was_removed_unless_it_is_added_again(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder
) -> None:
    clock = Clock()
    jobs = make(reads, clock=clock)
    for name in ("a.pdf", "b.pdf"):
        path = file(folder, name)
        add_document(store, encoder, name, ["one"], uri=path.as_uri())
        jobs.add([path])
    jobs.remove(["a", "b"], delay_s=0)
    jobs.add([folder / "b.pdf"])
    assert jobs.pending_removals() == {"a"}
    jobs.start()
    assert [(job.name, job.state) for job in settled(jobs)] == [("b.pdf", "done")]
    assert [document.name for document in store.documents()] == ["b.pdf"]


def test_removing_an_unknown_document_fails_and_removes_no_other(
    make: Make, store: Store, encoder: HashingEncoder
) -> None:
    jobs = make(never)
    add_document(store, encoder, "mine.pdf", ["one"])
    with pytest.raises(NotFound, match="'nonsense'"):
        jobs.remove(["mine", "nonsense"])
    assert jobs.pending_removals() == frozenset()


def test_clearing_deletes_the_uploads_that_became_no_document(
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


def test_removing_a_document_deletes_its_upload_but_never_a_file_elsewhere(
    make: Make, folder: Path, tmp_path: Path, store: Store, encoder: HashingEncoder
) -> None:
    jobs = make(never)
    uploaded, elsewhere = file(folder, "mine.pdf"), file(tmp_path, "other.pdf")
    add_document(store, encoder, "mine.pdf", ["one"], uri=uploaded.as_uri())
    add_document(store, encoder, "other.pdf", ["two"], uri=elsewhere.as_uri())
    jobs.remove(["mine", "other"], delay_s=0)
    assert {job.doc_id: job.state for job in jobs.listed(9)} == {"mine": "removing", "other": "removing"}
    jobs.start()
    assert settled(jobs) == []
    assert store.documents() == []
    assert (uploaded.exists(), elsewhere.exists()) == (False, True)


# Editing


@pytest.fixture
def document(store: Store, encoder: HashingEncoder, folder: Path) -> str:
    path = file(folder, "mine.pdf")
    add_document(store, encoder, "mine.pdf", ["one"], uri=path.as_uri(), title="Mine", date="2020-01-01")
    return "mine"


def test_an_edit_changes_the_given_values_and_records_which_were_edited(
    make: Make, store: Store, document: str
) -> None:
    jobs = make(never)
    jobs.start()
    jobs.change(document, name="Ours.pdf", tags=[" new ", "new", "", "fine"])
    changed = jobs.change(document, date="2024-02", collection="books")
    assert changed == store.document(document)
    assert (changed.name, changed.title, changed.date, changed.collection, changed.tags) == (
        "Ours.pdf",
        "Mine",
        "2024-02",
        "books",
        ("new", "fine"),
    )
    assert changed.meta == {"edited": "date, name"}


def test_an_edit_happens_between_two_events_of_an_ingest(
    make: Make, folder: Path, store: Store, document: str
) -> None:
    gated = Gated()
    jobs = make(gated)
    jobs.add([file(folder, "a.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    assert jobs.change(document, title="Ours").title == "Ours"
    assert states(jobs) == {"a.pdf": "reading"}
    gated.gate.set()
    settled(jobs)


def test_while_another_process_writes_an_edit_fails_and_is_not_made_later(
    make: Make, store: Store, document: str
) -> None:
    jobs = make(never)
    jobs.start()
    other = Store.open(store.uri)
    with other.writing(), pytest.raises(IndexBusy, match=r"mine\.pdf was not changed: another process"):
        jobs.change(document, title="Ours", wait_s=0.3)
    jobs.run(lambda: "looked", "Looking")
    until(lambda: jobs.summary().task_result == "looked")  # by now the thread could have made the edit
    assert store.document(document).title == "Mine"


def test_an_edit_waits_for_another_process_for_a_while(make: Make, store: Store, document: str) -> None:
    jobs = make(never)
    jobs.start()
    other = Store.open(store.uri)
    with other.writing():
        titles: list[str] = []
        editing = threading.Thread(target=lambda: titles.append(jobs.change(document, title="Ours").title))
        editing.start()
        until(lambda: "another process" in jobs._thread.waiting)
    editing.join(10)
    assert titles == ["Ours"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "  "}, "cannot be empty"),
        ({"name": "x" * 121}, "121 characters: 120 are allowed"),
        ({"name": "../../etc/passwd"}, "slash"),
        ({"name": "a\\b"}, "backslash"),
        ({"name": "a\nb.pdf"}, "cannot be shown"),
        ({"name": "a\x00b.pdf"}, "cannot be shown"),
        ({"name": "invoice\u202efdp.exe"}, "cannot be shown"),
        ({"name": "\udce9.pdf"}, "cannot be shown"),
        ({"name": "other.pdf"}, "'other.pdf' is the name of another document"),
        ({"name": "other"}, "another document"),  # its doc_id
        ({"name": "waits.pdf"}, "'waits.pdf' is the name of a file that waits"),
        ({"title": "x" * 301}, "301 characters: 300"),
        ({"date": "yesterday"}, "'yesterday' is not a date: write 2024"),
        ({"date": "2023-02-30"}, "2023-02-30"),
        ({"date": "2023-1"}, "2023-1"),
        ({"date": "0000"}, "0000"),
        ({"date": "٢٠٢٣"}, "write 2024"),
        ({"tags": ["a,b"]}, "'a,b' has a comma"),
        ({"tags": ["x" * 41]}, "41 characters: 40"),
        ({"tags": [str(n) for n in range(21)]}, "21 tags: a document may have at most 20"),
        ({"collection": ""}, "cannot be empty"),
        ({"collection": "x" * 61}, "61 characters: 60"),
    ],
)
def test_an_invalid_value_of_an_edit_is_rejected_with_a_message(
    make: Make,
    folder: Path,
    store: Store,
    encoder: HashingEncoder,
    document: str,
    values: dict[str, str],
    message: str,
) -> None:
    gated = Gated()
    jobs = make(gated)
    add_document(store, encoder, "other.pdf", ["two"])
    jobs.add([file(folder, "first.pdf"), file(folder, "waits.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    with pytest.raises(BadLabel, match=message):
        jobs.change(document, **values)  # type: ignore[arg-type]
    assert store.document(document).name == "mine.pdf"


@pytest.mark.parametrize("name", ["Straße <b>&amp;'\";--.pdf", "گزارش\u200cها.pdf", "x" * 120, "con.pdf"])
def test_odd_but_harmless_names_are_allowed(make: Make, store: Store, document: str, name: str) -> None:
    jobs = make(never)
    jobs.start()
    jobs.change(document, name=name)
    assert store.document(name).doc_id == document


def test_an_edit_that_fails_raises_its_error(make: Make, store: Store, document: str) -> None:
    class Breaks(Store):
        def update(self, document: object) -> None:
            raise OSError("no space left")

    jobs = make(never, Breaks.open(store.uri))
    jobs.start()
    with pytest.raises(FolioscopeError, match="no space left"):
        jobs.change(document, title="Ours")
    with pytest.raises(NotFound, match="'nonsense'"):
        jobs.change("nonsense", title="Ours")


# Reading again, and maintenance tasks


def test_reading_again_passes_known_files_to_the_pipeline(
    make: Make, folder: Path, store: Store, encoder: HashingEncoder, document: str
) -> None:
    runs = []

    def recording(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        runs.append(([path.name for path in paths], again, collection, tags))
        return reads(paths, stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(recording)
    jobs.reread([document])
    (job,) = jobs.listed(9)
    assert (job.name, job.state, job.again) == ("mine.pdf", "queued", True)
    jobs.start()
    settled(jobs)
    assert runs == [(["mine.pdf"], True, "default", ())]
    add_document(store, encoder, "gone.pdf", ["two"], uri=(folder / "gone.pdf").as_uri())
    with pytest.raises(NotFound, match=r"file of gone\.pdf is no longer there") as gone:
        jobs.reread([document, "gone"])
    assert (str(folder) in gone.value.message, str(folder) in gone.value.remedy) == (False, True)
    with shut(folder), pytest.raises(NotFound, match=r"cannot reach the file of mine\.pdf") as unreachable:
        jobs.reread([document])
    assert str(folder) not in unreachable.value.message
    assert len(runs) == 1


def test_a_maintenance_task_waits_until_no_file_is_being_read_and_reports_its_result(
    make: Make, folder: Path, store: Store
) -> None:
    gated = Gated()
    jobs = make(gated)
    jobs.add([file(folder, "a.pdf")])
    jobs.start()
    assert gated.begun.wait(10)
    seen: list[str] = []
    jobs.run(lambda: seen.append(states(jobs)["a.pdf"]), "Compacting")
    assert (jobs.summary().task, jobs.summary().task_result) == ("Compacting", "")
    with pytest.raises(IndexBusy, match="Compacting is under way: start Verifying when it is done"):
        jobs.run(store.optimize, "Verifying")
    gated.gate.set()
    settled(jobs)
    assert seen == ["done"]
    assert (jobs.summary().task, jobs.summary().task_result.startswith("Compacting: done in")) == ("", True)

    def breaks() -> None:
        with pytest.raises(IndexBusy), Store.open(store.uri).writing():
            pass
        raise OSError("no space left")

    jobs.run(breaks, "Verifying")
    settled(jobs)
    assert jobs.summary().task_result == (
        "Verifying failed: stopped by an unexpected error (OSError: no space left)"
    )


# The summary


def test_the_summary_gives_speed_and_time_left_by_the_bytes_read(make: Make, folder: Path) -> None:
    clock, go_on = Clock(), threading.Semaphore(0)

    def paced(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        first, second = paths[0].as_uri(), paths[1].as_uri()
        yield Progress("found", files=3)
        for event in [
            Progress("page", first, "a.pdf", page=2, pages=10, read=4, pages_done=2),
            Progress("done", first, "a.pdf", page=10, pages=10, pages_done=10),
            Progress("page", second, "b.pdf", page=5, pages=10, read=9, pages_done=15),
        ]:
            go_on.acquire(timeout=10)
            yield event
        go_on.acquire(timeout=10)
        yield from reads(paths[1:], stop=stop, again=again, collection=collection, tags=tags)

    jobs = make(paced, clock=clock)
    jobs.add([file(folder, name, b"x" * 1000) for name in ("a.pdf", "b.pdf", "c.pdf")])
    jobs.start()
    until(lambda: jobs.summary().counts["reading"] == 1)
    clock.now += 2
    go_on.release()
    until(lambda: jobs.summary().pages_done == 2)
    early = jobs.summary()
    assert (early.pages_per_second, early.seconds_left, early.busy) == (1.0, None, True)
    clock.now += 8
    go_on.release()
    until(lambda: jobs.summary().pages_done == 10)
    assert jobs.summary().seconds_left == 20  # a third of the bytes took 10 seconds
    clock.now += 5
    go_on.release()
    until(lambda: jobs.summary().pages_done == 15)
    now = jobs.summary()
    assert (now.seconds_left, now.pages_per_second) == (15, 1.0)  # 1,500 of 3,000 bytes
    assert now.counts == dict.fromkeys(now.counts, 0) | {"done": 1, "reading": 1, "queued": 1}
    b = jobs.listed(1)[0]
    assert (b.name, b.page, b.read, b.pages, b.seconds) == ("b.pdf", 5, 9, 10, 5)
    go_on.release()
    settled(jobs)
    done = jobs.summary()
    assert (done.busy, done.seconds_left, done.counts["done"]) == (False, None, 3)


def test_the_speed_is_an_average_over_the_last_30_seconds_at_work() -> None:
    clock = Clock()
    estimate = ThroughputEstimate(clock)
    estimate.resume()
    for second in range(1, 101):  # 1 page a second, then 3
        clock.now += 1
        estimate.set_pages(second if second <= 60 else 60 + 3 * (second - 60))
    assert estimate.pages_per_second() == pytest.approx(3)
    estimate.pause()
    clock.now += 1000
    assert estimate.pages_per_second() == pytest.approx(3)
    assert estimate.seconds == 100
    estimate.resume()
    clock.now += 30
    assert estimate.pages_per_second() == pytest.approx(0)


def test_jobs_are_listed_in_the_order_of_interest(make: Make, folder: Path) -> None:
    clock = Clock()
    gated = Gated()
    gated.gate.set()
    jobs = make(gated, clock=clock)
    jobs.start()
    for name in ("old.pdf", "bad.pdf", "new.pdf"):
        clock.now += 1
        jobs.add([file(folder, name)])
        settled(jobs)
    gated.gate.clear()
    gated.begun.clear()
    jobs.add([file(folder, "reading.pdf"), file(folder, "queued.pdf")])
    assert gated.begun.wait(10)
    assert [job.name for job in jobs.listed(9)] == [
        "reading.pdf",
        "bad.pdf",
        "queued.pdf",
        "new.pdf",
        "old.pdf",
    ]
    assert [job.name for job in jobs.listed(4)][-1] == "new.pdf"
    gated.gate.set()


def test_a_hundred_thousand_queued_files_do_not_slow_down_a_poll(make: Make, folder: Path) -> None:
    folder.mkdir()
    table = JobTable(folder / ".jobs.sqlite")
    table.add_files(
        File(f"file:///in/{n}.pdf", f"{n}.pdf", 1000, False, "default", "[]") for n in range(100_000)
    )
    table.close()
    jobs = make(never)

    def poll() -> float:
        began = time.perf_counter()
        summary, listed, leaving = jobs.summary(), jobs.listed(60), jobs.pending_removals()
        spent = time.perf_counter() - began
        assert (summary.counts["queued"], len(listed), listed[0].name, leaving) == (
            100_000,
            60,
            "0.pdf",
            frozenset(),
        )
        return spent

    assert min(poll() for _ in range(5)) < 0.05
    jobs.cancel_all()
    assert jobs.summary().counts["cancelled"] == 100_000


# With the pipeline itself


def test_documents_can_be_edited_removed_and_cancelled_while_the_real_pipeline_reads(
    make: Make, folder: Path, tmp_path: Path, store: Store, encoder: HashingEncoder
) -> None:
    settings = configs.Ingest(workers=1, dpi=60, ocr="off")

    def pipeline(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        yield from ingest(
            paths, store, encoder, settings, stop=stop, again=again, collection=collection, tags=tags
        )

    jobs = make(pipeline)
    jobs.start()
    for name in ("keep.pdf", "drop.pdf"):
        jobs.add([make_pdf(folder / name, [filler(name)])], collection="first")
    settled(jobs)
    ids = {document.name: document.doc_id for document in store.documents()}
    long = make_pdf(tmp_path / "in" / "long.pdf", [filler(f"page{n}") for n in range(1000)])
    short = shutil.copy(make_pdf(tmp_path / "in" / "short.pdf", [filler("short")]), tmp_path / "in" / "s.pdf")
    jobs.add([long, Path(short)])
    until(lambda: any(job.page > 1 for job in jobs.listed(9) if job.state == "reading"))
    jobs.remove([ids["drop.pdf"]], delay_s=0)
    jobs.change(ids["keep.pdf"], name="kept.pdf", collection="second", wait_s=30)
    until(lambda: "drop.pdf" not in {document.name for document in store.documents()})
    (reading,) = (job for job in jobs.listed(9) if job.name == "long.pdf")
    assert (reading.state, 1 < reading.page <= reading.read <= reading.pages) == ("reading", True)
    jobs.cancel(reading.id)
    assert {job.name: job.state for job in settled(jobs)} == {
        "keep.pdf": "done",
        "long.pdf": "cancelled",
        "s.pdf": "done",
    }
    assert {d.name: d.collection for d in store.documents()} == {"kept.pdf": "second", "s.pdf": "default"}
    assert store.tables.pages.count_rows() == 2
