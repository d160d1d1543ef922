"""Runs `folioscope evaluate`, `tune` and `calibrate`: measures a data set, and prints or writes the result."""

from collections.abc import Sequence
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import configs.settings as configs
from retrieval import confidence
from retrieval.errors import FolioscopeError
from retrieval.evaluation import calibrate, evaluate, tune
from retrieval.fuse import ZScores
from retrieval.store.store import Store
from ui.cli import evaluation_report, terminal
from ui.service.measurement import EvaluationRun, Slice, measure_dataset, slices, summary

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
    """Measure each profile on the data set at `place`, and test each against the first."""
    depth = max(read, *(configs.load_profile(profile).search.rerank for profile in profiles))
    folder = index if len(profiles) == 1 else ""
    with terminal.work(as_json) as on_progress:
        runs = [
            measure_dataset(
                place, index=folder, profile=profile, within=within, read=depth, on_progress=on_progress
            )
            for profile in profiles
        ]
    scope = "within the question's document" if within else "over all documents"
    for run in runs:
        if as_json:
            terminal.print_json(_run_json(run, within))
        else:
            _print_run(run, scope)
    for other in runs[1:]:
        comparison = _comparison(runs[0], other)
        if as_json:
            terminal.print_json(comparison)
        else:
            terminal.console.print(
                f"{other.profile} against {runs[0].profile}: nDCG@10 {100 * comparison['difference']:+.1f}, "
                f"p = {comparison['p']:.3f} (paired randomization test, {comparison['questions']} questions)"
            )
    if html:
        html.write_text(evaluation_report.html(runs, scope), encoding="utf-8")
        terminal.errors.print(f"The report is in {html}")


def _run_json(run: EvaluationRun, within: bool) -> dict[str, Any]:
    facts = summary(run.result)
    return {
        "dataset": run.dataset.name,
        "profile": run.profile,
        "within": within,
        "questions": len(run.result.questions),
        **facts,
        "stages": terminal.snake_case(facts["stages"]),
        "seconds": terminal.snake_case(facts["seconds"]),
        "slices": [asdict(row) | {"ndcg": terminal.snake_case(row.ndcg)} for row in slices(run.result)],
    }


def _print_run(run: EvaluationRun, scope: str) -> None:
    facts, rows = summary(run.result), slices(run.result)
    title = f"{run.dataset.name}, {run.profile}: {len(run.result.questions)} questions {scope} (× 100)"
    terminal.print_measures(facts["stages"], title)
    if rows:
        terminal.print_measures(
            {_slice_name(row): row.ndcg for row in rows}, "nDCG@10 by attribute of the question (× 100)"
        )
    terminal.console.print(
        f"reranked against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {facts['p']:.3f} (randomization test)"
    )
    for stage, seconds in facts["seconds"].items():
        terminal.console.print(
            f"  {stage:14} p50 {seconds['p50'] * 1000:7,.0f} ms   p95 {seconds['p95'] * 1000:7,.0f} ms",
            style="dim",
        )


def _slice_name(row: Slice) -> str:
    return f"{row.attribute}: {row.value} ({row.questions})"


def _comparison(first: EvaluationRun, other: EvaluationRun) -> dict[str, Any]:
    values, other_values = (run.result.values["reranked"]["nDCG@10"] for run in (first, other))
    return {
        "first": first.profile,
        "other": other.profile,
        "questions": len(values),
        "difference": float(np.mean(other_values) - np.mean(values)),
        "p": evaluate.paired_p(values, other_values),
    }


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
    """Choose weights, depth and gate, report whether reranking pays, and write the profile to `write` if it is given.

    Raises FolioscopeError if the profile has no reranker or the data set has too few questions.
    """
    if isinstance(configs.load_profile(profile).reranker, configs.NoReranker):
        raise FolioscopeError(
            f"profile {profile} has no reranker, so there is nothing to tune: choose another profile"
        )
    with terminal.work(as_json) as on_progress:
        run = measure_dataset(
            place, index=index, profile=profile, within=within, read=read, on_progress=on_progress
        )
    try:
        tuned = tune.tune(run.dataset, run.candidates, run.policy)
    except ValueError as error:
        raise FolioscopeError(str(error)) from error
    if as_json:
        facts = {name: value for name, value in asdict(tuned).items() if name != "tried"}
        terminal.print_json({"pays": tuned.pays, **facts})
    else:
        terminal.print_tuned(tuned)
    if write:
        write.write_text(tuned_profile(run, tuned), encoding="utf-8")
        terminal.errors.print(f"The profile is in {write}: use it with --profile {write}")
    if html:
        html.write_text(evaluation_report.html([run], "", tuned), encoding="utf-8")
        terminal.errors.print(f"The report is in {html}")


