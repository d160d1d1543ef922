"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

INDEX = "folioscope.lance"
Index = Annotated[
    str, typer.Option("--index", "-i", envvar="FOLIOSCOPE_INDEX", help="The folder or URI of the index.")
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile",
        "-p",
        envvar="FOLIOSCOPE_PROFILE",
        help="The name of a profile, or the path of a YAML file.",
    ),
]
ProfileName = Annotated[str, typer.Argument(help="The name of a profile, or the path of a YAML file.")]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on standard output, for an error too. Progress goes to standard error.",
    ),
]
AsJsonLines = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON Lines on standard output: an object for each event or item, and for an error. Everything else "
        "goes to standard error.",
    ),
]
Dataset = Annotated[
    str,
    typer.Argument(
        help="The folder of a data set (pdfs/, queries.jsonl and qrels.txt; BEIR; ViDoRe), or its id on the hub."
    ),
]
OwnIndex = Annotated[
    str, typer.Option("--index", "-i", help="The data set's index; by default in evaluation/.")
]
Within = Annotated[
    bool,
    typer.Option(
        "--within/--all", help="Whether a question searches only its own document, or all documents."
    ),
]
Read = Annotated[
    int,
    typer.Option(
        min=1,
        help="Candidates of each question that the reranker scores. The depths that are tried do not exceed it.",
    ),
]
Compare = Annotated[
    str,
    typer.Option(help="Profiles to measure, separated by commas. Each is also tested against the first."),
]
Report = Annotated[
    Path | None,
    typer.Option("--html", help="Also write a report with plots to this file.", show_default=False),
]
