"""`folioscope ask`."""

from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, Index, Profile

LOADING = "Loading the index and the models ..."

app = group()


@command(app, "folioscope ask 'Who signs for purchases over 5,000 euros?'", announcement=LOADING)
def ask(
    query: Annotated[str, typer.Argument(help="A question in your own words.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    document: Annotated[
        list[str] | None,
        typer.Option(help="Read only this document, by its file name or id. Repeatable."),
    ] = None,
    collection: Annotated[
        list[str] | None, typer.Option(help="Read only this collection. Repeatable.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Read only documents with this tag. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer a question from the pages that match it, with a quote from its page for every sentence.

    The model that writes is the `answer:` of the profile. Quotes are looked up on their pages; sentences without one
    are marked. Without a model, or if no page is likely to answer, the command says so and shows the closest pages.
    Exits with 3 if the model does not answer.
    """
    from configs.settings import load_profile
    from retrieval.types import Filter
    from ui import factory
    from ui.api.answers import answer_response
    from ui.cli import answer_text, terminal

    settings = load_profile(profile)
    where = Filter(tuple(document or ()), tuple(collection or ()), tuple(tag or ()))
    answerer = factory.build_answerer(settings)  # a missing key is an error before the models are loaded
    searcher, store = factory.open_searcher(index, settings)
    for name in where.documents:
        store.document(name)  # an unknown name is an error, not an empty answer
    steps = answerer.steps(searcher.search(query, where=where), searcher)
    answer = answer_text.last(steps) if as_json else answer_text.print_steps(steps)
    if as_json:
        terminal.print_json(answer_response(answer).model_dump(mode="json", exclude={"id", "at"}))
    if answer.status == "refused" and answer.reason in ("model_unreachable", "model_failed"):
        raise typer.Exit(3)
