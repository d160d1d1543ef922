"""Prints the command line's output: tables and progress on a terminal, plain lines or JSON Lines in a pipe."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from ui.api.json_text import json_text

if TYPE_CHECKING:
    from ingest.progress import Progress
    from retrieval.confidence import Calibration
    from retrieval.evaluation.calibrate import Reliability
    from retrieval.evaluation.tune import TuningResult
    from retrieval.search import Searcher
    from retrieval.store.store import Store
    from retrieval.types import Answer, Document, Highlight, Hit, SearchResult

V = TypeVar("V")

ANSWERS = 3
"""Answers that are printed."""
HEADINGS = ("weak_match", "missing_phrase")
"""Notes that are printed above the pages: whoever reads the pages should know them first."""

console = Console(highlight=False, markup=False)  # file names may contain [brackets]
errors = Console(stderr=True, highlight=False, markup=False)


def print_json(value: Any) -> None:
    """Print one line of strict JSON, and flush it, because the reader of a pipe may be waiting."""
    print(json_text(value), flush=True)


def snake_case(rows: Mapping[str, V]) -> dict[str, V]:
    """Return `rows` with JSON keys: "first stage" becomes "first_stage"."""
    return {name.replace(" ", "_"): value for name, value in rows.items()}


def result_json(result: "SearchResult", searcher: "Searcher", store: "Store") -> dict[str, Any]:
    """Return a result as `ui.api.schemas.SearchOut`, with the regions that match and without addresses."""
    from ui.api.responses import search_response

    return search_response(searcher, store, result, regions=True).model_dump(mode="json")


def movement(hit: "Hit") -> str:
    """Return how reranking moved a hit: '▲3', '▼1', '='; '' if it was not reranked."""
    if not hit.reranked:
        return ""
    steps = hit.first_rank - hit.rank
    return f"▲{steps}" if steps > 0 else f"▼{-steps}" if steps < 0 else "="


def print_result(result: "SearchResult", highlights: Sequence["Highlight"], explain: bool = False) -> None:
    """Print what the best pages answer, the pages, the notes, and what the stages did."""
    print_answers(result.answers)
    for note in result.notes:
        if note.kind in HEADINGS:
            console.print(note.text, style="bold yellow")
    for hit, highlight in zip(result.hits, highlights, strict=True):
        head = Text(f"{hit.rank:>3}  ")
        head.append(hit.page.name, style="bold")
        if hit.confidence is not None:
            head.append(f"  {hit.confidence:.0%} likely to answer", style="magenta")
        if hit.reranked:
            colour = {"▲": "green", "▼": "yellow"}.get(movement(hit)[0], "dim")
            head.append(f"  {movement(hit)} was {hit.first_rank}", style=colour)
        console.print(head)
        console.print(_snippet(highlight), style=None)
        if explain:
            scores = ", ".join(f"{name} {score:.3f}" for name, score in hit.scores.items())
            terms = (
                ", ".join(f"{t.term} ×{len(t.regions)}" for t in highlight.terms if t.regions) or "nothing"
            )
            console.print(
                f"       score: {hit.score:+.2f}, from {scores}\n       highlighted: {terms}", style="dim"
            )
    for note in result.notes:
        if note.kind not in HEADINGS:
            console.print(note.text, style="yellow")
    times = ", ".join(f"{s.name} {s.seconds * 1000:,.0f} ms" for s in result.stages)
    decision = result.decision
    if decision.kind == "reranked_in_part":
        console.print(
            f"Read {decision.read} of {decision.shortlist} pages in time; the rest keep their first place. "
            "A larger --budget-ms reads the rest.",
            style="yellow",
        )
        console.print(times, style="dim")
    else:
        console.print(f"{decision.reason} ({times})", style="dim")
    if explain:
        for stage in result.stages:
            console.print(f"  {stage.name}: {stage.note or 'done'}", style="dim")


def print_answers(answers: Sequence["Answer"]) -> None:
    """Print the words that answer, each with its page and its passage; nothing if there are none."""
    from ui.api.responses import passage_pieces

    for i, answer in enumerate(answers[:ANSWERS]):
        line = Text(answer.text, style="" if i else "bold green")
        line.append(f"  {answer.page.name}  {answer.probability:.0%} likely", style="dim")
        console.print(line)
        passage = Text("       ")
        for text, is_answer in passage_pieces(answer):
            passage.append(text, style="bold green" if is_answer else "")
        console.print(passage, style="dim" if i else None)
    if answers:
        console.print()


def _snippet(highlight: "Highlight") -> Text:
    text = Text("       " + (highlight.snippet or "(no text on this page)"))
    for start, end in highlight.snippet_matches:
        text.stylize("bold yellow", start + 7, end + 7)
    return text


def document_json(document: "Document") -> dict[str, Any]:
    return asdict(document) | {"added_at": document.added_at.isoformat(timespec="seconds")}


def print_documents(documents: Sequence["Document"]) -> None:
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("document", "left"),
        ("pages", "right"),
        ("scanned", "right"),
        ("date", "left"),
        ("collection", "left"),
        ("tags", "left"),
        ("id", "left"),
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for d in documents:
        table.add_row(
            d.name,
            str(d.pages),
            str(d.scanned_pages or ""),
            d.date,
            d.collection,
            ", ".join(d.tags),
            d.doc_id,
        )
    console.print(table)
    console.print(
        f"{_count(len(documents), 'document')}, {_count(sum(d.pages for d in documents), 'page')}",
        style="dim",
    )


def follow(events: Iterable["Progress"], as_json: bool) -> list["Progress"]:
    """Draw an ingest while it runs, or print its events as JSON Lines. Returns the events of files that failed."""
    with ExitStack() as stack:
        draw = _print_json_line if as_json else stack.enter_context(_ingest_drawing(console))
        failures = []
        for event in events:
            draw(event)
            if event.event == "failed":
                failures.append(event)
    return failures


@contextmanager
def work(as_json: bool) -> Iterator[Callable[["Progress | str"], None]]:
    """Yields a progress callback that draws the events of ingests, and shows texts beside a spinner.

    Files that failed are listed on standard error. With `as_json` everything is drawn on standard error, because
    standard output is for the result.
    """
    failures: list[Progress] = []
    ingest, step = ExitStack(), ExitStack()  # at most one of the two draws at any time
    draw: Callable[[Progress], None] | None = None
    status: Status | None = None

    def on_progress(event: "Progress | str") -> None:
        nonlocal draw, status
        if isinstance(event, str):
            if status is None:
                status = step.enter_context(errors.status(Text(event)))
            status.update(Text(event))
            return
        if draw is None:
            step.close()
            status = None
            draw = ingest.enter_context(_ingest_drawing(errors if as_json else console))
        draw(event)
        if event.event == "failed":
            failures.append(event)
        if event.event == "finished":
            ingest.close()
            draw = None
            if failures:
                print_failures(failures)
                failures.clear()

    with ingest, step:
        yield on_progress


def print_failures(failures: Sequence["Progress"]) -> None:
    table = Table(
        title=f"{_count(len(failures), 'file')} could not be ingested",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for name in ("file", "reason", "details"):
        table.add_column(name, overflow="fold")
    for failure in failures:
        table.add_row(failure.name, failure.reason, failure.message)
    errors.print(table)


def _print_json_line(event: "Progress") -> None:
    print_json(asdict(event) | {"seconds": round(event.seconds, 3)})


@contextmanager
def _ingest_drawing(where: Console) -> Iterator[Callable[["Progress"], None]]:
    """Yields a progress callback that draws a bar on a terminal, and prints a line for each file in a pipe."""
    if not where.is_terminal:
        yield lambda event: _print_plain_line(event, where)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=where, transient=True) as bar:
        task = bar.add_task("ingesting", total=None, speed="")
        fractions: dict[str, float] = {}  # how much of each open file is done, by URI

        def draw(event: "Progress") -> None:
            if event.event == "page":
                fractions[event.uri] = event.page / max(1, event.pages)
            else:
                fractions.pop(event.uri, None)
            bar.update(
                task,
                total=event.files,
                completed=event.files_ended + sum(fractions.values()),
                speed=f"{event.pages_done / event.seconds:.1f} pages/s" if event.seconds > 1 else "",
                description=event.name or "ingesting",
            )
            if event.event in ("done", "failed", "removed"):
                style = {"failed": "red", "removed": "yellow"}.get(event.event, "")
                bar.console.print(Text(f"{event.event:>8}  {event.name}: {event.message}", style=style))
            if event.event == "finished":
                bar.console.print(_summary(event))

        yield draw


def _print_plain_line(event: "Progress", where: Console) -> None:
    if event.event in ("done", "skipped", "failed", "removed"):
        line = f"[{event.files_ended}/{event.files}] {event.event}: {event.name}: {event.message}"
        print(line, file=where.file, flush=True)
    elif event.event == "finished":
        print(_summary(event), file=where.file, flush=True)


def _summary(event: "Progress") -> str:
    rate = event.pages_done / event.seconds if event.seconds else 0
    return (
        f"{_count(event.files, 'file')}, {_count(event.pages_done, 'page')} embedded in {event.seconds:.1f} s "
        f"({rate:.1f} pages/s)"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def print_measures(rows: Mapping[str, Mapping[str, float]], title: str) -> None:
    """Print a table with a row for each name and a column for each measure, in hundredths."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    names = list(next(iter(rows.values())))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for stage, values in rows.items():
        table.add_row(stage, *(f"{100 * values[name]:.1f}" for name in names))
    console.print(table)


