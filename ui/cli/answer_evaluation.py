"""Runs `folioscope evaluate-answers`: counts how often the answer is found, lit and given, and prints it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from retrieval.evaluation.answer_tally import Refusal, Tally
from retrieval.evaluation.answers import JudgedAnswer
from retrieval.evaluation.evaluate import paired_p
from ui.cli import terminal
from ui.service.answer_measurement import AnswerRun, measure_answers

COMPARED: Mapping[str, Callable[[JudgedAnswer], float]] = {
    "light on the answer": lambda each: float(each.light == "answer"),
    "answer exact": lambda each: float(each.line == "exact"),
}

PAGES = ("", "questions", "right page", "by itself")
LIGHTS = ("", "judged", "answer", "wide", "passage", "elsewhere", "none", "misleads")
LINES = ("", "exact", "in part", "wrong", "silent")


def run_answer_evaluation(
    place: str,
    *,
    gold: Path | None,
    unanswered: Path | None,
    index: str,
    profiles: Sequence[str],
    within: bool,
    as_json: bool,
    cases: Path | None,
) -> None:
    """Measure each profile's answers, test each against the first, and write a line for each question to `cases`."""
    folder = index if len(profiles) == 1 else ""
    with terminal.work(as_json) as on_progress:
        runs = [
            measure_answers(
                place,
                gold_file=gold,
                unanswered=unanswered,
                index=folder,
                profile=profile,
                within=within,
                on_progress=on_progress,
            )
            for profile in profiles
        ]
    for run in runs:
        if as_json:
            terminal.print_json(_run_json(run, within))
        else:
            _print_run(run, "within the question's document" if within else "over all documents")
    for other in runs[1:]:
        for comparison in _comparisons(runs[0], other):
            if as_json:
                terminal.print_json(comparison)
            else:
                terminal.console.print(
                    f"{other.profile} against {runs[0].profile}: {comparison['measure']} "
                    f"{100 * comparison['difference']:+.1f}, p = {comparison['p']:.3f} (paired randomization test, "
                    f"{comparison['questions']} questions)"
                )
    if cases:
        lines = [
            json.dumps(_case(run.profile, each), ensure_ascii=False) for run in runs for each in run.judged
        ]
        cases.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        terminal.errors.print(f"A line for each question is in {cases}")


def _comparisons(first: AnswerRun, other: AnswerRun) -> list[dict[str, Any]]:
    rows = []
    for measure, value in COMPARED.items():
        values, other_values = ([value(each) for each in run.judged] for run in (first, other))
        rows.append(
            {
                "first": first.profile,
                "other": other.profile,
                "measure": measure,
                "questions": len(values),
                "difference": (sum(other_values) - sum(values)) / len(values),
                "p": paired_p(values, other_values),
            }
        )
    return rows


# JSON


def _run_json(run: AnswerRun, within: bool) -> dict[str, Any]:
    refusal = run.refusal()
    return {
        "dataset": run.dataset,
        "profile": run.profile,
        "within": within,
        "tallies": [asdict(row) for row in run.tallies()],
        "refusal": asdict(refusal) | {"auc": terminal.snake_case(refusal.auc)} if refusal else None,
    }


def _case(profile: str, judged: JudgedAnswer) -> dict[str, Any]:
    facts = asdict(judged)
    question, signs = facts.pop("question"), facts.pop("signs")
    return {
        "profile": profile,
        "query_id": question["query_id"],
        "text": question["text"],
        **facts,
        "misleads": judged.misleads,
        **signs,
    }


# Tables


def _print_run(run: AnswerRun, scope: str) -> None:
    rows = run.tallies()
    title = f"{run.dataset}, {run.profile}: {len(run.judged)} questions {scope}"
    _print_table(f"{title}: the first page", PAGES, rows, _pages)
    _print_table("what the strongest light on right first pages is on", LIGHTS, rows, _lights)
    _print_table(
        "the answer line, of questions whose first page is right", (*LINES, "token F1"), rows, _lines_of_right
    )
    _print_table("the answer line, of all questions", LINES, rows, _lines)
    if refusal := run.refusal():
        _print_refusal(refusal)


def _print_table(
    title: str, heads: Sequence[str], rows: Sequence[Tally], cells: Callable[[Tally], list[str]]
) -> None:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right" if head else "left")
    for row in rows:
        name = f"{row.attribute}: {row.value}" if row.attribute else row.value
        table.add_row(name, *cells(row))
    terminal.console.print(table)


def _pages(row: Tally) -> list[str]:
    return [str(row.questions), _share(row.right, row.questions), _share(row.by_itself, row.questions)]


def _lights(row: Tally) -> list[str]:
    counts = [row.lights[light] for light in ("answer", "wide", "passage", "elsewhere", "none")]
    return [str(row.judged), *(_share(count, row.judged) for count in (*counts, row.misleading))]


def _lines_of_right(row: Tally) -> list[str]:
    f1 = "" if row.f1 != row.f1 else f"{100 * row.f1:.1f}"
    return [*_line_shares(row.lines_of_right, row.right), f1]


def _lines(row: Tally) -> list[str]:
    return _line_shares(row.lines, row.questions)


def _line_shares(lines: Mapping[Any, int], of: int) -> list[str]:
    return [_share(lines[line], of) for line in ("exact", "part", "wrong", "silent")]


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.0f}%)" if of else str(count)


def _print_refusal(refusal: Refusal) -> None:
    table = Table(
        title="questions that a page answers, and others that no page answers",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for head in ("", "questions", "said to match badly", "without an answer"):
        table.add_column(head, justify="right" if head else "left")
    sides = (("answered", refusal.answered), ("not answered", refusal.unanswered))
    for at, (name, of) in enumerate(sides):
        table.add_row(name, str(of), _share(refusal.weak[at], of), _share(refusal.silent[at], of))
    terminal.console.print(table)
    areas = ", ".join(f"{name} {100 * value:.1f}" for name, value in refusal.auc.items()) or "no sign differs"
    terminal.console.print(f"AUC of answered against not answered (× 100): {areas}")
