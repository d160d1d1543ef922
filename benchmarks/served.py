"""How fast searches are through the server and the command line, for several checkouts side by side in one run.

Each checkout builds its own index of N pages by its own `benchmarks.search_speed` (from the same seed), starts its own
server, and answers the same questions; the checkouts take turns, round by round, so that a noisy machine disturbs all
of them alike. Read the ratios, not the milliseconds. No answer comes from the cache of recent results, because
each question is asked with a budget that has not been used before.

    python -m benchmarks.served --checkout ../before --checkout . --work FOLDER

A checkout is a folder with the code and its `.venv`; the first one is the baseline of the ratios.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np

RESULTS = Path(__file__).parent / "results"
SAMPLES = Path(__file__).parents[1] / "samples"
BUDGET_MS = 60_000
"""Never reached: both sides rerank all the pages that they would rerank without a budget."""
CLIENTS = (1, 8)

_budgets = count(BUDGET_MS)


def python_of(checkout: Path) -> str:
    return str(checkout / ".venv" / "bin" / "python")


def build_index(checkout: Path, work: Path, pages: int) -> Path:
    """Returns the index of `pages` pages; builds it unless it is there already."""
    index = work / f"grown-{pages}.lance"
    if not index.exists():
        work.mkdir(parents=True, exist_ok=True)
        command = [
            python_of(checkout),
            "-m",
            "benchmarks.search_speed",
            "--pages",
            str(pages),
            "--work",
            str(work),
        ]
        subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    return index


@contextmanager
def served(checkout: Path, index: Path) -> Iterator[str]:
    """Yields the address of a server that has loaded its models; ends the server afterwards."""
    command = [python_of(checkout), "-m", "ui.cli", "serve", "--index", str(index), "--port", "0"]
    process = subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = next(word for word in process.stdout.readline().split() if word.startswith("http://"))
        while httpx.get(f"{address}/ready").status_code != 200:
            time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def ask(client: httpx.Client, question: str) -> float:
    """Returns the milliseconds until the reranked answer has arrived."""
    began = time.perf_counter()
    answer = client.get("/api/v1/search", params={"q": question, "budget_ms": next(_budgets)})
    answer.raise_for_status()
    assert answer.json()["hits"]
    return 1000 * (time.perf_counter() - began)


def round_of(address: str, questions: Sequence[str], clients: int) -> list[float]:
    """Returns the milliseconds of each question; `clients` ask at the same time, each one question after the other."""
    with httpx.Client(base_url=address, timeout=120) as client, ThreadPoolExecutor(clients) as pool:
        return list(pool.map(lambda question: ask(client, question), questions))


def first_search(checkout: Path, index: Path, question: str) -> float:
    """Returns the milliseconds of a whole `folioscope search` process."""
    command = [python_of(checkout), "-m", "ui.cli", "search", question, "--index", str(index), "--json"]
    began = time.perf_counter()
    subprocess.run(command, cwd=checkout, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return 1000 * (time.perf_counter() - began)


def in_turn(sides: Sequence[Callable[[], list[float]]], rounds: int) -> list[list[float]]:
    """Returns each side's milliseconds after `rounds` rounds; every other round begins with the last side."""
    times: list[list[float]] = [[] for _ in sides]
    for turn in range(rounds):
        order = list(enumerate(sides))
        for at, side in order if turn % 2 == 0 else reversed(order):
            times[at] += side()
    return times


def summary(times: Sequence[Sequence[float]]) -> dict[str, Any]:
    """p50 and p95 of each checkout in milliseconds, and each one's ratio to the first checkout's (below 1: faster)."""
    table: dict[str, Any] = {}
    for name, percent in (("p50", 50), ("p95", 95)):
        values = [float(np.percentile(t, percent)) for t in times]
        table[name] = {
            "ms": [round(value, 1) for value in values],
            "ratio": [round(value / values[0], 3) for value in values],
        }
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkout", type=Path, action="append", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--questions", type=int, default=24, help="asked in each round")
    options = parser.parse_args(arguments)
    checkouts = [path.resolve() for path in options.checkout]
    lines = (SAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["text"] for line in lines][: options.questions]
    works = [options.work.resolve() / f"{at}-{checkout.name}" for at, checkout in enumerate(checkouts)]
    written: dict[str, Any] = {"checkouts": [c.name for c in checkouts], "pages": options.pages}
    indexes = [build_index(c, work, options.pages) for c, work in zip(checkouts, works, strict=True)]
    with ExitStack() as servers:
        addresses = [
            servers.enter_context(served(c, index)) for c, index in zip(checkouts, indexes, strict=True)
        ]
        for address in addresses:
            round_of(address, questions, 1)  # compiles and loads what the first searches need
        for clients in CLIENTS:
            sides = [lambda a=a, n=clients: round_of(a, questions, n) for a in addresses]
            written[f"{clients} clients"] = summary(in_turn(sides, options.rounds))
            print(json.dumps({f"{clients} clients": written[f"{clients} clients"]}), flush=True)
    samples = [work / "samples.lance" for work in works]
    sides = [
        lambda c=c, i=i: [first_search(c, i, questions[0])] for c, i in zip(checkouts, samples, strict=True)
    ]
    written["a search by the command line, over the samples"] = summary(in_turn(sides, 2 * options.rounds))
    sides = [
        lambda c=c, i=i: [first_search(c, i, questions[0])] for c, i in zip(checkouts, indexes, strict=True)
    ]
    written["a search by the command line"] = summary(in_turn(sides, options.rounds))
    print(json.dumps(written, indent=1))
    (RESULTS / "served.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
