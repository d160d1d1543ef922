"""`folioscope serve`, and `folioscope user` for those who may log in to it."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, Index, Profile

app = group()


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
    from configs.settings import load_profile
    from ui.cli import terminal
    from ui.web import server

    def print_address(url: str) -> None:
        if as_json:
            terminal.print_json({"url": url})
        else:
            print(f"Folioscope is at {url} (Ctrl-C ends it)", flush=True)

    server.serve(
        index,
        load_profile(profile),
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
