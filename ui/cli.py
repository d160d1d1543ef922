"""The command line. Exit codes: 0 done, 1 some files failed, 2 wrong use, 3 the environment lacks something."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import ProfileError
from ui.index import index as index_group
from ui.options import INDEX, AsJson, Dataset, Index, OwnIndex, Profile, Read, Report, Within
from ui.train import train

if TYPE_CHECKING:
    from configs.settings import Settings

app = typer.Typer(
    name="folioscope",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Finds the page that answers a question: in PDFs, scans, tables and charts.",
)
docs = typer.Typer(no_args_is_help=True, help="List, change and remove documents.")
config_app = typer.Typer(no_args_is_help=True, help="Show profiles and settings.")
models_app = typer.Typer(no_args_is_help=True, help="The models a profile needs from the hub.")
app.add_typer(models_app, name="models")
app.add_typer(docs, name="docs")
app.add_typer(index_group, name="index")
app.add_typer(config_app, name="config")
app.add_typer(train, name="train")


@app.command()
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Files, folders, glob patterns.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    password: Annotated[str | None, typer.Option(help="For encrypted PDFs.")] = None,
    collection: Annotated[str, typer.Option(help="A name to group these documents by.")] = "default",
    tag: Annotated[
        list[str] | None, typer.Option(help="A tag for these documents; may be given again.")
    ] = None,
    sync: Annotated[bool, typer.Option("--sync", help="Also remove documents whose file has gone.")] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Read files again that are known already, as after a change of ocr or dpi."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read documents into the index. What is there already is skipped; bad files never stop the others."""
    from ingest.pipeline import ingest as run
    from ingest.sources import discover
    from retrieval.errors import IndexBusy, first_line
    from retrieval.labels import checked
    from ui import assemble, show
    from ui.runs import recorded

    settings = _load(profile)
    checked(collection=collection, tags=tag)  # a wrong label ends here, before an index is made for it
    for _ in discover(paths):  # a wrong path ends here, before an index is made for it
        break
    store, encoder = assemble.store_to_write(index, settings)
    events = run(
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
    failures = show.follow(recorded(events, index), as_json)
    if failures and not as_json:
        show.print_failures(failures)
    try:
        with show.steps() as told:
            assemble.keep_quick(store, settings.search, told)
    except IndexBusy:  # who is at it will have these pages too, or the next ingest
        pass
    except Exception as error:  # the documents are in the index, and are found without
        show.errors.print(f"the recall lists could not be refreshed: {first_line(error)}")
    raise typer.Exit(1 if failures else 0)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="A question, in your own words.")],
    index: Index = INDEX,
    profile: Profile = "cpu",
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="Pages to show.")] = 10,
    rerank: Annotated[
        bool, typer.Option("--rerank/--no-rerank", help="Whether the cross-encoder reads on.")
    ] = True,
    document: Annotated[
        list[str] | None, typer.Option(help="Only in this document; may be given again.")
    ] = None,
    collection: Annotated[list[str] | None, typer.Option(help="Only in this collection.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only documents with this tag.")] = None,
    since: Annotated[str, typer.Option(help="Only documents from this date on (2024-01-31).")] = "",
    until: Annotated[str, typer.Option(help="Only documents up to this date.")] = "",
    scanned: Annotated[
        bool | None,
        typer.Option("--scanned/--digital", help="Only scanned, or only digital pages.", show_default=False),
    ] = None,
    budget_ms: Annotated[
        int | None, typer.Option(min=1, help="Milliseconds the cross-encoder may take.")
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Only pages this likely to answer; needs 'folioscope calibrate'."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Every score, and what each stage did.")] = False,
    save_pages: Annotated[Path | None, typer.Option(help="Save the pages, lit up, into this folder.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the pages that answer a question."""
    from retrieval.types import Filter
    from ui import assemble, show

    searcher, store = assemble.searcher(index, _load(profile), rerank)
    for name in document or ():
        store.document(name)  # an unknown name is an error, not an empty answer
    where = Filter(tuple(document or ()), tuple(collection or ()), tuple(tag or ()), since, until, scanned)
    result = searcher.search(
        query, top=top, where=where, rerank=rerank, budget_ms=budget_ms, min_confidence=min_confidence
    )
    highlights = searcher.highlight(query, [hit.page for hit in result.hits])
    if as_json:
        show.print_json(show.result_json(result, highlights))
    else:
        show.print_result(result, highlights, explain)
    if save_pages:
        from ui.render import lit_page

        save_pages.mkdir(parents=True, exist_ok=True)
        for hit, lit, content in zip(
            result.hits, highlights, store.contents([h.page for h in result.hits]), strict=True
        ):
            lit_page(content.image(), lit).save(show.save_path(save_pages, hit))
        show.errors.print(f"{len(result.hits)} lit-up pages saved in {save_pages}")


@app.command()
def serve(
    index: Index = INDEX,
    profile: Profile = "cpu",
    host: Annotated[
        str, typer.Option(help="The address to listen on; others than this machine's need a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.")] = 7860,
    token: Annotated[
        str,
        typer.Option(
            envvar="FOLIOSCOPE_TOKEN", help="A secret that lets whoever has it in.", show_default=False
        ),
    ] = "",
    users: Annotated[
        Path | None, typer.Option(help="A file of users: see 'folioscope user'.", show_default=False)
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that may be ingested from the page; may be given again.", show_default=False
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(help="The address of a proxy whose X-Forwarded-For is believed.", show_default=False),
    ] = "",
) -> None:
    """Open the web page: drop documents in, ask, see the pages lit up. REST and MCP are served beside it."""
    from ui.app import serve as run

    run(index, _load(profile), host, port, token=token, users=users, folders=folder or (), proxy=proxy)


@app.command()
def user(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    users: Annotated[Path, typer.Option(help="The file that 'folioscope serve --users' reads.")] = Path(
        "users.txt"
    ),
    remove: Annotated[bool, typer.Option("--remove", help="Take this user out.")] = False,
) -> None:
    """Add a user to a file of users, or change the password: it is asked for, twice."""
    from ui.users import remove_user, set_password

    if remove:
        remove_user(users, name)
        print(f"{name} is out of {users}")
        return
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    set_password(users, name, password)
    print(f"{name} may log in: folioscope serve --users {users}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the index, the pages and the report go.")] = Path(
        "demo"
    ),
    profile: Profile = "cpu",
) -> None:
    """Ingest the samples, ask ten questions in two stages, and write a report to look at."""
    from ui.demo import run

    run(folder, _load(profile))


