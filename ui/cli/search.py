"""`folioscope search`."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, Index, Profile

LOADING = "Loading the index and the models ..."

app = group()


@command(app, "folioscope search 'Who signs for purchases over 5,000 euros?' --top 3", says=LOADING)
def search(
    query: Annotated[str, typer.Argument(help="A question in your own words.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="The number of pages to show.")] = 10,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Whether the reranker scores the best candidates.")
    ] = True,
    document: Annotated[
        list[str] | None,
        typer.Option(help="Search only this document. Repeat the option for more documents."),
    ] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Search only this collection.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Search only documents with this tag.")] = None,
    since: Annotated[
        str, typer.Option(help="Search only documents of this date or later, as in 2024-01-31.")
    ] = "",
    until: Annotated[str, typer.Option(help="Search only documents of this date or earlier.")] = "",
    scanned: Annotated[
        bool | None,
        typer.Option(
            "--scanned/--digital", help="Search only scanned or only digital pages.", show_default=False
        ),
    ] = None,
    budget_ms: Annotated[
        int | None, typer.Option(min=1, help="Milliseconds that the reranker may take.")
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Show only pages that answer with at least this probability; needs 'folioscope calibrate'.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every score, and what each stage did.")
    ] = False,
    save_pages: Annotated[
        Path | None, typer.Option(help="Save the pages with their highlights into this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the pages that answer a question."""
    from configs.settings import load_profile
    from retrieval.types import Filter
    from ui import factory
    from ui.cli import terminal

    searcher, store = factory.open_searcher(index, load_profile(profile), rerank)
    for name in document or ():
        store.document(name)  # an unknown name is an error, not an empty answer
    where = Filter(tuple(document or ()), tuple(collection or ()), tuple(tag or ()), since, until, scanned)
    result = searcher.search(
        query, top=top, where=where, rerank=rerank, budget_ms=budget_ms, min_confidence=min_confidence
    )
    highlights = searcher.highlight(query, [hit.page for hit in result.hits])
    if as_json:
        terminal.print_json(terminal.result_json(result, highlights))
    else:
        terminal.print_result(result, highlights, explain)
    if save_pages:
        from ui.api.render import highlighted_page

        save_pages.mkdir(parents=True, exist_ok=True)
        for hit, lit, content in zip(
            result.hits, highlights, store.contents([h.page for h in result.hits]), strict=True
        ):
            highlighted_page(content.image(), lit).save(terminal.save_path(save_pages, hit))
        terminal.errors.print(f"{len(result.hits)} highlighted pages are saved in {save_pages}")
