"""Typer that answers help and wrong arguments before it imports anything heavy.

Typer checks values with pydantic, whose import takes longer than everything else in `--help`. `Command` first finds
out whether the arguments are complete, and `Group` and `Command` give `--help` a default that needs no check.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

F = TypeVar("F", bound=Callable[..., Any])


class Stopped(typer.TyperException):
    """The user pressed Ctrl-C; the message says what is left behind."""

    exit_code = 130


class Group(TyperGroup):
    def get_help_option(self, ctx: Any) -> Any:
        return _without_check(super().get_help_option(ctx))


class Command(TyperCommand):
    says = ""
    """Printed on standard error as soon as the arguments are known to be complete."""

    def get_help_option(self, ctx: Any) -> Any:
        return _without_check(super().get_help_option(ctx))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Stopped(
                "stopped; what was done is kept, and the same command continues from there"
            ) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if not given.get("help"):
            parameters: list[Any] = list(self.get_params(ctx))
            for parameter in parameters:
                value, _source = parameter.consume_value(ctx, given)
                if parameter.required and parameter.value_is_missing(value):
                    ctx.fail(f"Missing {parameter.param_type_name} {parameter.get_error_hint()}.")
            if rest:
                ctx.fail(f"Got unexpected extra arguments ({' '.join(map(str, rest))})")
            if self.says:
                typer.echo(self.says, err=True)
        return super().parse_args(ctx, args)


def group(help: str | None = None, name: str | None = None) -> typer.Typer:
    """Return a group of commands, which prints its help when it is called without one."""
    return typer.Typer(
        name=name,
        cls=Group,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def command(app: typer.Typer, example: str, *, name: str | None = None, says: str = "") -> Callable[[F], F]:
    """Return a decorator that adds a function to `app` as a command.

    example: a command line, shown at the end of the command's help. says: see `Command.says`.
    """
    kind = type("Command", (Command,), {"says": says})
    return app.command(name, cls=kind, epilog=f"Example: {example}")


def _without_check(option: Any) -> Any:
    if option is not None:
        option.default = False  # Typer checks None with pydantic, and takes False as it is
    return option
