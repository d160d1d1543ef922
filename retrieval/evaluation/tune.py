"""Chooses fusion, weights, depth and gate by measurement: the most quality for the least time.

The grid is searched one group of settings after the other (fusion; rerank weight and depth; gate), by replays of
candidates that were recorded once (`retrieval.evaluation.replay`). Among all policies within one standard error of the
best, the fastest is chosen, as Breiman et al. (1984) choose the smallest tree: a difference that cannot be measured is
not worth its time. The reported quality of the choice is measured by cross-validation, on questions that it was not
made on.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.evaluation.evaluate import Dataset, paired_p
from retrieval.evaluation.replay import FIRST, JudgedCandidates, ReplayResult, RerankPolicy, replay
from retrieval.fuse import Fusion, ZScores

TEXT_WEIGHTS = tuple(round(0.1 * n, 1) for n in range(9))
RERANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
DEPTHS = (5, 10, 15, 20, 30, 40, 60, 100)
GATE_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Shares of the questions that are not reranked because of the gate; each share gives one gate to try."""
FOLDS = 5
SIGNIFICANT = 0.05

Replay = Callable[[RerankPolicy], ReplayResult]
"""Returns the result of a policy for all questions."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one policy over all questions."""

    policy: RerankPolicy
    ndcg: float  # mean nDCG@10
    error: float  # standard error of its paired difference from the best
    p95: float  # seconds
    read: float  # pages reranked for a question, mean
    gated: float  # share of the questions that were not reranked because of the gate


@dataclass(frozen=True, slots=True)
class TuningResult:
    """The chosen policy beside others, and its quality on questions that it was not tuned on ("held out")."""

    chosen: Trial
    before: Trial  # the profile's settings
    first: Trial  # the chosen first stage without reranking
    front: tuple[Trial, ...]  # the Pareto front: no trial is both better and faster; fastest first
    tried: tuple[Trial, ...]
    held_out: float  # nDCG@10 of choices made without the question they are judged on
    held_out_before: float  # nDCG@10 of the profile's settings on the same questions
    p_before: float  # p of no difference between the two
    lift: float  # held-out gain in nDCG@10 of reranking over the chosen first stage, without the gate
    p_lift: float

    @property
    def pays(self) -> bool:
        """Whether reranking is significantly better on questions that it was not tuned on."""
        return _pays(self.lift, self.p_lift)


def tune(dataset: Dataset, candidates: Sequence[JudgedCandidates], before: RerankPolicy) -> TuningResult:
    """Choose a policy, and compare it with `before`, the policy in use.

    Raises ValueError if there are fewer than two questions for each fold.
    """
    if len(candidates) < 2 * FOLDS:
        raise ValueError(f"{len(candidates)} questions are too few for tuning: it needs at least {2 * FOLDS}")
    cache: dict[RerankPolicy, ReplayResult] = {}

    def replayed(policy: RerankPolicy) -> ReplayResult:
        if policy not in cache:
            cache[policy] = replay(dataset, candidates, policy)
        return cache[policy]

    everything = np.arange(len(candidates))
    leads = _leads(candidates, before.fusion)
    read = int(max(each.is_read.sum() for each in candidates))
    depths = sorted({depth for depth in (*DEPTHS, before.depth) if depth <= read})
    chosen = _choose(replayed, everything, depths, leads, before)
    folds = np.random.default_rng(0).permutation(len(candidates)) % FOLDS
    tuned, first_stage, reranked = (np.zeros(len(candidates)) for _ in range(3))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        choice = _choose(replayed, inside, depths, leads, before)
        tuned[outside] = replayed(choice).values[outside]
        first_stage[outside] = replayed(replace(choice, depth=0)).values[outside]
        reranking = _best_reranked(replayed, inside, depths, choice.fusion) or choice
        reranked[outside] = replayed(reranking).values[outside]
    lift, p_lift = float((reranked - first_stage).mean()), paired_p(list(first_stage), list(reranked))
    if not _pays(lift, p_lift):  # the gain may be luck, since many policies were tried
        chosen = replace(chosen, rerank_weight=before.rerank_weight, depth=0, gate=inf)
    best = max(cache.values(), key=lambda result: float(result.values.mean()))
    trials = {policy: _trial(policy, result, best) for policy, result in cache.items()}
    unreranked = replace(chosen, depth=0, gate=inf)
    values_before = replayed(before).values
    return TuningResult(
        chosen=trials[chosen],
        before=trials.get(before) or _trial(before, replayed(before), best),
        first=trials.get(unreranked) or _trial(unreranked, replayed(unreranked), best),
        front=tuple(_pareto_front(list(trials.values()))),
        tried=tuple(trials.values()),
        held_out=float(tuned.mean()),
        held_out_before=float(values_before.mean()),
        p_before=paired_p(list(values_before), list(tuned)),
        lift=lift,
        p_lift=p_lift,
    )


