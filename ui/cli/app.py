"""The command line. Exit codes: 0 done, 1 some files failed, 2 wrong use, 3 the environment lacks something.

With `--json` standard output holds JSON only, errors included: `{"error": {"code", "message"}}`.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from configs.errors import ProfileError
from ui.cli.commands import Stopped, command, group
from ui.cli.index import index as index_group
from ui.cli.options import (
    INDEX,
    AsJson,
    AsJsonLines,
    Dataset,
    Index,
    OwnIndex,
    Profile,
    ProfileName,
    Read,
    Report,
    Within,
)
from ui.cli.train import train

if TYPE_CHECKING:
    from configs.settings import Settings

LOADING = "Loading the index and the models ..."

app = group("Finds the page that answers a question: in PDFs, scans, tables and charts.", "folioscope")
docs = group("List, change and remove documents.")
config_app = group("Show profiles and settings.")
models_app = group("List and fetch the models that a profile needs from the hub.")
app.add_typer(models_app, name="models")
app.add_typer(docs, name="docs")
app.add_typer(index_group, name="index")
app.add_typer(config_app, name="config")
app.add_typer(train, name="train")


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
    from ingest import pipeline
    from ingest.sources import discover
    from retrieval.errors import IndexBusy, first_line
    from retrieval.labels import checked_labels
    from ui import factory
    from ui.cli import terminal
    from ui.service.ingest_status import record_status

    settings = _load(profile)
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
    from retrieval.types import Filter
    from ui import factory
    from ui.cli import terminal

    searcher, store = factory.open_searcher(index, _load(profile), rerank)
    for name in document or ():
        store.document(name)  # an unknown name is an error, not an empty answer
    where = Filter(tuple(document or ()), tuple(collection or ()), tuple(tag or ()), since, until, scanned)
    result = searcher.search(
        query, top=top, where=where, rerank=rerank, budget_ms=budget_ms, min_confidence=min_confidence
    )
    highlights = searcher.highlight(query, [hit.page for hit in result.hits])
    if as_json:
        terminal.print_json(terminal.result_json(result, searcher, store))
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


@command(app, "folioscope serve --index library.lance --port 8080", says="Starting the server ...")
def serve(
    index: Index = INDEX,
    profile: Profile = "cpu",
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any but this machine's own needs a login.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.")] = 7860,
    token: Annotated[
        str,
        typer.Option(
            envvar="FOLIOSCOPE_TOKEN", help="A secret that lets in whoever has it.", show_default=False
        ),
    ] = "",
    users: Annotated[
        Path | None, typer.Option(help="A file of users: see 'folioscope user'.", show_default=False)
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder that may be ingested from the web page. Repeat the option for more folders.",
            show_default=False,
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(
            help="The address of a proxy whose X-Forwarded-For header is trusted.", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Open the web page, with REST and MCP beside it, and serve until Ctrl-C.

    With --json one line says the address as soon as the server listens.
    """
    from ui.cli import terminal
    from ui.web import server

    def print_address(url: str) -> None:
        if as_json:
            terminal.print_json({"url": url})
        else:
            print(f"Folioscope is at {url} (Ctrl-C ends it)", flush=True)

    server.serve(
        index,
        _load(profile),
        host,
        port,
        token=token,
        users=users,
        folders=folder or (),
        proxy=proxy,
        on_listening=print_address,
    )


