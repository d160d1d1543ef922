"""`folioscope index`: what an index holds, whether it is sound, and what keeps it quick."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ui.options import INDEX, AsJson, Index, Profile

if TYPE_CHECKING:
    from retrieval.store import Store

index = typer.Typer(
    no_args_is_help=True, help="Look after the index: its size, its soundness, its recall lists."
)


@index.command()
def info(index: Index = INDEX, as_json: AsJson = False) -> None:
    """Pages, encoder, and disk of an index."""
    from ui import assemble

    store = assemble.store_to_read(index)
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


@index.command()
def build(index: Index = INDEX) -> None:
    """Make the recall lists anew: with them a search of a large index looks at a few hundred pages instead of all.

    Searches go on meanwhile. 'ingest' and 'serve' make and refresh them by themselves once an index is large enough.
    """
    from retrieval.ivf import upkeep
    from ui import assemble, show

    store = assemble.store_to_read(index)
    with _kept_on_stop(), show.steps() as told:
        upkeep.build(store, told)
    _print(_stats(store), False)


@index.command()
def refresh(index: Index = INDEX) -> None:
    """Bring the recall lists up to date: only new pages are encoded; removed ones are dropped once they are many."""
    from retrieval.ivf import upkeep
    from ui import assemble, show

    store = assemble.store_to_read(index)
    with _kept_on_stop(), show.steps() as told:
        done = upkeep.refresh(store, told)
    show.console.print("refreshed" if done else "nothing to do")
    _print(_stats(store), False)


@index.command()
def stats(index: Index = INDEX, as_json: AsJson = False) -> None:
    """What the recall lists hold, what they lack, and their size."""
    from ui import assemble

    _print(_stats(assemble.store_to_read(index)), as_json)


@index.command()
def drop(index: Index = INDEX) -> None:
    """Remove the recall lists. Documents and pages stay: searches look at all of them again."""
    from retrieval.ivf import upkeep
    from ui import assemble, show

    upkeep.drop(assemble.store_to_read(index))
    show.console.print("the recall lists are gone; documents and pages are as they were")


@index.command()
def verify(
    index: Index = INDEX,
    profile: Profile = "cpu",
    questions: Annotated[
        int, typer.Option(min=0, help="Asked of the recall lists and of exact search.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Read every row and say what is wrong; then compare the recall lists with exact search on sampled questions.

    Ends with exit code 1 where there is a problem.
    """
    from configs.settings import load
    from retrieval import verify as integrity
    from retrieval.ivf import agreement, upkeep
    from ui import assemble, show

    store, searcher, compared = assemble.store_to_read(index), None, None
    if questions and upkeep.load(store) is not None:
        searcher, _ = assemble.searcher(index, load(profile), rerank=False)
    with show.steps() as told:
        report = integrity.verify(store, lambda done, of: told("reading rows", done, of))
        if searcher:
            asked = agreement.asked_of(store, searcher.encoder, questions)
            compared = agreement.measure(store, asked, lambda done, of: told("exact search", done, of))
    if as_json:
        show.print_json(asdict(report) | {"recall": compared and asdict(compared)})
    else:
        for problem in report.problems:
            show.console.print(": ".join(filter(None, (problem.document, problem.message))))
        show.console.print(
            f"{len(report.problems)} problems; {report.pages:,} pages of {report.documents:,} documents, "
            f"{report.images:,} images decoded"
        )
        if compared:
            show.console.print(
                f"the lists against exact search, {compared.questions} questions, {compared.pages:,} pages: "
                f"recall@10 {compared.recall_10:.3f}, recall@100 {compared.recall_100:.3f} "
                f"({compared.worst_100:.2f} for the worst question)"
            )
    raise typer.Exit(1 if report.problems else 0)


@index.command()
def optimize(index: Index = INDEX) -> None:
    """Merge small files, refresh the text index, drop old versions."""
    from ui import assemble

    store = assemble.store_to_read(index)
    with store.writing():
        store.optimize()


@index.command()
def reembed(
    target: Annotated[str, typer.Argument(help="The new index.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
) -> None:
    """Make a new index with this profile's encoder, from the pages of this one: nothing is read or OCRed again."""
    from configs.settings import load
    from ingest.reembed import reembed as encode_again
    from ui import assemble, show

    source = assemble.store_to_read(index)
    store, encoder = assemble.store_to_write(target, load(profile))
    for document in encode_again(source, store, encoder):
        show.console.print(f"{document.name}: {document.pages} pages")


@contextmanager
def _kept_on_stop() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        from ui import show

        show.errors.print("stopped; the recall lists are as they were before")
        raise typer.Exit(130) from None


def _stats(store: "Store") -> dict[str, Any]:
    from retrieval.ivf import upkeep

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
    from ui import show

    if as_json:
        show.print_json(facts)
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        shown = f"{value:,}" if isinstance(value, (int, float)) else value
        show.console.print(f"{name:{width}}  {shown}")