@app.command()
def evaluate(
    dataset: Dataset,
    index: OwnIndex = "",
    profile: Profile = "cpu",
    compare: Annotated[
        str,
        typer.Option(help="Profiles, with commas between: each is measured, and tested against the first."),
    ] = "",
    within: Within = False,
    read: Read = 20,
    html: Report = None,
    as_json: AsJson = False,
) -> None:
    """Measure every stage on questions whose answers are known."""
    from ui.measure import run

    run(dataset, index, compare.split(",") if compare else [profile], within, read, as_json, html)


@app.command()
def tune(
    dataset: Dataset,
    index: OwnIndex = "",
    profile: Profile = "cpu",
    within: Within = False,
    read: Read = 40,
    write: Annotated[
        Path | None, typer.Option(help="Write the tuned profile to this YAML file.", show_default=False)
    ] = None,
    html: Report = None,
    as_json: AsJson = False,
) -> None:
    """Choose fusion weights, depth and gate by measurement, and say whether reranking pays."""
    from ui.measure import run_tune

    run_tune(dataset, index, profile, within, read, as_json, write, html)


@app.command()
def calibrate(
    dataset: Dataset,
    index: OwnIndex = "",
    target: Annotated[
        str,
        typer.Option(
            "--for", help="The index whose searches shall tell confidences; else the data set's own."
        ),
    ] = "",
    profile: Profile = "cpu",
    within: Within = False,
    html: Report = None,
    as_json: AsJson = False,
) -> None:
    """Learn how likely a page answers from the reranker's score of it."""
    from ui.measure import run_calibrate

    run_calibrate(dataset, index, target, profile, within, as_json, html)


