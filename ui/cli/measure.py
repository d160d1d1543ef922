"""The commands that measure the search: demo, evaluate, tune and calibrate."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import AsJson, AsJsonLines, Dataset, OwnIndex, Profile, Read, Report, Within

app = group()


@command(app, "folioscope demo --folder demo")
def demo(
    folder: Annotated[Path, typer.Option(help="The folder for the index, the pages and the report.")] = Path(
        "demo"
    ),
    profile: Profile = "cpu",
    as_json: AsJson = False,
) -> None:
    """Ingest the samples, ask ten questions in two stages, and write a report that opens in a browser."""
    from configs.settings import load_profile
    from ui.cli.demo import run_demo

    run_demo(folder, load_profile(profile), as_json)


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
