"""Runs `folioscope demo`: ingests the samples, asks ten questions, and writes a report that opens from disk."""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import configs.settings as configs
from ingest.pipeline import ingest
from retrieval.evaluation import evaluate
from retrieval.evaluation.evaluate import Dataset, Question
from retrieval.search import Searcher
from retrieval.store.store import Store
from ui import factory
from ui.api.render import highlighted_page
from ui.cli import demo_report, terminal
from ui.service.measurement import summary

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
PAGES = 5  # pages shown for each question
SAVED = 3  # pages of each question that are saved as images with highlights
JUDGED = 40
"""Questions that every stage is measured on: enough for a first impression in half a minute."""


def run_demo(folder: Path, settings: configs.Settings, as_json: bool) -> None:
    """Write the index, `pages/*.png` and `report.html` into `folder`. A second run does not ingest anything again."""
    began = time.perf_counter()
    dataset = evaluate.read_dataset(SAMPLES)
    questions = demo_questions(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    index = str(folder / "samples.lance")
    store, encoder = factory.create_store(index, settings)
    console = terminal.errors if as_json else terminal.console
    console.print(f"Ingesting {SAMPLES.name}/ into {index}", style="bold")
    with terminal.work(as_json) as on_progress:
        for event in ingest([dataset.documents], store, encoder, settings.ingest, collection="samples"):
            on_progress(event)
    factory.refresh_inverted_index(store, settings.search, lambda *_: None)
    searcher = factory.build_searcher(store, encoder, settings)
    answers = []
    for question in questions:
        answer = find_answer(searcher, store, question, dataset.qrels[question.query_id])
        if not as_json:
            console.print(f"\n{answer.result.query}", style="bold")
            terminal.print_result(answer.result, answer.highlights)
        save_pages(folder / "pages", answer)
        answers.append(answer)
    judged = replace(dataset, questions=dataset.questions[:: max(1, len(dataset.questions) // JUDGED)])
    with terminal.waiting(f"measuring every stage on {len(judged.questions)} questions"):
        measured = evaluate.evaluate(judged, searcher, store, within=False)
    rows = summary(measured)["stages"]
    page = folder / "report.html"
    page.write_text(demo_report.html(answers, rows, len(judged.questions)), encoding="utf-8")
    seconds = time.perf_counter() - began
    if as_json:
        terminal.print_json(
            {
                "index": index,
                "report": page,
                "pages": folder / "pages",
                "answers": [terminal.result_json(answer.result, searcher, store) for answer in answers],
                "questions": len(judged.questions),
                "stages": terminal.snake_case(rows),
                "seconds": round(seconds, 1),
            }
        )
        return
    console.print()
    terminal.print_measures(
        rows,
        f"{len(judged.questions)} of the samples' {len(dataset.questions)} questions (× 100); "
        "'folioscope evaluate samples' measures all",
    )
    console.print(
        f"\nreport: {page}\npages:  {folder / 'pages'}\n"
        f"Open the web page for this index with: folioscope serve --index {index}   (or: make serve)\n"
        f"The demo took {seconds:.0f} s",
        highlight=False,
    )


def demo_questions(dataset: Dataset) -> list[Question]:
    """Return the ten questions that `demo.txt` names."""
    names = (dataset.folder / "demo.txt").read_text(encoding="utf-8").split()
    by_id = {question.query_id: question for question in dataset.questions}
    return [by_id[name] for name in names]


def find_answer(
    searcher: Searcher, store: Store, question: Question, grades: Mapping[str, int]
) -> demo_report.Answer:
    """Search for the question, and draw the highlights on the pages. grades: judgements by page name."""
    result = searcher.search(question.text, top=PAGES)
    pages = [hit.page for hit in result.hits]
    highlights = searcher.highlight(question.text, pages)
    images = [
        highlighted_page(content.image(), highlight)
        for content, highlight in zip(store.contents(pages), highlights, strict=True)
    ]
    return demo_report.Answer(question.query_id, result, highlights, grades, images)


def save_pages(folder: Path, answer: demo_report.Answer) -> None:
    """Save the first SAVED pages of the answer as PNG files."""
    folder.mkdir(exist_ok=True)
    for hit, page in list(zip(answer.result.hits, answer.pages, strict=True))[:SAVED]:
        path = terminal.save_path(folder, hit)
        page.save(path.with_name(f"{answer.query_id}-{path.name}"), compress_level=1)
