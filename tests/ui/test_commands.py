"""Every command has quick help, an example, and strict JSON."""

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.pdfs import filler, make_pdf
from ui.api.json_text import json_text
from ui.cli import app

ROOT = Path(__file__).parents[2]
HEAVY = ["gradio", "lancedb", "numpy", "onnxruntime", "pandas", "pyarrow", "pydantic", "pymupdf", "torch"]


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that is not a group, with the words of its name."""
    group = group or typer.main.get_command(app.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_json_an_example_and_help_in_whole_sentences(path: tuple[str, ...]) -> None:
    command = ALL[path]
    assert "--json" in {name for parameter in command.params for name in parameter.opts}
    assert command.epilog.startswith(f"Example: folioscope {' '.join(path)}")
    assert command.help.endswith(".")
    for parameter in command.params:
        assert parameter.help.endswith("."), parameter.name
    texts = " ".join([command.help, *(parameter.help for parameter in command.params)])
    assert not re.search(r"recall lists|\btold\b|\bshall\b|\bspending\b", texts)


def check_imports(heavy: list[str], *calls: list[str]) -> None:
    """Run each call in one fresh process, and check which of `heavy` it imported."""
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from ui.cli.app import app\n"
        f"for call in {list(calls)!r}:\n"
        "    result = CliRunner().invoke(app, call)\n"
        "    assert result.exit_code == (0 if '--help' in call else 2), (call, result.output)\n"
        f"    found = set({heavy!r}) & set(sys.modules)\n"
        "    assert not found, (call, found)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_help_of_every_command_and_group_imports_nothing_heavy() -> None:
    groups = {path[:-1] for path in ALL}
    check_imports(HEAVY, *([*path, "--help"] for path in [*sorted(groups), *ALL]))


def test_wrong_arguments_are_rejected_before_anything_heavy_is_imported() -> None:
    unknown = [[*path, "--no-such-option"] for path in ALL]
    missing = [[*path] for path, command in ALL.items() if any(p.required for p in command.params)]
    assert ["search"] in missing
    assert ["docs", "remove"] in missing
    check_imports(
        HEAVY,
        *unknown,
        *missing,
        ["no-such-command"],
        ["docs", "no-such-command"],
        ["search", "two", "words"],
    )


def seconds_to_first_line(*command: str) -> float:
    """Seconds from the start of a process to the first line on its standard error."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().strip()
        seconds = time.perf_counter() - began
        process.kill()
    return seconds


@pytest.mark.parametrize("call", [["search", "tides"], ["serve", "--port", "0"]], ids=["search", "serve"])
def test_search_and_serve_announce_their_work_at_once(call: list[str], tmp_path: Path) -> None:
    bare = ["-c", "import typer, sys; print('typer', file=sys.stderr)"]
    ours = ["-m", "ui.cli", *call, "--index", str(tmp_path / "none.lance"), "--json"]
    pairs = [(seconds_to_first_line(*ours), seconds_to_first_line(*bare)) for _ in range(5)]
    quickest, bare_quickest = (min(seconds) for seconds in zip(*pairs, strict=True))
    # Loading alone takes ten times as long as Typer's import, on a machine of any speed.
    assert quickest < 2.5 * bare_quickest, pairs


MEASURE = re.compile(r"(nDCG|RR|R)@\d+")  # as ir_measures writes them


def check_keys(value: Any) -> None:
    """Check that all keys are in snake_case, apart from the names of measures."""
    if isinstance(value, list):
        for each in value:
            check_keys(each)
    elif isinstance(value, dict):
        for key, each in value.items():
            assert re.fullmatch(r"[a-z][a-z0-9_]*", key) or MEASURE.fullmatch(key), key
            check_keys(each)


