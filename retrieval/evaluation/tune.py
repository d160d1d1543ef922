"""Settings by measurement: fusion weights, depth and gate that give the most quality for the least time.

The grid is searched one group after the other (text weight; rerank weight and depth; gate), on observations that were
made once (`retrieval.evaluation.replay`). Of all that is within one standard error of the best, the fastest is taken,
as Breiman et al. (1984) take the smallest tree: what cannot be told from the best is not worth paying for. What is
claimed of the choice is measured on questions that it was not made on, by cross-validation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from retrieval import fuse
from retrieval.evaluation.evaluate import Dataset, paired_p
from retrieval.evaluation.replay import FIRST, JudgedCandidates, ReplayResult, RerankPolicy, replay

TEXT_WEIGHTS = tuple(round(0.1 * n, 1) for n in range(9))
RERANK_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0, 8.0)
DEPTHS = (5, 10, 15, 20, 30, 40, 60, 100)
GATE_SHARES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Shares of the questions that a gate lets go without reranking, from which gates to try are taken."""
FOLDS = 5
At = Callable[[RerankPolicy], ReplayResult]
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting over all questions."""

    spending: RerankPolicy
    ndcg: float  # mean nDCG@10
    error: float  # standard error of its paired difference from the best
    p95: float  # seconds
    read: float  # pages reranked for a question, mean
    gated: float  # share of the questions that were not reranked because of the gate


@dataclass(frozen=True, slots=True)
class TuningResult:
    chosen: Trial
    before: Trial  # the profile's settings
    first: Trial  # the chosen first stage without reranking
    front: tuple[Trial, ...]  # the Pareto front: nothing tried is both better and faster; fastest first
    tried: tuple[Trial, ...]
    held_out: float  # nDCG@10 of choices made without the question they are judged on
    held_out_before: float  # of the profile's settings on the same questions
    p_before: float  # of no difference between the two
    lift: float  # held out: of reranking as chosen over the first stage as chosen, without the gate
    p_lift: float

    @property
    def pays(self) -> bool:
        """Whether reranking helps for sure, on questions that it was not tuned on."""
        return _pays(self.lift, self.p_lift)


def tune(dataset: Dataset, observed: Sequence[JudgedCandidates], before: RerankPolicy) -> TuningResult:
    """Raises ValueError for fewer than two questions to each fold."""
    if len(observed) < 2 * FOLDS:
        raise ValueError(f"{len(observed)} questions are too few to tune by: {2 * FOLDS} are the least")
    cache: dict[RerankPolicy, ReplayResult] = {}

    def at(spending: RerankPolicy) -> ReplayResult:
        if spending not in cache:
            cache[spending] = replay(dataset, observed, spending)
        return cache[spending]

    everything = np.arange(len(observed))
    leads = _leads(observed)
    read = int(max((~np.isnan(one.rerank)).sum() for one in observed))
    depths = sorted({depth for depth in (*DEPTHS, before.depth) if depth <= read})
    chosen = _choose(at, everything, depths, leads, before)
    folds = np.random.default_rng(0).permutation(len(observed)) % FOLDS
    ours, plain, reranked = (np.zeros(len(observed)) for _ in range(3))
    for fold in range(FOLDS):
        inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        choice = _choose(at, inside, depths, leads, before)
        ours[outside] = at(choice).values[outside]
        plain[outside] = at(replace(choice, depth=0)).values[outside]
        paying = _best_reranked(at, inside, depths, choice.text_weight) or choice
        reranked[outside] = at(paying).values[outside]
    lift, p_lift = float((reranked - plain).mean()), paired_p(list(plain), list(reranked))
    if not _pays(lift, p_lift):  # what looks like a gain is the luck of the many that were tried
        chosen = replace(chosen, rerank_weight=before.rerank_weight, depth=0, gate=inf)
    best = max(cache.values(), key=lambda one: float(one.values.mean()))
    tried = tuple(_tried(spending, one, best) for spending, one in cache.items())
    by = {one.spending: one for one in tried}
    theirs = at(before).values
    return TuningResult(
        by[chosen],
        by.get(before) or _tried(before, at(before), best),
        by.get(replace(chosen, depth=0, gate=inf))
        or _tried(chosen, at(replace(chosen, depth=0, gate=inf)), best),
        tuple(_front(tried)),
        tried,
        float(ours.mean()),
        float(theirs.mean()),
        paired_p(list(theirs), list(ours)),
        lift,
        p_lift,
    )


def _pays(lift: float, p: float) -> bool:
    return lift > 0 and p < SIGNIFICANT


def _choose(
    at: At, rows: NDArray[np.int64], depths: Sequence[int], leads: NDArray[np.float64], before: RerankPolicy
) -> RerankPolicy:
    firsts = [RerankPolicy(weight, before.rerank_weight, 0) for weight in {*TEXT_WEIGHTS, before.text_weight}]
    weight = _cheapest(at, rows, firsts, prefer=before.text_weight).text_weight
    plain = RerankPolicy(weight, before.rerank_weight, 0)
    reranked = [
        RerankPolicy(weight, w, depth) for w in {*RERANK_WEIGHTS, before.rerank_weight} for depth in depths
    ]
    chosen = _cheapest(at, rows, [plain, *reranked])
    if chosen.depth == 0:
        return chosen
    gates = [replace(chosen, gate=gate) for gate in _gates(leads[rows])]
    return _cheapest(at, rows, [chosen, *gates], against=at(chosen))


def _best_reranked(
    at: At, rows: NDArray[np.int64], depths: Sequence[int], weight: float
) -> RerankPolicy | None:
    tried = [RerankPolicy(weight, w, depth) for w in RERANK_WEIGHTS for depth in depths]
    return max(tried, key=lambda one: float(at(one).values[rows].mean()), default=None)


def _cheapest(
    at: At, rows: NDArray[np.int64], tried: Sequence[RerankPolicy], *, prefer: float | None = None,
    against: ReplayResult | None = None,
) -> RerankPolicy:  # fmt: skip
    """Of those within one standard error of the best (or of `against`): the fastest, then the best.

    prefer: a text weight that is kept where it is among them, for weights cost no time.
    """
    best = against or max((at(one) for one in tried), key=lambda one: float(one.values[rows].mean()))
    good = [one for one in tried if _within(at(one).values[rows], best.values[rows])]
    if prefer is not None:
        return min(good, key=lambda one: (one.text_weight != prefer, -float(at(one).values[rows].mean())))
    return min(good, key=lambda one: (float(at(one).read[rows].mean()), -float(at(one).values[rows].mean())))


def _within(values: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
    return float((best - values).mean()) <= _error(values, best) + 1e-12


def _error(values: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    return float((best - values).std(ddof=1) / len(values) ** 0.5)


def _leads(observed: Sequence[JudgedCandidates]) -> NDArray[np.float64]:
    """The first stage's lead of each question, at the default text weight."""
    leads = []
    for one in observed:
        _, scores = fuse.first_stage(one.vectors if one.has_vectors else None, one.text, FIRST, 0.4)
        leads.append(fuse.margin(scores) if len(scores) else 0.0)
    return np.array(leads)


def _gates(leads: NDArray[np.float64]) -> list[float]:
    finite = leads[np.isfinite(leads)]
    return [round(float(np.quantile(finite, 1 - share)), 2) for share in GATE_SHARES] if len(finite) else []


def _tried(spending: RerankPolicy, one: ReplayResult, best: ReplayResult) -> Trial:
    gated = float((one.read == 0).mean()) if spending.depth else 0.0
    return Trial(
        spending,
        float(one.values.mean()),
        _error(one.values, best.values),
        float(np.percentile(one.seconds, 95)),
        float(one.read.mean()),
        gated,
    )


def _front(tried: Sequence[Trial]) -> Iterator[Trial]:
    best = -inf
    for one in sorted(tried, key=lambda one: (one.p95, -one.ndcg)):
        if one.ndcg > best + 1e-12:
            best = one.ndcg
            yield one
