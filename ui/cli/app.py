"""Assembles the command line from its commands, and turns errors into messages and exit codes.

Exit codes: 0 done, 1 some files failed, 2 wrong use, 3 something is not installed, 130 stopped by Ctrl-C. With `--json`
standard output contains only JSON, errors included: `{"error": {"code", "message"}}`.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from configs.errors import ProfileError
from ui.cli import ask, docs, index, ingest, measure, profiles, search, serve, train
from ui.cli.commands import Stopped, group

app = group("Finds the page that answers a question, in PDFs, scans, tables and charts.", "folioscope")
for part in (ingest, search, ask, serve, measure):
    app.add_typer(part.app)
app.add_typer(docs.app, name="docs")
app.add_typer(index.app, name="index")
app.add_typer(train.app, name="train")
app.add_typer(profiles.app)


def main() -> None:
    """Run the command line. Expected errors are printed as one line on standard error, with --json as JSON."""
    options = sys.argv[1 : sys.argv.index("--")] if "--" in sys.argv else sys.argv[1:]
    as_json = "--json" in options
    try:
        with log_on_terminal():
            sys.exit(app(standalone_mode=not as_json))
    except Stopped as error:
        _end(as_json, error.exit_code, "Stopped", error.message)
    except KeyboardInterrupt:
        sys.exit(130)
    except typer.Abort:  # only with --json: otherwise Typer prints it
        _end(as_json, 1, "Aborted", "the prompt on the terminal was not answered")
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


@contextmanager
def log_on_terminal() -> Iterator[None]:
    """Print on standard error what the layers below the command line log, until the block ends."""
    log, handler = logging.getLogger("folioscope"), LogOnTerminal()
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate


class LogOnTerminal(logging.Handler):
    """Prints records on standard error, each on one line, beside a progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from ui.cli import terminal

        terminal.errors.print(self.format(record), soft_wrap=True)


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
