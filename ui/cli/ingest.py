"""`folioscope ingest`."""

from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJsonLines, Index, Profile

app = group()


@command(
    app,
    "folioscope ingest reports/ 'scans/*.tif' --index library.lance",
    on_stop="stopped; the documents that are done are in the index, and the same command continues with the others",
)
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders and glob patterns to read.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    password: Annotated[str | None, typer.Option(help="The password for encrypted PDFs.")] = None,
    collection: Annotated[
        str, typer.Option(help="The collection that these documents belong to.")
    ] = "default",
    tag: Annotated[list[str] | None, typer.Option(help="A tag for these documents. Repeatable.")] = None,
    sync: Annotated[
        bool, typer.Option("--sync", help="Also remove the documents whose file no longer exists.")
    ] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Also read files that are already in the index, for example after a change of ocr or dpi.",
        ),
    ] = False,
    as_json: AsJsonLines = False,
) -> None:
    """Read documents into the index.

    Files that are already in the index are skipped, and a file that fails does not stop the others. With --json a line
    is printed for each event: found, page, done, skipped, failed, removed, finished. Exits with 1 if a file failed.
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
    checked_labels(collection=collection, tags=tag)  # raises before an index is made
    for _ in discover(paths):  # raises for a wrong path, also before an index is made
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
    except IndexBusy:  # the process that writes to the index refreshes it, or the next ingest does
        pass
    except Exception as error:  # the documents are in the index, and searches find them by scanning
        terminal.errors.print(
            f"The inverted index could not be refreshed ({first_line(error)}): the documents are in the index and "
            "can be searched; 'folioscope index refresh' tries again"
        )
    raise typer.Exit(1 if failures else 0)
