"""The quantized line recogniser against the published one, on pages that are typeset here."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from ingest.ocr.rapid import RapidOcr, session
from ingest.train import recogniser

TEXT = [
    "The pump station at Harrow Quay delivered 1,284.5 cubic metres in March, less than its permit of 1,310.",
    "Ausnahmen gelten nur für Anlagen, die vor dem 30. Juni geprüft wurden; alle übrigen sind stillzulegen.",
    "Le chiffre d'affaires a progressé de 7,3 % grâce aux services, malgré la baisse des ventes à l'étranger.",
    "Retention applies to every invoice above 25,000 except those which the engineer has certified in full.",
]


def page(seed: int) -> Image.Image:
    """Return a page of TEXT, typeset and degraded as for the calibration."""
    rng = random.Random(seed)
    return recogniser.degrade(recogniser.typeset(TEXT, rng), rng)


def read(engine: RapidOcr, image: Image.Image) -> list[str]:
    return [word.text for word in engine.read(image).words]


@pytest.fixture(scope="module")
def published() -> RapidOcr:
    return RapidOcr(session(recogniser.PUBLISHED))


def test_the_shipped_recogniser_reads_what_the_published_one_reads(published: RapidOcr) -> None:
    shipped = RapidOcr()
    same, total = 0, 0
    for seed in (11, 12, 13):
        expected, words = read(published, page(seed)), read(shipped, page(seed))
        total += len(expected)
        same += sum(word in words for word in expected)
    assert total > 100
    assert same / total >= 0.97


def test_fusing_gelu_changes_no_result(tmp_path: Path) -> None:
    model = onnx.load(str(recogniser.PUBLISHED))
    before = sum(node.op_type == "Erf" for node in model.graph.node)
    assert recogniser.fuse_gelu(model) == before > 0
    assert not any(node.op_type == "Erf" for node in model.graph.node)
    onnx.save(model, str(tmp_path / "fused.onnx"))
    strip = np.random.default_rng(0).uniform(-1, 1, (1, 3, 48, 160)).astype(np.float32)
    before_run, after_run = (
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": strip})[0]
        for path in (recogniser.PUBLISHED, tmp_path / "fused.onnx")
    )
    np.testing.assert_allclose(after_run, before_run, atol=1e-4)


def test_a_newly_quantized_recogniser_reads_a_page_and_has_less_than_a_third_of_the_size(
    tmp_path: Path,
) -> None:
    recording = recogniser.RecordingRecogniser()
    RapidOcr(recording).read(page(1))
    out = tmp_path / "recogniser.onnx"
    changed = recogniser.quantize(recogniser.PUBLISHED, recording.lines[:12], out)
    assert changed == {"gelus": 13, "convolutions": 43, "products": 9}
    assert out.stat().st_size < recogniser.PUBLISHED.stat().st_size / 3
    read_words = read(RapidOcr(session(out)), page(12))
    assert {"Ausnahmen", "except", "permit"} & set(read_words)