def paying(tuned: "TuningResult") -> str:
    """Return a sentence that says whether reranking pays."""
    gain = f"{100 * tuned.lift:+.1f} nDCG@10 on questions that it was not tuned on (p = {tuned.p_lift:.3f})"
    if tuned.pays:
        return f"Reranking pays: {gain}."
    if tuned.lift <= 0:
        return f"Reranking does not pay: {gain}. The tuned settings do without it."
    return (
        f"Reranking does not pay with certainty: {gain}. The tuned settings do without it; more questions may show "
        "that it pays."
    )


def print_tuned(tuned: "TuningResult") -> None:
    table = Table(title="settings that were tried", title_justify="left", box=None, pad_edge=False)
    for name in (
        "",
        "fusion",
        "rerank weight",
        "depth",
        "gate",
        "nDCG@10 × 100",
        "pages reranked",
        "p95 ms",
    ):
        table.add_column(name, justify="left" if not name else "right")
    rows = [("before", tuned.before), ("first stage alone", tuned.first), ("chosen", tuned.chosen)]
    for name, trial in [*rows, *(("Pareto front", trial) for trial in tuned.front)]:
        policy = trial.policy
        table.add_row(
            name,
            str(policy.fusion),
            f"{policy.rerank_weight:g}",
            str(policy.depth),
            "" if policy.gate == float("inf") else f"{policy.gate:g}",
            f"{100 * trial.ndcg:.1f}",
            f"{trial.read:.1f}",
            f"{1000 * trial.p95:,.0f}",
        )
    console.print(table)
    console.print(paying(tuned))
    console.print(
        f"On questions that it was not tuned on: nDCG@10 {100 * tuned.held_out:.1f}; "
        f"{100 * tuned.held_out_before:.1f} with the settings before (p = {tuned.p_before:.3f})."
    )


