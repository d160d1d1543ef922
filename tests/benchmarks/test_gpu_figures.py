"""The figures of the GPU benchmark in the documentation, from made-up results."""

import json
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import gpu_figures

ROOT = Path(__file__).parents[2]
ENCODER = {
    "tokens a page": 760, "ours, pages/s": 31.0, "library, pages/s": 9.1, "times the library": 3.41,
    "floor, pages/s": 91, "GPU, pages/s": {"4": 30.1, "16": 36.2, "32": 35.0},
    "GPU, pages/s without fla": {"4": 21.0}, "question, ms": 38.0, "share of the floor": 0.398,
    "decode, core-ms a page": 30.0, "prepare, core-ms a page": 71.2, "peak GB": {"4": 12.0, "32": 14.2},
    "cosine to float32": {"mean": 0.9991, "least": 0.99}, "seconds": 40.0, "device": "Card A",
}  # fmt: skip
RERANKER = {
    "candidates": 20, "cold, s": 0.4123, "features cached, s": 0.2, "library, s": 1.2, "times the library": 3.0,
    "floor, s": 0.16, "share of the floor": 0.4, "GPU, pairs/s": {"4": 50.0, "8": 60.0}, "peak GB": {"8": 6.1},
    "seconds": 20.0, "device": "Card A",
}  # fmt: skip
FULL: dict[str, Any] = {
    "machine": {"device": "Card A", "date": "2026-11-27", "cores": 16, "tiny": False, "matrix TFLOP/s": 790.1,
                "packages": {"torch": "2.11.0", "transformers": "5.23.0", "fla-core": None}},
    "encoders": {"ColQwen3.5-4.5B": ENCODER},
    "rerankers": {"Qwen3-VL-Reranker-2B": RERANKER, "Jina-M0": RERANKER | {"prefixes cached, s": 0.1, "device": "B"}},
    "resident": {"100000x256x128": {"GB": 6.55, "ours": {"p50 ms": 3.1, "p95 ms": 4.2, "recall@100": 1.0},
                                    "torch, float16": {"p50 ms": 9.0}, "floor, ms": 2.2}},
    "ingest": {"ColQwen3.5-4.5B": {"pages": 400, "pages/s": 25.0, "GPU busy": 0.81}},
    "left out": {"encoders/ColPali-3B": "3 s were left, and it was expected to take 20 s"},
}  # fmt: skip


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_readme_has_a_line_for_each_gpu_profile() -> None:
    text = gpu_figures.profiles(FULL)
    assert "Measured on one Card A on 2026-11-27 (16 cores, torch 2.11.0, transformers 5.23.0)." in text
    assert line(text, "| `gpu-24gb`") == "| `gpu-24gb` | 31 | 3.41 × | 40% | 0.412 / 0.2 | 3 × | 40% |"
    assert (
        line(text, "| `gpu-8gb`") == "| `gpu-8gb` | not run | not run | not run | 0.412 / 0.2 | 3 × | 40% |"
    )


def test_all_numbers_of_a_model_are_in_its_table() -> None:
    text = gpu_figures.models(FULL)
    assert line(text, "| ColQwen3.5-4.5B | 760") == (
        "| ColQwen3.5-4.5B | 760 | 31 | 9.1 | 3.41 × | 36.2 (16) | 21 (4) | 91 | 40% | 38 | 101 | 14.2 |"
        " 0.9991 / 0.99 |"
    )
    assert line(text, "| Qwen3-VL-Reranker-2B") == (
        "| Qwen3-VL-Reranker-2B | 20 | 0.412 | 0.2 | - | 1.2 | 3 × | 60 (8) | not run | 0.16 | 40% | 6.1 | not run |"
    )
    assert line(text, "| Jina-M0").startswith("| Jina-M0 (B) | 20 | 0.412 | 0.2 | 0.1 |")  # another card
    assert "| ColQwen3.5-4.5B | 400 | 25 | 81% |" in text
    assert "- Left out: `encoders/ColPali-3B`: 3 s were left" in text


def test_a_row_that_was_cut_shows_what_it_has() -> None:
    text = gpu_figures.models(
        {"encoders": {"ColPali-3B": {"tokens a page": 1031, "GPU, pages/s": {"4": 60.0}}}}
    )
    cells = line(text, "| ColPali-3B").split(" | ")
    assert cells[1:6] == ["1031", "not run", "not run", "not run", "60 (4)"]


