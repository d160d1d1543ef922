"""Measures everything on a GPU in one call of a few minutes, the most valuable rows first.

    python -m benchmarks.gpu_run --budget-s 420 --out FOLDER       on a machine with a GPU
    python -m benchmarks.gpu_run --tiny --device cpu --out FOLDER  small models, to see that every row runs

FOLDER/gpu.json is written after every number, so that a run that is cut short is still a result; FOLDER/gpu.log has
what went wrong in full. A row begins only if the budget holds its expected time. A row that fails is written as failed,
and the run goes on. `--resume` takes the results of an earlier run, and measures the rows that are not in it.

docs/gpu-run.md says what the machine needs and what must be carried there.
"""

import argparse
import json
import logging
import os
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import (
    compiled,
    encoders,
    fla,
    ingest,
    measure,
    models,
    pages,
    rerankers,
    resident,
    training,
)
from benchmarks.gpu.measure import Bench
from configs.cores import available_cores
from retrieval.models import checkpoints

PACKAGES = (
    "torch",
    "transformers",
    "colpali-engine",
    "late-interaction-kernels",
    "fla-core",
    "triton",
)


COMPILE_S = 90
"""The most seconds that rows wait for kernels which are compiled meanwhile."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the results: `seconds` is its expected time on an H100, the building of the model included."""

    part: str
    name: str
    seconds: float
    measure: Callable[[Bench, dict[str, Any]], None]
    """Takes the bench and the machine's facts."""


def plan(tiny: bool) -> list[Row]:
    """Returns all rows, the most valuable first."""
    by_name = {spec.name: spec for spec in (*models.ENCODERS, *models.RERANKERS)}

    def model(part: str, name: str, seconds: float) -> Row:
        of_part = {"encoders": encoders, "rerankers": rerankers, "ingest": ingest, "training": training}[part]
        return Row(part, name, seconds, lambda bench, _: of_part.measure(by_name[name], bench))

    def scan(size: str, seconds: float) -> Row:
        if tiny:
            size = "120x8x16"
        return Row(
            "resident",
            size,
            seconds,
            lambda bench, facts: resident.measure(size, bench, facts["copy GB/s"]["device"]),
        )

    rows = [
        # While kernels are compiled in other processes, which disturbs what needs exact times.
        model("training", "Qwen3-VL-Reranker-2B", 12),
        model("training", "ColQwen3.5-4.5B", 45),
        model("encoders", "ColQwen3.5-4.5B", 40),
        model("rerankers", "Qwen3-VL-Reranker-2B", 20),
        scan("100000x256x128", 4),
        model("encoders", "ColPali-3B", 20),
        model("encoders", "ColQwen3.5-0.8B", 22),
        model("rerankers", "Jina-M0", 24),
        model("ingest", "ColQwen3.5-0.8B", 22),
        model("rerankers", "Qwen3-VL-Reranker-8B", 30),
        model("ingest", "ColQwen3.5-4.5B", 30),
        scan("1000000x256x128", 14),
        model("encoders", "ColQwen3.5-8B", 50),
        scan("10000x768x320", 4),
        model("encoders", "ColQwen2-2B", 25),
        model("encoders", "NeoMME-260M", 13),
    ]
    names = [(row.part, row.name) for row in rows]
    return [row for k, row in enumerate(rows) if (row.part, row.name) not in names[:k]]


