"""Makes the report of an evaluation: an HTML file that opens from disk, with plots and examples of pages."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from math import inf

import numpy as np
from numpy.typing import NDArray

from retrieval.confidence import Calibration, Method
from retrieval.evaluation import calibrate
from retrieval.evaluation.replay import JudgedCandidates, RerankPolicy, order, replay
from retrieval.evaluation.tune import DEPTHS, Trial, TuningResult
from retrieval.types import Page
from ui.cli import plots, terminal
from ui.cli.demo_report import STYLE
from ui.service.measurement import SHOWN, EvaluationRun, slices, summary

EXAMPLES = 12  # questions shown that reranking improved, and as many that it worsened
MORE = """
figure{margin:0;background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:12px}
figcaption{display:flex;gap:14px;flex-wrap:wrap;font-size:14px;margin-bottom:6px}figcaption span{color:var(--soft)}
figcaption i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:5px}
svg{width:100%;height:auto}svg text{font-size:11px;fill:var(--soft)}.axis{stroke:var(--line)}
.guide{stroke:var(--soft);stroke-dasharray:4 4}.plots{display:grid;gap:14px;margin-top:14px;
grid-template-columns:repeat(auto-fit,minmax(380px,1fr))}
.case{display:flex;gap:14px;align-items:flex-start;border-top:1px solid var(--line);padding:12px 0}
.case img{width:92px;border:1px solid var(--line)}
.case figure{border:0;padding:0;background:none;width:110px;font-size:12px}
"""


def html(
    runs: Sequence[EvaluationRun],
    scope: str,
    tuned: TuningResult | None = None,
    calibration: Calibration | None = None,
) -> str:
    """Return the report of one or several profiles on one data set, with a section on tuning and on calibration if
    they are given.

    scope: the words after the number of questions, such as "over all documents"; "" for none.
    """
    title = f"{runs[0].dataset.name}: {', '.join(run.profile for run in runs)}"
    body = "".join(_run(run, scope) for run in runs)
    if tuned:
        body += _tuned(tuned)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}{MORE}</style><main><h1>{escape(title)}</h1>{body}"
        f"{_calibrated(runs[0], calibration) if calibration else ''}</main></html>\n"
    )


def _run(run: EvaluationRun, scope: str) -> str:
    facts = summary(run.result)
    names = "".join(f"<th>{escape(name)}</th>" for name in SHOWN)
    rows = "".join(
        f"<tr><th>{escape(stage)}</th>{''.join(f'<td>{100 * row[name]:.1f}</td>' for name in SHOWN)}</tr>"
        for stage, row in facts["stages"].items()
    )
    slice_rows = "".join(
        f"<tr><th>{escape(f'{row.attribute}: {row.value}')} ({row.questions})</th>"
        f"<td>{100 * row.ndcg['first stage']:.1f}</td><td>{100 * row.ndcg['reranked']:.1f}</td></tr>"
        for row in slices(run.result)
    )
    table = f"<div class=scroll><table><tr><th></th>{names}</tr>{rows}</table></div>"
    if slice_rows:
        table += (
            "<h3>nDCG@10 by attribute of the question</h3><div class=scroll><table>"
            f"<tr><th></th><th>first stage</th><th>reranked</th></tr>{slice_rows}</table></div>"
        )
    return (
        f"<section><h2>{escape(run.profile)}</h2>"
        f"<p class=lead>{len(run.candidates)} questions{escape(scope and f' {scope}')}. Reranked "
        f"against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {facts['p']:.3f}.</p>{table}"
        f"<div class=plots>{_scores(run)}{_costs(run)}{_reliability(run)}</div>{_cases(run)}</section>"
    )


def _scores(run: EvaluationRun) -> str:
    """Plot the distributions of both stages' scores over the pages that were reranked.

    The first stage's scores usually lie close together, and a cross-encoder's far apart.
    """

    def split(values: list[NDArray[np.float64]]) -> list[tuple[str, list[float]]]:
        labels = np.concatenate([each.relevant[each.is_read] for each in run.candidates])
        flat = np.concatenate(values)
        return [("relevant", flat[labels].tolist()), ("not relevant", flat[~labels].tolist())]

    vectors = split([each.vectors[each.is_read] for each in run.candidates])
    rerank = split([each.rerank[each.is_read] for each in run.candidates])
    return plots.histogram("First stage: MaxSim", "score", vectors) + plots.histogram(
        f"Reranker: {run.reranker or 'none'}", "score", rerank
    )


def _costs(run: EvaluationRun) -> str:
    """Plot quality against depth and against time, by replays of the same candidates."""
    deepest = max((int(each.is_read.sum()) for each in run.candidates), default=0)
    if not deepest:
        return ""
    policy = replace(run.policy, gate=inf)
    results = [
        (depth, replay(run.dataset, run.candidates, replace(policy, depth=depth)))
        for depth in (0, *(depth for depth in DEPTHS if depth <= deepest))
    ]
    by_depth = [(float(depth), 100 * float(result.values.mean())) for depth, result in results]
    by_time = [
        (1000 * float(np.percentile(result.seconds, 95)), 100 * float(result.values.mean()))
        for _, result in results
    ]
    labels = [f"depth {depth}: {value:.1f}" for (depth, _), (_, value) in zip(results, by_depth, strict=True)]
    return plots.chart(
        "Quality against depth", "pages reranked", "nDCG@10", [plots.Line("", by_depth, labels=labels)]
    ) + plots.chart("Quality against time", "p95 ms", "nDCG@10", [plots.Line("", by_time, labels=labels)])


def _reliability(run: EvaluationRun) -> str:
    """Plot the reliability of the scores as published and of each held-out curve; "" with too few relevant pages."""
    relevant = sum(int((each.relevant & each.is_read).sum()) for each in run.candidates)
    if relevant < calibrate.LEAST or len(run.candidates) < calibrate.LEAST:
        return ""
    methods: tuple[tuple[str, Method | None], ...] = (
        ("as published", None),
        ("Platt, held out", "platt"),
        ("isotonic, held out", "isotonic"),
    )
    lines = [
        plots.Line(
            name, [(row.predicted, row.relevant) for row in calibrate.reliability(run.candidates, method)]
        )
        for name, method in methods
    ]
    return plots.chart("Is a score a probability?", "predicted", "relevant", lines, diagonal=True)


def _cases(run: EvaluationRun) -> str:
    first, reranked = (np.array(run.result.values[stage]["nDCG@10"]) for stage in ("first stage", "reranked"))
    parts = []
    for title, gain in (
        ("Improved by reranking", reranked - first),
        ("Worsened by reranking", first - reranked),
    ):
        chosen = [at for at in np.argsort(-gain, kind="stable")[:EXAMPLES] if gain[at] > 1e-9]
        rows = "".join(_case(run, run.candidates[at], float(first[at]), float(reranked[at])) for at in chosen)
        parts.append(f"<h3>{title} ({int((gain > 1e-9).sum())})</h3>{rows}")
    return "".join(parts)


def _case(run: EvaluationRun, candidates: JudgedCandidates, first: float, reranked: float) -> str:
    """Show the best page before and after reranking. first, reranked: nDCG@10 of the question."""
    before, _ = order(candidates, replace(run.policy, depth=0))
    after, _ = order(candidates, run.policy)
    pages = _page(run, candidates, before[0], "first stage") + _page(run, candidates, after[0], "reranked")
    return (
        f"<div class=case>{pages}<div><b>{escape(candidates.question.text)}</b>"
        f"<p class=meta>nDCG@10 {100 * first:.0f} → {100 * reranked:.0f}</p></div></div>"
    )


def _page(run: EvaluationRun, candidates: JudgedCandidates, at: int, caption: str) -> str:
    page: Page = candidates.pages[at]
    image = b64encode(run.store.thumbnail(page.page_id)).decode()
    right = "<b class=right title='judged relevant'>✓</b>" if candidates.relevant[at] else ""
    return (
        f"<figure><img loading=lazy alt='' src='data:image/webp;base64,{image}'><br>{caption} {right}<br>"
        f"{escape(page.name)}</figure>"
    )


def _tuned(tuned: TuningResult) -> str:
    def line(name: str, joined: bool, *trials: Trial) -> plots.Line:
        points = [(1000 * trial.p95, 100 * trial.ndcg) for trial in trials]
        return plots.Line(name, points, joined, [_policy_text(trial.policy) for trial in trials])

    lines = [
        line("tried", False, *tuned.tried),
        line("Pareto front", True, *tuned.front),
        line("chosen", False, tuned.chosen),
        line("before", False, tuned.before),
    ]
    return (
        f"<section><h2>Tuned</h2><p class=lead>{escape(terminal.paying(tuned))} Chosen: "
        f"{escape(_policy_text(tuned.chosen.policy))}. On questions that it was not tuned on: nDCG@10 "
        f"{100 * tuned.held_out:.1f}; {100 * tuned.held_out_before:.1f} with the settings before "
        f"(p = {tuned.p_before:.3f}).</p><div class=plots>"
        f"{plots.chart('Quality against time', 'p95 ms', 'nDCG@10', lines)}</div></section>"
    )


def _policy_text(policy: RerankPolicy) -> str:
    gate = "" if policy.gate == inf else f", gate {policy.gate:g}"
    return f"{policy.fusion}, rerank {policy.rerank_weight:g}, depth {policy.depth}{gate}"


def _calibrated(run: EvaluationRun, calibration: Calibration) -> str:
    low, high = np.nanpercentile(np.concatenate([each.rerank for each in run.candidates]), [0.5, 99.5])
    scores = np.linspace(float(low), float(high), 60)
    curve = [(float(s), float(p)) for s, p in zip(scores, calibration.probability(scores), strict=True)]
    return (
        f"<section><h2>Calibrated</h2><p class=lead>{calibration.method}: log loss "
        f"{calibration.log_loss_before:.3f} → {calibration.log_loss:.3f}, expected calibration error "
        f"{calibration.ece_before:.3f} → {calibration.ece:.3f}, on questions that the curve was not fitted to.</p>"
        "<div class=plots>"
        f"{plots.chart('The curve', 'score of the reranker', 'probability', [plots.Line('', curve)], floor=0.0)}"
        "</div></section>"
    )
