"""The commands that measure the search: demo, evaluate, evaluate-answers, tune and calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import AsJson, AsJsonLines, Compare, Dataset, OwnIndex, Profile, Read, Report, Within

app = group()


@command(app, "folioscope demo --folder demo")
def demo(
    folder: Annotated[
        Path, typer.Option(help="The folder to write the index, the pages and the report to.")
    ] = Path("demo"),
    profile: Profile = "cpu",
    as_json: AsJson = False,
) -> None:
    """Ingest the samples, search for ten questions, and write a report that opens in a browser.

    In the JSON, answers has the ten results, and stages the mean measures of each stage over more questions.
    """
    from configs.settings import load_profile
    from ui.cli.demo import run_demo

    run_demo(folder, load_profile(profile), as_json)


@command(app, "folioscope evaluate samples --compare cpu,smoke --html report.html")
def evaluate(
    dataset: Dataset,
    index: OwnIndex = "",
    profile: Profile = "cpu",
    compare: Compare = "",
    within: Within = False,
    read: Read = 20,
    html: Report = None,
    as_json: AsJsonLines = False,
) -> None:
    """Measure the quality and time of every stage on questions whose answers are known.

    With --json a line is printed for each profile, and then one for each comparison with the first profile. stages has
    the means of the measures, which have the names of ir_measures (nDCG@10, from 0 to 1); gain is that of reranking
    over the first stage in nDCG@10, and p that of a randomization test.
    """
    from ui.cli.evaluation import run_evaluation

    profiles = compare.split(",") if compare else [profile]
    run_evaluation(
        dataset, index=index, profiles=profiles, within=within, read=read, as_json=as_json, html=html
    )


@command(app, "folioscope evaluate-answers samples --cases cases.jsonl")
def evaluate_answers(
    dataset: Dataset,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="The file of gold answers; by default answers.jsonl of the data set.", show_default=False
        ),
    ] = None,
    unanswered: Annotated[
        Path | None,
        typer.Option(
            help="A file of questions that no page answers; by default unanswered.jsonl of the data set, if it is "
            "there.",
            show_default=False,
        ),
    ] = None,
    index: OwnIndex = "",
    profile: Profile = "cpu",
    compare: Compare = "",
    within: Within = False,
    cases: Annotated[
        Path | None,
        typer.Option(help="Write a line of JSON for each question to this file.", show_default=False),
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Count how often the answer is on the first page, lit there, and given in words, and how often it is refused.

    With --json a line is printed for each profile, and then two for each comparison with the first profile. tallies has
    counts of questions, for all of them and by attribute: lights are those of right first pages, lines the answer
    lines. refusal compares questions that a page answers with those that none does, in this order.
    """
    from ui.cli.answer_evaluation import run_answer_evaluation

    run_answer_evaluation(
        dataset,
        gold=answers,
        unanswered=unanswered,
        index=index,
        profiles=compare.split(",") if compare else [profile],
        within=within,
        as_json=as_json,
        cases=cases,
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
    """Choose fusion weights, rerank depth and gate by measurement, and report whether reranking pays.

    The candidates of every question are scored once, and other settings are replayed on them. In the JSON, pays tells
    whether reranking is significantly better; chosen, before (the profile's settings), first (the first stage alone)
    and front (the Pareto front of quality and time) are trials, with nDCG from 0 to 1 and the 95th percentile of the
    time in seconds; held_out is the nDCG@10 on questions that the settings were not tuned on.
    """
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
        typer.Option("--for", help="The index to calibrate; by default the data set's own."),
    ] = "",
    profile: Profile = "cpu",
    within: Within = False,
    html: Report = None,
    as_json: AsJson = False,
) -> None:
    """Fit the probability that a page answers to the reranker's scores, and store it in an index.

    Searches of that index then report the probability. In the JSON, ece is the expected calibration error and log_loss
    the mean log loss, both on questions that the curve was not fitted to; *_before are those of the scores as
    published.
    """
    from ui.cli.evaluation import run_calibrate

    run_calibrate(
        dataset, index=index, target=target, profile=profile, within=within, as_json=as_json, html=html
    )
