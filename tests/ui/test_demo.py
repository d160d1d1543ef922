"""The demo as `make demo` runs it, on all samples with the models that ship."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def demo(folder: Path) -> str:
    command = [sys.executable, "-m", "ui.cli", "demo", "--folder", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=280).stdout


@pytest.mark.slow
def test_the_demo_answers_ten_questions_and_a_second_run_ingests_nothing(tmp_path: Path) -> None:
    first = demo(tmp_path)
    assert "12 files, 100 pages embedded" in first
    assert first.count("reranked the first") == 10
    assert "folioscope serve --index" in first
    report = (tmp_path / "report.html").read_text()
    assert report.count("<section>") == 11
    assert report.count("data:image/webp;base64,") == 50
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", report)
    saved = sorted((tmp_path / "pages").glob("*.png"))
    assert len(saved) == 30
    with Image.open(saved[0]) as image:
        assert min(image.size) > 800
    measured = {
        m[0]: float(m[1])
        for m in re.findall(r"^(text|vectors|first stage|reranked) +[\d.]+ +([\d.]+)", first, re.M)
    }
    assert measured["reranked"] > measured["first stage"] > max(measured["text"], measured["vectors"])
    assert measured["reranked"] > 85

    began = time.monotonic()
    second = demo(tmp_path)
    assert "12 files, 0 pages embedded" in second
    assert time.monotonic() - began < 120
