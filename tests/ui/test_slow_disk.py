"""A disk that does not respond blocks only the requests that read from it."""

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import uvicorn

from tests.ui.conftest import DOC, filled, serving
from ui.web.server import server


def stalled_index(folder: Path) -> Callable[[], None]:
    """Put a pipe in place of the next manifest of the documents table, so that reading the version blocks.

    Returns a function that releases the readers.
    """
    versions = folder / "index.lance" / "documents.lance" / "_versions"
    newest = min(int(path.stem) for path in versions.glob("*.manifest"))  # Lance counts down from 2**64 - 1
    pipe = versions / f"{newest - 1:020}.manifest"
    os.mkfifo(pipe)
    done = threading.Event()

    def give_in() -> None:
        while not done.is_set():
            try:
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody reads at this moment
                time.sleep(0.01)

    def release() -> None:
        ending = threading.Thread(target=give_in)
        ending.start()
        time.sleep(1)
        pipe.unlink(missing_ok=True)
        done.set()
        ending.join()

    return release


def test_health_responds_while_the_index_does_not(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    service.library.index_upkeep.close()
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    web = uvicorn.Server(uvicorn.Config(server(service), log_level="critical", lifespan="off"))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [bound]})
    thread.start()
    while not web.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{bound.getsockname()[1]}"
    assert httpx.get(f"{address}/api/v1/search", params={"q": "harbour"}).status_code == 200
    release = stalled_index(tmp_path)

    def seconds_until_answer(path: str) -> float:
        """Returns the seconds until a response arrives, or until the client gives up after 3 seconds."""
        began = time.monotonic()
        with suppress(httpx.ReadTimeout):
            httpx.get(f"{address}/api/v1/{path}", timeout=3)
        return time.monotonic() - began

    try:
        with ThreadPoolExecutor(50) as pool:  # more than the threads for handlers
            stalled = [pool.submit(seconds_until_answer, "search?q=lamps") for _ in range(5)]
            stalled += [pool.submit(seconds_until_answer, f"documents/{DOC}") for _ in range(45)]
            time.sleep(0.5)
            for _ in range(5):
                began = time.monotonic()
                assert httpx.get(f"{address}/health", timeout=2).json() == {"status": "ok"}
                assert time.monotonic() - began < 1
            assert min(each.result() for each in stalled) > 2  # they have waited for the disk
    finally:
        release()
        web.should_exit = True
        thread.join(10)
        service.close()
