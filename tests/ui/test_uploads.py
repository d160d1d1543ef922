"""Uploads to a real server: the limit of several uploads together, and the end of an upload without progress."""

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.requests import Request

from configs import settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.store.store import Store
from tests.ui.conftest import serving
from ui.service import uploads
from ui.service.uploads import Uploads
from ui.web.server import server

MIB = 2**20


@contextmanager
def running(folder: Path, **serve: float) -> Iterator[tuple[str, Path]]:
    """Yields the address of a server over an empty library, and its uploads folder."""
    settings = configs.load_profile("smoke").model_copy(
        update={"ingest": configs.Ingest(max_file_mb=64), "serve": configs.Serve.model_validate(serve)}
    )
    store = Store.create(str(folder / "index.lance"), HashingEncoder().fingerprint)
    service = serving(store.uri, settings)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(server(service), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [bound]})
    thread.start()
    while not web.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}", service.library.jobs.folder
    finally:
        web.should_exit = True
        thread.join(10)
        service.close()


class Meeting:
    """Makes `count` uploads wait for each other halfway, except those that were rejected before."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrived: set[int] = set()
        self._all = threading.Event()

    def arrive(self, number: int) -> None:
        self._arrived.add(number)
        if len(self._arrived) == self._count:
            self._all.set()

    def wait(self) -> None:
        assert self._all.wait(20)


def together(address: str, count: int, size: int, *, announced: bool) -> list[int]:
    """Returns the statuses of `count` simultaneous uploads of `size` bytes; 0 for one cut off while sending."""
    meeting = Meeting(count)

    def body(number: int) -> Iterator[bytes]:
        for sent in range(0, size, MIB // 4):
            if sent == size // 2:
                meeting.arrive(number)
                meeting.wait()
            yield b"%d" % number * (MIB // 4)

    def put(number: int) -> int:
        headers = {"Content-Length": str(size)} if announced else {}
        url = f"{address}/api/v1/upload/{number}.pdf"
        try:
            return httpx.put(url, content=body(number), headers=headers, timeout=30).status_code
        except httpx.HTTPError:
            return 0
        finally:
            meeting.arrive(number)

    with ThreadPoolExecutor(count) as pool:
        return sorted(pool.map(put, range(count)))


@pytest.mark.parametrize("announced", [True, False])
def test_six_simultaneous_uploads_stay_within_the_limit_of_the_library(
    tmp_path: Path, announced: bool
) -> None:
    with running(tmp_path, max_library_gb=10 / 1024) as (address, folder):  # 10 MiB
        statuses = together(address, 6, 8 * MIB, announced=announced)
        assert (statuses.count(201), set(statuses) <= {0, 201, 507}) == (1, True)
        assert [path.stat().st_size for path in folder.glob("*.pdf")] == [8 * MIB]
        assert not list(folder.glob(f"{uploads.PART}*"))
        again = httpx.put(f"{address}/api/v1/upload/small.pdf", content=b"x" * MIB)
        assert again.status_code == 201  # the reservations of the rejected uploads are free again
        refused = httpx.put(f"{address}/api/v1/upload/more.pdf", content=b"x" * MIB * 2)
        assert (refused.status_code, "room for 1 MiB more" in refused.json()["error"]["message"]) == (
            507,
            True,
        )


def test_six_simultaneous_uploads_leave_the_spare_room_of_the_disk_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as (address, folder):
        monkeypatch.setattr(uploads, "SPARE", shutil.disk_usage(folder).free - 100 * MIB)
        statuses = together(address, 6, 60 * MIB, announced=True)
        assert (statuses.count(201), set(statuses) <= {0, 201, 507}) == (1, True)


def test_uploads_above_the_allowed_number_are_asked_to_try_again(tmp_path: Path) -> None:
    with running(tmp_path, uploads_at_once=2) as (address, folder):
        with begun(address, folder, 1), begun(address, folder, 2):
            refused = httpx.put(f"{address}/api/v1/upload/c.pdf", content=b"c")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            assert "2 uploads are arriving" in refused.json()["error"]["message"]
        for _ in range(100):  # until both have been dropped
            if httpx.put(f"{address}/api/v1/upload/c.pdf", content=b"c").status_code == 201:
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the places of the dropped uploads are not free")
        assert not list(folder.glob(f"{uploads.PART}*"))


def test_an_upload_without_progress_is_stopped_and_leaves_nothing(tmp_path: Path) -> None:
    with running(tmp_path, upload_idle_s=0.5) as (address, folder), begun(address, folder, 1) as client:
        started = time.monotonic()
        client.settimeout(0.1)
        answer = b""
        # A byte now and then is no progress. The header of the response may arrive before its body.
        while b"progress" not in answer and time.monotonic() < started + 10:
            try:
                if not answer:
                    client.sendall(b"x")
                answer += client.recv(4096)
            except TimeoutError:
                pass
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"made no progress for 0.5 seconds" in answer
        assert b"connection: close" in answer.lower()
        assert not list(folder.glob(f"{uploads.PART}*"))


@contextmanager
def begun(address: str, folder: Path, count: int) -> Iterator[socket.socket]:
    """Starts an upload and sends only its first bytes; waits until `count` uploads are arriving."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            b"PUT /api/v1/upload/a.pdf HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nfirst"
        )
        for _ in range(200):
            if len(list(folder.glob(f"{uploads.PART}*"))) == count:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the upload has not started")
        yield client


def test_an_upload_that_is_cancelled_before_its_file_exists_leaves_no_reservation(tmp_path: Path) -> None:
    async def cancelled() -> None:
        receiving = Uploads(most_file=2**30, most_gb=1, at_once=1, idle_s=5)
        disk_is_free = threading.Event()
        receiving._pool.submit(disk_is_free.wait)  # the only thread for the disk is busy
        headers = [(b"content-length", b"500000000")]
        request = Request({"type": "http", "method": "PUT", "path": "/", "headers": headers})
        upload = asyncio.ensure_future(receiving.receive(request, tmp_path, "a.pdf"))
        await asyncio.sleep(0.1)
        upload.cancel()
        await asyncio.sleep(0.1)
        disk_is_free.set()
        with pytest.raises(asyncio.CancelledError):
            await upload
        assert receiving._reserved == {}
        receiving.close()

    asyncio.run(cancelled())
    assert list(tmp_path.iterdir()) == []
