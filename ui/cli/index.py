"""`folioscope index`: show what an index holds, verify it, and maintain it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui.cli.commands import Stopped, command, group
from ui.cli.options import INDEX, AsJson, AsJsonLines, Index, Profile

if TYPE_CHECKING:
    from retrieval.store.store import Store

app = group("Maintain the index: show its size, verify it, and keep its recall lists up to date.")


@command(app, "folioscope index info --index library.lance")
def info(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Show the documents, pages, encoder and disk space of an index."""
    from ui import factory

    store = factory.open_store(index)
    documents = store.documents()
    place = Path(index)
    files = [f.stat().st_size for f in place.rglob("*") if f.is_file()] if place.is_dir() else []
    facts = {
        "index": index,
        "documents": len(documents),
        "pages": sum(d.pages for d in documents),
        "scanned pages": sum(d.scanned_pages for d in documents),
        "encoder": str(store.fingerprint),
        "vectors": store.precision,
        "disk MB": round(sum(files) / 1e6, 1),
    }
    _print(facts, as_json)


@command(app, "folioscope index build --index library.lance")
def build(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Build the recall lists from scratch: with them a search of a large index scans a few hundred pages, not all.

    Searches continue meanwhile. 'ingest' and 'serve' build and refresh the lists by themselves once an index is
    large enough.
    """
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with _kept_on_stop(), terminal.steps() as on_progress:
        upkeep.build(store, on_progress)
    _print(_stats(store), as_json)


@command(app, "folioscope index refresh --index library.lance")
def refresh(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Bring the recall lists up to date: add new pages, and drop removed pages once there are many of them."""
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with _kept_on_stop(), terminal.steps() as on_progress:
        done = upkeep.refresh(store, on_progress)
    if as_json:
        terminal.print_json({"refreshed": done, **_stats(store)})
        return
    terminal.console.print("refreshed" if done else "nothing to do")
    _print(_stats(store), False)


@command(app, "folioscope index stats --json")
def stats(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Show the pages in the recall lists, the pages that are not in them yet, and their size."""
    from ui import factory

    _print(_stats(factory.open_store(index)), as_json)


@command(app, "folioscope index drop --index library.lance")
def drop(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Remove the recall lists. Documents and pages stay: a search scans all of them again."""
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    upkeep.drop(factory.open_store(index))
    if as_json:
        terminal.print_json({"index": index, "dropped": True})
    else:
        terminal.console.print("the recall lists are gone; documents and pages are as they were")


@command(app, "folioscope index verify --questions 200")
def verify(
    index: Index = INDEX,
    profile: Profile = "cpu",
    questions: Annotated[
        int, typer.Option(min=0, help="Questions to compare the recall lists with exact search on.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Read every row and report what is wrong, then compare the recall lists with exact search on sampled questions.

    Exits with 1 if there is a problem.
    """
    from configs.settings import load_profile
    from retrieval.recall import agreement
    from retrieval.recall.ivf import upkeep
    from retrieval.store import verify as integrity
    from ui import factory
    from ui.cli import terminal

    store, searcher, compared = factory.open_store(index), None, None
    if questions and upkeep.load_inverted_index(store) is not None:
        searcher, _ = factory.open_searcher(index, load_profile(profile), rerank=False)
    with terminal.steps() as on_progress:
        report = integrity.verify(store, lambda done, of: on_progress("reading rows", done, of))
        if searcher:
            asked = agreement.sample_queries(store, searcher.encoder, questions)
            compared = agreement.measure_agreement(
                store, asked, lambda done, of: on_progress("exact search", done, of)
            )
    if as_json:
        terminal.print_json(asdict(report) | {"recall": compared})
    else:
        for problem in report.problems:
            terminal.console.print(": ".join(filter(None, (problem.document, problem.message))))
        terminal.console.print(
            f"{len(report.problems)} problems; {report.pages:,} pages of {report.documents:,} documents, "
            f"{report.images:,} images decoded"
        )
        if compared:
            terminal.console.print(
                f"the lists against exact search, {compared.questions} questions, {compared.pages:,} pages: "
                f"recall@10 {compared.recall_10:.3f}, recall@100 {compared.recall_100:.3f} "
                f"({compared.worst_100:.2f} for the worst question)"
            )
    raise typer.Exit(1 if report.problems else 0)


@command(app, "folioscope index optimize --index library.lance")
def optimize(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Merge small files, refresh the text index, and delete old versions."""
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with store.writing():
        store.optimize()
    if as_json:
        terminal.print_json({"index": index, "optimized": True})


@command(app, "folioscope index reembed better.lance --index library.lance --profile gpu-24gb")
def reembed(
    target: Annotated[str, typer.Argument(help="The folder or URI of the new index.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    as_json: AsJsonLines = False,
) -> None:
    """Make a new index with the encoder of a profile from the pages of this one, without reading files or OCR."""
    from configs.settings import load_profile
    from ingest.reembed import reembed as encode_again
    from ui import factory
    from ui.cli import terminal

    source = factory.open_store(index)
    store, encoder = factory.create_store(target, load_profile(profile))
    for document in encode_again(source, store, encoder):
        if as_json:
            terminal.print_json(terminal.document_json(document))
        else:
            terminal.console.print(f"{document.name}: {document.pages} pages")


@contextmanager
def _kept_on_stop() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped; the recall lists are as they were before") from None


def _stats(store: "Store") -> dict[str, Any]:
    from retrieval.recall.ivf import upkeep

    facts = upkeep.stats(store)
    return {
        "pages in the lists": facts.pages,
        "pages scanned beside them": facts.missing,
        "removed pages passed over": facts.removed,
        "vectors": facts.vectors,
        "lists": facts.centroids,
        "segments": facts.segments,
        "disk MB": round(facts.bytes / 1e6, 1),
        "bytes a page": round(facts.bytes_per_page),
    }


def _print(facts: dict[str, Any], as_json: bool) -> None:
    from ui.cli import terminal

    if as_json:
        terminal.print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, (int, float)) else value
        terminal.console.print(f"{name:{width}}  {shown}")
