"""`folioscope serve`, and `folioscope user` for the file of users who may log in."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import INDEX, AsJson, Index, Profile

app = group()


@command(app, "folioscope serve --index library.lance --port 8080", announcement="Starting the server ...")
def serve(
    index: Index = INDEX,
    profile: Profile = "cpu",
    host: Annotated[
        str,
        typer.Option(help="The address to listen on. One that other machines can reach needs a login."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on. 0 takes a free one.")] = 7860,
    token: Annotated[
        str,
        typer.Option(
            envvar="FOLIOSCOPE_TOKEN", help="A secret with which anybody can log in.", show_default=False
        ),
    ] = "",
    users: Annotated[
        Path | None,
        typer.Option(help="The file of users, as 'folioscope user' writes it.", show_default=False),
    ] = None,
    folder: Annotated[
        list[Path] | None,
        typer.Option(
            help="A folder whose documents may be ingested from the web page. Repeatable.",
            show_default=False,
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(
            help="The address of the proxy whose X-Forwarded-For header is trusted.", show_default=False
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Serve the web page, REST and MCP until Ctrl-C.

    The address is printed as soon as the server listens, with --json as {"url": ...}; the models load meanwhile.
    """
    from configs.settings import load_profile
    from ui.cli import terminal
    from ui.web import server

    def print_address(url: str) -> None:
        if as_json:
            terminal.print_json({"url": url})
        else:
            print(f"Folioscope is at {url} (Ctrl-C ends it)", flush=True)

    for handler in logging.getLogger("folioscope").handlers:  # a server's log needs the time of each record
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
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
    print("Folioscope has stopped", file=sys.stderr)


@command(app, "folioscope user anna --users users.txt")
def user(
    name: Annotated[str, typer.Argument(help="The name with which the user logs in.")],
    users: Annotated[
        Path, typer.Option(help="The file of users, which 'folioscope serve --users' reads.")
    ] = Path("users.txt"),
    remove: Annotated[bool, typer.Option("--remove", help="Remove this user from the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Add a user to a file of users, change a user's password, or remove a user.

    The command asks for the password twice. The file contains only a hash of it.
    """
    from ui.cli import terminal
    from ui.service.users import remove_user, set_password

    if remove:
        remove_user(users, name)
        message = f"{name} was removed from {users}"
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=as_json)
        set_password(users, name, password)
        message = f"{name} can now log in. Start the server with: folioscope serve --users {users}"
    if as_json:
        terminal.print_json({"user": name, "users": users, "removed": remove})
    else:
        print(message)
