"""The latency of the web page: first load, Enter to results, page turns, and twenty readers while an ingest runs.

Uses a real server over the samples and a real Chromium. Times in the browser are measured by the page's own clock, from
the key to the change on screen. The twenty readers are programs that request a stream of both orders from REST.

    python -m benchmarks.ui --work FOLDER
"""

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pymupdf
from playwright.sync_api import Page, sync_playwright

import configs.settings as configs
from ingest.pipeline import ingest
from retrieval.evaluation import evaluate
from tests.ui.browser import CHROMIUM, FLAGS, Server, served, tab
from ui import factory

RESULTS = Path(__file__).parent / "results"
SAMPLES = Path(__file__).parents[1] / "samples"
READERS = 20
QUESTIONS_EACH = 5
FLIPS = 12

ASK = """async (question) => {
  const results = document.querySelector('[data-testid=results]');
  const box = document.querySelector('#question');
  const times = {};
  const seen = (done) => {
    if (results.dataset.query !== question) return;
    const cards = results.querySelector('.card');
    if (cards && !times.first) requestAnimationFrame(() => { times.first ??= performance.now() - began; });
    if (results.dataset.state !== 'ready') return;
    requestAnimationFrame(() => { times.ready = performance.now() - began; done(); });
  };
  box.value = question;
  const began = performance.now();
  await new Promise((done) => {
    new MutationObserver(() => seen(done)).observe(results, { attributes: true, childList: true, subtree: true });
    box.form.requestSubmit();
  });
  return times;
}"""
FLIP = """async (page) => {
  const viewer = document.querySelector('[data-testid=viewer]');
  const began = performance.now();
  const arrived = () => viewer.dataset.page === String(page) && viewer.dataset.state === 'ready';
  const done = new Promise((done) => new MutationObserver(() => arrived() && requestAnimationFrame(done))
    .observe(viewer, { attributes: true }));
  const box = viewer.querySelector('[data-part=number]');
  box.value = page;
  box.dispatchEvent(new Event('change', { bubbles: true }));
  await done;
  return performance.now() - began;
}"""


def first_load(page: Page) -> dict[str, float]:
    """Returns requests, transferred KB and seconds until a question can be asked, with an empty browser cache."""
    finished: list[Any] = []
    page.on("requestfinished", lambda request: finished.append(request))
    began = time.perf_counter()
    page.goto("/")
    page.wait_for_selector("[data-testid=stock][data-state=ready]")
    seconds = time.perf_counter() - began
    page.wait_for_timeout(1500)
    sizes = [request.sizes() for request in finished]
    wire = sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes)
    return {"requests": len(finished), "KB": round(wire / 1000), "seconds until usable": round(seconds, 2)}


def searches(page: Page, questions: Sequence[str]) -> dict[str, list[float]]:
    """Returns the milliseconds from Enter to the first and to the reranked results of each question."""
    times: dict[str, list[float]] = {"Enter to first results": [], "Enter to reranked results": []}
    for question in questions:
        taken = page.evaluate(ASK, question)
        times["Enter to first results"].append(taken["first"])
        times["Enter to reranked results"].append(taken["ready"])
        page.wait_for_timeout(150)
    return times


def flips(page: Page, doc_id: str) -> dict[str, list[float]]:
    """Returns the milliseconds of page turns: to pages not shown before, and to the next page, which is prefetched."""
    times: dict[str, list[float]] = {"page turn, any page": [], "page turn, the next page": []}
    page.goto(f"/?q=revenue&doc={doc_id}&p=1")
    page.wait_for_selector("[data-testid=viewer][data-state=ready]")
    for number in range(2, 2 + FLIPS):
        page.wait_for_timeout(700)
        times["page turn, the next page"].append(page.evaluate(FLIP, number))
    page.goto(f"/?q=net&doc={doc_id}&p=1")
    page.wait_for_selector("[data-testid=viewer][data-state=ready]")
    for number in range(2 + FLIPS, 2, -3):
        times["page turn, any page"].append(page.evaluate(FLIP, number))
    return times