def _pays(lift: float, p: float) -> bool:
    return lift > 0 and p < SIGNIFICANT


def _choose(
    replayed: Replay,
    rows: NDArray[np.int64],
    depths: Sequence[int],
    leads: NDArray[np.float64],
    before: RerankPolicy,
) -> RerankPolicy:
    """Choose the fusion, then the rerank weight and depth, then the gate, on the questions in `rows`."""
    weighted = [ZScores(weight) for weight in TEXT_WEIGHTS]
    fusions = dict.fromkeys([before.fusion, *weighted])
    firsts = [RerankPolicy(fusion, before.rerank_weight, 0) for fusion in fusions]
    fusion = _cheapest(replayed, rows, firsts, prefer=before.fusion).fusion
    first = RerankPolicy(fusion, before.rerank_weight, 0)
    reranked = [
        RerankPolicy(fusion, rerank_weight, depth)
        for rerank_weight in {*RERANK_WEIGHTS, before.rerank_weight}
        for depth in depths
    ]
    chosen = _cheapest(replayed, rows, [first, *reranked])
    if chosen.depth == 0:
        return chosen
    gated = [replace(chosen, gate=gate) for gate in _gates(leads[rows])]
    return _cheapest(replayed, rows, [chosen, *gated], against=replayed(chosen))


def _best_reranked(
    replayed: Replay, rows: NDArray[np.int64], depths: Sequence[int], fusion: Fusion
) -> RerankPolicy | None:
    policies = [RerankPolicy(fusion, weight, depth) for weight in RERANK_WEIGHTS for depth in depths]
    return max(policies, key=lambda policy: float(replayed(policy).values[rows].mean()), default=None)


def _cheapest(
    replayed: Replay,
    rows: NDArray[np.int64],
    policies: Sequence[RerankPolicy],
    *,
    prefer: Fusion | None = None,
    against: ReplayResult | None = None,
) -> RerankPolicy:
    """Among the policies within one standard error of the best (or of `against`): the fastest, then the best.

    prefer: a fusion that is chosen if it is among them, since fusing costs no time.
    """

    def quality(policy: RerankPolicy) -> float:
        return float(replayed(policy).values[rows].mean())

    best = against or replayed(max(policies, key=quality))
    good = [policy for policy in policies if _is_near(replayed(policy).values[rows], best.values[rows])]
    if prefer is not None:
        return min(good, key=lambda policy: (policy.fusion != prefer, -quality(policy)))
    return min(good, key=lambda policy: (float(replayed(policy).read[rows].mean()), -quality(policy)))


def _is_near(values: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    """Whether the mean is within one standard error of the best."""
    return float((best - values).mean()) <= _standard_error(values, best) + 1e-12


def _standard_error(values: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    """Standard error of the paired difference."""
    return float((best - values).std(ddof=1) / len(values) ** 0.5)


def _leads(candidates: Sequence[JudgedCandidates], fusion: Fusion) -> NDArray[np.float64]:
    """(questions,) by how much the best page leads the second in the first stage."""
    leads = []
    for each in candidates:
        _, scores = fuse.first_stage(each.vectors if each.has_vectors else None, each.text, FIRST, fusion)
        leads.append(fuse.margin(scores) if len(scores) else 0.0)
    return np.array(leads)


def _gates(leads: NDArray[np.float64]) -> list[float]:
    finite = leads[np.isfinite(leads)]
    return [round(float(np.quantile(finite, 1 - share)), 2) for share in GATE_SHARES] if len(finite) else []


def _trial(policy: RerankPolicy, result: ReplayResult, best: ReplayResult) -> Trial:
    return Trial(
        policy=policy,
        ndcg=float(result.values.mean()),
        error=_standard_error(result.values, best.values),
        p95=float(np.percentile(result.seconds, 95)),
        read=float(result.read.mean()),
        gated=float((result.read == 0).mean()) if policy.depth else 0.0,
    )


def _pareto_front(trials: Sequence[Trial]) -> Iterator[Trial]:
    """Yield the trials that no other trial beats in both quality and time, fastest first."""
    best = -inf
    for trial in sorted(trials, key=lambda trial: (trial.p95, -trial.ndcg)):
        if trial.ndcg > best + 1e-12:
            best = trial.ndcg
            yield trial
