"""Prints a written answer on the terminal while it arrives, then its quotes."""

from collections.abc import Iterable

from rich.text import Text

from retrieval.answering.types import Citation, CitedAnswer, Delta, Event, Problem
from ui.cli import terminal

PROBLEMS: dict[Problem, str] = {
    "not_found": "not found on the page",
    "no_quote": "no quote",
    "no_such_page": "names a page that the model was not given",
    "number": "a number is not in the quote",
    "negation": "the sentence and the quote differ in a negation",
    "unchecked": "the place has no words to compare with",
}


def last(steps: Iterable[Event]) -> CitedAnswer:
    """Return the whole answer, without printing."""
    *_, answer = steps
    assert isinstance(answer, CitedAnswer)
    return answer


def print_steps(steps: Iterable[Event]) -> CitedAnswer:
    """Print text and marks as they arrive, then status, quotes and notes. Return the whole answer."""
    out, has_text = terminal.console, False
    for event in steps:
        if isinstance(event, Delta):
            out.print(Text(event.text), end="", soft_wrap=True)
            has_text = True
        elif isinstance(event, Citation):
            mark = f" [{event.n}]" if event.verified else " [?]"
            out.print(Text(mark, "green" if event.verified else "yellow"), end="", soft_wrap=True)
        elif isinstance(event, CitedAnswer):
            if has_text:
                out.print("\n")
            _print_end(event)
            return event
    raise AssertionError("the last step is the answer")


def _print_end(answer: CitedAnswer) -> None:
    out = terminal.console
    out.print(Text(f"{answer.status}: {answer.message}", "bold"), soft_wrap=True)
    for citation in answer.citations:
        name = citation.page.name if citation.page else "no page"
        problems = "; ".join(PROBLEMS[problem] for problem in citation.problems)
        quote = f' "{citation.cited_text}"' if citation.cited_text else ""
        handle = f"[{citation.n}]" if citation.n else "[?]"
        line = Text(f"  {handle} {name}{quote}")
        line.append(f"  {problems or citation.match}", "yellow" if problems else "green")
        out.print(line, soft_wrap=True)
    if not answer.citations:
        for given in answer.pages:
            likely = "" if given.confidence is None else f"  {given.confidence:.0%} likely"
            out.print(Text(f"  [{given.n}] {given.page.name}{likely}"), soft_wrap=True)
    for note in answer.notes:
        out.print(Text(f"  {note.text}", "dim"), soft_wrap=True)
