"""A complete run of Folioscope, to be traced: python -m tests.whole_run FOLDER

Ingests FOLDER/documents, searches on the command line, serves, fetches the page and searches through REST. Finally, a
process that is started like the workers of an ingest makes a call to the outside on purpose, which proves that a trace
of this run shows such calls. Prints one line of JSON with the results.
"""

import json
import multiprocessing
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

CLI = (sys.executable, "-m", "ui.cli")
QUESTION = "harbour lighthouse"
BEYOND = ("192.0.2.1", 443)  # TEST-NET-1 of RFC 5737: an address that is never assigned
NAME_SERVER = ("127.0.0.1", 53)  # on loopback, like those of systemd and Docker, which ask others


def call_out() -> None:
    """Begin a connection to BEYOND, and ask NAME_SERVER for the address of "a"."""
    with socket.socket() as stream, suppress(OSError):
        stream.setblocking(False)
        stream.connect(BEYOND)
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams, suppress(OSError):
        datagrams.sendto(b"\0\1\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", NAME_SERVER)


def main() -> None:
    folder = Path(sys.argv[1])
    index = ("--index", str(folder / "index.lance"))
    run(*CLI, "ingest", str(folder / "documents"), *index)
    by_cli = json.loads(run(*CLI, "search", QUESTION, *index, "--json"))
    by_rest = served(*CLI, "serve", *index, "--port", "0")
    context = multiprocessing.get_context("forkserver")
    caller = context.Process(target=call_out)
    caller.start()
    caller.join()
    sys.stdout.write(json.dumps({"cli": by_cli, "rest": by_rest}) + "\n")


def run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} ended with {ended.returncode}: {ended.stdout}{ended.stderr}")
    return ended.stdout


def served(*command: str) -> Any:
    """Returns the server's response to QUESTION, after fetching the page."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline())
        assert address, "the server did not print its address"
        deadline = time.monotonic() + 60
        while not ready(address[0]):
            assert time.monotonic() < deadline, "the server was not ready within a minute"
            time.sleep(0.1)
        with urlopen(address[0]) as page:
            assert b"Folioscope" in page.read()
        with urlopen(f"{address[0]}/api/v1/search?q={QUESTION.replace(' ', '+')}") as answer:
            result = json.load(answer)
        server.send_signal(signal.SIGINT)
    return result


def ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/ready") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


if __name__ == "__main__":
    main()
