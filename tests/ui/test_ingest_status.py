"""The status of an ingest on the command line, as the web page reads it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ingest.progress import Progress
from retrieval.errors import IndexBusy
from tests.pdfs import filler, make_pdf
from ui.service.ingest_status import NAME, STOPPED, IngestStatus, current_status, record_status

ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def events() -> Iterator[Progress]:
    yield Progress("found", files=3)
    yield Progress("page", "file:///a", "a.pdf", page=1, read=3, pages=9, files=3, pages_done=1, seconds=1.5)
    yield Progress("page", "file:///b", "b.pdf", page=0, read=1, pages=2, files=3, pages_done=1, seconds=2.0)
    yield Progress("failed", "file:///c", "c.pdf", files=3, files_ended=1, pages_done=1, seconds=2.5)
    yield Progress("done", "file:///a", "a.pdf", files=3, files_ended=2, pages_done=9, seconds=3.0)
    yield Progress("finished", files=3, files_ended=3, pages_done=11, seconds=4.0)


def written(folder: Path, **changes: object) -> None:
    """Writes the status of an ingest of this process, at most a minute old."""
    run = {
        "pid": os.getpid(), "host": socket.gethostname(), "started": time.time(), "at": time.time(),
        "state": "running", "files": 3, "files_ended": 1, "failed": 0, "names": [["a.pdf", 3, 1, 9]],
        "pages_done": 1, "seconds": 1.5, "message": "",
    }  # fmt: skip
    (folder / NAME).write_text(json.dumps(run | changes))


def test_an_ingest_is_reported_while_it_runs_and_for_a_minute_after(tmp_path: Path) -> None:
    clock = Clock()
    uri, passed, statuses = str(tmp_path), [], []
    for event in record_status(events(), uri, clock):
        passed.append(event)
        statuses.append(current_status(uri, clock))
        clock.now += 0.5
    assert passed == list(events())
    assert all(statuses)
    run = statuses[3]
    assert run
    assert (run.state, run.files, run.files_ended, run.failed, run.pages_done, run.seconds) == (
        "running", 3, 1, 1, 1, 2.5)  # fmt: skip
    assert run.names == (("a.pdf", 3, 1, 9), ("b.pdf", 1, 0, 2))
    assert run.host == socket.gethostname()
    after = current_status(uri, clock)
    assert after
    assert (after.state, after.files_ended, after.names, after.message) == ("finished", 3, (), "")
    clock.now += 61
    assert current_status(uri, clock) is None
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_the_status_is_written_at_most_twice_a_second(tmp_path: Path) -> None:
    clock = Clock()
    run = record_status(events(), str(tmp_path), clock)
    seen = set()
    for _ in range(5):
        next(run)
        clock.now += 0.2
        seen.add((tmp_path / NAME).read_bytes())
    assert len(seen) == 2


def test_an_ingest_that_ends_early_is_reported_as_stopped(tmp_path: Path) -> None:
    run = record_status(events(), str(tmp_path))
    next(run)
    next(run)
    run.close()  # type: ignore[attr-defined]
    stopped = current_status(str(tmp_path))
    assert stopped
    assert (stopped.state, stopped.message, stopped.names) == ("stopped", STOPPED, ())


def test_an_ingest_without_the_lock_leaves_the_status_of_the_one_that_has_it(tmp_path: Path) -> None:
    written(tmp_path)
    before = (tmp_path / NAME).read_bytes()

    def refused() -> Iterator[Progress]:
        if tmp_path.exists():
            raise IndexBusy("another process is writing")
        yield Progress("found")

    with pytest.raises(IndexBusy):
        list(record_status(refused(), str(tmp_path)))
    assert (tmp_path / NAME).read_bytes() == before


def test_an_ingest_continues_if_its_status_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    for place in (tmp_path, tmp_path / "nowhere"):
        assert list(record_status(events(), str(place))) == list(events())
        assert current_status(str(place)) is None
    assert list(record_status(events(), "s3://bucket/index")) == list(events())
    assert current_status("s3://bucket/index") is None


def test_an_ingest_whose_process_has_ended_is_reported_as_stopped(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, -1, 0, 2**80):
        written(tmp_path, pid=pid)
        run = current_status(str(tmp_path))
        assert run
        assert (run.state, run.message, run.names) == ("stopped", STOPPED, ())


def test_a_later_process_with_the_same_number_is_not_taken_for_the_ingest(tmp_path: Path) -> None:
    written(tmp_path, started=psutil.Process().create_time() - 60)
    run = current_status(str(tmp_path))
    assert run
    assert run.state == "stopped"
    written(tmp_path, started=psutil.Process().create_time() + 60)
    run = current_status(str(tmp_path))
    assert run
    assert run.state == "running"


def test_an_ingest_on_another_machine_counts_as_running_while_it_sends_updates(tmp_path: Path) -> None:
    for age, state in ((60, "running"), (3600, "stopped")):
        written(tmp_path, host="elsewhere", pid=1, at=time.time() - age)
        run = current_status(str(tmp_path))
        assert run
        assert run.state == state
    written(tmp_path, host="elsewhere", at=time.time() - 48 * 3600)
    assert current_status(str(tmp_path)) is None


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b'{"pid": 1}',
        b'{"state": "exploded"}',
        b"9" * 200_000,
        b"[" * 50_000,
        json.dumps(dict.fromkeys(IngestStatus.__slots__, "x")).encode(),
    ],
)
def test_an_invalid_status_file_is_ignored(tmp_path: Path, rubbish: bytes) -> None:
    (tmp_path / NAME).write_bytes(rubbish)
    assert current_status(str(tmp_path)) is None


def test_the_command_line_reports_its_ingest_and_reads_files_again_on_request(tmp_path: Path) -> None:
    make_pdf(tmp_path / "in" / "long.pdf", [filler(f"page{n}") for n in range(200)])
    index = tmp_path / "i.lance"
    command = [
        sys.executable,
        "-m",
        "ui.cli",
        "ingest",
        str(tmp_path / "in"),
        "-i",
        str(index),
        "-p",
        "smoke",
    ]
    with subprocess.Popen([*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if json.loads(line)["page"] > 1:
                break
        run = current_status(str(index))
        assert run
        assert (run.state, run.pid, run.files) == ("running", process.pid, 1)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    run = current_status(str(index))
    assert run
    assert run.state == "stopped"
    make_pdf(tmp_path / "in" / "long.pdf", [filler("short now")])
    for again in ((), ("--again",)):
        done = subprocess.run([*command, *again], cwd=ROOT, capture_output=True, text=True, check=True)
        assert "[1/1] done: long.pdf: 1 page\n" in done.stdout
    run = current_status(str(index))
    assert run
    assert (run.state, run.files_ended) == ("finished", 1)
