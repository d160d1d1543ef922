"""Gathers, as wheels, the Python packages that a bare GPU machine lacks, and checks that they are complete and fit.

    python -m benchmarks.gpu_wheels --out build/gpu-wheels

Versions and hashes are those of requirements/gpu.txt; requirements/gpu-run.txt adds fla-core, the part of
flash-linear-attention that transformers calls. The wheels are for Python 3.12 on Linux, x86-64. What they need beside
each other must be in `MACHINE`. The script fails if that is not so, if two versions of a package are in the folder, or
if the wheels and the files of the repository together exceed the limit of what is copied to the machine.
docs/gpu-run.md says how to use them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.parser import BytesParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
PINNED = (ROOT / "requirements" / "gpu.txt", ROOT / "requirements" / "gpu-run.txt")
WHEELS = ("transformers", "colpali-engine", "fla-core", "late-interaction-kernels", "snowballstemmer")
MACHINE = {  # what the machine must have; its versions where they matter, otherwise an empty string
    "torch": "2.11.0", "torchvision": "0.26.0", "triton": "3.6.0", "numpy": "2.5.2", "tokenizers": "0.23.2",
    "huggingface-hub": "1.33.0", "safetensors": "0.8.0", "accelerate": "1.15.0", "einops": "", "httpx": "",
    "jinja2": "", "numba": "", "onnxruntime": "", "packaging": "", "peft": "", "pillow": "", "prometheus-client": "",
    "psutil": "", "pyarrow": "", "pyyaml": "", "regex": "", "requests": "", "rich": "", "scipy": "",
    "sentence-transformers": "", "threadpoolctl": "", "tqdm": "", "typer": "", "typing-extensions": "",
}  # fmt: skip
TARGET = {
    "extra": "", "implementation_name": "cpython", "os_name": "posix", "platform_machine": "x86_64",
    "platform_python_implementation": "CPython", "platform_system": "Linux", "python_full_version": "3.12.3",
    "python_version": "3.12", "sys_platform": "linux",
}  # fmt: skip
GLIBC = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LIMIT = 64  # MiB


def pinned(names: Iterable[str], files: Iterable[Path]) -> list[str]:
    """Returns the lines of these packages in requirements files, each as "name==version --hash=... --hash=...".

    Markers are left out: pip would compare them with the machine that gathers, not with the one that installs.
    Raises ValueError if a package has no line with a hash.
    """
    lines: dict[str, str] = {}
    for file in files:
        for line in file.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            words = line.split()
            hashes = [word for word in words if word.startswith("--hash=")]
            if hashes and "==" in words[0]:
                lines[canonicalize_name(words[0].split("==")[0])] = " ".join([words[0], *hashes])
    if absent := [name for name in names if name not in lines]:
        raise ValueError(f"no version with a hash in {', '.join(map(str, files))}: {', '.join(absent)}")
    return [lines[name] for name in names]


def download(lines: Sequence[str], out: Path, python: str) -> None:
    """Download wheels into `out`, checking their hashes. python: an interpreter that has pip."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text("\n".join(lines) + "\n", encoding="utf-8")
        platforms = [word for name in GLIBC for word in ("--platform", name)]
        command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--require-hashes", "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp",
                   *platforms, "--dest", str(out), "--requirement", str(requirements)]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit(f"pip could not download the wheels:\n{run.stderr.strip()}")


def python_with_pip() -> str:
    """Returns an interpreter that has pip: this one, that of `make`'s tools, or the system's."""
    for python in (sys.executable, str(ROOT / ".tools" / "bin" / "python"), "python3"):
        try:
            subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    raise SystemExit("no Python with pip was found: give one with --python")


def versions(folder: Path) -> dict[str, str]:
    """Returns the packages in the folder and their versions; exits if there are two versions of one."""
    found: dict[str, str] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        if name in found:
            raise SystemExit(
                f"{folder} has two wheels of {name}, {found[name]} and {version}: delete the one that is not wanted"
            )
        found[name] = str(version)
    return found


def lacking(folder: Path, machine: Mapping[str, str]) -> list[str]:
    """Returns what the wheels in the folder require and neither the folder nor the machine has, one line each."""
    there = {**machine, **versions(folder)}
    lines = []
    for wheel in sorted(folder.glob("*.whl")):
        for requirement in _requirements(wheel):
            name = canonicalize_name(requirement.name)
            if name not in there:
                lines.append(f"{wheel.name} requires {requirement}")
            elif there[name] and not requirement.specifier.contains(there[name], prereleases=True):
                lines.append(f"{wheel.name} requires {requirement}, but {there[name]} is there")
    return lines


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as content:
        name = next(name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = BytesParser().parsebytes(content.read(name))
    every = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return [each for each in every if not each.marker or each.marker.evaluate(TARGET)]


def tree_size(root: Path, without: Path) -> int:
    """Returns the bytes of the files in `root` that git does not ignore, except those in the folder `without`."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    files = [root / name for name in listed.split("\0") if name]
    return sum(
        file.lstat().st_size
        for file in files
        if os.path.lexists(file) and not file.absolute().is_relative_to(without.absolute())
    )


def report(folder: Path, tree: int, limit: int) -> str:
    """Returns the table of sizes; exits if the wheels and the tree exceed the limit. tree and limit: bytes."""
    sizes = {wheel.name: wheel.stat().st_size for wheel in sorted(folder.glob("*.whl"))}
    rows = {**sizes, "the repository's files": tree, "together": tree + sum(sizes.values())}
    width = max(map(len, rows))
    table = "\n".join(f"{name:{width}} {size / 2**20:7.2f} MiB" for name, size in rows.items())
    if rows["together"] > limit:
        raise SystemExit(
            f"{table}\n{rows['together'] / 2**20:.2f} MiB are more than the limit of {limit / 2**20:.2f} MiB:"
            " carry fewer wheels or fewer files, or give the machine's own limit with --limit-mb"
        )
    return table


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, default=Path("build/gpu-wheels"), help="folder of the wheels")
    made.add_argument("--limit-mb", type=float, default=LIMIT, help="MiB that may be copied, default 64")
    made.add_argument("--python", help="an interpreter that has pip; looked for by default")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    download(pinned(WHEELS, PINNED), options.out, options.python or python_with_pip())
    versions(options.out)
    if lines := lacking(options.out, MACHINE):
        raise SystemExit("the wheels are not complete:\n" + "\n".join(lines))
    print(report(options.out, tree_size(ROOT, options.out), int(options.limit_mb * 2**20)))


if __name__ == "__main__":
    main()