Run = Callable[..., tuple[int, list[Any], str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call `folioscope ... --json`. Returns the exit code, the objects on stdout, parsed strictly, and stderr."""

    def reject(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    def call(*arguments: object) -> tuple[int, list[Any], str]:
        monkeypatch.setattr(sys, "argv", ["folioscope", *map(str, arguments), "--json"])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        printed = capsys.readouterr()
        rows = [json.loads(line, parse_constant=reject) for line in printed.out.splitlines()]
        for row in rows:
            check_keys(row)
        return int(ended.value.code or 0), rows, printed.err

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "x", "--top", "many"], "--top"),
        (["search", "x", "--top", "0"], "--top"),
        (["search", "x", "--min-confidence", "1.5"], "--min-confidence"),
        (["search", "x", "--since", "2024-13"], "'2024-13' is not a date"),
        (["search", "x", "--until", "soon"], "'soon' is not a date"),
        (["serve", "--port", "many"], "--port"),
    ],
)
def test_a_wrong_value_is_rejected_before_loading_is_announced(
    run: Run, arguments: list[str], message: str
) -> None:
    code, (answer,), printed = run(*arguments)
    assert code == 2
    assert message in answer["error"]["message"]
    assert printed == ""


def test_json_has_no_infinity_and_no_nan() -> None:
    text = json_text({"gate": float("inf"), "low": [-float("inf"), float("nan"), 0.5], "n": 3, 4: None})
    assert text == '{"gate": null, "low": [null, null, 0.5], "n": 3, "4": null}'


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pages, and a question for each."""
    folder = tmp_path_factory.mktemp("commands") / "set"
    words = [f"harbour{n:02d}" for n in range(12)]
    make_pdf(folder / "pdfs" / "a.pdf", [filler(word) for word in words])
    rows = [{"query_id": f"q{n}", "text": word, "document": "a.pdf"} for n, word in enumerate(words)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 a.pdf#page={n + 1} 1\n" for n in range(12)))
    return folder


def test_every_command_prints_strict_json_and_nothing_else(run: Run, dataset: Path, tmp_path: Path) -> None:
    place, smoke = ("-i", tmp_path / "i.lance"), ("-p", "smoke")
    code, rows, _ = run("ingest", dataset / "pdfs", *place, *smoke)
    assert (code, rows[-1]["event"], rows[-1]["pages_done"]) == (0, "finished", 12)
    code, (result,), printed = run("search", "harbour07", *place, *smoke)
    assert (code, result["hits"][0]["page_name"]) == (0, "a.pdf#page=8")
    assert printed.startswith("Loading the index and the models ...\n")

    def one(*arguments: object) -> Any:
        code, (answer,), _ = run(*arguments)
        assert code == 0
        return answer

    assert one("docs", "list", *place)["pages"] == 12
    assert one("docs", "tag", "a.pdf", "sea", *place)["tags"] == ["sea"]
    assert one("docs", "ledger", *place)["outcome"] == "done"
    assert one("index", "info", *place)["documents"] == 1
    assert one("index", "build", *place)["inverted_index_pages"] == 12
    assert one("index", "refresh", *place)["refreshed"] is False
    assert one("index", "stats", *place)["inverted_index_pages"] == 12
    assert one("index", "verify", *place, *smoke, "--questions", 3)["problems"] == []
    assert one("index", "drop", *place)["dropped"] is True
    assert one("index", "optimize", *place)["optimized"] is True
    assert one("index", "reembed", tmp_path / "new.lance", *place, *smoke)["name"] == "a.pdf"
    assert one("docs", "remove", "a.pdf", *place)["removed"][0]["name"] == "a.pdf"
    assert one("config", "show", *smoke)["encoder"]["kind"] == "hashing"
    assert "smoke" in one("config", "profiles")["profiles"]
    assert one("models", "list", "smoke") == {"profile": "smoke", "models": []}
    assert one("models", "pull", "smoke") == {"profile": "smoke", "models": []}
    checked = one("doctor", *smoke)
    assert checked["ok"] is True
    assert {check["state"] for check in checked["checks"]} <= {"ok", "optional", ""}
    code, (error,), _ = run("user", "anna", "--users", tmp_path / "users.txt", "--remove")
    assert (code, error["error"]["code"]) == (2, "NotFound")


def test_measurements_with_infinite_values_are_strict_json(run: Run, dataset: Path, tmp_path: Path) -> None:
    index = ("-i", tmp_path / "e.lance")
    code, (measured,), printed = run("evaluate", dataset, *index, "-p", "smoke")
    assert (code, measured["questions"]) == (0, 12)
    assert "12 pages embedded" in printed  # progress goes to standard error
    code, (tuned,), _ = run("tune", dataset, *index, "-p", "smoke")
    assert code == 0
    assert tuned["before"]["policy"]["gate"] is None  # without a gate it is infinite
    code, (answer,), _ = run("calibrate", dataset, *index, "-p", "smoke")
    assert (code, answer["error"]["code"]) == (2, "FolioscopeError")
    assert "too few to calibrate" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code", "message"),
    [
        (
            ["search", "x", "-i", "nowhere.lance", "-p", "smoke"],
            2,
            "IndexMissing",
            "there is no index yet: make one with 'folioscope ingest FOLDER --index nowhere.lance",
        ),
        (["search", "x", "-p", "nonsense"], 2, "ProfileError", "choose one of cpu"),
        (["search"], 2, "WrongUse", "Missing argument 'query'."),
        (["search", "x", "--top", "many"], 2, "WrongUse", "--top"),
        (["docs", "tag", "a.pdf", "a,b"], 2, "BadLabel", "has a comma"),
        (["no-such-command"], 2, "WrongUse", "No such command"),
        (["ingest", "nowhere.pdf", "-p", "smoke"], 2, "BadSource", "no such file or folder"),
    ],
)
def test_an_error_is_json_with_the_same_exit_code(
    run: Run, arguments: list[str], exit_code: int, code: str, message: str
) -> None:
    ended, (answer,), _ = run(*arguments)
    assert (ended, answer["error"]["code"]) == (exit_code, code)
    assert message in answer["error"]["message"]


def test_serve_prints_its_address_as_a_line_of_json(tmp_path: Path) -> None:
    command = [
        "-m",
        "ui.cli",
        "serve",
        "--port",
        "0",
        "-p",
        "smoke",
        "--json",
        "-i",
        str(tmp_path / "i.lance"),
    ]
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = json.loads(process.stdout.readline())
        finally:
            process.terminate()
    assert list(line) == ["url"]
    assert line["url"].startswith("http://127.0.0.1:")


def test_the_command_line_leaves_the_log_as_it_was(run: Run) -> None:
    log = logging.getLogger("folioscope")
    before = (list(log.handlers), log.level, log.propagate)
    run("config", "profiles")
    run("config", "profiles")
    assert (list(log.handlers), log.level, log.propagate) == before


def test_a_logged_line_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    with app.log_on_terminal():
        logging.getLogger("folioscope").warning("request %s failed: %s", "a" * 60, "b" * 60)
    assert capsys.readouterr().err == f"request {'a' * 60} failed: {'b' * 60}\n"
