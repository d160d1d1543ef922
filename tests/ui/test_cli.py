"""The command line in real processes, on real files."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

from tests.pdfs import filler, make_pdf
from ui.api.render import FILL
from ui.service.ingest_status import current_status

ROOT = Path(__file__).parents[2]


def folioscope(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ui.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    make_pdf(folder / "in" / "pumps.pdf", [filler("pumps"), filler("valves")])
    make_pdf(folder / "in" / "money.pdf", [filler("revenue")])
    (folder / "in" / "empty.pdf").write_bytes(b"")
    done = folioscope("ingest", folder / "in", "--index", folder / "i.lance", "--profile", "smoke", code=1)
    assert "1 file could not be ingested" in done.stderr
    assert "empty file" in done.stderr
    assert "3 pages embedded" in done.stdout
    return folder / "i.lance"


def test_a_second_ingest_prints_the_skipped_files_as_json_lines(index: Path) -> None:
    done = folioscope("ingest", index.parent / "in", "-i", index, "-p", "smoke", "--json", code=1)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {e["name"]: e["event"] for e in events if e["event"] in ("skipped", "failed")} == {
        "pumps.pdf": "skipped",
        "money.pdf": "skipped",
        "empty.pdf": "failed",
    }
    assert events[-1]["event"] == "finished"


def test_search_prints_both_ranks_and_saves_pages_with_highlights(index: Path, tmp_path: Path) -> None:
    done = folioscope(
        "search", "valves", "-i", index, "-p", "smoke", "--explain", "--save-pages", tmp_path / "saved"
    )
    assert "pumps.pdf#page=2" in done.stdout.splitlines()[0]
    assert "was 1" in done.stdout
    assert "reranked the first" in done.stdout
    saved = sorted((tmp_path / "saved").iterdir())
    assert saved[0].name == "01-pumps-p2.png"
    with Image.open(saved[0]) as image:
        colours = {pixel for _, pixel in image.convert("RGB").getcolors(maxcolors=1 << 20) or ()}
    assert FILL["word"] in colours


def test_the_json_of_a_search_has_pages_scores_regions_and_the_decision(index: Path) -> None:
    answer = json.loads(folioscope("search", "valves", "-i", index, "-p", "smoke", "--json", "-k", 2).stdout)
    assert answer["hits"][0]["page_name"] == "pumps.pdf#page=2"
    assert len(answer["hits"]) == 2
    assert {"vectors", "text", "first", "rerank"} == set(answer["hits"][0]["scores"])
    assert answer["hits"][0]["regions"][0]["kind"] == "word"
    assert (answer["decision"]["kind"], answer["reranked"]) == ("reranked", True)


def test_search_within_a_document_and_without_reranking(index: Path) -> None:
    arguments = ("--no-rerank", "--document", "money.pdf", "--json")
    answer = json.loads(folioscope("search", "paragraph", "-i", index, "-p", "smoke", *arguments).stdout)
    assert [hit["page_name"] for hit in answer["hits"]] == ["money.pdf#page=1"]
    assert (answer["decision"]["kind"], answer["reranked"]) == ("off", False)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["search", "", "-p", "smoke", "-i", "INDEX"], 2, "the question is empty"),
        (["search", "x" * 10_000, "-p", "smoke", "-i", "INDEX"], 2, "10,000 characters, 2,000 are allowed"),
        (
            ["search", "x", "-p", "smoke", "-i", "INDEX", "--since", "2024-13"],
            2,
            "'2024-13' is not a date: write it as 2024-01-31, 2024-01 or 2024",
        ),
        (
            ["search", "x", "-p", "smoke", "-i", "nowhere.lance"],
            2,
            "there is no index yet: make one with 'folioscope ingest FOLDER --index nowhere.lance",
        ),
        (["search", "x", "-p", "cpu", "-i", "INDEX"], 2, "was encoded by hashing"),
        (["search", "x", "-p", "smoke", "-i", "INDEX", "--document", "no.pdf"], 2, "no document 'no.pdf'"),
        (["search", "x", "-p", "nonsense"], 2, "choose one of cpu, cpu-visual, gpu-24gb"),
        (["ingest", "nowhere.pdf", "-p", "smoke", "-i", "INDEX"], 2, "nowhere.pdf: no such file or folder"),
        (["docs", "remove", "no.pdf", "-i", "INDEX"], 2, "'folioscope docs list' names those in"),
        (["evaluate", "INDEX", "-p", "smoke"], 2, "is not a data set"),
        (["docs", "tag", "money.pdf", "a,b", "-i", "INDEX"], 2, "the tag 'a,b' has a comma"),
        (["docs", "tag", "money.pdf", "--collection", "", "-i", "INDEX"], 2, "a collection cannot be empty"),
        (["ingest", "tests", "--tag", "a,b", "-p", "smoke", "-i", "nowhere.lance"], 2, "has a comma"),
        (
            ["ingest", "tests", "--collection", " ", "-p", "smoke", "-i", "nowhere.lance"],
            2,
            "cannot be empty",
        ),
    ],
)
def test_wrong_use_is_answered_with_one_line_and_exit_code_2(
    index: Path, arguments: list[str], code: int, message: str
) -> None:
    done = folioscope(*[str(index) if a == "INDEX" else a for a in arguments], code=code)
    *before, last = done.stderr.strip().splitlines()
    assert message in last
    is_announced = arguments[0] == "search" and "--since" not in arguments
    assert before == (["Loading the index and the models ..."] if is_announced else [])


def test_documents_are_listed_tagged_and_removed(index: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy.lance"
    shutil.copytree(index, copy)
    folioscope("docs", "tag", "money.pdf", "finance", "--collection", "books", "-i", copy)
    listed = {
        d["name"]: d
        for d in map(json.loads, folioscope("docs", "list", "-i", copy, "--json").stdout.splitlines())
    }
    assert (listed["money.pdf"]["tags"], listed["money.pdf"]["collection"]) == (["finance"], "books")
    folioscope("docs", "remove", "money.pdf", "-i", copy)
    assert "money.pdf" not in folioscope("docs", "list", "-i", copy).stdout
    info = json.loads(folioscope("index", "info", "-i", copy, "--json").stdout)
    assert (info["documents"], info["pages"]) == (1, 2)
    ledger = [
        json.loads(line) for line in folioscope("docs", "ledger", "-i", copy, "--json").stdout.splitlines()
    ]
    assert {e["outcome"] for e in ledger} == {"done", "failed"}


def test_reembed_moves_an_index_to_another_encoder_without_its_files(index: Path, tmp_path: Path) -> None:
    profile = tmp_path / "other.yaml"
    profile.write_text("encoder: {kind: hashing, dim: 32}\nreranker: {kind: none}\n")
    folioscope("index", "reembed", tmp_path / "new.lance", "-i", index, "-p", profile)
    answer = json.loads(
        folioscope("search", "valves", "-i", tmp_path / "new.lance", "-p", profile, "--json").stdout
    )
    assert answer["hits"][0]["page_name"] == "pumps.pdf#page=2"
    assert "32-d" in folioscope("index", "info", "-i", tmp_path / "new.lance").stdout


def test_evaluate_ingests_and_measures_a_data_set(tmp_path: Path) -> None:
    make_pdf(tmp_path / "set" / "pdfs" / "a.pdf", [filler("pumps"), filler("valves")])
    (tmp_path / "set" / "queries.jsonl").write_text('{"query_id": "1", "text": "valves"}\n')
    (tmp_path / "set" / "qrels.txt").write_text("1 0 a.pdf#page=2 1\n")
    done = folioscope("evaluate", tmp_path / "set", "-i", tmp_path / "e.lance", "-p", "smoke", "--json")
    measured = json.loads(done.stdout.splitlines()[-1])
    assert measured["stages"]["reranked"]["nDCG@10"] == 1.0
    assert measured["questions"] == 1


def test_config_shows_settings_and_profiles() -> None:
    assert folioscope("config", "profiles").stdout.split() == [
        "cpu",
        "cpu-visual",
        "gpu-24gb",
        "gpu-80gb",
        "gpu-8gb",
        "research",
        "smoke",
    ]
    assert "text_weight: 0.4" in folioscope("config", "show").stdout


def test_doctor_names_what_is_installed() -> None:
    report = folioscope("doctor").stdout
    assert "ok       encoder words folio-2" in report
    assert "ok       reranker text (folio-2)" in report
    assert "ok       search.device auto: no GPU for vectors" in report


def test_the_error_for_a_missing_gpu_says_what_to_change(index: Path, tmp_path: Path) -> None:
    profile = tmp_path / "gpu.yaml"
    profile.write_text("encoder: {kind: hashing}\nsearch: {device: cuda}\n")
    message = folioscope("search", "pumps", "--index", index, "--profile", profile, code=3).stderr
    assert "search.device is cuda, and torch" in message
    assert "set search.device: cpu" in message


def started(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ui.cli", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_ctrl_c_stops_an_ingest_with_exit_code_130_and_says_how_it_continues(
    tmp_path: Path, as_json: bool
) -> None:
    message = "stopped; the documents that are done are in the index, and the same command continues with the others"
    for n in range(12):
        make_pdf(tmp_path / "in" / f"d{n:02d}.pdf", [filler(f"topic{n}x{page}") for page in range(20)])
    index = tmp_path / "i.lance"
    arguments = ("ingest", tmp_path / "in", "--index", index, "--profile", "smoke")
    with started(*arguments, *(["--json"] if as_json else [])) as process:
        until = time.monotonic() + 60
        while not ((status := current_status(str(index))) and status.files):
            assert time.monotonic() < until, "the ingest did not start within a minute"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    if as_json:
        assert json.loads(out.splitlines()[-1]) == {"error": {"code": "Stopped", "message": message}}
        assert err == ""
    else:
        assert err.splitlines() == [message]
    assert "12 files, " in folioscope(*arguments).stdout
    assert json.loads(folioscope("index", "info", "-i", index, "--json").stdout)["pages"] == 240


def test_ctrl_c_ends_a_server_with_exit_code_0(index: Path) -> None:
    with started("serve", "--index", index, "--profile", "smoke", "--port", "0") as process:
        assert process.stdout
        address = process.stdout.readline()
        assert address.startswith("Folioscope is at http://127.0.0.1:")
        url, until = address.split()[3], time.monotonic() + 120
        while True:
            with suppress(OSError), urlopen(f"{url}/health") as answer:
                if answer.status == 200:
                    break
            assert time.monotonic() < until, "the server did not answer within two minutes"
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    assert err.splitlines() == ["Starting the server ...", "Folioscope has stopped"]
