"""`folioscope evaluate`, `tune` and `calibrate`: measure a data set, and print or write what follows from it."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import configs.settings as configs
from retrieval import confidence
from retrieval.errors import FolioscopeError
from retrieval.evaluation import calibrate, evaluate, tune
from retrieval.store.store import Store
from ui.cli import evaluation_report, terminal
from ui.service.measurement import EvaluationRun, measure_dataset, slices, summary

# evaluate


def run_evaluation(
    place: str,
    *,
    index: str,
    profiles: Sequence[str],
    within: bool,
    read: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Measure one profile, or compare several on the same questions."""
    depth = max(read, *(configs.load_profile(profile).search.rerank for profile in profiles))
    own = index if len(profiles) == 1 else ""
    with terminal.work(as_json) as on_progress:
        done = [
            measure_dataset(
                place, index=own, profile=profile, within=within, read=depth, on_progress=on_progress
            )
            for profile in profiles
        ]
    where = "within the question's document" if within else "over all documents"
    for one in done:
        facts = summary(one.result) | {"slices": slices(one.result)}
        if as_json:
            terminal.print_json(
                {"dataset": one.dataset.name, "profile": one.profile, "within": within,
                 "questions": len(one.result.questions), **facts}
            )  # fmt: skip
        else:
            _print(one, facts, where)
    pairs = [_pair(done[0], other) for other in done[1:]]
    for pair in pairs:
        if as_json:
            terminal.print_json(pair)
        else:
            terminal.console.print(
                f"{pair['other']} against {pair['first']}: nDCG@10 {100 * pair['difference']:+.1f}, "
                f"p = {pair['p']:.3f} (paired randomization test, {pair['questions']} questions)"
            )
    if html:
        html.write_text(evaluation_report.html(done, where), encoding="utf-8")
        terminal.errors.print(f"the report is in {html}")


def _print(one: EvaluationRun, facts: dict[str, Any], where: str) -> None:
    title = f"{one.dataset.name}, {one.profile}: {len(one.result.questions)} questions {where} (× 100)"
    terminal.print_measures(facts["stages"], title)
    if facts["slices"]:
        named = {f"{name} ({row.pop('questions')})": row for name, row in facts["slices"].items()}
        terminal.print_measures(named, "nDCG@10 by kind of question")
    terminal.console.print(
        f"reranked against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {facts['p']:.3f} (randomization test)"
    )
    for name, (median, worst) in facts["seconds"].items():
        terminal.console.print(
            f"  {name:14} p50 {median * 1000:7,.0f} ms   p95 {worst * 1000:7,.0f} ms", style="dim"
        )


def _pair(first: EvaluationRun, other: EvaluationRun) -> dict[str, Any]:
    ours, theirs = (one.result.values["reranked"]["nDCG@10"] for one in (first, other))
    return {
        "first": first.profile, "other": other.profile, "questions": len(ours),
        "difference": float(np.mean(theirs) - np.mean(ours)), "p": evaluate.paired_p(ours, theirs),
    }  # fmt: skip


# tune


def run_tune(
    place: str,
    *,
    index: str,
    profile: str,
    within: bool,
    read: int,
    as_json: bool,
    write: Path | None,
    html: Path | None,
) -> None:
    """Choose weights, depth and gate; say whether reranking pays; write the profile if asked to."""
    with terminal.work(as_json) as on_progress:
        one = measure_dataset(
            place, index=index, profile=profile, within=within, read=read, on_progress=on_progress
        )
    if not one.reranker:
        raise FolioscopeError(
            f"profile {profile} has no reranker: there is nothing to spend and nothing to tune"
        )
    try:
        tuned = tune.tune(one.dataset, one.observed, one.spending)
    except ValueError as error:
        raise FolioscopeError(str(error)) from error
    if as_json:
        shown = {name: value for name, value in asdict(tuned).items() if name != "tried"}
        terminal.print_json({"pays": tuned.pays, **shown})
    else:
        terminal.print_tuned(tuned)
    if write:
        write.write_text(tuned_profile(one, tuned), encoding="utf-8")
        terminal.errors.print(f"the profile is in {write}: use it with --profile {write}")
    if html:
        html.write_text(evaluation_report.html([one], "", tuned), encoding="utf-8")
        terminal.errors.print(f"the report is in {html}")


def tuned_profile(one: EvaluationRun, tuned: tune.TuningResult) -> str:
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
        terminal.paying(tuned),
    ]
    return "".join(f"# {line}\n" for line in head) + yaml.safe_dump(kept, sort_keys=False)


# calibrate


def run_calibrate(
    place: str,
    *,
    index: str,
    target: str,
    profile: str,
    within: bool,
    as_json: bool,
    html: Path | None,
) -> None:
    """Fit the probability that a page answers, and keep it with the index `target` (the data set's own without one)."""
    settings = configs.load_profile(profile)
    with terminal.work(as_json) as on_progress:
        one = measure_dataset(
            place,
            index=index,
            profile=profile,
            within=within,
            read=settings.search.rerank,
            on_progress=on_progress,
        )
    if not one.reranker:
        raise FolioscopeError(f"profile {profile} has no reranker, so it has no scores to calibrate")
    encoder = str(one.store.fingerprint)
    fitted = calibrate.fit_calibration(
        one.observed, reranker=one.reranker, encoder=encoder, dataset=one.dataset.name
    )
    if target:
        theirs = str(Store.open(target).fingerprint)
        if theirs != encoder:
            raise confidence.CalibrationMismatch(
                f"{target} was encoded by {theirs}, the data set by {encoder}: calibrate with the profile of that index"
            )
    place_of = confidence.save_calibration(fitted, target or one.store.uri)
    if as_json:
        terminal.print_json({**asdict(replace(fitted, x=(), y=())), "file": str(place_of)})
    else:
        terminal.print_calibration(fitted, calibrate.reliability(one.observed, fitted.method))
        terminal.console.print(
            f"kept in {place_of}: searches of this index now tell how likely a page answers"
        )
    if html:
        html.write_text(evaluation_report.html([one], "", None, fitted), encoding="utf-8")
        terminal.errors.print(f"the report is in {html}")