class Results:
    """What was measured so far, and the file that holds it."""

    def __init__(self, path: Path, earlier: dict[str, Any]) -> None:
        self._path = path
        self.rows: dict[str, dict[str, Any]] = {part: dict(rows) for part, rows in earlier.items()}
        self.rows = {"machine": {}, **self.rows}

    def put(self, part: str, name: str, value: Any) -> None:
        """Sets one row, and replaces the file."""
        self.rows.setdefault(part, {})[name] = value
        text = json.dumps({part: rows for part, rows in self.rows.items() if rows}, indent=1)
        draft = self._path.with_suffix(".part")
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(self._path)

    def put_machine(self, facts: dict[str, Any]) -> None:
        """Sets the machine of this run; rows name their own device, because an earlier run may have had another."""
        self.rows["machine"] = facts

    def drop(self, part: str, name: str) -> None:
        """Removes a row, for instance that it was left out, which no longer holds."""
        self.rows.get(part, {}).pop(name, None)

    def has(self, row: Row) -> bool:
        """Whether the row was measured to its end."""
        return "seconds" in self.rows.get(row.part, {}).get(row.name, {})


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    began = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=options.out / "gpu.log", level=logging.INFO, force=True)
    earlier = json.loads(options.resume.read_text(encoding="utf-8")) if options.resume else {}
    if "not run" in earlier:
        earlier = {}
    results = Results(options.out / "gpu.json", earlier)
    placement = checkpoints.choose_placement(
        options.device, options.dtype or ("float32" if options.device == "cpu" else "bfloat16"), options.attn
    )
    facts = machine(Bench(placement, options.tiny), options.tiny)
    compiling = {} if options.tiny or options.compiled or options.device == "cpu" else compiled.start()
    results.put_machine(facts)
    pages.draw_all(options.tiny)
    print(json.dumps(facts), flush=True)
    bench = Bench(placement, options.tiny, matrix_rate=facts["matrix TFLOP/s"] * 1e12)

    def left() -> float:
        return float(options.budget_s - (time.monotonic() - began))

    for row in plan(options.tiny):
        if compiling and row.part != "training":
            waited = time.monotonic()
            facts["kernels compiled ahead"] = compiled.wait(compiling, COMPILE_S)
            print(
                f"kernels: {facts['kernels compiled ahead']}, {time.monotonic() - waited:.0f} s waited",
                flush=True,
            )
            compiling = {}
        if options.only and not {row.name, row.part, f"{row.part}/{row.name}"} & set(options.only):
            continue
        if results.has(row) and not options.only:
            continue
        run_row(row, bench, facts, results, left)
    print(f"done after {time.monotonic() - began:.0f} s: {options.out / 'gpu.json'}", flush=True)


def run_row(
    row: Row, bench: Bench, facts: dict[str, Any], results: Results, left: Callable[[], float]
) -> None:
    """Measures a row if the time is enough, and writes it as it grows; writes why if not."""
    label = f"{row.part}/{row.name}"
    results.drop("left out", label)
    results.drop("failed", label)
    expected = 0 if bench.tiny else row.seconds
    if left() < expected:
        results.put(
            "left out", label, f"{left():.0f} s were left, and it was expected to take {expected:.0f} s"
        )
        print(f"{label}: left out, {left():.0f} s left", flush=True)
        return
    began = time.monotonic()
    own = replace(bench, row={}, write=lambda numbers: results.put(row.part, row.name, numbers))
    try:
        row.measure(own, facts)
    except Exception as error:  # what fails is a result too, and must not cost the rows after it
        logging.exception("%s failed", label)
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno})"
        results.put("failed", label, message)
        print(f"{label}: failed after {time.monotonic() - began:.0f} s: {message}", flush=True)
    else:
        own.put(seconds=round(time.monotonic() - began, 1), device=facts["device"])
        print(f"{label}: {json.dumps(own.row)}", flush=True)
    bench.free()


def machine(bench: Bench, tiny: bool) -> dict[str, Any]:
    """Returns what the numbers were measured on, and the rates of this machine that bound them."""
    rate = measure.matrix_rate(bench)
    return {
        "device": torch.cuda.get_device_name(bench.placement.device) if bench.on_gpu else "processor",
        "where": str(bench.placement),
        "cores": available_cores(),
        "date": datetime.now(UTC).date().isoformat(),
        "tiny": tiny,
        "linear attention": "flash-linear-attention" if fla.available() else "torch",
        "flash attention": "none" if bench.placement.attention == "sdpa" else bench.placement.attention,
        "packages": {name: _version(name) for name in PACKAGES},
        "matrix TFLOP/s": round(rate / 1e12, 3),
        "copy GB/s": measure.copy_rates(bench),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.log")
    made.add_argument("--budget-s", type=float, default=420, help="seconds after which no row begins")
    made.add_argument("--resume", type=Path, help="gpu.json of an earlier run, whose rows are kept")
    made.add_argument(
        "--only", nargs="+", help="parts, names or PART/NAME to measure, even if they were before"
    )
    made.add_argument(
        "--compiled", action="store_true", help="kernels are in Triton's cache: compile none ahead"
    )
    made.add_argument("--device", default="cuda")
    made.add_argument("--dtype", help="bfloat16 unless given; float32 on a processor")
    made.add_argument("--attn", default="auto")
    made.add_argument("--tiny", action="store_true", help="small models and counts: the numbers mean nothing")
    return made


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