async def readers(url: str, questions: Sequence[str], salt: str) -> dict[str, Any]:
    """Simulates READERS simultaneous readers, each with QUESTIONS_EACH new questions, one after another."""
    first: list[float] = []
    last: list[float] = []
    errors: list[str] = []

    async def reader(number: int, client: httpx.AsyncClient) -> None:
        for n in range(QUESTIONS_EACH):
            question = f"{questions[(number * QUESTIONS_EACH + n) % len(questions)]} {salt}"
            began = time.perf_counter()
            stream = client.stream(
                "GET", "/api/v1/search", params={"q": question}, headers={"Accept": "application/x-ndjson"}
            )
            try:
                async with stream as answer:
                    if answer.status_code != 200:
                        errors.append(f"{answer.status_code} {(await answer.aread())[:200]!r}")
                        continue
                    lines = 0
                    async for line in answer.aiter_lines():
                        lines += bool(line)
                        if lines == 1:
                            first.append(time.perf_counter() - began)
                    last.append(time.perf_counter() - began)
            except httpx.HTTPError as error:
                errors.append(repr(error))

    async with httpx.AsyncClient(base_url=url, timeout=120) as client:
        began = time.perf_counter()
        await asyncio.gather(*(reader(number, client) for number in range(READERS)))
        seconds = time.perf_counter() - began
    return {
        "searches": len(last),
        "errors": errors,
        "searches a second": round(len(last) / seconds, 2),
        "first results, s": quantiles(first, 1),
        "reranked results, s": quantiles(last, 1),
    }


def quantiles(values: Sequence[float], scale: float = 1) -> dict[str, float]:
    """Returns the median and the 95th percentile, multiplied by `scale`."""
    return {f"p{q}": round(float(np.percentile(values, q)) * scale, 3) for q in (50, 95)}


def more_documents(folder: Path, count: int) -> list[Path]:
    """Creates `count` copies of the samples, each with an additional first page that makes it a new document."""
    folder.mkdir(exist_ok=True)
    originals = sorted((SAMPLES / "pdfs").glob("*.pdf"))
    made = []
    for n in range(count):
        path = folder / f"more-{n}.pdf"
        if not path.exists():
            with pymupdf.open(originals[n % len(originals)]) as pdf:
                pdf.new_page(0).insert_text((72, 72), f"Copy {n}")
                pdf.save(path)
        made.append(path)
    return made


def crowd(server: Server, questions: Sequence[str], documents: Sequence[Path]) -> dict[str, Any]:
    """Measures the readers without other load, and again while the server ingests `documents`."""
    alone = asyncio.run(readers(server.url, questions, "?"))
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for path in documents:
            client.put(f"/api/v1/upload/{path.name}", content=path.read_bytes()).raise_for_status()
        meanwhile = asyncio.run(readers(server.url, questions, "??"))
        jobs = client.get("/api/v1/jobs").json()
        meanwhile["pages a second of the ingest"] = jobs["pages_per_second"]
        meanwhile["files still to be read at the end"] = jobs["counts"].get("queued", 0) + jobs["counts"].get(
            "reading", 0
        )
        client.post("/api/v1/jobs/cancel").raise_for_status()
    return {f"{READERS} readers": alone, f"{READERS} readers, an ingest running": meanwhile}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="A folder for the index and the files to upload."
    )
    parser.add_argument("--profile", default="cpu")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    index = options.work / "ui.lance"
    settings = configs.load_profile(options.profile)
    store, encoder = factory.create_store(str(index), settings)
    for _ in ingest([SAMPLES / "pdfs"], store, encoder, settings.ingest):
        pass
    longest = max(store.documents(), key=lambda document: document.pages)
    questions = [question.text for question in evaluate.read_dataset(SAMPLES).questions]
    documents = more_documents(options.work / "more", 60)
    with served(index, "--profile", options.profile) as server:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            with tab(browser, server.url) as opened:
                load = first_load(opened.page)
                times = searches(opened.page, questions[:30]) | flips(opened.page, longest.doc_id)
            browser.close()
        many = crowd(server, questions, documents)
        assert server.process
        memory = psutil.Process(server.process.pid).memory_info().rss
    written = {
        "pages": sum(document.pages for document in store.documents()),
        "cores": psutil.cpu_count(),
        "first load": load,
        "ms": {name: {**quantiles(values), "n": len(values)} for name, values in times.items()},
        **many,
        "server's memory at the end, MB": round(memory / 1e6),
    }
    print(json.dumps(written, indent=1))
    (RESULTS / "ui.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
