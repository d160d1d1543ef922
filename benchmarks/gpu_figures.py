"""Writes the figures of benchmarks/results/gpu.json and gpu_train.json where documentation and profiles show them.

    python -m benchmarks.gpu_figures            rewrites what stands between the markers
    python -m benchmarks.gpu_figures --check    fails if a file does not show these figures

In Markdown a region begins with `<!-- gpu figures: NAME -->` and ends with `<!-- end of gpu figures -->`; in a profile
it is the comment line that begins with "# Measured speed:". What was not measured is shown as "not run".
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
NOT_RUN = "not run"
PROFILES = {  # the rows of its encoder and its reranker
    "gpu-8gb": ("ColQwen3.5-0.8B", "Qwen3-VL-Reranker-2B"),
    "gpu-24gb": ("ColQwen3.5-4.5B", "Qwen3-VL-Reranker-2B"),
    "gpu-80gb": ("ColQwen3.5-8B", "Qwen3-VL-Reranker-8B"),
    "research": ("ColPali-3B", "Jina-M0"),
}
ENCODERS = ("NeoMME-260M", "ColQwen3.5-0.8B", "ColQwen3.5-4.5B", "ColQwen3.5-8B", "ColQwen2-2B", "ColPali-3B")
RERANKERS = ("Qwen3-VL-Reranker-2B", "Qwen3-VL-Reranker-8B", "Jina-M0")
SIZES = ("100000x256x128", "1000000x256x128", "10000x768x320")
HOW = "`python -m benchmarks.gpu_run` ([gpu-run.md]({}gpu-run.md))"

Results = Mapping[str, Any]
Column = tuple[
    str, Callable[[Results], object]
]  # its heading, and its cell for a row; None if it was not measured


def read(path: Path) -> Results:
    """Returns the results, empty if there was no run. Raises ValueError if they are of small models."""
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if NOT_RUN in results:
        return {}
    if results.get("machine", {}).get("tiny"):
        raise ValueError(
            f"{path} is of --tiny, whose numbers mean nothing: run benchmarks.gpu_run without it"
        )
    trained = path.with_name("gpu_train.json")
    if trained.is_file():
        results["trained"] = json.loads(trained.read_text(encoding="utf-8"))
    return results


def rewritten(root: Path, results: Results) -> dict[Path, str]:
    """Returns the text with these results of every file that shows them."""
    texts = {
        root / "README.md": {"profiles": profiles(results)},
        root / "docs" / "models.md": {"models": models(results)},
        root / "docs" / "recall.md": {"resident": resident(results)},
        root / "docs" / "training.md": {"trained": trained(results)},
    }
    made = {path: _with_regions(path, regions) for path, regions in texts.items()}
    for profile in PROFILES:
        path = root / "configs" / "profiles" / f"{profile}.yaml"
        made[path] = _with_line(path, speed(profile, results))
    return made


def _with_regions(path: Path, regions: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for name, content in regions.items():
        begin, end = f"<!-- gpu figures: {name} -->\n", "<!-- end of gpu figures -->\n"
        before, found, rest = text.partition(begin)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise ValueError(f"{path} has no region {begin.strip()} ... {end.strip()}")
        text = f"{before}{begin}\n{content.strip()}\n\n{end}{after}"
    return text


def _with_line(path: Path, line: str) -> str:
    text, count = re.subn(
        r"^# Measured speed:.*$", lambda _: line, path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    if count != 1:
        raise ValueError(f"{path} has {count} lines that begin with '# Measured speed:', not one")
    return text


def profiles(results: Results) -> str:
    """Returns the README's paragraph and small table."""
    if not _measured(results):
        return _wrap(
            f"**Not run on a GPU yet.** {HOW.format('docs/')} measures our code, the libraries' own loop and the floor"
            ' side by side; `benchmarks/results/gpu.json` says "not run" until someone does.'
        )
    encoders, rerankers = results.get("encoders", {}), results.get("rerankers", {})
    lines = []
    for profile, (encoder, reranker) in PROFILES.items():
        first, second = encoders.get(encoder, {}), rerankers.get(reranker, {})
        seconds = _pair(second.get("cold, s"), second.get("features cached, s"))
        cells = [
            first.get("ours, pages/s"),
            _times(first),
            _share(first),
            seconds,
            _times(second),
            _share(second),
        ]
        lines.append([f"`{profile}`", *map(_cell, cells)])
    heads = ["profile", "encoder, pages/s", "times the library", "share of the floor",
             "20 candidates, s: cold / cached", "times the library", "share of the floor"]  # fmt: skip
    return "\n\n".join([
        _wrap(
            f"{_where(results)} The weights are random, of the published sizes. Pages a second and seconds include"
            " decoding and preparation; the libraries ran their own loop on the same machine. The share compares the"
            " model alone with the floor, its multiply-adds at the rate of a large matrix product"
            f" ({_cell(results.get('machine', {}).get('matrix TFLOP/s'))} TFLOP/s here; the last column above is"
            " arithmetic at 790). The rerankers read 768 image tokens a page (`gpu-8gb` sets 512):"
        ),
        _table(heads, lines),
        _wrap(f"{HOW.format('docs/')} prints these numbers; [docs/models.md](docs/models.md#speed) has all of them."),
    ])  # fmt: skip


