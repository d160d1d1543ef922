"""`folioscope demo`: the samples in, ten questions asked in two stages, and a report that opens from disk."""

import time
from dataclasses import replace
from pathlib import Path

import configs.settings as configs
import rerankers
from ingest.pipeline import ingest
from retrieval import evaluate
from retrieval.evaluate import Dataset, Question
from retrieval.search import Searcher
from retrieval.store import Store
from retrieval.types import Highlight, SearchResult
from ui import assemble, report, show
from ui.measure import SHOWN
from ui.render import lit_page

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
PAGES = 5  # shown for each question
SAVED = 3  # of them saved as lit-up images
JUDGED = 40
"""Questions that both stages are judged on: enough for a first look in half a minute."""


def run(folder: Path, settings: configs.Settings) -> None:
    """Everything goes under `folder`: the index, `pages/*.png` and `report.html`. Run again, nothing is repeated."""
    began = time.perf_counter()
    dataset = evaluate.read(SAMPLES)
    chosen = questions(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    index = str(folder / "samples.lance")
    store, encoder = assemble.store_to_write(index, settings)
    show.console.print(f"[bold]Ingesting[/] {SAMPLES.name}/ into {index}")
    show.follow(
        ingest([dataset.documents], store, encoder, settings.ingest, collection="samples"), as_json=False
    )
    searcher = Searcher(store, encoder, rerankers.load(settings.reranker), settings.search)
    answers = [
        report.Answer(question.query_id, *answer(searcher, question), dataset.qrels[question.query_id])
        for question in chosen
    ]
    for given in answers:
        show.console.print(f"\n[bold]{given.result.query}[/]")
        show.print_result(given.result, given.highlights)
    save_pages(folder / "pages", store, answers)
    judged = replace(dataset, questions=dataset.questions[:: max(1, len(dataset.questions) // JUDGED)])
    with show.waiting(f"judging both stages on {len(judged.questions)} questions"):
        measured = evaluate.evaluate(judged, searcher, store, within=False)
    rows = {stage: {name: measured.mean(stage, name) for name in SHOWN} for stage in measured.values}
    page = folder / "report.html"
    page.write_text(report.html(answers, rows, len(judged.questions), folder / "pages"), encoding="utf-8")
    show.console.print()
    show.print_measures(
        rows,
        f"{len(judged.questions)} of the samples' {len(dataset.questions)} questions (× 100); "
        "'folioscope evaluate samples' asks all",
    )
    show.console.print(
        f"\nreport: {page}\npages:  {folder / 'pages'}\n"
        f"Open the web page on this index with: folioscope serve --index {index}   (or: make serve)\n"
        f"{time.perf_counter() - began:.0f} s in all",
        highlight=False,
    )


def questions(dataset: Dataset) -> list[Question]:
    """The ten that `demo.txt` names."""
    names = (dataset.folder / "demo.txt").read_text(encoding="utf-8").split()
    by_id = {question.query_id: question for question in dataset.questions}
    return [by_id[name] for name in names]


def answer(searcher: Searcher, question: Question) -> tuple[SearchResult, list[Highlight]]:
    result = searcher.search(question.text, top=PAGES)
    return result, searcher.highlight(question.text, [hit.page for hit in result.hits])


def save_pages(folder: Path, store: Store, answers: list[report.Answer]) -> None:
    folder.mkdir(exist_ok=True)
    for given in answers:
        hits = given.result.hits[:SAVED]
        for hit, lit, content in zip(
            hits, given.highlights, store.contents([h.page for h in hits]), strict=False
        ):
            lit_page(content.image(), lit).save(report.page_image(folder, given, hit))