def tuned_profile(run: EvaluationRun, tuned: tune.TuningResult) -> str:
    """Return the tuned profile as YAML: the settings that differ from the defaults, below a comment on the tuning."""
    policy = tuned.chosen.policy
    search: dict[str, Any] = {"rerank_weight": policy.rerank_weight}
    if isinstance(policy.fusion, ZScores):
        search |= {"fuse": "z_scores", "text_weight": policy.fusion.text_weight}
    settings = run.settings
    if policy.depth:
        search |= {"rerank": policy.depth} | ({"gate": policy.gate} if policy.gate < inf else {})
    else:
        settings = settings.model_copy(update={"reranker": configs.NoReranker()})
    changed = settings.model_copy(
        update={"search": settings.search.model_copy(update={"gate": None, **search})}
    )
    profile = changed.model_dump(exclude_defaults=True)
    for part in ("encoder", "reranker"):  # a profile always names their kind
        profile[part] = {"kind": getattr(changed, part).kind, **profile.get(part, {})}
    comment = [
        f"Tuned on {run.dataset.name}, {len(run.candidates)} questions, from the profile {run.profile}.",
        f"nDCG@10 on questions that it was not tuned on: {100 * tuned.held_out:.1f}; "
        f"{100 * tuned.held_out_before:.1f} before (p = {tuned.p_before:.3f}).",
        terminal.paying(tuned),
    ]
    return "".join(f"# {line}\n" for line in comment) + yaml.safe_dump(profile, sort_keys=False)


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
    """Fit the probability that a page answers, and store it in the index `target`, "" for the data set's own index.

    Raises FolioscopeError if the profile has no reranker or there are too few pages, CalibrationMismatch if the two
    indexes have different encoders.
    """
    settings = configs.load_profile(profile)
    if isinstance(settings.reranker, configs.NoReranker):
        raise FolioscopeError(
            f"profile {profile} has no reranker, so it has no scores to calibrate: choose another profile"
        )
    target_encoder = str(Store.open(target).fingerprint) if target else ""
    with terminal.work(as_json) as on_progress:
        run = measure_dataset(
            place,
            index=index,
            profile=profile,
            within=within,
            read=settings.search.rerank,
            on_progress=on_progress,
        )
    encoder = str(run.store.fingerprint)
    if target and target_encoder != encoder:
        raise confidence.CalibrationMismatch(
            f"{target} was encoded by {target_encoder}, the data set by {encoder}: calibrate with the profile of that "
            "index"
        )
    calibration = calibrate.fit_calibration(
        run.candidates, reranker=run.reranker, encoder=encoder, dataset=run.dataset.name
    )
    file = confidence.save_calibration(calibration, target or run.store.uri)
    if as_json:
        facts = {name: value for name, value in asdict(calibration).items() if name not in ("x", "y")}
        terminal.print_json({**facts, "file": file})
    else:
        terminal.print_calibration(calibration, calibrate.reliability(run.candidates, calibration.method))
        terminal.console.print(
            f"The calibration is in {file}: searches of this index now report the probability that a page answers"
        )
    if html:
        html.write_text(evaluation_report.html([run], "", None, calibration), encoding="utf-8")
        terminal.errors.print(f"The report is in {html}")
