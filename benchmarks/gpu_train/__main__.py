"""Trains the small models on a GPU that is there for minutes only.

    python -m benchmarks.gpu_train pack QUESTIONS --mpnet FOLDER --groups FILE ... --out build/gpu-train
    python -m benchmarks.gpu_train fit --data build/gpu-train --budget-s 300 --out FOLDER
    python -m benchmarks.gpu_train unpack --from FOLDER --data build/gpu-train --out runs/gpu
    python -m benchmarks.gpu_train judge MODEL ... --data build/gpu-train --out FILE

`pack` runs where the product is installed; QUESTIONS is a folder with pdfs/, questions.jsonl, sources.jsonl and
contrast.jsonl. `fit` needs torch, transformers, tokenizers, safetensors, numpy and pillow only.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.train.groups import Group


PHASES = ("teacher", "reader", "encoder")
TRAINED_ON = "trained_on.json"
"""Hashes of the questions that were packed to be fitted."""
BEGAN = time.monotonic()
"""The budget includes the imports."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    {"pack": _pack, "fit": _fit, "unpack": _unpack, "judge": _judge}[options.command](options)


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the four commands."""
    made = argparse.ArgumentParser(
        prog="benchmarks.gpu_train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", help="make the folder that travels to the GPU")
    pack.add_argument("questions", type=Path)
    pack.add_argument("--groups", type=Path, action="append", default=[], help="a file of passage groups")
    pack.add_argument("--xquad", type=Path, help="a file of XQuAD")
    pack.add_argument("--minilm", type=Path, help="MiniLM's folder; by default that of the extra 'train'")
    pack.add_argument("--written", type=Path, action="append", default=[], help="questions by page and line")
    pack.add_argument("--squad", type=Path, action="append", default=[], help="a file in SQuAD's format")
    pack.add_argument("--tatqa", type=Path, action="append", default=[], help="a file of TAT-QA")
    pack.add_argument("--wikitables", type=Path, help="the folder of WikiTableQuestions")
    pack.add_argument(
        "--mpnet", type=Path, help="the folder of all-mpnet-base-v2; without it there is no teacher"
    )
    pack.add_argument("--layers", type=int, default=9, help="how many of MPNet's layers")
    pack.add_argument("--steps", type=float, default=1.9, help="precision of MPNet's layers")
    pack.add_argument("--word-steps", type=float, default=1.3, help="precision of MPNet's word table")
    pack.add_argument("--samples", type=int, default=40, help="pairs on which MPNet's rounding is fitted")
    pack.add_argument("--minilm-steps", type=float, default=12.0, help="precision of MiniLM")
    pack.add_argument("--workers", type=int, default=2, help="processes that read PDFs")
    pack.add_argument("--out", type=Path, required=True)
    fit = commands.add_parser("fit", help="train within a budget of seconds")
    fit.add_argument("--data", type=Path, required=True)
    fit.add_argument("--teacher", type=Path, help="the teacher's file, if not mpnet.bin in the data's folder")
    fit.add_argument("--budget-s", type=float, default=300.0)
    fit.add_argument("--device", default="cuda")
    fit.add_argument("--smoke", action="store_true", help="three steps of each phase")
    fit.add_argument("--tiny", action="store_true", help="small random models")
    fit.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES, help="what to train")
    fit.add_argument("--start", type=Path, help="a folder with the weights that the reader starts from")
    fit.add_argument("--scores", type=Path, help="the teacher's scores of an earlier run with the same data")
    fit.add_argument("--frozen", type=int, default=0, help="the lowest layers that are not trained")
    fit.add_argument("--rounded", action="store_true", help="train the reader with weights rounded to int8")
    fit.add_argument("--learning-rate", type=float, help="the reader's highest")
    fit.add_argument("--groups", type=int, help="of a step of the reader")
    fit.add_argument("--windows", type=int, help="the most of a group in a step of the reader")
    fit.add_argument("--decay", type=float, help="of the average of the reader's weights")
    fit.add_argument(
        "--share", type=_share, action="append", default=[], help="SOURCE=SHARE of its groups in a pass"
    )
    fit.add_argument("--measured", type=float, default=1.0, help="the part of the held-out questions")
    fit.add_argument("--out", type=Path, required=True)
    unpack = commands.add_parser("unpack", help="join the weights that came back")
    unpack.add_argument("--from", dest="source", type=Path, required=True)
    unpack.add_argument("--data", type=Path, required=True, help="what was packed")
    unpack.add_argument("--minilm", type=Path)
    unpack.add_argument("--out", type=Path, required=True)
    judge = commands.add_parser("judge", help="measure exported readers on the held-out part")
    judge.add_argument("models", type=Path, nargs="+", help="folders with reader.onnx")
    judge.add_argument("--data", type=Path, required=True)
    judge.add_argument("--measured", type=float, default=1.0, help="the part of the held-out questions")
    judge.add_argument("--out", type=Path, required=True)
    return made


def _pack(options: argparse.Namespace) -> None:
    from benchmarks.gpu_train import carry
    from benchmarks.gpu_train.documents import read_document
    from benchmarks.gpu_train.pack import build, read_answers, read_rows
    from benchmarks.gpu_train.spans import Spans, marked_by_line, marked_of, read_squad
    from retrieval.train.curriculum import question_hash
    from retrieval.train.minilm import load_tokenizer
    from retrieval.train.packed import SETS, write_packed

    minilm = options.minilm or carry.shipped_minilm()
    tokenizer = load_tokenizer(minilm)
    paths = sorted((options.questions / "pdfs").glob("*.pdf"))
    with ProcessPoolExecutor(options.workers) as pool:
        pages = [page for pages in pool.map(read_document, paths, chunksize=2) for page in pages]
    questions = read_rows(options.questions / "questions.jsonl")
    builder = build(
        tokenizer,
        pages,
        questions,
        read_rows(options.questions / "sources.jsonl"),
        contrast=read_rows(options.questions / "contrast.jsonl"),
        groups=_groups(options),
        answers=read_answers(options.xquad) if options.xquad else [],
    )
    spans = Spans(builder)
    held = {row["file"] for row in questions if row["split"] == "held"}
    spans.add_marked(list(marked_of(questions, builder)))
    for path in options.written:
        spans.add_marked(list(marked_by_line(read_rows(path), builder.pages, held)))
    if options.wikitables:
        spans.add_tables(options.wikitables)
    for path in options.tatqa:
        spans.add_tatqa(path)
    for path in options.squad:
        builder.add_answers(read_squad(path), f"{path.stem} answers", negatives=1, apart=1)
    packed, counts = builder.packer.packed(), asdict(builder.counts) | spans.counts
    options.out.mkdir(parents=True, exist_ok=True)
    write_packed(options.out / "data.xz", packed)
    asked = [*builder.asked, *spans.asked]
    hashes = sorted({question_hash(question) for question in asked})
    (options.out / TRAINED_ON).write_text(json.dumps(hashes), encoding="utf-8")
    pieces = carry.pieces_in(packed.tokens)
    carry.write_minilm(minilm, options.out / "minilm.bin", pieces, tokenizer, options.minilm_steps)
    if options.mpnet:
        carry.write_mpnet(
            options.mpnet,
            options.out / "mpnet.bin",
            pieces,
            layers=options.layers,
            steps=options.steps,
            word_steps=options.word_steps,
            samples=carry.samples_of(packed, options.samples),
        )
    sizes = {file.name: f"{file.stat().st_size / 2**20:.1f} MiB" for file in sorted(options.out.iterdir())}
    sets = {name: int((packed.group_set == i).sum()) for i, name in enumerate(SETS)}
    report: dict[str, Any] = {"pages": len(pages), "windows": len(packed.window_text), "groups": sets}
    print(json.dumps(report | counts | sizes, indent=1))


def _fit(options: argparse.Namespace) -> None:
    from benchmarks.gpu_train.fit import SHARES, FitOptions, fit

    given = {name: getattr(options, name) for name in ("learning_rate", "groups", "windows", "decay")}
    student = replace(
        FitOptions().student,
        dropout=options.device != "cpu",
        **{name: value for name, value in given.items() if value},
    )
    chosen = FitOptions(
        student=student,
        phases=tuple(options.phases),
        frozen=options.frozen,
        rounded=options.rounded,
        shares=SHARES | dict(options.share),
        measured=options.measured,
        budget_s=options.budget_s,
        device=options.device,
        smoke=options.smoke,
        tiny=options.tiny,
        began=BEGAN,
    )
    fit(
        options.data,
        options.out,
        chosen,
        teacher=options.teacher,
        start=options.start,
        scores=options.scores,
    )


def _share(text: str) -> tuple[str, float]:
    name, _, share = text.rpartition("=")
    return name, float(share)


def _unpack(options: argparse.Namespace) -> None:
    from benchmarks.gpu_train import carry
    from benchmarks.gpu_train.unpack import unpack

    minilm = options.minilm or carry.shipped_minilm()
    for folder in unpack(options.source, options.out, minilm, options.data / TRAINED_ON):
        print(folder)


def _judge(options: argparse.Namespace) -> None:
    import torch

    from benchmarks.gpu_train.carry import continuing
    from benchmarks.gpu_train.judge import judge
    from benchmarks.gpu_train.resident import Resident
    from retrieval.models.onnx import ModelFolder
    from retrieval.train.packed import read_packed

    packed = read_packed(options.data / "data.xz")
    continues = continuing(ModelFolder(str(options.models[0])).tokenizer())
    figures = judge(options.models, Resident(packed, continues, torch.device("cpu")), options.measured)
    options.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))


def _groups(options: argparse.Namespace) -> "list[Group]":
    from retrieval.train.groups import read_groups

    return [group for path in options.groups for group in read_groups(path)]


if __name__ == "__main__":
    main()
