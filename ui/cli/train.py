"""`folioscope train`: trains a model on questions whose answers are known, in four steps."""

from pathlib import Path
from typing import Annotated

import typer

from ui.cli.commands import command, group
from ui.cli.options import AsJson, AsJsonLines, Profile, Within

app = group("Train models on your own questions, in four steps: mine, fit, export, promote.")

Kind = Annotated[
    str,
    typer.Argument(
        help="The kind of model: text (the small reranker), words (the small encoder), qwen3_vl (LoRA of "
        "Qwen3-VL-Reranker) or colqwen (LoRA of a ColQwen encoder); for export and promote also reader (a small "
        "reranker that also finds the answer's words)."
    ),
]
Seed = Annotated[int, typer.Option(help="The seed of all random choices.")]
MiniLM = Annotated[
    Path | None,
    typer.Option(
        help="The folder with config.json, model.safetensors and tokenizer.json of MiniLM-L6; by default that of the "
        "installed package.",
        show_default=False,
    ),
]


@command(app, "folioscope train mine samples --out groups.jsonl.gz")
def mine(
    source: Annotated[
        str,
        typer.Argument(
            help="A data set, as for 'evaluate', or a file of groups of passages (.jsonl.gz with src, q, pos, negs)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write the groups to, as .jsonl.gz.")],
    index: Annotated[
        str,
        typer.Option("--index", "-i", help="The index to mine; by default in evaluation/."),
    ] = "",
    profile: Profile = "cpu",
    within: Within = False,
    negatives: Annotated[int, typer.Option(min=1, help="The most negatives of a question.")] = 6,
    read: Annotated[
        int, typer.Option(min=1, help="Candidates of each question that the teacher scores.")
    ] = 12,
    likely: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Drop a candidate if the teacher scores it at least this fraction of the answer's score, 0 to 1.",
        ),
    ] = 0.95,
    most: Annotated[int, typer.Option(min=0, help="The most questions, drawn at random; 0 takes all.")] = 0,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find hard negatives: pages that the first stage ranks high but the reranker does not score like an answer."""
    from ui.cli.train_steps import run_mine

    options = {"negatives": negatives, "read": read, "likely": likely, "most": most, "seed": seed}
    run_mine(source, out, index=index, profile=profile, within=within, options=options, as_json=as_json)


@command(
    app,
    "folioscope train fit text groups.jsonl.gz --out training/",
    on_stop="stopped; the same command continues from the last checkpoint",
)
def fit(
    kind: Kind,
    groups: Annotated[list[Path], typer.Argument(help="Files of groups, as written by 'mine'.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The folder of the training, which continues from a checkpoint in it.",
        ),
    ],
    start: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of an earlier training, in this folder.", show_default=False
        ),
    ] = None,
    minilm: MiniLM = None,
    index: Annotated[
        str,
        typer.Option("--index", "-i", help="The index with the pages, for kinds that read page images."),
    ] = "folioscope.lance",
    profile: Profile = "gpu-24gb",
    steps: Annotated[
        int | None, typer.Option(min=1, help="The number of training steps.", show_default=False)
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Groups in each step.", show_default=False)] = None,
    negatives: Annotated[
        int | None, typer.Option(min=1, help="Negatives in each group.", show_default=False)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="The highest learning rate.", show_default=False)
    ] = None,
    distil: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="The weight of the teacher's scores in the loss, 0 to 1.",
            show_default=False,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(min=1, help="Steps between checkpoints.", show_default=False)
    ] = None,
    seed: Seed = 0,
    held_out: Annotated[
        int, typer.Option(min=0, help="Groups of each source that are held out for validation.")
    ] = 60,
    threads: Annotated[int, typer.Option(min=1, help="Threads that torch uses on a processor.")] = 1,
    as_json: AsJsonLines = False,
) -> None:
    """Train a model on groups. After an interruption, the same command continues the training.

    With --json a line is printed for each step.
    """
    from ui.cli.train_steps import run_fit

    given = {
        "steps": steps,
        "batch": batch,
        "negatives": negatives,
        "learning_rate": learning_rate,
        "distil": distil,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    run_fit(
        kind,
        groups,
        out,
        start=start,
        minilm=minilm,
        index=index,
        profile=profile,
        chosen=chosen,
        held_out=held_out,
        threads=threads,
        as_json=as_json,
    )


@command(app, "folioscope train export text training/ --out models/mine --groups groups.jsonl.gz")
def export(
    kind: Kind,
    fitted: Annotated[Path, typer.Argument(help="The folder of the training, as written by 'fit'.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The folder to write the model to; needed for text and words.",
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str,
        typer.Option(help="The model that has the untrained part: a name in models/, or a folder."),
    ] = "folio-2",
    groups: Annotated[
        Path | None,
        typer.Option(
            help="Groups to compare int8 with float32 on; needed for text and words.",
            show_default=False,
        ),
    ] = None,
    minilm: MiniLM = None,
    as_json: AsJson = False,
) -> None:
    """Write the trained model so that a profile can name it: as int8 ONNX, or as a checkpoint with merged adapter.

    In the JSON for text and words, correlation and largest compare the outputs of int8 and float32.
    """
    from ui.cli.train_steps import run_export

    run_export(kind, fitted, out=out, base=base, groups=groups, minilm=minilm, as_json=as_json)


@command(app, "folioscope train promote text models/mine held-out/ --dry-run")
def promote(
    kind: Kind,
    candidate: Annotated[str, typer.Argument(help="The candidate's folder, as written by 'export'.")],
    dataset: Annotated[
        str, typer.Argument(help="A data set, as for 'evaluate', that the candidate was not trained on.")
    ],
    index: Annotated[
        str,
        typer.Option("--index", "-i", help="The data set's index; by default in evaluation/."),
    ] = "",
    profile: Profile = "cpu",
    within: Within = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only compare the models; change nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replace the profile's model by a candidate if that is better, with p < 0.05, on questions that it has not seen.

    In the JSON, ndcg and candidate_ndcg are the means of nDCG@10 of both models, 0 to 1. Exits with 1 if the candidate
    is not better.
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
