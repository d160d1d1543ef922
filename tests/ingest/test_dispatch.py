"""Documents prepared by real worker processes: order, limits, crashes, and the end of the parent."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import psutil
import pymupdf
import pytest
from PIL import Image

from configs.settings import Ingest
from ingest.workers.dispatch import prepare
from ingest.workers.messages import (
    Chunk,
    ChunkDone,
    DocumentEvent,
    Failed,
    FailedPage,
    Finished,
    Idle,
    Opened,
    PreparedPage,
    Task,
)
from ingest.workers.pool import GRACE, WorkerPool
from tests.ingest.conftest import bomb, raw_pdf, scan, source

Make = Callable[..., Path]


def document_events(tasks: Iterable[Task], settings: Ingest) -> Generator[DocumentEvent, None, None]:
    """Yield what `prepare` yields, without the Idle events."""
    with closing(prepare(tasks, settings)) as stream:
        for event in stream:
            if not isinstance(event, Idle):
                yield event


def _events(*paths: Path, **settings: object) -> list[DocumentEvent]:
    return list(document_events([Task(source(path)) for path in paths], Ingest.model_validate(settings)))


def _outcomes(events: list[DocumentEvent]) -> dict[str, str]:
    return {
        event.source.path.name: event.error.reason if isinstance(event, Failed) else "finished"
        for event in events
        if isinstance(event, Failed | Finished)
    }


def _numbers(events: list[DocumentEvent], path: Path) -> list[int]:
    return [e.number for e in events if isinstance(e, PreparedPage | FailedPage) and e.source.path == path]


def _workers() -> list[psutil.Process]:
    """Return the worker processes that this process has started, without the fork server."""
    return [
        p
        for p in psutil.Process().children(recursive=True)
        if p.is_running() and p.status() != psutil.STATUS_ZOMBIE and os.getpgid(p.pid) == p.pid
    ]


def test_each_document_is_opened_then_its_pages_come_in_order_then_it_finishes(make_pdf: Make) -> None:
    long, short = make_pdf("long.pdf", 40), make_pdf("short.pdf", 3)
    events = _events(long, short, workers=2, dpi=40)
    assert _numbers(events, long) == list(range(1, 41))
    assert _numbers(events, short) == [1, 2, 3]
    for path, pages in ((long, 40), (short, 3)):
        first, *_, last = [event for event in events if event.source.path == path]
        assert isinstance(first, Opened)
        assert first.pages == pages
        assert first.renderer == "pymupdf"
        assert isinstance(last, Finished)
    assert _workers() == []


def test_a_page_has_its_size_words_and_images(make_pdf: Make) -> None:
    page = next(e for e in _events(make_pdf(rotate=90), dpi=72) if isinstance(e, PreparedPage))
    assert (page.width, page.height) == pytest.approx((842, 595), abs=0.1)
    assert " ".join(word.text for word in page.words) == "Page 1 of the harbour report"
    assert page.text_source == "text layer"
    image, thumbnail = Image.open(io.BytesIO(page.image)), Image.open(io.BytesIO(page.thumbnail))
    assert (image.format, image.size) == ("WEBP", (842, 595))
    assert thumbnail.size == (260, 184)


def test_a_sideways_scan_becomes_upright_with_its_image_and_size(tmp_path: Path) -> None:
    upright = scan(["The harbour office counted ships", "Revenue rose by 12 percent"] * 3)
    upright.rotate(90, expand=True).save(tmp_path / "scan.png", dpi=(150, 150))
    page = next(e for e in _events(tmp_path / "scan.png") if isinstance(e, PreparedPage))
    assert page.text_source == "ocr"
    assert page.words[1].text == "harbour"
    assert page.width > page.height
    assert Image.open(io.BytesIO(page.image)).size == upright.size


def test_bad_files_fail_with_a_reason_and_do_not_affect_the_others(make_pdf: Make, tmp_path: Path) -> None:
    good = [make_pdf(f"good{k}.pdf", 2) for k in (1, 2)]
    locked = make_pdf("locked.pdf", encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="x", owner_pw="y")
    (tmp_path / "zero.pdf").write_bytes(b"")
    (tmp_path / "text.pdf").write_text("no PDF")
    events = _events(good[0], locked, tmp_path / "zero.pdf", tmp_path / "text.pdf", good[1], dpi=40)
    assert _outcomes(events) == {
        "good1.pdf": "finished",
        "locked.pdf": "encrypted",
        "zero.pdf": "empty file",
        "text.pdf": "not a document",
        "good2.pdf": "finished",
    }


def test_a_password_opens_its_document(make_pdf: Make) -> None:
    path = make_pdf(encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="x", owner_pw="y")
    events = list(document_events([Task(source(path), "x")], Ingest(dpi=40)))
    assert _outcomes(events) == {"made.pdf": "finished"}


def test_a_bomb_of_nested_streams_is_stopped_by_a_limit_and_the_next_document_is_read(
    make_pdf: Make, tmp_path: Path
) -> None:
    (tmp_path / "bomb.pdf").write_bytes(bomb())
    began = time.monotonic()
    events = _events(
        tmp_path / "bomb.pdf", make_pdf(), workers=1, seconds_per_page=2.0, memory_mb=600, dpi=40
    )
    assert time.monotonic() - began < 30
    outcomes = _outcomes(events)
    assert outcomes["bomb.pdf"] in {"too slow", "too much memory"}
    assert outcomes["made.pdf"] == "finished"


def test_a_page_that_needs_more_memory_than_allowed_fails_its_document(
    make_pdf: Make, tmp_path: Path
) -> None:
    Image.new("RGB", (8_000, 8_000)).save(tmp_path / "huge.png", compress_level=1)  # 192 MB of pixels
    events = _events(tmp_path / "huge.png", make_pdf(), workers=1, memory_mb=150, dpi=40)
    assert _outcomes(events) == {"huge.png": "too much memory", "made.pdf": "finished"}


def test_five_thousand_pages_are_streamed(tmp_path: Path) -> None:
    (tmp_path / "long.pdf").write_bytes(raw_pdf(b"q Q", "null", pages=5_000))
    stream = document_events([Task(source(tmp_path / "long.pdf"))], Ingest(dpi=20, workers=2, ocr="off"))
    events = list(islice(stream, 30))
    stream.close()
    assert isinstance(events[0], Opened)
    assert events[0].pages == 5_000
    assert [event.number for event in events[1:] if isinstance(event, PreparedPage)] == list(range(1, 30))
    assert _workers() == []


def test_the_time_that_the_caller_takes_does_not_count_against_the_workers(make_pdf: Make) -> None:
    paths = [make_pdf(f"{k}.pdf", 40) for k in range(3)]  # more events than may wait
    seconds = 3.0
    settings = Ingest(dpi=20, workers=3, seconds_per_page=seconds, ocr="off")
    events: list[DocumentEvent] = []
    for event in document_events([Task(source(path)) for path in paths], settings):
        events.append(event)
        if len(events) == 1:
            time.sleep(GRACE + seconds + 2)
    assert _outcomes(events) == {"0.pdf": "finished", "1.pdf": "finished", "2.pdf": "finished"}


def test_a_worker_that_hangs_is_killed(make_pdf: Make) -> None:
    paths = [make_pdf(f"{k}.pdf", 40) for k in range(2)]
    stream = document_events(
        [Task(source(path)) for path in paths], Ingest(dpi=20, workers=1, seconds_per_page=1.0)
    )
    events = [next(stream)]
    for process in _workers():
        process.send_signal(signal.SIGSTOP)
    events += stream
    assert _outcomes(events) == {"0.pdf": "too slow", "1.pdf": "finished"}


def test_a_file_whose_name_is_not_utf_8_is_read(make_pdf: Make, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"harbour r\xe9port.pdf")
    try:
        make_pdf().rename(path)
    except (OSError, UnicodeError):
        pytest.skip("this file system rejects names that are not UTF-8")
    events = _events(path, dpi=20)
    assert isinstance(events[0], Opened)
    assert events[0].title == "harbour r\ufffdport"
    assert [type(event) for event in events] == [Opened, PreparedPage, Finished]


def test_the_message_about_a_file_can_be_printed_although_its_name_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xe9port.pdf")
    try:
        path.write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system rejects names that are not UTF-8")
    [failed] = _events(path)
    assert isinstance(failed, Failed)
    assert str(failed.error) == "r\ufffdport.pdf is empty (0 bytes)"


def test_a_worker_continues_with_the_document_that_it_has_open(make_pdf: Make) -> None:
    a, b = (Task(source(make_pdf(name, 20))) for name in ("a.pdf", "b.pdf"))
    pool = WorkerPool(Ingest(dpi=20, ocr="off"), size=2)
    try:
        pool.assign(Chunk(1, a, 1, 1))
        pool.assign(Chunk(2, b, 1, 1))
        before = {worker.chunk.document: worker.process.pid for worker in pool._workers if worker.chunk}
        while pool.busy:
            for chunk, answer in pool.receive(1):
                if isinstance(answer, ChunkDone):
                    pool.release(chunk)
        pool.assign(Chunk(2, b, 2, 2))
        pool.assign(Chunk(1, a, 2, 2))
        assert {
            worker.chunk.document: worker.process.pid for worker in pool._workers if worker.chunk
        } == before
    finally:
        pool.kill_all()


def test_tasks_are_taken_from_the_caller_only_as_they_are_needed(make_pdf: Make) -> None:
    paths = [make_pdf(f"{k}.pdf") for k in range(40)]
    taken: list[Path] = []

    def tasks() -> Iterator[Task]:
        for path in paths:
            taken.append(path)
            yield Task(source(path))

    stream = document_events(tasks(), Ingest(dpi=20, workers=1, ocr="off"))
    next(stream)
    assert len(taken) < 20
    stream.close()


def test_a_worker_that_crashes_fails_only_its_document(make_pdf: Make) -> None:
    stream = document_events(
        [Task(source(make_pdf(f"{k}.pdf", 40))) for k in range(2)], Ingest(dpi=150, workers=1)
    )
    events = [next(stream)]
    for process in _workers():
        process.send_signal(signal.SIGSEGV)
    events += stream
    assert _outcomes(events) == {"0.pdf": "crashed", "1.pdf": "finished"}


@pytest.mark.parametrize("ocr", ["rapidocr", "off"])
def test_a_page_that_cannot_be_rendered_is_reported_and_the_other_pages_come(
    tmp_path: Path, ocr: str
) -> None:
    whole = raw_pdf(b"q Q", "null", pages=2)
    at = whole.index(b"/Contents", whole.index(b"5 0 obj"))
    lost = whole[:at] + b"/Contents 9 0 R" + whole[at + 15 : whole.index(b"xref")]
    (tmp_path / "cut.pdf").write_bytes(lost)
    events = _events(tmp_path / "cut.pdf", ocr=ocr, dpi=40)
    assert [type(event) for event in events] == [Opened, PreparedPage, FailedPage, Finished]


SCRIPT = """
    import sys, os
    from configs.settings import Ingest
    from ingest.sources import discover
    from ingest.workers.dispatch import prepare
    from ingest.workers.messages import Task
    if __name__ == "__main__":
        stream = prepare([Task(next(discover([sys.argv[1]])))], Ingest(dpi=150, workers=2))
        pages = (event for event in stream if hasattr(event, 'source'))
        for _ in range(30): next(pages)  # By then both workers are up: none is being started when this process dies.
        print(os.getpid(), flush=True)
        try:
            for event in pages: pass
        except KeyboardInterrupt:
            stream.close()
            print("interrupted", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_when_the_parent_is_interrupted_or_killed_no_worker_survives(tmp_path: Path, number: int) -> None:
    (tmp_path / "run.py").write_text(textwrap.dedent(SCRIPT))
    path = tmp_path / "long.pdf"
    path.write_bytes(raw_pdf(b"q Q", "null", pages=5_000))
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, tmp_path / "run.py", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == str(parent.pid)
        below = psutil.Process(parent.pid).children(recursive=True)
        parent.send_signal(number)
        out, err = parent.communicate(timeout=20)
    assert (out, err) == (("interrupted\n", "") if number == signal.SIGINT else ("", ""))
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
