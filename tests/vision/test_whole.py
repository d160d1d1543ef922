"""From a PDF to highlighted pages with models that read page images, and the command line's output about them."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import configs.settings as configs
from retrieval.errors import EncoderMismatch
from retrieval.store.store import Store
from tests.pdfs import make_pdf
from tests.vision.conftest import Folder
from ui.cli.app import app

ROOT = Path(__file__).parents[2]


def profile(path: Path, folder: Folder, family: str = "colqwen2", kind: str = "qwen3_vl") -> str:
    tiny = {"device": "cpu", "dtype": "float32", "max_visual_tokens": 64}
    encoder = {"kind": "colvision", "family": family, "model": str(folder(family)), **tiny}
    if family == "neomme":
        encoder = {"kind": "neomme", "model": str(folder(family)), "max_side": 320, **tiny}
        del encoder["max_visual_tokens"]
    reranker = {"kind": kind, "model": str(folder(kind)), **tiny}
    path.write_text(
        yaml.safe_dump({"encoder": encoder, "reranker": reranker, "ingest": {"dpi": 50, "workers": 1}})
    )
    return str(path)


def run(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return ended.exit_code, ended.output


@pytest.mark.parametrize(("family", "kind"), [("colqwen2", "qwen3_vl"), ("neomme", "jina_m0")])
def test_pages_are_ingested_found_reranked_and_highlighted(
    family: str, kind: str, folder: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "folioscope")
    pdfs, index = tmp_path / "in", str(tmp_path / "i.lance")
    make_pdf(pdfs / "a.pdf", ["Harbour fees rose in March", "Nothing of note", "Cranes and quays"])
    make_pdf(pdfs / "b.pdf", ["Salaries and pensions", "A table of budgets"])
    chosen = profile(tmp_path / "p.yaml", folder, family, kind)
    code, _ = run("ingest", str(pdfs), "--index", index, "--profile", chosen)
    assert code == 0
    assert "float32, sdpa attention, on cpu" in caplog.text
    store = Store.open(index)
    assert store.fingerprint.kind == ("neomme" if family == "neomme" else "colvision")
    assert sum(document.pages for document in store.documents()) == 5
    code, said = run(
        "search", "harbour fees", "--index", index, "--profile", chosen, "--explain",
        "--save-pages", str(tmp_path / "lit"),
    )  # fmt: skip
    assert code == 0
    assert f"reranked the first 5 of 5 candidates by {kind}" in " ".join(said.split())
    assert "features of 0 of 5 pages were cached" in " ".join(said.split())
    assert len(list((tmp_path / "lit").iterdir())) == 5
    with pytest.raises(EncoderMismatch):
        run("search", "harbour", "--index", index, "--profile", "smoke")


def test_for_a_missing_model_doctor_prints_its_size_and_the_command_that_fetches_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Folder
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    file = tmp_path / "p.yaml"
    file.write_text("encoder: {kind: colvision, family: colpali, model: vidore/colpali-v1.3, device: cpu}")
    code, said = run("doctor", "--profile", str(file))
    told = " ".join(said.split())
    assert code == 3
    assert (
        "MISSING encoder vidore/colpali-v1.3: 5.9 GB, Gemma; to fetch it: hf download vidore/colpali-v1.3"
        in told
    )
    code, said = run("models", "list", str(file))
    assert (code, "MISSING" in said) == (0, True)
    here = profile(tmp_path / "here.yaml", folder)
    code, said = run("models", "list", here)
    assert code == 0
    assert said.count("  ok ") == 2
    code, said = run("doctor", "--profile", here)
    assert code == 0
    assert "float32, sdpa attention, on cpu" in " ".join(said.split())
    code, said = run("models", "pull", here)
    assert code == 0
    assert said.count("complete") == 2


@pytest.mark.parametrize("name", ["cpu-visual", "gpu-8gb", "gpu-24gb", "gpu-80gb", "research"])
def test_the_shipped_profiles_are_valid_and_their_models_known(name: str) -> None:
    from configs.models import KNOWN
    from ui.cli.models import needed

    rows = list(needed(configs.load_profile(name)))
    assert rows
    assert all(row.model in KNOWN for row in rows)


@pytest.mark.parametrize("library", ["torch", "transformers", "colpali_engine"])
def test_if_its_libraries_are_missing_a_profile_says_how_to_install_them(
    library: str, tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        f"sys.modules[{library!r}] = None\n"  # as if it were not installed
        "sys.argv[1:] = ['search', 'x', '--profile', 'gpu-24gb']\n"
        "from ui.cli.app import main\n"
        "main()"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 3
    assert "is not installed" in ended.stderr
    assert "make gpu" in ended.stderr
    assert "Traceback" not in ended.stderr
