"""Typer commands that print help, reject wrong arguments and announce slow work before they import anything heavy.

Typer checks values with pydantic, and importing pydantic takes longer than everything else in `--help`. `Command`
therefore looks for missing and surplus arguments, and for numbers out of range, before Typer checks the values.
"""

from collections.abc import Callable
from inspect import cleandoc
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., Any])


class Stopped(typer.TyperException):
    """The user pressed Ctrl-C. The message says what remains of the work."""

    exit_code = 130


class Group(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        return _without_check(super().get_help_option(ctx))


class Command(TyperCommand):
    announcement = ""
    """Printed on standard error as soon as all arguments are known to be valid."""
    on_stop = "stopped"
    """The message that follows Ctrl-C."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_check(super().get_help_option(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(self.on_stop) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if given.get("help"):
            return super().parse_args(ctx, args)
        parameters: list[Any] = list(self.get_params(ctx))
        values = [(parameter, parameter.consume_value(ctx, given)[0]) for parameter in parameters]
        for parameter, value in values:
            if parameter.required and parameter.value_is_missing(value):
                ctx.fail(f"Missing {parameter.param_type_name} {parameter.get_error_hint()}.")
        if rest:
            ctx.fail(f"Got unexpected extra arguments ({' '.join(map(str, rest))})")
        is_announced = all(_is_surely_valid(parameter, value) for parameter, value in values)
        if is_announced:  # Typer's own check, which follows, imports pydantic
            self._announce()
        remaining = super().parse_args(ctx, args)
        if not is_announced:
            self._announce()
        return remaining

    def _announce(self) -> None:
        if self.announcement:
            typer.echo(self.announcement, err=True)


def group(help: str | None = None, name: str | None = None) -> typer.Typer:
    """Return a group of commands, which prints its help when it is called without a command.

    A group that is added to another without a name gives its commands to that other group.
    """
    return typer.Typer(
        name=name,
        cls=Group,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def command(
    app: typer.Typer,
    example: str,
    *,
    name: str | None = None,
    announcement: str = Command.announcement,
    on_stop: str = Command.on_stop,
) -> Callable[[F], F]:
    """Return a decorator that adds a function to `app` as a command, with its docstring as help.

    example: a command line, shown at the end of the help. announcement, on_stop: as in `Command`.
    """
    kind = type("Command", (Command,), {"announcement": announcement, "on_stop": on_stop})

    def add(function: F) -> F:
        paragraphs = cleandoc(function.__doc__ or "").split("\n\n")
        help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)  # Typer keeps line breaks
        return app.command(name, cls=kind, help=help, epilog=f"Example: {example}")(function)

    return add


def _is_surely_valid(parameter: Any, value: Any) -> bool:
    """Whether Typer's check accepts `value` for certain. False where only that check can tell."""
    if value == parameter.default:
        return True
    if parameter.callback:
        return False
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if annotation not in (int, float):
        return True  # texts, paths and flags: whatever they hold, the command itself checks it
    try:
        number = annotation(value)
    except ValueError:
        return False
    return (parameter.min is None or number >= parameter.min) and (
        parameter.max is None or number <= parameter.max
    )


def _without_check(option: Any) -> Any:
    if option is not None:
        option.default = False  # Typer checks None with pydantic, and takes False as it is
    return option
