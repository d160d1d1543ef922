"""Nothing is reported to anyone: no telemetry of a library, no name lookup, no connection beyond this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest

from configs.privacy import SWITCHES, switch_off_reports
from tests.ingest.conftest import scan
from tests.pdfs import filler, make_pdf

ROOT = Path(__file__).parents[1]
TRACED = "connect,sendto,sendmsg,sendmmsg"
ADDRESS = re.compile(r'port=htons\((\d+)\).*?inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"')


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder with a short path: the address of a socket has at most 107 bytes, and TMPDIR is part of it."""
    with TemporaryDirectory(prefix="fs-") as folder:
        yield Path(folder)


def fresh(folder: Path) -> dict[str, str]:
    """Returns an environment with only PATH from the caller: no switch is set; home and temporary folder are new."""
    home, temporary = folder / "home", folder / "tmp"
    home.mkdir()
    temporary.mkdir()
    return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home), "TMPDIR": str(temporary),
            "XDG_CACHE_HOME": str(home / ".cache"), "CUDA_VISIBLE_DEVICES": ""}  # fmt: skip


def left(folder: Path) -> list[str]:
    """Returns the files in the home and temporary folder of a fresh environment."""
    return [str(path.relative_to(folder)) for name in ("home", "tmp") for path in (folder / name).rglob("*")
            if path.is_file()]  # fmt: skip


def outside(call: str) -> str | None:
    """Returns the address and port in a line of strace if the call asks a name server or leaves this machine."""
    if "io.systemd.Resolve" in call:
        return "systemd-resolved"
    found = ADDRESS.search(call)
    if not found:  # a unix socket, netlink, or a socket that is already connected
        return None
    address = ip_address(found[2])
    address = getattr(address, "ipv4_mapped", None) or address
    return None if address.is_loopback and found[1] != "53" else f"{address} {found[1]}"


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ('7 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16 <unfinished ...>',
         "192.0.2.1 443"),
        ('7 connect(3, {sa_family=AF_INET6, sin6_port=htons(443), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, '
         '"2001:db8::1", &sin6_addr), sin6_scope_id=0}, 28) = -1 ENETUNREACH (Network is unreachable)',
         "2001:db8::1 443"),
        ('7 sendmmsg(5, [{msg_hdr={msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}',
         "127.0.0.53 53"),
        ('7 connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0',
         "systemd-resolved"),
        ('7 connect(3, {sa_family=AF_INET, sin_port=htons(7860), sin_addr=inet_addr("127.0.0.1")}, 16) = 0', None),
        ('7 connect(3, {sa_family=AF_INET6, sin6_port=htons(7860), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, '
         '"::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0', None),
        ('7 connect(3, {sa_family=AF_UNIX, sun_path="/tmp/pymp-1/listener"}, 110) = 0', None),
        ('7 sendto(9, "GET / HTTP/1.1", 14, 0, NULL, 0) = 14', None),
    ],
)  # fmt: skip
def test_a_call_counts_as_outside_unless_it_stays_on_this_machine_and_asks_no_name_server(
    call: str, expected: str | None
) -> None:
    assert outside(call) == expected