def models(results: Results) -> str:
    """Returns the tables of all models."""
    if not _measured(results):
        return _wrap(
            f'**Not run on a GPU yet**: `benchmarks/results/gpu.json` says "not run". {HOW.format("")} does.'
        )
    encoders: list[Column] = [
        ("tokens a page", lambda row: row.get("tokens a page")),
        ("ours, pages/s", lambda row: row.get("ours, pages/s")),
        ("library", lambda row: row.get("library, pages/s")),
        ("times", _times),
        ("GPU alone, pages/s (batch)", lambda row: _best(row.get("GPU, pages/s"))),
        ("without fla", lambda row: _best(row.get("GPU, pages/s without fla")) or ("-" if "seconds" in row else None)),
        ("floor", lambda row: row.get("floor, pages/s")),
        ("share", _share),
        ("question, ms", lambda row: row.get("question, ms")),
        ("decode + prepare, core-ms", lambda row: _sum(row, "decode, core-ms a page", "prepare, core-ms a page")),
        ("peak GB", lambda row: _most(row.get("peak GB"))),
        ("cosine to float32: mean / least", _cosine),
    ]  # fmt: skip
    rerankers: list[Column] = [
        ("candidates", lambda row: row.get("candidates")),
        ("cold, s", lambda row: row.get("cold, s")),
        ("features cached", lambda row: row.get("features cached, s")),
        ("prefixes cached", lambda row: row.get("prefixes cached, s", "-" if "cold, s" in row else None)),
        ("library", lambda row: row.get("library, s")),
        ("times", _times),
        ("GPU alone, pairs/s (batch)", lambda row: _best(row.get("GPU, pairs/s"))),
        ("features known", lambda row: _best(row.get("GPU, pairs/s, features known"))),
        ("floor, s", lambda row: row.get("floor, s")),
        ("share", _share),
        ("peak GB", lambda row: _most(row.get("peak GB"))),
        ("cosine to float32: mean / least", _cosine),
    ]  # fmt: skip
    ingest: list[Column] = [
        ("pages", lambda row: row.get("pages")),
        ("pages/s", lambda row: row.get("pages/s")),
        ("GPU busy", lambda row: _percent(row.get("GPU busy"))),
    ]
    training: list[Column] = [
        ("s a step (1 question, 4 pages)", lambda row: row.get("s a step")),
        ("pages/s", lambda row: row.get("pages/s")),
        ("peak GB", lambda row: _most(row.get("peak GB"))),
    ]
    parts = [
        _wrap(
            f"{_where(results)} The weights are random, of the published sizes. Our times include decoding and"
            " preparing the pages; the library's are of its own example's loop on the same machine. The GPU alone has"
            " its inputs there already, and the best of several batch sizes is shown; the share compares it with the"
            " floor, the model's multiply-adds at the rate of a large matrix product"
            f" ({_cell(results.get('machine', {}).get('matrix TFLOP/s'))} TFLOP/s)."
        ),
        _rows("encoder", encoders, results, "encoders", ENCODERS),
        _rows("reranker", rerankers, results, "rerankers", RERANKERS),
    ]  # fmt: skip
    if results.get("ingest"):
        parts.append("Ingest of prepared pages, until their rows are written (no rasterizing, no OCR):")
        parts.append(_rows("encoder", ingest, results, "ingest", results["ingest"]))
    if results.get("training"):
        parts.append("A step of training, forward and backward:")
        parts.append(_rows("model", training, results, "training", results["training"]))
    for part, label in (("failed", "Failed"), ("left out", "Left out")):
        if results.get(part):
            parts.append("\n".join(f"- {label}: `{name}`: {why}" for name, why in results[part].items()))
    return "\n\n".join(parts)


