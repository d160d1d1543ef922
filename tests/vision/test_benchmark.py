"""The measurements on a GPU, run on small models, and their arithmetic on the shapes of the large ones."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_run
from benchmarks.gpu import ingest, models
from benchmarks.gpu.measure import Bench
from retrieval.models import checkpoints

PUBLISHED = {  # millions of parameters; Qwen3-VL-8B includes its separate head, M0 has none
    "ColQwen3.5-0.8B": 853, "ColQwen3.5-4.5B": 4_539, "ColQwen3.5-8B": 8_400, "ColQwen2-2B": 2_209,
    "ColPali-3B": 2_924, "NeoMME-260M": 263,
    "Qwen3-VL-Reranker-2B": 2_127, "Qwen3-VL-Reranker-8B": 8_767, "Jina-M0": 2_211,
}  # fmt: skip


@pytest.mark.parametrize("model", [*models.ENCODERS, *models.RERANKERS], ids=lambda model: model.name)
def test_the_full_sizes_are_those_published(model: models.Model) -> None:
    (cls, config), _ = model.make(False)
    with torch.device("meta"):
        made = cls(config)
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(PUBLISHED[model.name], rel=0.005)


def run(out: Path, *arguments: str) -> dict[str, Any]:
    gpu_run.main(["--tiny", "--device", "cpu", "--out", str(out), *arguments])
    results: dict[str, Any] = json.loads((out / "gpu.json").read_text())
    return results


def test_every_kind_of_row_runs_and_has_both_sides(tmp_path: Path) -> None:
    results = run(
        tmp_path, "--only", "encoders/ColQwen3.5-0.8B", "encoders/NeoMME-260M", "rerankers/Jina-M0",
        "rerankers/Qwen3-VL-Reranker-2B", "resident", "ingest/ColQwen3.5-0.8B", "training/Qwen3-VL-Reranker-2B",
    )  # fmt: skip
    assert "failed" not in results, results["failed"]
    assert results["machine"]["tiny"] is True
    for row in results["encoders"].values():
        assert row["library, pages/s"] > 0
        assert row["cosine to float32"]["least"] > 0.999  # the small models run in float32
    assert set(results["rerankers"]) == {"Jina-M0", "Qwen3-VL-Reranker-2B"}
    assert results["rerankers"]["Jina-M0"]["prefixes cached, s"] > 0
    (scan,) = results["resident"].values()
    assert scan["ours"]["recall@100"] == 1
    assert scan["torch, float16"]["recall@100"] > 0.9
    assert 100 <= scan["pages scored again"] < 150
    assert results["ingest"]["ColQwen3.5-0.8B"]["pages"] == 4
    assert results["training"]["Qwen3-VL-Reranker-2B"]["trained tensors that moved"] > 0.4


def test_a_row_that_fails_is_written_and_costs_no_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_spec: models.Model, bench: Bench) -> None:
        bench.put(pages=1)
        raise ValueError("no such page")

    monkeypatch.setattr(ingest, "measure", broken)
    results = run(tmp_path, "--only", "ingest/ColQwen3.5-0.8B", "rerankers/Jina-M0")
    assert results["failed"]["ingest/ColQwen3.5-0.8B"].startswith(
        "ValueError: no such page (test_benchmark.py:"
    )
    assert results["ingest"]["ColQwen3.5-0.8B"] == {"pages": 1}
    assert "seconds" in results["rerankers"]["Jina-M0"]
    assert "no such page" in (tmp_path / "gpu.log").read_text()


def test_a_resumed_run_measures_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = tmp_path / "earlier.json"
    done = {row.name: {"seconds": 1, "row": row.name} for row in gpu_run.plan(True) if row.part == "encoders"}
    missing = done.pop("NeoMME-260M")
    others = {part: {row.name: {"seconds": 1} for row in gpu_run.plan(True) if row.part == part}
              for part in ("rerankers", "resident", "ingest", "training")}  # fmt: skip
    left_out = {"left out": {"encoders/NeoMME-260M": "1 s was left, and it was expected to take 20 s"}}
    earlier.write_text(json.dumps({"encoders": done, **others, **left_out}))
    results = run(tmp_path / "new", "--resume", str(earlier))
    assert results["encoders"]["ColPali-3B"] == {"seconds": 1, "row": "ColPali-3B"}
    assert results["encoders"]["NeoMME-260M"].keys() > missing.keys() - {"row"}
    assert "left out" not in results


def test_without_time_rows_are_left_out(tmp_path: Path) -> None:
    placement = checkpoints.choose_placement("cpu", "float32", "sdpa")
    results = gpu_run.Results(tmp_path / "gpu.json", {})
    row = gpu_run.Row("encoders", "large", 40, lambda *_: pytest.fail("it was begun"))
    gpu_run.run_row(row, Bench(placement), {}, results, lambda: 39.0)
    assert results.rows["left out"] == {"encoders/large": "39 s were left, and it was expected to take 40 s"}


def test_the_operations_of_a_pair_are_those_computed_by_hand() -> None:
    """Qwen3-VL-2B at 768 image tokens takes 5.9 TFLOP per pair."""
    spec = models.RERANKERS[0]
    (cls, config), _ = spec.make(False)
    with torch.device("meta"):
        made = cls(config)
    assert models.flops(made, 4 * 768, 768 + 110, causal=True) / 1e12 == pytest.approx(5.9, rel=0.05)