def test_the_scan_has_a_line_for_each_size() -> None:
    text = gpu_figures.resident(FULL)
    assert (
        line(text, "| 100000x256x128")
        == "| 100000x256x128 | 6.55 | 3.1 / 4.2 | 1 | 9 / not run | not run | 2.2 |"
    )
    assert line(text, "| 1000000x256x128").count("not run") == 6


def test_a_profile_says_how_fast_it_is_and_on_what() -> None:
    assert gpu_figures.speed("gpu-24gb", FULL) == (
        "# Measured speed: 31 pages/s; 20 candidates in 0.412 s (0.2 s cached); Card A, 2026-11-27."
    )
    assert gpu_figures.speed("research", FULL) == (
        "# Measured speed: 20 candidates in 0.412 s (0.2 s cached); B, 2026-11-27."
    )
    assert gpu_figures.speed("gpu-80gb", FULL).startswith("# Measured speed: not run (")


def test_without_a_run_every_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text('{"not run": "no GPU"}')
    results = gpu_figures.read(path)
    for text in (gpu_figures.profiles(results), gpu_figures.models(results), gpu_figures.resident(results)):
        assert text.startswith("**Not run on a GPU yet")
        assert "|" not in text


TRAINED: dict[str, Any] = {
    "device": "Card A", "seconds": 276.1,
    "baselines": {
        "BM25": {"ranking": {"all": {"nDCG@10": 79.49, "questions": 910}}},
        "MiniLM, untrained": {"ranking": {"all": {"nDCG@10": 70.1}}, "contrast right": {"all": 39.0}},
    },
    "reader": {"pairs/s": 6854.2, "held": {
        "ranking": {"all": {"nDCG@10": 86.07}, "reports": {"nDCG@10": 92.3}},
        "contrast right": {"all": 80.1}, "unanswerable AUC": 98.0}},
}  # fmt: skip


def test_trained_models_stand_beside_the_baselines() -> None:
    text = gpu_figures.trained({"trained": TRAINED})
    assert line(text, "| BM25") == "| BM25 | 79.5 | not run | not run | not run | - | - | - | - | - |"
    assert (
        line(text, "| reader")
        == "| reader, trained | 86.1 | 92.3 | not run | not run | 80.1 | 98 | - | 6854 | - |"
    )
    assert "910 questions" in text
    assert gpu_figures.trained({}) == "**Not run yet.**"


def test_results_of_small_models_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"machine": {"tiny": True}}))
    with pytest.raises(ValueError, match="--tiny, whose numbers mean nothing"):
        gpu_figures.read(path)


def test_only_the_regions_change() -> None:
    made = gpu_figures.rewritten(ROOT, FULL | {"trained": TRAINED})
    again = gpu_figures.rewritten(ROOT, {})
    assert len(made) == 8
    for path, text in made.items():
        assert text != again[path] or path.stem == "gpu-80gb"  # which has no row in these results
        assert _outside(text) == _outside(path.read_text())


def _outside(text: str) -> str:
    kept = re.sub(r"(?s)<!-- gpu figures: \w+ -->.*?<!-- end of gpu figures -->", "", text)
    return re.sub(r"(?m)^# Measured speed:.*$", "", kept)


def test_the_documentation_shows_the_results_of_the_repository() -> None:
    gpu_figures.main(["--check"])


def test_the_check_names_the_files_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps(FULL | {"machine": {"device": "A card that nobody has"}}))
    with pytest.raises(SystemExit, match=r"not the figures of .*gpu\.json: README\.md, docs/models\.md"):
        gpu_figures.main(["--check", "--results", str(path)])


def commands(page: str) -> list[str]:
    """Returns the lines of the page that run a module of the benchmarks."""
    return re.findall(r"^ {4}python3? -m (benchmarks\..*)$", (ROOT / page).read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", commands("docs/gpu-run.md"))
def test_every_command_of_the_page_is_accepted_by_its_module(command: str) -> None:
    module, *arguments = shlex.split(command)
    if module == "benchmarks.gpu_train":
        module += ".__main__"
    import_module(module).parser().parse_args(arguments)


def test_the_page_of_the_gpu_run_has_all_its_commands() -> None:
    modules = {command.split()[0] for command in commands("docs/gpu-run.md")}
    assert modules == {f"benchmarks.gpu_{name}" for name in ("wheels", "run", "figures", "train")}
