"""`folioscope ingest`."""

from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJsonLines, Index, Profile

app = group()


@command(app, "folioscope ingest reports/ 'scans/*.tif' --index library.lance")
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders and glob patterns.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    password: Annotated[str | None, typer.Option(help="The password of encrypted PDFs.")] = None,
    collection: Annotated[
        str, typer.Option(help="The collection that these documents belong to.")
    ] = "default",
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag for these documents. Repeat the option for more tags.")
    ] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also remove the documents whose file no longer exists.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Also read files that are in the index, for example after changing ocr or dpi."
        ),
    ] = False,
    as_json: AsJsonLines = False,
) -> None:
    """Read documents into the index.

    Files that are in the index already are skipped, and a file that cannot be read never stops the others.
    """
    from configs.settings import load_profile
    from ingest import pipeline
    from ingest.sources import discover
    from retrieval.errors import IndexBusy, first_line
    from retrieval.labels import checked_labels
    from ui import factory
    from ui.cli import terminal
    from ui.service.ingest_status import record_status

    settings = load_profile(profile)
    checked_labels(collection=collection, tags=tag)  # a wrong label ends here, before an index is made for it
    for _ in discover(paths):  # and so does a wrong path
        break
    store, encoder = factory.create_store(index, settings)
    events = pipeline.ingest(
        paths,
        store,
        encoder,
        settings.ingest,
        password=password,
        collection=collection,
        tags=tag or (),
        sync=sync,
        again=again,
    )
    failures = terminal.follow(record_status(events, index), as_json)
    if failures and not as_json:
        terminal.print_failures(failures)
    try:
        with terminal.steps() as on_progress:
            factory.refresh_inverted_index(store, settings.search, on_progress)
    except IndexBusy:  # the process that holds the index refreshes them, or the next ingest does
        pass
    except Exception as error:  # the documents are in the index, and are found without
        terminal.errors.print(f"the recall lists could not be refreshed: {first_line(error)}")
    raise typer.Exit(1 if failures else 0)
