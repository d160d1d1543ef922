"""`folioscope docs`: lists, tags and removes documents."""

from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, AsJsonLines, Index

app = group("List, tag and remove documents.")


@command(app, "folioscope docs list --index library.lance", name="list")
def docs_list(index: Index = INDEX, as_json: AsJsonLines = False) -> None:
    """List the documents in an index.

    With --json a line is printed for each document.
    """
    from ui import factory
    from ui.cli import terminal

    documents = factory.open_store(index).documents()
    if as_json:
        for document in documents:
            terminal.print_json(terminal.document_json(document))
    else:
        terminal.print_documents(documents)


@command(app, "folioscope docs remove report-2023.pdf", name="remove")
def docs_remove(
    names: Annotated[list[str], typer.Argument(help="The file names or ids of the documents.")],
    index: Index = INDEX,
    as_json: AsJson = False,
) -> None:
    """Remove documents from an index. Their files are not deleted."""
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    documents = [store.document(name) for name in names]
    with store.writing():
        store.remove([document.doc_id for document in documents])
        store.delete_from_ledger([document.uri for document in documents])
        store.optimize()
    if as_json:
        terminal.print_json({"removed": [terminal.document_json(document) for document in documents]})
    else:
        terminal.console.print(f"Removed {', '.join(d.name for d in documents)}")


@command(app, "folioscope docs tag report-2023.pdf finance audited --collection reports", name="tag")
def docs_tag(
    name: Annotated[str, typer.Argument(help="The file name or id of a document.")],
    tags: Annotated[
        list[str] | None,
        typer.Argument(help="The new tags, which replace the old ones."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The document's new collection.")] = None,
    index: Index = INDEX,
    as_json: AsJson = False,
) -> None:
    """Set the tags or the collection of a document.

    If neither is given, the document's tags are removed.
    """
    from dataclasses import replace

    from retrieval.labels import checked_labels
    from ui import factory
    from ui.cli import terminal

    labels = checked_labels(
        collection=collection, tags=None if collection is not None and not tags else tags or ()
    )
    store = factory.open_store(index)
    changed = replace(store.document(name), **labels)
    with store.writing():
        store.update(changed)
    if as_json:
        terminal.print_json(terminal.document_json(changed))
    else:
        terminal.print_documents([changed])


@command(app, "folioscope docs ledger --json", name="ledger")
def docs_ledger(index: Index = INDEX, as_json: AsJsonLines = False) -> None:
    """List every file that was ever given to 'ingest', with its last outcome.

    With --json a line is printed for each file, the oldest first.
    """
    from ui import factory
    from ui.cli import terminal

    for entry in sorted(factory.open_store(index).ledger(), key=lambda entry: entry.at):
        if as_json:
            terminal.print_json(entry)
        else:
            terminal.console.print(
                f"{entry.at:%Y-%m-%d %H:%M}  {entry.outcome:8} {entry.uri}: {entry.message}"
            )
