"""Gathering wheels for a GPU machine, on folders of made-up wheels: nothing is downloaded."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu_wheels

ROOT = Path(__file__).parents[2]


def wheel(folder: Path, name: str, version: str, *requires: str, size: int = 0) -> Path:
    """Makes a wheel that requires these packages and holds a file of this many bytes."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {each}" for each in requires]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as content:
        content.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n")
        content.writestr(f"{name}/data.bin", b"0" * size)
    return path


def test_every_package_is_pinned_with_a_hash_and_without_the_marker_of_the_gathering_machine() -> None:
    lines = gpu_wheels.pinned(gpu_wheels.WHEELS, gpu_wheels.PINNED)
    assert len(lines) == len(gpu_wheels.WHEELS)
    for name, line in zip(gpu_wheels.WHEELS, lines, strict=True):
        assert re.fullmatch(rf"{name}==[\d.]+( --hash=sha256:[0-9a-f]{{64}})+", line)


def test_a_package_without_a_pinned_version_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "pins.txt"
    file.write_text("a-package==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:00\nother==2.0\n")
    assert gpu_wheels.pinned(["a-package"], [file]) == ["a-package==1.0 --hash=sha256:00"]
    with pytest.raises(ValueError, match=r"no version with a hash in .*pins\.txt: other"):
        gpu_wheels.pinned(["a-package", "other"], [file])


def test_two_versions_of_a_package_are_an_error(tmp_path: Path) -> None:
    wheel(tmp_path, "some_package", "1.0")
    assert gpu_wheels.versions(tmp_path) == {"some-package": "1.0"}
    wheel(tmp_path, "some_package", "1.1")
    with pytest.raises(SystemExit, match=r"two wheels of some-package, 1\.0 and 1\.1"):
        gpu_wheels.versions(tmp_path)


def test_what_neither_the_wheels_nor_the_machine_have_is_reported(tmp_path: Path) -> None:
    wheel(
        tmp_path, "a", "1.0", "b>=2", "there>=3", "old>=3", 'win; sys_platform == "win32"', 'x; extra == "y"'
    )
    wheel(tmp_path, "b", "2.0", "absent")
    assert gpu_wheels.lacking(tmp_path, {"there": "", "old": "2.9"}) == [
        "a-1.0-py3-none-any.whl requires old>=3, but 2.9 is there",
        "b-2.0-py3-none-any.whl requires absent",
    ]


def test_wheels_and_files_together_may_not_exceed_the_limit(tmp_path: Path) -> None:
    path = wheel(tmp_path, "a", "1.0", size=3 * 2**20)
    fits = 2**20 + path.stat().st_size
    table = gpu_wheels.report(tmp_path, tree=2**20, limit=fits)
    assert [line.split()[-2:] for line in table.splitlines()] == [
        ["3.00", "MiB"],
        ["1.00", "MiB"],
        ["4.00", "MiB"],
    ]
    with pytest.raises(SystemExit, match=r"4\.00 MiB are more than the limit of 3\.50 MiB: carry fewer"):
        gpu_wheels.report(tmp_path, tree=2**20, limit=int(3.5 * 2**20))


def test_the_tree_is_what_git_does_not_ignore_without_the_wheels(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("ignored\n")  # 8 bytes
    (tmp_path / "ignored").write_bytes(b"0" * 1000)
    (tmp_path / "untracked").write_bytes(b"0" * 10)
    wheel(tmp_path / "wheels", "a", "1.0", size=100)
    assert gpu_wheels.tree_size(tmp_path, tmp_path / "wheels") == 18


@pytest.mark.slow
@pytest.mark.parametrize("module", ["benchmarks.gpu_run", "benchmarks.gpu_train.fit"])
def test_it_imports_without_the_dependencies_that_the_machine_lacks(module: str) -> None:
    """Of Folioscope's dependencies, those that are neither on the machine nor carried cannot be imported here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=;]", line)[0].strip() for line in project["dependencies"]]
    absent = sorted(set(names) - set(gpu_wheels.MACHINE) - set(gpu_wheels.WHEELS))
    assert {"lancedb", "pydantic", "pymupdf"} <= set(absent)
    script = (
        "import sys\n"
        f"for name in {[name.replace('-', '_') for name in absent]!r}: sys.modules[name] = None\n"
        f"import {module}"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