def resident(results: Results) -> str:
    """Returns the table of the scan over vectors in the GPU's memory."""
    if not results.get("resident"):
        return _wrap(
            f"**Not run on a GPU yet.** {HOW.format('')} measures the scan beside padded products in torch and the time"
            ' to read the vectors once; `benchmarks/results/gpu.json` says "not run" until someone does.'
        )

    def of(side: str) -> list[Column]:
        return [
            (
                f"{side}: p50 / p95 ms",
                lambda row: _pair(row.get(side, {}).get("p50 ms"), row.get(side, {}).get("p95 ms")),
            ),
            ("recall@100", lambda row: row.get(side, {}).get("recall@100")),
        ]

    columns: list[Column] = [
        ("GB", lambda row: row.get("GB")),
        *of("ours"),
        *of("torch, float16"),
        ("floor, ms", lambda row: row.get("floor, ms")),
    ]
    names = [*SIZES, *(name for name in results["resident"] if name not in SIZES)]
    return "\n\n".join([
        _wrap(
            f"{_where(results)} {HOW.format('')} made the pages; the floor is the time to read all vectors once at the"
            " speed of a copy, and recall is against float64 over the same vectors:"
        ),
        _rows("pages x vectors x dimensions", columns, results, "resident", names),
    ])  # fmt: skip


def trained(results: Results) -> str:
    """Returns the table of the small models that `benchmarks.gpu_train` trained, on its held-out questions."""
    run = results.get("trained", {})
    if not run.get("reader"):
        return "**Not run yet.**"
    models = {
        "BM25": run["baselines"]["BM25"],
        "MiniLM, untrained": run["baselines"]["MiniLM, untrained"],
        **{
            f"{name}, trained": run[name]["held"] | run[name]
            for name in ("encoder", "reader", "teacher")
            if name in run
        },
    }

    def ranking(kind: str) -> Callable[[Results], object]:
        return lambda row: row["ranking"].get(kind, {}).get("nDCG@10")

    columns: list[Column] = [
        ("nDCG@10", ranking("all")),
        ("reports", ranking("reports")),
        ("tables", ranking("table")),
        ("paraphrases", ranking("paraphrase")),
        ("contrast pairs right, %", lambda row: row.get("contrast right", {}).get("all", "-")),
        ("AUC unanswerable, %", lambda row: row.get("unanswerable AUC", "-")),
        ("training, s", lambda row: row.get("seconds", "-")),
        ("pairs/s", lambda row: row.get("pairs/s", "-")),
        ("peak GiB", lambda row: row.get("peak GiB", "-")),
    ]
    questions = run["baselines"]["BM25"]["ranking"]["all"]["questions"]
    lines = [[name, *(_cell(cell(row)) for _, cell in columns)] for name, row in models.items()]
    return "\n\n".join([
        _wrap(
            f"One run of {run['seconds']:.0f} s on one {run['device']} on {run.get('date', 'an unknown day')},"
            f" measured on {questions} questions to documents that were not trained on: the page within its document,"
            " by its best window of those that BM25 and page order choose. Pairs are a question and a window (for the"
            " encoder: texts):"
        ),
        _table(["model", *(heading for heading, _ in columns)], lines),
    ])  # fmt: skip