def test_a_command_leaves_no_file_of_a_telemetry_library(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "ui.cli", "doctor"], env=fresh(tmp_path), cwd=ROOT, capture_output=True, text=True
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "onnxruntime" in run.stdout
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("strace") or os.environ.get("CI")),
    reason="strace is not installed, so nothing can be said of connections: apt install strace (Linux only)",
)
def test_ingest_search_and_serve_reach_no_address_beyond_this_machine(tmp_path: Path) -> None:
    """The trace contains exactly the connection and the DNS query that tests.whole_run makes on purpose."""
    assert shutil.which("strace"), "this test needs strace: apt install strace"
    documents = tmp_path / "documents"
    make_pdf(documents / "digital.pdf", [filler("harbour")])
    scan(
        ["The lighthouse keeper counts the ships", "and writes them into the book", "every evening at nine"]
    ).save(documents / "scan.pdf", resolution=150)
    log = tmp_path / "calls.txt"
    run = subprocess.run(
        ["strace", "--follow-forks", "--seccomp-bpf", f"--trace={TRACED}", f"--output={log}",
         sys.executable, "-m", "tests.whole_run", str(tmp_path)],
        env=fresh(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    pages = {hit["page_name"]: hit for hit in found["cli"]["hits"]}
    assert pages.keys() == {"scan.pdf#page=1", "digital.pdf#page=1"}
    assert {(hit["page_name"], hit["scanned"]) for hit in found["rest"]["hits"]} == {
        ("scan.pdf#page=1", True),
        ("digital.pdf#page=1", False),
    }
    snippet = "".join(text for text, _ in pages["scan.pdf#page=1"]["snippet"])
    assert "every evening at nine" in snippet  # thus OCR has run, in a worker
    calls = [place for call in log.read_text(errors="replace").splitlines() if (place := outside(call))]
    assert calls == ["192.0.2.1 443", "127.0.0.1 53"]
    assert left(tmp_path) == []


def test_a_download_from_the_hub_asks_for_the_model_and_for_nothing_else(tmp_path: Path) -> None:
    """By default, huggingface_hub also fetches a list of coding agents, and sends torch's version and a ping."""
    script = (
        "import retrieval\n"
        "from huggingface_hub import snapshot_download\n"
        "from huggingface_hub.utils import send_telemetry\n"
        "send_telemetry('ping')\n"
        "try: snapshot_download('owner/model')\n"
        "except OSError: print('refused')"
    )
    asked: list[tuple[str, str]] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["User-Agent"]))
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        environment = fresh(tmp_path) | {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}"}
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )  # fmt: skip
        hub.shutdown()
    assert run.stdout == "refused\n"
    assert [path for path, _ in asked] == ["/api/models/owner/model/revision/main"]
    assert re.fullmatch("unknown/None; hf_hub/[^;]+; python/[^;]+", asked[0][1])


@pytest.mark.parametrize("package", ["benchmarks", "ingest", "rerankers", "retrieval", "ui"])
def test_the_switches_are_set_before_any_module_of_a_package_runs(package: str, tmp_path: Path) -> None:
    script = (
        f"import {package}, json, os, sys\n"
        "assert not {'onnxruntime', 'gradio', 'huggingface_hub', 'lancedb', 'rapidocr'} & set(sys.modules)\n"
        "print(json.dumps(dict(os.environ)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], env=fresh(tmp_path), cwd=ROOT, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert json.loads(run.stdout).items() >= SWITCHES.items()


def test_a_value_set_by_the_user_stays_unless_it_is_empty() -> None:
    environment = {"ORT_DISABLE_TELEMETRY": "0", "DO_NOT_TRACK": ""}
    switch_off_reports(environment, imported=())
    assert environment == {
        "ORT_DISABLE_TELEMETRY": "0",
        "DO_NOT_TRACK": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def test_a_warning_names_a_library_that_was_imported_before_its_switch_was_set() -> None:
    with pytest.warns(
        UserWarning, match=r"^onnxruntime was imported before .* Set ORT_DISABLE_TELEMETRY=1 in"
    ):
        switch_off_reports({}, imported={"onnxruntime", "gradio"})
    switch_off_reports(
        {"ORT_DISABLE_TELEMETRY": "1"}, imported={"onnxruntime"}
    )  # no warning, which would be an error here


def test_the_makefile_the_image_and_the_document_name_every_switch() -> None:
    makefile = re.findall(r"^export (\w+) \?= (\w+)$", (ROOT / "Makefile").read_text(), re.M)
    image = re.findall(r"(?<=[ ])(\w+)=(\w+)(?=[ \n])", (ROOT / "Dockerfile").read_text())
    document = re.findall(r"`(\w+)=(\w+)`", (ROOT / "docs/privacy.md").read_text())
    for place in (makefile, image, document):
        assert set(place) >= set(SWITCHES.items())
