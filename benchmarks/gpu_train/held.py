"""Measures on the held-out part: pages ranked within their document, contrast pairs, spans, and unanswerable questions.

A page's score is that of its best window. Ties count against the answer.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.train.packed import EXTRA, SETS, Packed, Role, trimmed

CUT = 10
LEXICAL_WINDOWS = 32
"""An answerable question is judged by as many windows as an unanswerable one: the best by BM25, and the answers."""
Table = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Held:
    """The held-out groups (g, c) as arrays on the CPU; `windows` is -1 where a group has no more."""

    packed: Packed
    groups: NDArray[np.int64]
    windows: NDArray[np.int64]
    roles: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    evidence_row: NDArray[np.int64]
    """Rows of `evidence`, -1 where it is unknown."""
    evidence: NDArray[np.bool_]
    """Which pieces (r, LONGEST) of a window are evidence."""
    continues: NDArray[np.bool_]
    """Whether a word piece continues the word of the piece before it."""

    def rows(self, part: str) -> NDArray[np.int64]:
        """Returns which rows are of one of SETS."""
        found: NDArray[np.int64] = np.flatnonzero(self.packed.group_set[self.groups] == SETS.index(part))
        return found

    def lexical(self) -> Table:
        """Returns the BM25 scores that were packed."""
        table = np.full(self.windows.shape, -np.inf, np.float32)
        for row, group in enumerate(self.groups):
            items = self.packed.items(int(group))
            values = self.packed.item_lexical[items.start : items.stop]
            table[row, : len(values)] = values
        return table


def ranking(held: Held, scores: Table) -> dict[str, dict[str, float]]:
    """Returns nDCG@10 and MRR (percent) of pages within their document: of all, by kind and of report-like documents.

    scores (g, c): of the windows, higher is better.
    """
    values: dict[str, list[tuple[float, float]]] = defaultdict(list)
    packed, lexical = held.packed, held.lexical()
    for row in held.rows("held"):
        question = packed.group_question[held.groups[row]]
        answers = {int(text) for text in packed.question_answers[question] if text >= 0}
        best: dict[int, float] = {}
        for window, score, chosen in zip(held.windows[row], scores[row], lexical[row] != EXTRA, strict=True):
            if window >= 0 and chosen:
                page = int(packed.window_text[window])
                best[page] = max(best.get(page, -np.inf), float(score))
        order = sorted(best, key=lambda page: (-best[page], page in answers))
        value = _ndcg([page in answers for page in order], len(answers & best.keys()))
        names = ["all", packed.kinds[packed.question_kind[question]]]
        if packed.question_report[question]:
            names.append("reports")
        for name in names:
            values[name].append(value)
    return {
        name: {
            "nDCG@10": round(100 * float(np.mean([v[0] for v in of])), 2),
            "MRR": round(100 * float(np.mean([v[1] for v in of])), 2),
            "questions": len(of),
        }
        for name, of in sorted(values.items())
    }


def _ndcg(relevant: list[bool], answers: int) -> tuple[float, float]:
    gains = [1 / np.log2(2 + i) for i, r in enumerate(relevant[:CUT]) if r]
    ideal = sum(1 / np.log2(2 + i) for i in range(min(CUT, answers)))
    first = relevant.index(True) if True in relevant else -1
    return float(sum(gains) / ideal) if ideal else 0.0, 1 / (1 + first) if first >= 0 else 0.0


def contrast(held: Held, scores: Table) -> dict[str, float]:
    """Returns the share (percent) of contrast questions whose answer is above all of its variants, by kind."""
    right: dict[str, list[bool]] = defaultdict(list)
    packed = held.packed
    for row in held.rows("held contrast"):
        real = held.windows[row] >= 0
        positive = held.roles[row] == Role.POSITIVE
        correct = bool(scores[row][positive].max() > scores[row][real & ~positive].max(initial=-np.inf))
        kind = packed.kinds[packed.question_kind[packed.group_question[held.groups[row]]]]
        right["all"].append(correct)
        right[kind].append(correct)
    return {kind: round(100 * float(np.mean(values)), 1) for kind, values in sorted(right.items())}


def spans(
    held: Held, first: NDArray[np.int64], last: NDArray[np.int64], part: str = "held"
) -> dict[str, float]:
    """Returns exact match and F1 (percent) over the pieces of windows with a known span. first, last (g, c).

    Punctuation at the ends of a found span does not count.
    """
    rows = held.rows(part)
    known = (held.first[rows] >= 0) & (held.roles[rows] == Role.POSITIVE)
    a, b = held.first[rows][known], held.last[rows][known]
    if not len(a):
        return {"spans": 0}
    found = zip(held.windows[rows][known], first[rows][known], last[rows][known], strict=True)
    c, d = np.array([trimmed(held.packed.window(window), *span) for window, *span in found]).T
    shared = np.clip(np.minimum(b, d) - np.maximum(a, c) + 1, 0, None)
    f1 = 2 * shared / ((b - a + 1) + (d - c + 1))
    return {
        "exact": round(100 * float(np.mean((a == c) & (b == d))), 1),
        "F1": round(100 * float(f1.mean()), 1),
        "spans": len(a),
    }


def evidence(held: Held, logits: Table) -> dict[str, float]:
    """Returns average precision and F1 (percent) of evidence, over the words of windows whose evidence is known.

    logits (g, c, LONGEST) of pieces: a word's is that of its highest piece. F1 is at a probability of one half.
    """
    rows = held.rows("held")
    known = (held.evidence_row[rows] >= 0) & (held.roles[rows] == Role.POSITIVE)
    precision, f1 = [], []
    marks = held.evidence[held.evidence_row[rows][known]]
    for window, mark, values in zip(held.windows[rows][known], marks, logits[rows][known], strict=True):
        pieces = held.packed.window(window)
        starts = np.flatnonzero(~held.continues[pieces] | (np.arange(len(pieces)) == 0))
        truth = np.logical_or.reduceat(mark[: len(pieces)], starts)
        score = np.maximum.reduceat(values[: len(pieces)].astype(np.float32), starts)
        ranked = truth[np.argsort(-score, kind="stable")]
        hits = np.cumsum(ranked)
        precision.append(float((hits / np.arange(1, len(hits) + 1))[ranked].mean()))
        chosen = score > 0
        f1.append(2 * float((chosen & truth).sum()) / float(chosen.sum() + truth.sum()))
    if not precision:
        return {"windows": 0}
    return {
        "average precision": round(100 * float(np.mean(precision)), 1),
        "F1": round(100 * float(np.mean(f1)), 1),
        "windows": len(precision),
    }


def unanswerable_auc(held: Held, scores: Table) -> float:
    """Returns the probability (percent) that a question scores higher on its own document than one on another's."""
    answered: list[float] = []
    lexical = held.lexical()
    for row in held.rows("held"):
        chosen = held.roles[row] == Role.POSITIVE
        chosen[np.argsort(-lexical[row], kind="stable")[:LEXICAL_WINDOWS]] = True
        answered.append(float(scores[row][chosen & (held.windows[row] >= 0)].max()))
    other = [float(scores[row][held.windows[row] >= 0].max()) for row in held.rows("unanswerable")]
    if not answered or not other:
        return float("nan")
    a, b = np.array(answered)[:, None], np.array(other)[None]
    return round(100 * float(((a > b) + 0.5 * (a == b)).mean()), 2)


def measured(held: Held, scores: Table) -> dict[str, Any]:
    """Returns the figures that every model has."""
    return {"ranking": ranking(held, scores), "contrast right": contrast(held, scores)}


def headline(figures: Mapping[str, Any]) -> str:
    """Returns the figures of all questions in one line."""
    every = figures["ranking"].get("all", {})
    return f"nDCG@10 {every.get('nDCG@10')}, MRR {every.get('MRR')}, contrast {figures['contrast right'].get('all')}"
