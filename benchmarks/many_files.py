"""The cost of ingesting many small files: PDFs of one page with a text layer, with the `hashing` encoder.

    python -m benchmarks.many_files --files 200 1000 --checkout . --checkout ../before

Reading such a page is cheap, so most of the time is the store's: commits, and the files that they make. Each checkout
is measured in a process of its own with its own Python, alternating with the others. Only the program's command line
and `Store.optimize` are used, and the index is inspected with LanceDB alone, so older versions can be measured too.
`optimize` runs at the end of an ingest (and every 2,000 pages); files on disk are counted just before it starts.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lancedb
import pymupdf

RESULTS = Path(__file__).parent / "results" / "many_files.json"
TABLES = ("documents", "pages", "images", "ledger")
INGEST = """
import sys
from pathlib import Path
import retrieval.store.store
optimize = retrieval.store.store.Store.optimize
def counted(store):
    files = [path for path in Path(store.uri).rglob("*") if path.is_file()]
    print("before optimize", len(files), sum(path.stat().st_size for path in files), flush=True)
    optimize(store)
retrieval.store.store.Store.optimize = counted
from ui.cli.app import main
sys.argv[0] = "folioscope"
main()
"""


def make(folder: Path, count: int) -> None:
    """Write PDFs of one page, each with different words."""
    for number in range(count):
        document = pymupdf.open()
        page = document.new_page()
        for line in range(30):
            text = f"file {number} line {line} tells of ship {number * 31 + line} and its cargo"
            page.insert_text((72, 72 + 20 * line), text)
        document.save(folder / f"{number:05}.pdf")
        document.close()


def ingest(checkout: Path, folder: Path, index: Path) -> dict[str, Any]:
    """Run one ingest; return its seconds, files and MiB before the last optimize, and each table's versions."""
    arguments = ["ingest", str(folder), "--index", str(index), "--profile", "smoke", "--json"]
    command = [str(checkout / ".venv" / "bin" / "python"), "-c", INGEST, *arguments]
    began, cpu = time.perf_counter(), _cpu()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        command, cwd=checkout, capture_output=True, text=True, check=False, env=environment
    )
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(
            f"{checkout}: the ingest ended with exit code {process.returncode}\n{process.stderr}"
        )
    last = [line for line in process.stdout.splitlines() if line.startswith("before optimize")][-1].split()
    connection = lancedb.connect(str(index))
    return {
        "checkout": str(checkout),
        "files": len(list(folder.iterdir())),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(_cpu() - cpu, 1),
        "versions": {name: connection.open_table(name).version for name in TABLES},
        "documents": connection.open_table("documents").count_rows(),
        "files_on_disk": int(last[2]),
        "mib_on_disk": round(int(last[3]) / 2**20, 1),
    }


def _cpu() -> float:
    """Return the CPU seconds of the ingests so far, without their worker processes, which nobody waits for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(checkouts: Sequence[Path], counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Ingest each number of files with each checkout, `rounds` times, printing and returning the rows."""
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for count in counts:
            folder = Path(work) / f"in-{count}"
            folder.mkdir()
            make(folder, count)
            for repetition in range(rounds):
                for number, checkout in enumerate(checkouts):
                    row = ingest(checkout, folder, Path(work) / f"{count}-{repetition}-{number}.lance")
                    print(json.dumps(row), flush=True)
                    rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, nargs="+", default=[1_000])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--checkout", type=Path, action="append", help="a folder with the program and its .venv"
    )
    parser.add_argument("--save", action="store_true", help=f"write the result to {RESULTS.name}")
    options = parser.parse_args()
    checkouts = [path.resolve() for path in options.checkout or [Path.cwd()]]
    rows = measure(checkouts, options.files, options.rounds)
    if options.save:
        RESULTS.write_text(
            json.dumps([row | {"checkout": Path(row["checkout"]).name} for row in rows], indent=1)
        )


if __name__ == "__main__":
    main()