@docs.command("list")
def docs_list(index: Index = INDEX, as_json: AsJson = False) -> None:
    """What is in the index."""
    from ui import assemble, show

    documents = assemble.store_to_read(index).documents()
    if as_json:
        for document in documents:
            show.print_json(show.document_json(document))
    else:
        show.print_documents(documents)


@docs.command("remove")
def docs_remove(
    names: Annotated[list[str], typer.Argument(help="File names or ids.")], index: Index = INDEX
) -> None:
    """Take documents out of the index. Their files stay."""
    from ui import assemble, show

    store = assemble.store_to_read(index)
    documents = [store.document(name) for name in names]
    with store.writing():
        store.remove([document.doc_id for document in documents])
        store.forget([document.uri for document in documents])
        store.optimize()
    show.console.print(f"removed {', '.join(d.name for d in documents)}")


@docs.command("tag")
def docs_tag(
    name: Annotated[str, typer.Argument(help="File name or id.")],
    tags: Annotated[
        list[str] | None,
        typer.Argument(help="Its tags from now on."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="Its collection from now on.")] = None,
    index: Index = INDEX,
) -> None:
    """Set a document's tags and collection."""
    from dataclasses import replace

    from retrieval.labels import checked
    from ui import assemble, show

    labels = checked(collection=collection, tags=None if collection is not None and not tags else tags or ())
    store = assemble.store_to_read(index)
    changed = replace(store.document(name), **labels)
    with store.writing():
        store.update(changed)
    show.print_documents([changed])


@docs.command("ledger")
def docs_ledger(index: Index = INDEX, as_json: AsJson = False) -> None:
    """What became of every file that was ever offered."""
    from dataclasses import asdict

    from ui import assemble, show

    for entry in sorted(assemble.store_to_read(index).ledger(), key=lambda e: e.at):
        if as_json:
            show.print_json(asdict(entry))
        else:
            show.console.print(f"{entry.at:%Y-%m-%d %H:%M}  {entry.outcome:8} {entry.uri}: {entry.message}")


@config_app.command("show")
def config_show(profile: Profile = "cpu") -> None:
    """Every setting of a profile, defaults included, as YAML."""
    import yaml

    print(yaml.safe_dump(_load(profile).model_dump(), sort_keys=False), end="")


@config_app.command("profiles")
def config_profiles() -> None:
    """The profiles that ship."""
    from configs.settings import profile_names

    for name in profile_names():
        print(name)


@models_app.command("list")
def models_list(profile: Annotated[str, typer.Argument(help="A profile's name or file.")] = "cpu") -> None:
    """Which models a profile needs, and which of them are on this machine."""
    from ui.models import list_all

    list_all(_load(profile))


@models_app.command("pull")
def models_pull(profile: Annotated[str, typer.Argument(help="A profile's name or file.")]) -> None:
    """Fetch the models of a profile from the hub, and print the revision of each."""
    from ui.models import pull

    pull(_load(profile), profile)


@app.command()
def doctor(profile: Profile = "cpu") -> None:
    """Check that everything this profile needs is there."""
    from ui.doctor import run

    raise typer.Exit(run(_load(profile)))


def _load(profile: str) -> "Settings":
    from configs.settings import load

    return load(profile)


def main() -> None:
    """The entry point: our errors become one line on stderr and an exit code; Ctrl-C ends quietly."""
    try:
        app()
    except KeyboardInterrupt:
        print("stopped; what was done is kept, the same command goes on from there", file=sys.stderr)
        sys.exit(130)
    except ProfileError as error:
        print(f"folioscope: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        from retrieval.errors import FolioscopeError

        if not isinstance(error, FolioscopeError):
            raise
        print(f"folioscope: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