def speed(profile: str, results: Results) -> str:
    """Returns the line of a profile."""
    encoder, reranker = PROFILES[profile]
    first = results.get("encoders", {}).get(encoder, {})
    second = results.get("rerankers", {}).get(reranker, {})
    figures = []
    if "ours, pages/s" in first:
        figures.append(f"{_cell(first['ours, pages/s'])} pages/s")
    if "cold, s" in second:
        cached = (
            f" ({_cell(second['features cached, s'])} s cached)" if "features cached, s" in second else ""
        )
        figures.append(f"{second.get('candidates', 20)} candidates in {_cell(second['cold, s'])} s{cached}")
    if not figures:
        return "# Measured speed: not run ('python -m benchmarks.gpu_run', docs/gpu-run.md)."
    devices = dict.fromkeys(row.get("device", _device(results)) for row in (first, second) if row)
    return f"# Measured speed: {'; '.join(figures)}; {' and '.join(devices)}, {_date(results)}."


def _measured(results: Results) -> bool:
    return bool(results.get("encoders") or results.get("rerankers"))


def _where(results: Results) -> str:
    packages = results.get("machine", {}).get("packages", {})
    with_ = [
        f"{name} {packages[name]}" for name in ("torch", "transformers", "fla-core") if packages.get(name)
    ]
    cores = results.get("machine", {}).get("cores")
    details = ", ".join(([f"{cores} cores"] if cores else []) + with_)
    return f"Measured on one {_device(results)} on {_date(results)}{f' ({details})' if details else ''}."


def _device(results: Results) -> str:
    return str(results.get("machine", {}).get("device", "GPU of an unknown kind"))


def _date(results: Results) -> str:
    return str(results.get("machine", {}).get("date", "an unknown day"))


def _rows(head: str, columns: Sequence[Column], results: Results, part: str, names: Sequence[str]) -> str:
    """Returns a table of these rows; a row that another device measured says so."""
    lines = []
    for name in names:
        row = results.get(part, {}).get(name, {})
        device = row.get("device", _device(results))
        label = name if device == _device(results) else f"{name} ({device})"
        lines.append([label, *(_cell(cell(row)) for _, cell in columns)])
    return _table([head, *(heading for heading, _ in columns)], lines)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *lines))


def _cell(value: object) -> str:
    """Returns a number with three significant digits, and anything else as it is."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return NOT_RUN if value is None else str(value)


def _times(row: Results) -> str | None:
    return f"{_cell(row['times the library'])} ×" if row.get("times the library") is not None else None


def _share(row: Results) -> str | None:
    return _percent(row.get("share of the floor"))


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.0f}%"


def _pair(first: float | None, second: float | None) -> str | None:
    return None if first is None else f"{_cell(first)} / {_cell(second)}"


def _sum(row: Results, *names: str) -> float | None:
    values = [row[name] for name in names if name in row]
    return round(sum(values), 1) if len(values) == len(names) else None


def _best(rates: Mapping[str, float] | None) -> str | None:
    if not rates:
        return None
    batch = max(rates, key=lambda size: rates[size])
    return f"{_cell(rates[batch])} ({batch})"


def _most(peaks: Mapping[str, float] | float | None) -> float | None:
    if isinstance(peaks, Mapping):
        return max(peaks.values(), default=None)
    return peaks


def _cosine(row: Results) -> str | None:
    cosine = row.get("cosine to float32")
    if isinstance(cosine, Mapping):
        return f"{cosine.get('mean', NOT_RUN)} / {cosine.get('least', NOT_RUN)}"
    return None if cosine is None else str(cosine)


def _wrap(paragraph: str, width: int = 120) -> str:
    """Returns the paragraph in lines of at most this width, as the Markdown files have them."""
    lines = [""]
    for word in re.findall(r"(?:[^\s`]|`[^`]*`)+", paragraph):  # code stays on one line
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, default=RESULTS)
    made.add_argument("--check", action="store_true", help="change nothing; fail if a file differs")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    made = rewritten(ROOT, read(options.results))
    stale = [path for path, text in made.items() if path.read_text(encoding="utf-8") != text]
    if options.check and stale:
        names = ", ".join(str(path.relative_to(ROOT)) for path in stale)
        raise SystemExit(
            f"not the figures of {options.results}: {names}. Run 'python -m benchmarks.gpu_figures'"
        )
    for path in stale:
        path.write_text(made[path], encoding="utf-8")
        print(f"rewritten: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
