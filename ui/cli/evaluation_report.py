"""The report of an evaluation: one HTML file that opens from disk, with plots, and the pages of wins and losses."""

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

EXAMPLES = 12  # wins, and as many losses
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
    where: str,
    tuned: TuningResult | None = None,
    fitted: Calibration | None = None,
) -> str:
    """The last three say which parts there are: a comparison, tuning, calibration."""
    title = f"{runs[0].dataset.name}: {', '.join(run.profile for run in runs)}"
    body = "".join(_run(run, where) for run in runs)
    if tuned:
        body += _tuned(tuned)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{STYLE}{MORE}</style><main><h1>{escape(title)}</h1>{body}"
        f"{_calibrated(runs[0], fitted) if fitted else ''}</main></html>\n"
    )


def _run(run: EvaluationRun, where: str) -> str:
    facts = summary(run.result)
    names = "".join(f"<th>{escape(name)}</th>" for name in SHOWN)
    rows = "".join(
        f"<tr><th>{escape(stage)}</th>{''.join(f'<td>{100 * row[name]:.1f}</td>' for name in SHOWN)}</tr>"
        for stage, row in facts["stages"].items()
    )
    kinds = slices(run.result)
    by_kind = "".join(
        f"<tr><th>{escape(kind)} ({row['questions']:.0f})</th>"
        f"<td>{100 * row['first stage']:.1f}</td><td>{100 * row['reranked']:.1f}</td></tr>"
        for kind, row in kinds.items()
    )
    table = f"<div class=scroll><table><tr><th></th>{names}</tr>{rows}</table></div>"
    if by_kind:
        table += (
            "<h3>nDCG@10 by kind of question</h3><div class=scroll><table>"
            f"<tr><th></th><th>first stage</th><th>reranked</th></tr>{by_kind}</table></div>"
        )
    return (
        f"<section><h2>{escape(run.profile)}</h2>"
        f"<p class=lead>{len(run.observed)} questions{escape(where and f' {where}')}. Reranked "
        f"against first stage: nDCG@10 {100 * facts['gain']:+.1f}, p = {facts['p']:.3f}.</p>{table}"
        f"<div class=plots>{_scores(run)}{_costs(run)}{_reliability(run)}</div>{_cases(run)}</section>"
    )


def _scores(run: EvaluationRun) -> str:
    """First-stage scores crowd, a cross-encoder's spread: both over the same candidates."""
    read = [~np.isnan(one.rerank) for one in run.observed]
    pairs = list(zip(run.observed, read, strict=True))

    def split(values: list[NDArray[np.float64]]) -> list[tuple[str, list[float]]]:
        labels = np.concatenate([one.relevant[keep] for one, keep in pairs])
        flat = np.concatenate(values)
        return [("relevant", flat[labels].tolist()), ("not relevant", flat[~labels].tolist())]

    vectors = split([one.vectors[keep] for one, keep in pairs])
    rerank = split([one.rerank[keep] for one, keep in pairs])
    return plots.histogram("First stage: MaxSim", "score", vectors) + plots.histogram(
        f"Reranker: {run.reranker or 'none'}", "score", rerank
    )


def _costs(run: EvaluationRun) -> str:
    """Quality against depth and against time, replayed from the same observations."""
    most = max((int((~np.isnan(one.rerank)).sum()) for one in run.observed), default=0)
    if not most:
        return ""
    spending = replace(run.spending, gate=inf)
    tried = [
        (depth, replay(run.dataset, run.observed, replace(spending, depth=depth)))
        for depth in (0, *(depth for depth in DEPTHS if depth <= most))
    ]
    by_depth = [(float(depth), 100 * float(one.values.mean())) for depth, one in tried]
    by_time = [
        (1000 * float(np.percentile(one.seconds, 95)), 100 * float(one.values.mean())) for _, one in tried
    ]
    labels = [f"depth {depth}: {value:.1f}" for (depth, _), (_, value) in zip(tried, by_depth, strict=True)]
    return plots.chart(
        "Quality against depth", "pages reranked", "nDCG@10", [plots.Line("", by_depth, labels=labels)]
    ) + plots.chart("Quality against time", "p95 ms", "nDCG@10", [plots.Line("", by_time, labels=labels)])


