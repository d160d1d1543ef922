"""Every package comes from this checkout, imports stay light, and the models that ship stay small."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["configs", "ingest", "rerankers", "retrieval", "ui"])
def test_packages_come_from_this_checkout(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).parent == ROOT / name


def test_help_imports_little_more_than_typer_itself() -> None:
    ours = "import sys; sys.argv = ['folioscope', '--help']\nfrom ui.cli.app import main as app"
    bare = (
        "import sys; sys.argv = ['bare', '--help']\nimport typer\napp = typer.Typer()\n"
        "app.command('a')(lambda: None)\napp.command('b')(lambda: None)"
    )
    modules = {}
    for script in (ours, bare):
        counted = f"{script}\ntry: app()\nexcept SystemExit: pass\nprint('MODULES', *sys.modules)"
        run = subprocess.run(
            [sys.executable, "-c", counted], capture_output=True, text=True, check=True, cwd=ROOT
        )
        *shown, last = run.stdout.splitlines()
        modules[script] = set(last.split()[1:])
        assert "Commands" in "".join(shown)
    # The test counts modules, since a clock would also measure what else the machine is doing.
    more = {name for name in modules[ours] - modules[bare] if not name.startswith(("ui", "configs"))}
    assert len(more) < 20, sorted(more)


def test_encoders_and_rerankers_run_without_the_store_or_the_web_page() -> None:
    script = (
        "import sys, configs.settings as c, retrieval.encoders as e, rerankers as r\n"
        "e.load_encoder(c.Words()), r.load_reranker(c.Text())\n"
        "assert not {'lancedb', 'gradio', 'pymupdf'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


def test_the_models_that_ship_stay_under_their_limits_of_size() -> None:
    def size(folder: str) -> int:
        return sum(file.stat().st_size for file in (ROOT / "models" / folder).rglob("*") if file.is_file())

    assert size("folio-2") < 40 * 10**6  # encoder and cross-encoder
    assert size("ocr-1") < 10 * 10**6
