"""A tiny ColQwen3.5 on a CPU while `fla` can be imported, which transformers then calls whatever the device is."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import fla
from tests.vision import tiny

# A package that fails like flash-linear-attention where there is no GPU.
WITHOUT_A_GPU = """
def chunk_gated_delta_rule(q, k, v, **kwargs):
    raise RuntimeError("0 active drivers ([]). There should only be one.")

fused_recurrent_gated_delta_rule = chunk_gated_delta_rule
"""
SCRIPT = """
import torch
from benchmarks.gpu import fla
from tests.vision import tiny

torch.manual_seed(0)
model, processor = tiny.colqwen3_5()
batch = processor.process_images([tiny.page()])

def vectors():
    with torch.inference_mode():
        return model.eval()(**batch)

def fails():
    try:
        vectors()
    except RuntimeError as error:
        return "active drivers" in str(error)
    return False

assert fails()
with fla.switched(model, True):
    assert fails()
with fla.switched(model, False):
    off = vectors()
    with fla.switched(model, False):
        assert torch.equal(vectors(), off)
assert fails()
print("shape", *off.shape, bool(off.isfinite().all()))
"""


@pytest.mark.slow
def test_a_model_runs_on_a_cpu_with_the_kernels_switched_off(tmp_path: Path) -> None:
    ops = tmp_path / "fla" / "ops"
    ops.mkdir(parents=True)
    (ops.parent / "__init__.py").touch()
    (ops / "__init__.py").touch()
    (ops / "gated_delta_rule.py").write_text(WITHOUT_A_GPU)
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=240,
        env={"PYTHONPATH": f"{tmp_path}:{root}", "PATH": "", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    _, _, vectors, dim, finite = run.stdout.splitlines()[-1].split()
    assert int(vectors) > 64
    assert (dim, finite) == ("128", "True")


def test_only_models_with_linear_attention_can_be_switched() -> None:
    linear, _ = tiny.colqwen3_5()
    plain, _ = tiny.colqwen2()
    assert fla.uses_linear_attention(linear)
    assert not fla.uses_linear_attention(plain)
    with pytest.raises(ValueError, match="has no linear attention"), fla.switched(plain, False):
        pass


def test_kernels_that_transformers_did_not_bind_cannot_be_switched_on() -> None:
    model, _ = tiny.colqwen3_5()
    with fla.switched(model, False):
        pass  # this is how it runs already
    with pytest.raises(RuntimeError, match="without fla: install fla-core"), fla.switched(model, True):
        pass