def print_calibration(calibration: "Calibration", bins: Sequence["Reliability"]) -> None:
    table = Table(
        title="held-out probabilities in bins of equal counts", title_justify="left", box=None, pad_edge=False
    )
    for name in ("predicted", "share relevant", "pages"):
        table.add_column(name, justify="right")
    for row in bins:
        table.add_row(f"{row.predicted:.3f}", f"{row.relevant:.3f}", f"{row.pages:,}")
    console.print(table)
    console.print(
        f"{calibration.method}: fitted to {calibration.pages:,} pages of {calibration.questions} questions, "
        f"{calibration.relevant} of them relevant. Log loss {calibration.log_loss_before:.3f} -> "
        f"{calibration.log_loss:.3f}, expected calibration error {calibration.ece_before:.3f} -> {calibration.ece:.3f}"
    )


def waiting(what: str) -> AbstractContextManager[Any]:
    """Show a spinner on standard error if it is a terminal, and nothing otherwise."""
    return errors.status(what)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a progress callback `(what, done, of)` that draws a bar on a terminal, and nothing in a pipe."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda what, done, of: bar.update(task, description=what, completed=done, total=of)


def save_path(folder: Path, hit: "Hit") -> Path:
    """Return the path of a hit's image in `folder`; its name has the rank, the document and the page number."""
    stem = "".join(c if c.isalnum() or c in "-_." else "-" for c in Path(hit.page.document).stem)
    return folder / f"{hit.rank:02d}-{stem}-p{hit.page.number}.png"
