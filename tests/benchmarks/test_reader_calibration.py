"""A reader's relevance gets its zero where its calibration passes one half, whatever it was shifted by before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reader_calibration import with_zero_at_half, write
from retrieval.confidence import Calibration, load_shipped
from retrieval.errors import FolioscopeError
from retrieval.models.onnx import ModelFolder, write_manifest

# Of an unshifted reader: -5 means 0.3 and -4 means 0.7, so -4.5 means one half.
STEPS = Calibration(
    "text (tiny)", "words tiny", "isotonic", (-6.0, -5.0, -4.0, -2.0), (0.0, 0.3, 0.7, 0.9),
    "made up", 30, 300, 30, 0.1, 0.2, 0.01, 0.02, {"choice": {}, "sure": {"bias": -1.5}, "passage": {}},
)  # fmt: skip
LOGISTIC = replace(STEPS, method="platt", x=(), y=(2.0, 9.0))  # 2 * -4.5 + 9 is 0


def as_shifted(calibration: Calibration, shift: float) -> Calibration:
    """Returns what would be fitted to the same reader's scores if it added `shift` to them."""
    if calibration.method == "isotonic":
        return replace(calibration, x=tuple(x + shift for x in calibration.x))
    slope, intercept = calibration.y
    return replace(calibration, y=(slope, intercept - slope * shift))


@pytest.mark.parametrize("before", [0.0, 5.04, 4.5])
@pytest.mark.parametrize("unshifted", [STEPS, LOGISTIC], ids=["steps", "logistic"])
def test_zero_means_one_half_and_all_probabilities_stay(unshifted: Calibration, before: float) -> None:
    moved, shift = with_zero_at_half(as_shifted(unshifted, before), before)
    assert shift == 4.5
    assert moved.probability(np.array([0.0])) == pytest.approx(0.5)
    raw = np.linspace(-7, 0, 15)
    assert moved.probability(raw + shift) == pytest.approx(unshifted.probability(raw))
    assert moved.answer == {"choice": {}, "sure": {"bias": -1.5}, "passage": {}}


def test_a_curve_that_stays_below_one_half_is_an_error() -> None:
    with pytest.raises(FolioscopeError, match=r"one half: the curve goes from 0\.00 to 0\.40"):
        with_zero_at_half(replace(STEPS, y=(0.0, 0.1, 0.2, 0.4)), 0.0)


def test_writing_again_changes_no_byte_and_other_facts_stay(tmp_path: Path) -> None:
    (tmp_path / "reader.onnx").write_bytes(b"weights")
    write_manifest(tmp_path, "tiny", {"reranker": "reader"})
    written = []
    for _ in range(2):
        folder = ModelFolder(str(tmp_path))
        before = folder.facts.get("relevance_shift", 0.0)
        write(folder, *with_zero_at_half(as_shifted(STEPS, before), before))
        written.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert written[0] == written[1]
    folder = ModelFolder(str(tmp_path))
    assert folder.facts == {"reranker": "reader", "relevance_shift": 4.5}
    assert folder.file("reader.onnx").read_bytes() == b"weights"
    shipped = load_shipped(tmp_path, reranker="text (tiny)", encoder="words tiny")
    assert shipped is not None
    assert shipped.x == (-1.5, -0.5, 0.5, 2.5)
