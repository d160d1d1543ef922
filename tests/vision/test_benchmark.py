"""The benchmark for GPUs, run on small models, and its arithmetic on the shapes of the large ones."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu

PUBLISHED = {  # millions of parameters; Qwen3-VL-8B includes its separate head, M0 has none
    "ColQwen3.5-0.8B": 853, "ColQwen3.5-4.5B": 4_539, "ColQwen2-2B": 2_209, "ColPali-3B": 2_924,
    "Qwen3-VL-Reranker-2B": 2_127, "Qwen3-VL-Reranker-8B": 8_767, "Jina-M0": 2_211,
}  # fmt: skip


@pytest.mark.parametrize("model", [*gpu.ENCODERS, *gpu.RERANKERS], ids=lambda model: model.name)
def test_the_full_sizes_are_those_published(model: gpu.Model) -> None:
    (cls, config), _ = model.make(False)
    with torch.device("meta"):
        made = cls(config)
    assert sum(p.numel() for p in made.parameters()) / 1e6 == pytest.approx(PUBLISHED[model.name], rel=0.005)


def test_it_runs_and_every_row_has_our_result_and_the_librarys(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    gpu.main([
        "--tiny", "--device", "cpu", "--dtype", "float32", "--pages", "3", "--candidates", "2", "--times", "1",
        "--only", "ColQwen2-2B", "Qwen3-VL-Reranker-2B", "Jina-M0", "--out", str(out),
    ])  # fmt: skip
    results = json.loads(out.read_text())
    assert results["encoders"]["ColQwen2-2B"]["library, pages/s"] > 0
    assert set(results["rerankers"]) == {"Qwen3-VL-Reranker-2B", "Jina-M0"}
    for row in results["rerankers"].values():
        assert row["features known, s"] > 0
        assert 0 < row["floor, s"] < row["cold, s"]


def test_the_operations_of_a_pair_are_those_computed_by_hand() -> None:
    """Qwen3-VL-2B at 768 image tokens takes 5.9 TFLOP per pair."""
    spec = gpu.RERANKERS[0]
    (cls, config), _ = spec.make(False)
    with torch.device("meta"):
        made = cls(config)
    assert gpu.flops(made, 4 * 768, 768 + 110, causal=True) / 1e12 == pytest.approx(5.9, rel=0.05)
