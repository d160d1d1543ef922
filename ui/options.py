"""Options that several commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

INDEX = "folioscope.lance"
Index = Annotated[
    str, typer.Option("--index", "-i", envvar="FOLIOSCOPE_INDEX", help="The index's folder or URI.")
]
Profile = Annotated[
    str,
    typer.Option(
        "--profile", "-p", envvar="FOLIOSCOPE_PROFILE", help="A profile's name, or the path of a YAML file."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON, a line for each event or answer.")]
Dataset = Annotated[
    str, typer.Argument(help="A folder (pdfs/, queries.jsonl, qrels.txt; BEIR; ViDoRe), or an id of the hub.")
]
OwnIndex = Annotated[str, typer.Option("--index", "-i", help="Where to keep the data set's index.")]
Within = Annotated[bool, typer.Option("--within/--all", help="Search the question's document, or all.")]
Read = Annotated[int, typer.Option(min=1, help="Candidates that the reranker reads, to try depths up to it.")]
Report = Annotated[
    Path | None, typer.Option("--html", help="Also write a page of plots here.", show_default=False)
]
