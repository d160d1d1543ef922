"""`folioscope index`: shows the contents of an index, verifies it, and maintains it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, AsJsonLines, Index, Profile

if TYPE_CHECKING:
    from retrieval.store.store import Store

UNCHANGED = "stopped; the inverted index is as it was before"

app = group(
    "Show, verify and maintain an index and its inverted index, which makes searches of many pages fast."
)


@command(app, "folioscope index info --index library.lance")
def info(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Show how many documents and pages an index has, its encoder, and its size on disk.

    In the JSON, vectors is the number format of the vectors, float16 or int8.
    """
    from ui import factory

    store = factory.open_store(index)
    documents = store.documents()
    place = Path(index)
    files = [f.stat().st_size for f in place.rglob("*") if f.is_file()] if place.is_dir() else []
    facts = {
        "index": index,
        "documents": len(documents),
        "pages": sum(d.pages for d in documents),
        "scanned_pages": sum(d.scanned_pages for d in documents),
        "encoder": str(store.fingerprint),
        "vectors": store.precision,
        "disk_mb": round(sum(files) / 1e6, 1),
    }
    _print(facts, as_json)


@command(app, "folioscope index build --index library.lance", on_stop=UNCHANGED)
def build(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Build the inverted index from scratch, so that a search scores a few hundred pages instead of all.

    Searches can go on meanwhile. Once an index is large enough, 'ingest' and 'serve' build and refresh its inverted
    index by themselves. Prints what 'index stats' prints.
    """
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with terminal.steps() as on_progress:
        upkeep.build(store, on_progress)
    _print(_stats(store), as_json)


@command(app, "folioscope index refresh --index library.lance", on_stop=UNCHANGED)
def refresh(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Bring the inverted index up to date: add new pages, and drop removed pages once there are many of them.

    Prints what 'index stats' prints. In the JSON, refreshed is false if there was nothing to do.
    """
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with terminal.steps() as on_progress:
        is_refreshed = upkeep.refresh(store, on_progress)
    if as_json:
        terminal.print_json({"refreshed": is_refreshed, **_stats(store)})
        return
    terminal.console.print("The inverted index was refreshed" if is_refreshed else "There was nothing to do")
    _print(_stats(store), False)


@command(app, "folioscope index stats --json")
def stats(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Show how many pages the inverted index has, how many it lacks, and its size on disk.

    In the JSON, inverted_index_pages are the pages in the inverted index; unindexed_pages are pages that are not in it
    yet, and are scanned instead; removed_pages are pages that were removed from the library and are still in its files;
    bytes_per_page is the size of the inverted index for each of its pages.
    """
    from ui import factory

    _print(_stats(factory.open_store(index)), as_json)


@command(app, "folioscope index drop --index library.lance")
def drop(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Delete the inverted index. Documents and pages remain, and searches scan all pages again."""
    from retrieval.recall.ivf import upkeep
    from ui import factory
    from ui.cli import terminal

    upkeep.drop(factory.open_store(index))
    if as_json:
        terminal.print_json({"index": index, "dropped": True})
    else:
        terminal.console.print("The inverted index is deleted. Documents and pages are unchanged")


@command(app, "folioscope index verify --questions 200")
def verify(
    index: Index = INDEX,
    profile: Profile = "cpu",
    questions: Annotated[
        int,
        typer.Option(
            min=0,
            help="Questions to compare the inverted index with exact search on; 0: none.",
        ),
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Read every row of an index and report its problems, then compare the inverted index with exact search.

    The questions of the comparison are made of words from pages drawn at random. In the JSON, recall is null if nothing
    was compared; recall_10 and recall_100 are the shares of the exact best 10 and 100 pages that were found. Exits with
    1 if there is a problem.
    """
    from configs.settings import load_profile
    from retrieval.recall.agreement import measure_agreement, sample_queries
    from retrieval.recall.ivf import upkeep
    from retrieval.store.verify import verify as verify_store
    from ui import factory
    from ui.cli import terminal

    store, searcher, agreement = factory.open_store(index), None, None
    if questions and upkeep.load_inverted_index(store) is not None:
        searcher, _ = factory.open_searcher(index, load_profile(profile), rerank=False)
    with terminal.steps() as on_progress:
        report = verify_store(store, lambda done, of: on_progress("reading rows", done, of))
        if searcher:
            queries = sample_queries(store, searcher.encoder, questions)
            agreement = measure_agreement(
                store, queries, lambda done, of: on_progress("exact search", done, of)
            )
    if as_json:
        terminal.print_json(asdict(report) | {"recall": agreement})
    else:
        for problem in report.problems:
            terminal.console.print(": ".join(filter(None, (problem.document, problem.message))))
        terminal.console.print(
            f"{len(report.problems)} problems; {report.pages:,} pages of {report.documents:,} documents, "
            f"{report.images:,} images decoded"
        )
        if agreement:
            terminal.console.print(
                f"The inverted index against exact search, {agreement.questions} questions, {agreement.pages:,} pages: "
                f"recall@10 {agreement.recall_10:.3f}, recall@100 {agreement.recall_100:.3f} "
                f"({agreement.worst_100:.2f} for the worst question)"
            )
    raise typer.Exit(1 if report.problems else 0)


@command(app, "folioscope index optimize --index library.lance")
def optimize(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Merge the small files of an index, refresh its text index, and delete its old versions."""
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    with store.writing():
        store.optimize()
    if as_json:
        terminal.print_json({"index": index, "optimized": True})
    else:
        terminal.console.print("The index is optimized")


@command(
    app,
    "folioscope index reembed better.lance --index library.lance --profile gpu-24gb",
    on_stop="stopped; the same command continues with the documents that are not in the new index yet",
)
def reembed(
    target: Annotated[str, typer.Argument(help="The folder or URI of the new index.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    as_json: AsJsonLines = False,
) -> None:
    """Make a new index from the pages of this one with the encoder of a profile, without reading files or OCR.

    With --json a line is printed for each document.
    """
    from configs.settings import load_profile
    from ingest.reembed import reembed as reembed_store
    from ui import factory
    from ui.cli import terminal

    source = factory.open_store(index)
    store, encoder = factory.create_store(target, load_profile(profile))
    for document in reembed_store(source, store, encoder):
        if as_json:
            terminal.print_json(terminal.document_json(document))
        else:
            terminal.console.print(f"{document.name}: {document.pages} pages")


def _stats(store: "Store") -> dict[str, Any]:
    from retrieval.recall.ivf import upkeep

    facts = upkeep.stats(store)
    return {
        "inverted_index_pages": facts.pages,
        "unindexed_pages": facts.missing,
        "removed_pages": facts.removed,
        "vectors": facts.vectors,
        "inverted_lists": facts.centroids,
        "segments": facts.segments,
        "disk_mb": round(facts.bytes / 1e6, 1),
        "bytes_per_page": round(facts.bytes_per_page),
    }


def _print(facts: dict[str, Any], as_json: bool) -> None:
    from ui.cli import terminal

    if as_json:
        terminal.print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        label = name.replace("_mb", "_MB").replace("_", " ")
        text = f"{value:,}" if isinstance(value, (int, float)) else value
        terminal.console.print(f"{label:{width}}  {text}")
