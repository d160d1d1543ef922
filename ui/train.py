"""`folioscope train`: from questions whose answers are known to a model that is measurably better, in four steps."""

from pathlib import Path
from typing import Annotated

import typer

from ui.options import AsJson, Profile, Within

train = typer.Typer(
    no_args_is_help=True,
    help="Train models on your own questions: mine, fit, export, promote.",
)

Kind = Annotated[
    str,
    typer.Argument(
        help="text (the small reranker), words (the small encoder), qwen3_vl (LoRA of Qwen3-VL-Reranker), "
        "colqwen (LoRA of a ColQwen encoder)."
    ),
]
MiniLM = Annotated[
    Path | None,
    typer.Option(
        help="config.json, model.safetensors, tokenizer.json of MiniLM-L6; else those of the installed package.",
        show_default=False,
    ),
]


@train.command()
def mine(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set, as of 'evaluate'; or groups of passages (.jsonl.gz with src, q, pos, negs)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the groups are written, as .jsonl.gz.")],
    index: Annotated[str, typer.Option("--index", "-i", help="Where to keep the index that is mined.")] = "",
    profile: Profile = "cpu",
    within: Within = False,
    negatives: Annotated[int, typer.Option(min=1, help="Kept of each question, at most.")] = 6,
    read: Annotated[int, typer.Option(min=1, help="Candidates that the teacher reads.")] = 12,
    likely: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="A candidate is dropped that the teacher finds this share as probable as the answer.",
        ),
    ] = 0.95,
    most: Annotated[int, typer.Option(min=0, help="Questions, drawn at random; 0: all.")] = 0,
    seed: int = 0,
    as_json: AsJson = False,
) -> None:
    """Find hard negatives: what the first stage ranks high and the reranker does not take for an answer."""
    from ui.training import run_mine

    options = {"negatives": negatives, "read": read, "likely": likely, "most": most, "seed": seed}
    run_mine(source, out, index, profile, within, options, as_json)


@train.command()
def fit(
    kind: Kind,
    groups: Annotated[list[Path], typer.Argument(help="What 'mine' wrote, or groups of passages.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The training's folder; a stopped one goes on there.")
    ],
    start: Annotated[
        Path | None,
        typer.Option(help="Go on from the weights of this earlier training.", show_default=False),
    ] = None,
    minilm: MiniLM = None,
    index: Annotated[
        str, typer.Option("--index", "-i", help="Where the pages are, for the kinds that look at them.")
    ] = "folioscope.lance",
    profile: Profile = "gpu-24gb",
    steps: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Groups a step.", show_default=False)] = None,
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Beside each positive.", show_default=False)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(show_default=False)] = None,
    distil: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="The teacher's share of the loss.", show_default=False),
    ] = None,
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="Steps.", show_default=False)] = None,
    seed: int = 0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Groups of each source that are kept back and judged by.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Of torch, on a processor.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train a model on groups; stopped at any moment, the same command goes on with it."""
    from ui.training import run_fit

    given = {
        "steps": steps, "batch": batch, "negatives": negatives, "learning_rate": learning_rate, "distil": distil,
        "checkpoint_every": checkpoint_every, "seed": seed,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    run_fit(kind, groups, out, start, minilm, index, profile, chosen, held_out, threads, as_json)


@train.command()
def export(
    kind: Kind,
    fitted: Annotated[Path, typer.Argument(help="The folder of 'fit'.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The model's folder, for 'text' and 'words'.", show_default=False),
    ] = None,
    base: Annotated[
        str, typer.Option(help="The model whose other half is kept: a name in models/, or a folder.")
    ] = "folio-1",
    groups: Annotated[
        Path | None,
        typer.Option(help="Groups whose texts int8 and float32 are compared by.", show_default=False),
    ] = None,
    minilm: MiniLM = None,
    as_json: AsJson = False,
) -> None:
    """Make a model that profiles can name: int8 ONNX, or a checkpoint with its adapter folded in."""
    from ui.training import run_export

    run_export(kind, fitted, out, base, groups, minilm, as_json)


@train.command()
def promote(
    kind: Kind,
    candidate: Annotated[str, typer.Argument(help="The model's folder, as 'export' wrote it.")],
    dataset: Annotated[str, typer.Argument(help="Questions that it was not trained on, as of 'evaluate'.")],
    index: Annotated[str, typer.Option("--index", "-i", help="The data set's index.")] = "",
    profile: Profile = "cpu",
    within: Within = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only compare.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a model in the place of the profile's own if it is better, with p < 0.05, on questions new to it.

    Exit code 1 where it is not.
    """
    from ui.promote import run_promote

    if not run_promote(kind, candidate, dataset, index, profile, within, dry_run, as_json):
        raise typer.Exit(1)
