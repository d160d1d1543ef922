"""Options that several commands have in common."""

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
        help="Print one JSON object on standard output, also for an error; progress goes to standard error.",
    ),
]
AsJsonLines = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print JSON Lines on standard output, an object for each event or item, also for an error; everything "
        "else goes to standard error.",
    ),
]
Dataset = Annotated[
    str,
    typer.Argument(
        help="A folder (pdfs/, queries.jsonl and qrels.txt; BEIR; ViDoRe), or the id of a data set on the hub."
    ),
]
OwnIndex = Annotated[str, typer.Option("--index", "-i", help="Where the index of the data set is kept.")]
Within = Annotated[
    bool, typer.Option("--within/--all", help="Search only the document of each question, or all documents.")
]
Read = Annotated[
    int,
    typer.Option(
        min=1, help="Candidates of each question that the reranker scores; depths up to it are tried."
    ),
]
Report = Annotated[
    Path | None,
    typer.Option("--html", help="Also write a report with plots to this file.", show_default=False),
]
