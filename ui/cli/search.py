"""`folioscope search`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, Index, Profile

LOADING = "Loading the index and the models ..."

app = group()


def _checked_date(value: str) -> str:
    """Return the date. Raises BadQuery if `value` is not a date, before any model is loaded."""
    if value:
        from retrieval.types import Filter

        Filter(since=value)
    return value


@command(app, "folioscope search 'Who signs for purchases over 5,000 euros?' --top 3", announcement=LOADING)
def search(
    query: Annotated[str, typer.Argument(help="A question in your own words.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="The most pages to show.")] = 10,
    rerank: Annotated[
        bool,
        typer.Option("--rerank/--no-rerank", help="Whether the reranker scores the best candidates."),
    ] = True,
    document: Annotated[
        list[str] | None,
        typer.Option(help="Search only this document, by its file name or id. Repeatable."),
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Search only this collection. Repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(help="Search only documents with this tag. Repeatable."),
    ] = None,
    since: Annotated[
        str,
        typer.Option(
            callback=_checked_date,
            help="Search only documents of this date or later: 2024-01-31, 2024-01 or 2024.",
        ),
    ] = "",
    until: Annotated[
        str, typer.Option(callback=_checked_date, help="Search only documents of this date or earlier.")
    ] = "",
    scanned: Annotated[
        bool | None,
        typer.Option(
            "--scanned/--digital",
            help="Search only scanned, or only digital pages.",
            show_default=False,
        ),
    ] = None,
    budget_ms: Annotated[
        int | None,
        typer.Option(min=1, help="Milliseconds that the reranker may take; by default the profile's."),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Show only pages that answer with at least this probability; needs 'folioscope calibrate' first.",
        ),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also show every score, and what each stage did.")
    ] = False,
    save_pages: Annotated[
        Path | None, typer.Option(help="Save the images of the pages, with highlights, in this folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the pages that answer a question.

    Words that answer come first, as they stand on the page. The JSON has these answers, the hits with their ranks,
    scores and highlights, the decision on reranking, and the seconds of each stage.
    """
    from configs.settings import load_profile
    from retrieval.types import Filter
    from ui import factory
    from ui.cli import terminal

    where = Filter(tuple(document or ()), tuple(collection or ()), tuple(tag or ()), since, until, scanned)
    searcher, store = factory.open_searcher(index, load_profile(profile), rerank)
    for name in where.documents:
        store.document(name)  # an unknown name is an error, not an empty answer
    result = searcher.search(
        query, top=top, where=where, rerank=rerank, budget_ms=budget_ms, min_confidence=min_confidence
    )
    if as_json:
        terminal.print_json(terminal.result_json(result, searcher, store))
    if as_json and not save_pages:
        return
    # Another process may have removed a document since the search.
    pages = searcher.highlight_present(
        query, [hit.page for hit in result.hits], read=result.decision.reranked
    )
    result = replace(result, hits=tuple(hit for hit in result.hits if hit.page.page_id in pages))
    if not as_json:
        terminal.print_result(result, [pages[hit.page.page_id][1] for hit in result.hits], explain)
    if save_pages:
        from ui.api.render import highlighted_page

        save_pages.mkdir(parents=True, exist_ok=True)
        for hit in result.hits:
            content, highlight = pages[hit.page.page_id]
            highlighted_page(content.image(), highlight).save(terminal.save_path(save_pages, hit))
        terminal.errors.print(f"The images of {len(result.hits)} pages are in {save_pages}")