def _reliability(run: EvaluationRun) -> str:
    """Of the scores as they are, and held out by each curve; needs enough relevant pages to mean something."""
    relevant = sum(int((one.relevant & ~np.isnan(one.rerank)).sum()) for one in run.observed)
    if relevant < calibrate.LEAST or len(run.observed) < calibrate.LEAST:
        return ""
    methods: tuple[tuple[str, Method | None], ...] = (
        ("as published", None),
        ("Platt, held out", "platt"),
        ("isotonic, held out", "isotonic"),
    )
    lines = [
        plots.Line(
            name, [(one.predicted, one.relevant) for one in calibrate.reliability(run.observed, method)]
        )
        for name, method in methods
    ]
    return plots.chart("Is a score a probability?", "predicted", "relevant", lines, diagonal=True)


def _cases(run: EvaluationRun) -> str:
    first, whole = (np.array(run.result.values[stage]["nDCG@10"]) for stage in ("first stage", "reranked"))
    parts = []
    for title, gain in (("Won by reranking", whole - first), ("Lost by reranking", first - whole)):
        chosen = [at for at in np.argsort(-gain, kind="stable")[:EXAMPLES] if gain[at] > 1e-9]
        rows = "".join(_case(run, run.observed[at], float(first[at]), float(whole[at])) for at in chosen)
        parts.append(f"<h3>{title} ({int((gain > 1e-9).sum())})</h3>{rows}")
    return "".join(parts)


def _case(run: EvaluationRun, one: JudgedCandidates, first: float, whole: float) -> str:
    before, _ = order(one, replace(run.spending, depth=0))
    after, _ = order(one, run.spending)
    pictures = _page(run, one, before[0], "first stage") + _page(run, one, after[0], "reranked")
    return (
        f"<div class=case>{pictures}<div><b>{escape(one.question.text)}</b>"
        f"<p class=meta>nDCG@10 {100 * first:.0f} → {100 * whole:.0f}</p></div></div>"
    )


def _page(run: EvaluationRun, one: JudgedCandidates, at: int, said: str) -> str:
    page: Page = one.pages[at]
    picture = b64encode(run.store.thumbnail(page.page_id)).decode()
    right = "<b class=right>✓</b>" if one.relevant[at] else ""
    return (
        f"<figure><img loading=lazy alt='' src='data:image/webp;base64,{picture}'><br>{said} {right}<br>"
        f"{escape(page.name)}</figure>"
    )


def _tuned(tuned: TuningResult) -> str:
    def line(name: str, joined: bool, *tried: Trial) -> plots.Line:
        points = [(1000 * one.p95, 100 * one.ndcg) for one in tried]
        return plots.Line(name, points, joined, [_said(one.spending) for one in tried])

    lines = [
        line("tried", False, *tuned.tried),
        line("Pareto front", True, *tuned.front),
        line("chosen", False, tuned.chosen),
        line("before", False, tuned.before),
    ]
    return (
        f"<section><h2>Tuned</h2><p class=lead>{escape(terminal.paying(tuned))} Chosen: "
        f"{escape(_said(tuned.chosen.spending))}. On questions that it was not tuned on: nDCG@10 "
        f"{100 * tuned.held_out:.1f}, {100 * tuned.held_out_before:.1f} with the settings before "
        f"(p = {tuned.p_before:.3f}).</p><div class=plots>"
        f"{plots.chart('Quality against time', 'p95 ms', 'nDCG@10', lines)}</div></section>"
    )


def _said(spending: RerankPolicy) -> str:
    gate = "" if spending.gate == inf else f", gate {spending.gate:g}"
    return f"text {spending.text_weight:g}, rerank {spending.rerank_weight:g}, depth {spending.depth}{gate}"


def _calibrated(run: EvaluationRun, fitted: Calibration) -> str:
    low, high = np.nanpercentile(np.concatenate([one.rerank for one in run.observed]), [0.5, 99.5])
    scores = np.linspace(float(low), float(high), 60)
    curve = [(float(s), float(p)) for s, p in zip(scores, fitted.probability(scores), strict=True)]
    return (
        f"<section><h2>Calibrated</h2><p class=lead>{fitted.method}: log loss {fitted.log_loss_before:.3f} → "
        f"{fitted.log_loss:.3f}, expected calibration error {fitted.ece_before:.3f} → {fitted.ece:.3f}, on questions "
        "that the curve had not seen.</p><div class=plots>"
        f"{plots.chart('The curve', 'score of the reranker', 'probability', [plots.Line('', curve)], floor=0.0)}"
        "</div></section>"
    )
