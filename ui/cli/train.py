"""`folioscope train`: from questions whose answers are known to a model that is measurably better, in four steps."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import AsJson, AsJsonLines, Profile, Within

app = group("Train models on your own questions: mine, fit, export, promote.")

Kind = Annotated[
    str,
    typer.Argument(
        help="text (the small reranker), words (the small encoder), qwen3_vl (LoRA of Qwen3-VL-Reranker), "
        "colqwen (LoRA of a ColQwen encoder)."
    ),
]
Seed = Annotated[int, typer.Option(help="The seed of all random choices.")]
MiniLM = Annotated[
    Path | None,
    typer.Option(
        help="The folder with config.json, model.safetensors and tokenizer.json of MiniLM-L6; by default those of the "
        "installed package.",
        show_default=False,
    ),
]


@command(app, "folioscope train mine samples --out groups.jsonl.gz")
def mine(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set, as for 'evaluate', or groups of passages (.jsonl.gz with src, q, pos, negs)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write the groups to, as .jsonl.gz.")],
    index: Annotated[str, typer.Option("--index", "-i", help="Where the index that is mined is kept.")] = "",
    profile: Profile = "cpu",
    within: Within = False,
    negatives: Annotated[int, typer.Option(min=1, help="The most negatives to keep for a question.")] = 6,
    read: Annotated[
        int, typer.Option(min=1, help="Candidates of each question that the teacher scores.")
    ] = 12,
    likely: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Drop a candidate if the teacher gives it at least this fraction of the answer's probability.",
        ),
    ] = 0.95,
    most: Annotated[
        int, typer.Option(min=0, help="The number of questions, drawn at random; 0 takes all.")
    ] = 0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find hard negatives: pages that the first stage ranks high and the reranker does not take for an answer."""
    from ui.cli.train_steps import run_mine

    options = {"negatives": negatives, "read": read, "likely": likely, "most": most, "seed": seed}
    run_mine(source, out, index=index, profile=profile, within=within, options=options, as_json=as_json)


@command(app, "folioscope train fit text groups.jsonl.gz --out training/")
def fit(
    kind: Kind,
    groups: Annotated[list[Path], typer.Argument(help="Files that 'mine' wrote, or groups of passages.")],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The folder of the training, where a stopped one continues."),
    ],
    start: Annotated[
        Path | None,
        typer.Option(help="Start from the weights of this earlier training.", show_default=False),
    ] = None,
    minilm: MiniLM = None,
    index: Annotated[
        str,
        typer.Option("--index", "-i", help="The index with the pages, for the kinds that read page images."),
    ] = "folioscope.lance",
    profile: Profile = "gpu-24gb",
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps.", show_default=False)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Groups in a step.", show_default=False)] = None,
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Negatives beside each positive.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest learning rate.", show_default=False)
    ] = None,
    distil: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="The teacher's share of the loss, from 0 to 1.", show_default=False
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.", show_default=False)
    ] = None,
    seed: Seed = 0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Groups of each source that are held out for validation.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch uses on a CPU.")] = 1,
    as_json: AsJsonLines = False,
) -> None:
    """Train a model on groups. If it is stopped at any moment, the same command continues it."""
    from ui.cli.train_steps import run_fit

    given = {
        "steps": steps, "batch": batch, "negatives": negatives, "learning_rate": learning_rate, "distil": distil,
        "checkpoint_every": checkpoint_every, "seed": seed,
    }  # fmt: skip
    chosen = {name: value for name, value in given.items() if value is not None}
    run_fit(
        kind, groups, out, start=start, minilm=minilm, index=index, profile=profile, chosen=chosen,
        held_out=held_out, threads=threads, as_json=as_json,
    )  # fmt: skip


@command(app, "folioscope train export text training/ --out models/mine --groups groups.jsonl.gz")
def export(
    kind: Kind,
    fitted: Annotated[Path, typer.Argument(help="The folder that 'fit' wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The folder for the model, for 'text' and 'words'.", show_default=False
        ),
    ] = None,
    base: Annotated[
        str,
        typer.Option(help="The model that the other half is copied from: a name in models/, or a folder."),
    ] = "folio-1",
    groups: Annotated[
        Path | None,
        typer.Option(help="Groups whose texts are used to compare int8 with float32.", show_default=False),
    ] = None,
    minilm: MiniLM = None,
    as_json: AsJson = False,
) -> None:
    """Write a model that a profile can name: int8 ONNX, or a checkpoint with its adapter merged."""
    from ui.cli.train_steps import run_export

    run_export(kind, fitted, out=out, base=base, groups=groups, minilm=minilm, as_json=as_json)


@command(app, "folioscope train promote text models/mine held-out/ --dry-run")
def promote(
    kind: Kind,
    candidate: Annotated[str, typer.Argument(help="The model's folder, as written by 'export'.")],
    dataset: Annotated[
        str, typer.Argument(help="A data set, as for 'evaluate', that it was not trained on.")
    ],
    index: Annotated[str, typer.Option("--index", "-i", help="The index of the data set.")] = "",
    profile: Profile = "cpu",
    within: Within = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Compare only, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Replace the profile's model by a candidate that is better, with p < 0.05, on questions that are new to it.

    Exits with 1 if it is not better.
    """
    from ui.cli.promote import run_promote

    better = run_promote(
        kind,
        candidate,
        dataset,
        index=index,
        profile=profile,
        within=within,
        dry_run=dry_run,
        as_json=as_json,
    )
    if not better:
        raise typer.Exit(1)
