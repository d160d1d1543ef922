"""`folioscope evaluate`, `tune` and `calibrate`: one pass over a data set, and what follows from it.

Every question is asked once, with generous depth; stages, other settings, curves and the report are all computed from
what each stage said of each candidate (`retrieval.observe`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import configs.settings as configs
from ingest.datasets import open_dataset
from ingest.pipeline import ingest
from retrieval import calibrate, confidence, evaluate, tune
from retrieval.errors import FolioscopeError
from retrieval.evaluate import Dataset, Evaluation
from retrieval.observe import FIRST, Observed, Spending, observe, stages
from retrieval.store import Store
from ui import assemble, measure_report, show

SHOWN = ("nDCG@5", "nDCG@10", "RR@10", "R@10", "R@100")
LEAST = 5  # questions of a slice that is worth a line


@dataclass(frozen=True)
class Measured:
    """A data set through one profile."""

    profile: str
    settings: configs.Settings
    dataset: Dataset
    store: Store
    reranker: str  # "" without one
    observed: tuple[Observed, ...]
    result: Evaluation

    @property
    def spending(self) -> Spending:
        return spending_of(self.settings)


def spending_of(settings: configs.Settings) -> Spending:
    search = settings.search
    depth = 0 if isinstance(settings.reranker, configs.NoReranker) else search.rerank
    return Spending(search.text_weight, search.rerank_weight, depth, search.gate or inf)


def own_index(place: str, name: str) -> Path:
    """Where the index of a data set is kept that was given no place; `name` says for what."""
    return Path("evaluation") / f"{Path(place).resolve().name}-{Path(name).stem}.lance"


def measured(
    place: str,
    index: str,
    profile: str,
    within: bool,
    read: int,
    as_json: bool,
    settings: configs.Settings | None = None,
) -> Measured:
    """Ingest what is missing, and ask every question; the reranker reads `read` candidates of each.

    settings: those of the profile, if not these.
    """
    settings = settings or configs.load(profile)
    folder = Path(index) if index else own_index(place, profile)
    dataset = open_dataset(place, folder.with_suffix(".documents"))
    store, encoder = assemble.store_to_write(str(folder), settings)
    failures = show.follow(ingest([dataset.documents], store, encoder, settings.ingest), as_json)
    if failures and not as_json:
        show.print_failures(failures)
    evaluate.require(dataset, store)
    generous = settings.search.model_copy(
        update={"depth": 2 * FIRST, "rerank": read, "gate": None, "rules": ()}
    )
    searcher = assemble.searcher_of(store, encoder, settings.model_copy(update={"search": generous}))
    total = len(dataset.questions)
    with show.waiting(f"asking {total} questions") as status:

        def told(done: int) -> None:
            if status is not None:
                status.update(f"asked {done} of {total} questions")

        observed = tuple(observe(dataset, searcher, within=within, told=told))
    result = stages(dataset, observed, spending_of(settings))
    name = searcher.reranker.name if searcher.reranker else ""
    return Measured(profile, settings, dataset, store, name, observed, result)


# evaluate


def run(
    place: str,
    index: str,
    profiles: Sequence[str],
    within: bool,
    read: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure one profile, or compare several on the same questions."""
    depth = max(read, *(configs.load(profile).search.rerank for profile in profiles))
    done = [
        measured(place, index if len(profiles) == 1 else "", profile, within, depth, as_json)
        for profile in profiles
    ]
    where = "within the question's document" if within else "over all documents"
    for one in done:
        facts = summary(one.result) | {"slices": slices(one.result)}
        if as_json:
            show.print_json(
                {"dataset": one.dataset.name, "profile": one.profile, "within": within,
                 "questions": len(one.result.questions), **facts}
            )  # fmt: skip
        else:
            _print(one, facts, where)
    pairs = [_pair(done[0], other) for other in done[1:]]
    for pair in pairs:
        if as_json:
            show.print_json(pair)
        else:
            show.console.print(
                f"{pair['other']} against {pair['first']}: nDCG@10 {100 * pair['difference']:+.1f}, "
                f"p = {pair['p']:.3f} (paired randomization test, {pair['questions']} questions)"
            )
    if html:
        html.write_text(measure_report.html(done, where), encoding="utf-8")
        show.errors.print(f"the report is in {html}")


def summary(result: Evaluation) -> dict[str, Any]:
    """Means by stage and measure, the reranker's gain with its p, and seconds as (p50, p95) by stage."""
    means = {stage: {m: result.mean(stage, m) for m in SHOWN} for stage in result.values}
    first, whole = result.values["first stage"]["nDCG@10"], result.values["reranked"]["nDCG@10"]
    return {
        "stages": means,
        "gain": float(np.mean(whole) - np.mean(first)),
        "p": evaluate.paired_p(first, whole),
        "seconds": {
            name: (float(np.median(s)), float(np.percentile(s, 95))) for name, s in result.seconds.items()
        },
        "pages read": float(np.mean(result.read)) if result.read else 0.0,
    }


