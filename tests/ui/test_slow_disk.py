"""A disk that does not answer holds up what reads from it and nothing else."""

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
    """Put a pipe in the place of the documents table's next manifest: whoever reads the version waits for its bytes."""
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


def test_an_index_that_does_not_answer_leaves_health_answering(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    service.library.keeper.close()
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

    def asked(path: str) -> float:
        """Seconds until an answer came, or until the client gave up after 3."""
        began = time.monotonic()
        with suppress(httpx.ReadTimeout):
            httpx.get(f"{address}/api/v1/{path}", timeout=3)
        return time.monotonic() - began

    try:
        with ThreadPoolExecutor(50) as pool:  # more than there are threads for handlers
            stalled = [pool.submit(asked, "search?q=lamps") for _ in range(5)]
            stalled += [pool.submit(asked, f"documents/{DOC}") for _ in range(45)]
            time.sleep(0.5)
            for _ in range(5):
                began = time.monotonic()
                assert httpx.get(f"{address}/health", timeout=2).json() == {"status": "ok"}
                assert time.monotonic() - began < 1
            assert min(each.result() for each in stalled) > 2  # they did wait for the disk
    finally:
        release()
        web.should_exit = True
        thread.join(10)
        service.close()
