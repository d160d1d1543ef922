"""Folioscope from Python: `open_index`, as the README shows it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import configs.settings as configs
from retrieval.errors import IndexMissing
from retrieval.types import Filter
from tests.pdfs import filler, make_pdf
from ui import open_index

ROOT = Path(__file__).parents[2]


def test_the_example_of_the_readme_searches_and_shows_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S
    )
    monkeypatch.chdir(tmp_path)
    make_pdf(tmp_path / "report.pdf", ["minutes of the meeting", "net revenue by segment in 2023"])
    for event in open_index("folioscope.lance", create=True, rerank=False).ingest([tmp_path / "report.pdf"]):
        assert event.event != "failed", event.message
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split()[:2] == ["1", "report.pdf#page=2"]
    with Image.open(tmp_path / "page.png") as page:
        pixels = np.asarray(page.convert("RGB")).astype(int)
    assert np.ptp(pixels, axis=2).max() > 60  # the page is black and white but for its lights


def test_an_index_is_created_filled_and_searched(tmp_path: Path) -> None:
    make_pdf(tmp_path / "in" / "pumps.pdf", [filler("pumps"), filler("valves")])
    with pytest.raises(IndexMissing):
        open_index(tmp_path / "new.lance", "smoke")
    index = open_index(tmp_path / "new.lance", "smoke", create=True)
    events = list(index.ingest([tmp_path / "in"], collection="plant", tags=["wet"]))
    assert events[-1].event == "finished"
    (document,) = index.documents()
    assert (document.name, document.collection, document.tags) == ("pumps.pdf", "plant", ("wet",))
    (best,) = index.search("valves", 1).hits
    assert best.page.name == "pumps.pdf#page=2"
    assert index.search("valves", where=Filter(tags=("dry",))).hits == ()
    plain, highlighted = index.page_image(best), index.page_image(best.page, "valves")
    assert plain.size == highlighted.size
    assert plain.tobytes() != highlighted.tobytes()
    assert index.settings == configs.load_profile("smoke")


def test_importing_ui_loads_no_model_database_or_web_framework() -> None:
    script = (
        "import sys; from ui import open_index\n"
        "heavy = {'lancedb', 'numpy', 'pydantic', 'PIL', 'onnxruntime', 'fastapi', 'gradio', 'torch'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