@command(app, "folioscope user anna --users users.txt")
def user(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    users: Annotated[Path, typer.Option(help="The file that 'folioscope serve --users' reads.")] = Path(
        "users.txt"
    ),
    remove: Annotated[bool, typer.Option("--remove", help="Remove this user from the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a user to a file of users, or change the user's password, which is asked for twice."""
    from ui.cli import terminal
    from ui.service.users import remove_user, set_password

    if remove:
        remove_user(users, name)
        said = f"{name} is removed from {users}"
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=as_json)
        set_password(users, name, password)
        said = f"{name} may log in: folioscope serve --users {users}"
    if as_json:
        terminal.print_json({"user": name, "users": users, "removed": remove})
    else:
        print(said)


@command(app, "folioscope demo --folder demo")
def demo(
    folder: Annotated[Path, typer.Option(help="The folder for the index, the pages and the report.")] = Path(
        "demo"
    ),
    profile: Profile = "cpu",
    as_json: AsJson = False,
) -> None:
    """Ingest the samples, ask ten questions in two stages, and write a report that opens in a browser."""
    from ui.cli.demo import run_demo

    run_demo(folder, _load(profile), as_json)


@command(app, "folioscope evaluate samples --compare cpu,smoke --html report.html")
def evaluate(
    dataset: Dataset,
    index: OwnIndex = "",
    profile: Profile = "cpu",
    compare: Annotated[
        str,
        typer.Option(
            help="Profiles, separated by commas: each is measured, and tested against the first of them."
        ),
    ] = "",
    within: Within = False,
    read: Read = 20,
    html: Report = None,
    as_json: AsJsonLines = False,
) -> None:
    """Measure every stage on questions whose answers are known.

    With --json there is a line for each profile, and then a line for each comparison.
    """
    from ui.cli.evaluation import run_evaluation

    profiles = compare.split(",") if compare else [profile]
    run_evaluation(
        dataset, index=index, profiles=profiles, within=within, read=read, as_json=as_json, html=html
    )


@command(app, "folioscope tune samples --write tuned.yaml")
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
    from ui.cli.evaluation import run_tune

    run_tune(
        dataset,
        index=index,
        profile=profile,
        within=within,
        read=read,
        as_json=as_json,
        write=write,
        html=html,
    )


@command(app, "folioscope calibrate samples --for library.lance")
def calibrate(
    dataset: Dataset,
    index: OwnIndex = "",
    target: Annotated[
        str,
        typer.Option(
            "--for", help="The index whose searches use the confidences; the data set's own if none is given."
        ),
    ] = "",
    profile: Profile = "cpu",
    within: Within = False,
    html: Report = None,
    as_json: AsJson = False,
) -> None:
    """Learn from the reranker's scores with what probability a page answers."""
    from ui.cli.evaluation import run_calibrate

    run_calibrate(
        dataset, index=index, target=target, profile=profile, within=within, as_json=as_json, html=html
    )


@command(docs, "folioscope docs list --index library.lance", name="list")
def docs_list(index: Index = INDEX, as_json: AsJsonLines = False) -> None:
    """List the documents in the index."""
    from ui import factory
    from ui.cli import terminal

    documents = factory.open_store(index).documents()
    if as_json:
        for document in documents:
            terminal.print_json(terminal.document_json(document))
    else:
        terminal.print_documents(documents)


@command(docs, "folioscope docs remove report-2023.pdf", name="remove")
def docs_remove(
    names: Annotated[list[str], typer.Argument(help="File names or ids of documents.")],
    index: Index = INDEX,
    as_json: AsJson = False,
) -> None:
    """Remove documents from the index. Their files stay."""
    from ui import factory
    from ui.cli import terminal

    store = factory.open_store(index)
    documents = [store.document(name) for name in names]
    with store.writing():
        store.remove([document.doc_id for document in documents])
        store.forget([document.uri for document in documents])
        store.optimize()
    if as_json:
        terminal.print_json({"removed": [terminal.document_json(document) for document in documents]})
    else:
        terminal.console.print(f"removed {', '.join(d.name for d in documents)}")


@command(docs, "folioscope docs tag report-2023.pdf finance audited --collection reports", name="tag")
def docs_tag(
    name: Annotated[str, typer.Argument(help="The file name or id of a document.")],
    tags: Annotated[
        list[str] | None,
        typer.Argument(help="The tags that replace the document's tags."),
    ] = None,
    collection: Annotated[str | None, typer.Option(help="The document's new collection.")] = None,
    index: Index = INDEX,
    as_json: AsJson = False,
) -> None:
    """Set the tags and the collection of a document.

    Without tags and without a collection the document's tags are removed.
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


@command(docs, "folioscope docs ledger --json", name="ledger")
def docs_ledger(index: Index = INDEX, as_json: AsJsonLines = False) -> None:
    """List every file that was ever offered to the index, with its status."""
    from ui import factory
    from ui.cli import terminal

    for entry in sorted(factory.open_store(index).ledger(), key=lambda e: e.at):
        if as_json:
            terminal.print_json(entry)
        else:
            terminal.console.print(
                f"{entry.at:%Y-%m-%d %H:%M}  {entry.outcome:8} {entry.uri}: {entry.message}"
            )


@command(config_app, "folioscope config show --profile gpu-24gb", name="show")
def config_show(profile: Profile = "cpu", as_json: AsJson = False) -> None:
    """Print every setting of a profile, defaults included, as YAML or JSON."""
    settings = _load(profile).model_dump()
    if as_json:
        from ui.cli import terminal

        terminal.print_json(settings)
    else:
        import yaml

        print(yaml.safe_dump(settings, sort_keys=False), end="")


@command(config_app, "folioscope config profiles", name="profiles")
def config_profiles(as_json: AsJson = False) -> None:
    """List the profiles that ship with Folioscope."""
    from configs.settings import profile_names

    if as_json:
        from ui.cli import terminal

        terminal.print_json({"profiles": profile_names()})
        return
    for name in profile_names():
        print(name)


@command(models_app, "folioscope models list gpu-24gb", name="list")
def models_list(profile: ProfileName = "cpu", as_json: AsJson = False) -> None:
    """List the models that a profile needs, and say which of them are on this machine."""
    from ui.cli.models import list_all

    list_all(_load(profile), profile, as_json)


@command(models_app, "folioscope models pull gpu-24gb", name="pull")
def models_pull(profile: ProfileName, as_json: AsJson = False) -> None:
    """Fetch the models of a profile from the hub, and print the revision of each."""
    from ui.cli.models import pull

    pull(_load(profile), profile, as_json)


@command(app, "folioscope doctor --profile gpu-24gb")
def doctor(profile: Profile = "cpu", as_json: AsJson = False) -> None:
    """Check that everything this profile needs is installed.

    Exits with 3 if something is missing.
    """
    from ui.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(_load(profile), profile, as_json))


def _load(profile: str) -> "Settings":
    from configs.settings import load_profile

    return load_profile(profile)


def main() -> None:
    """Run the command line: our errors become one line on stderr (JSON with --json) and an exit code."""
    options = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    as_json = "--json" in options
    log = logging.getLogger("folioscope")
    log.setLevel(logging.INFO)
    log.addHandler(LogOnTerminal())
    log.propagate = False
    try:
        sys.exit(app(standalone_mode=not as_json))
    except Stopped as error:
        _end(as_json, error.exit_code, "Stopped", error.message)
    except KeyboardInterrupt:
        sys.exit(130)
    except typer.Abort:  # only with --json: without it Typer itself says so
        _end(as_json, 1, "Aborted", "the question on the terminal was not answered")
    except typer.TyperException as error:  # wrong options or arguments; only with --json, as above
        _end(as_json, error.exit_code, "WrongUse", error.format_message())
    except ProfileError as error:
        _end(as_json, 2, "ProfileError", str(error))
    except Exception as error:
        from retrieval.errors import FolioscopeError, first_line

        if isinstance(error, FolioscopeError):
            _end(as_json, error.exit_code, type(error).__name__, str(error))
        if as_json:
            _print_error("InternalError", f"{type(error).__name__}: {first_line(error)}")
        raise


class LogOnTerminal(logging.Handler):
    """Prints what the parts below the command line log, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        from ui.cli import terminal

        terminal.errors.print(self.format(record))


def _end(as_json: bool, exit_code: int, code: str, message: str) -> None:
    if as_json:
        _print_error(code, message)
    else:
        prefix = "" if code == "Stopped" else "folioscope: "
        print(f"{prefix}{message}", file=sys.stderr)
    sys.exit(exit_code)


def _print_error(code: str, message: str) -> None:
    from ui.api.json_text import json_text

    print(json_text({"error": {"code": code, "message": message}}), flush=True)