def slices(result: Evaluation) -> dict[str, dict[str, float]]:
    """nDCG@10 of the questions with each attribute value that enough of them have."""
    found: dict[str, dict[str, float]] = {}
    pairs = sorted({(k, v) for q in result.questions for k, values in q.attributes.items() for v in values})
    for kind, value in pairs:
        chosen = [q for q in result.questions if value in q.attributes.get(kind, ())]
        if len(chosen) >= LEAST:

            def keep(question: evaluate.Question, kind: str = kind, value: str = value) -> bool:
                return value in question.attributes.get(kind, ())

            found[f"{kind}: {value}"] = {
                "questions": len(chosen),
                **{stage: result.mean(stage, "nDCG@10", keep) for stage in result.values},
            }
    return found


def _print(one: Measured, facts: dict[str, Any], where: str) -> None:
    title = f"{one.dataset.name}, {one.profile}: {len(one.result.questions)} questions {where} (× 100)"
    show.print_measures(facts["stages"], title)
    if facts["slices"]:
        named = {f"{name} ({row.pop('questions')})": row for name, row in facts["slices"].items()}
        show.print_measures(named, "nDCG@10 by kind of question")
    show.console.print(
        f"reranked against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {facts['p']:.3f} (randomization test)"
    )
    for name, (median, worst) in facts["seconds"].items():
        show.console.print(
            f"  {name:14} p50 {median * 1000:7,.0f} ms   p95 {worst * 1000:7,.0f} ms", style="dim"
        )


def _pair(first: Measured, other: Measured) -> dict[str, Any]:
    ours, theirs = (one.result.values["reranked"]["nDCG@10"] for one in (first, other))
    return {
        "first": first.profile, "other": other.profile, "questions": len(ours),
        "difference": float(np.mean(theirs) - np.mean(ours)), "p": evaluate.paired_p(ours, theirs),
    }  # fmt: skip


# tune


def run_tune(
    place: str,
    index: str,
    profile: str,
    within: bool,
    read: int,
    as_json: bool,
    write: Path | None,
    html: Path | None,
) -> None:
    """Choose weights, depth and gate; say whether reranking pays; write the profile if asked to."""
    one = measured(place, index, profile, within, read, as_json)
    if not one.reranker:
        raise FolioscopeError(
            f"profile {profile} has no reranker: there is nothing to spend and nothing to tune"
        )
    try:
        tuned = tune.tune(one.dataset, one.observed, one.spending)
    except ValueError as error:
        raise FolioscopeError(str(error)) from error
    if as_json:
        show.print_json({"pays": tuned.pays, **{k: v for k, v in asdict(tuned).items() if k != "tried"}})
    else:
        show.print_tuned(tuned)
    if write:
        write.write_text(tuned_profile(one, tuned), encoding="utf-8")
        show.errors.print(f"the profile is in {write}: use it with --profile {write}")
    if html:
        html.write_text(measure_report.html([one], "", tuned), encoding="utf-8")
        show.errors.print(f"the report is in {html}")


def tuned_profile(one: Measured, tuned: tune.Tuned) -> str:
    """YAML with what differs from the defaults, and above it what it was measured on."""
    chosen = tuned.chosen.spending
    search: dict[str, Any] = {"text_weight": chosen.text_weight, "rerank_weight": chosen.rerank_weight}
    settings = one.settings
    if chosen.depth:
        search |= {"rerank": chosen.depth} | ({"gate": chosen.gate} if chosen.gate < inf else {})
    else:
        settings = settings.model_copy(update={"reranker": configs.NoReranker()})
    changed = settings.model_copy(
        update={"search": settings.search.model_copy(update={"gate": None, **search})}
    )
    kept = changed.model_dump(exclude_defaults=True)
    for part in ("encoder", "reranker"):  # their kind is never left to a default
        kept[part] = {"kind": getattr(changed, part).kind, **kept.get(part, {})}
    head = [
        f"Tuned on {one.dataset.name}, {len(one.observed)} questions, from the profile {one.profile}.",
        f"nDCG@10 on questions that it was not tuned on: {100 * tuned.held_out:.1f}, "
        f"{100 * tuned.held_out_before:.1f} before (p = {tuned.p_before:.3f}).",
        show.paying(tuned),
    ]
    return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(kept, sort_keys=False)


# calibrate


def run_calibrate(
    place: str, index: str, target: str, profile: str, within: bool, as_json: bool, html: Path | None
) -> None:
    """Fit the probability that a page answers, and keep it with the index `target` (the data set's own without one)."""
    settings = configs.load(profile)
    one = measured(place, index, profile, within, settings.search.rerank, as_json)
    if not one.reranker:
        raise FolioscopeError(f"profile {profile} has no reranker, so it has no scores to calibrate")
    encoder = str(one.store.fingerprint)
    fitted = calibrate.fit(one.observed, reranker=one.reranker, encoder=encoder, dataset=one.dataset.name)
    if target:
        theirs = str(Store.open(target).fingerprint)
        if theirs != encoder:
            raise confidence.CalibrationMismatch(
                f"{target} was encoded by {theirs}, the data set by {encoder}: calibrate with the profile of that index"
            )
    place_of = confidence.save(fitted, target or one.store.uri)
    if as_json:
        show.print_json({**asdict(replace(fitted, x=(), y=())), "file": str(place_of)})
    else:
        show.print_calibration(fitted, calibrate.reliability(one.observed, fitted.method))
        show.console.print(f"kept in {place_of}: searches of this index now tell how likely a page answers")
    if html:
        html.write_text(measure_report.html([one], "", None, fitted), encoding="utf-8")
        show.errors.print(f"the report is in {html}")
