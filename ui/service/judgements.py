"""Readers' judgements of the pages they saw: thumbs up and down, stored with both orders of the question.

A thumb is a judgement of relevance (grade 1 or 0) of one page for one question. The order of each stage at that time is
stored with it, so that ir_measures computes the lift over the orders that readers saw.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ir_measures import RR, nDCG

from retrieval.evaluation.evaluate import falling_scores, measure_runs, paired_p
from ui.service.sqlite_file import SQLiteFile

MEASURES = (nDCG @ 10, RR @ 10)
ROUNDS = 2_000  # of the bootstrap and of the randomization test
NEWEST = 2_000
"""Maximal number of judged questions that are evaluated."""
ENOUGH = 20
"""Number of judged questions below which an interval says little, whatever its width."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS judgements (
    query TEXT NOT NULL, page_id TEXT NOT NULL, page TEXT NOT NULL, grade INTEGER NOT NULL, who TEXT NOT NULL,
    at TEXT NOT NULL, PRIMARY KEY (query, page_id, who));
CREATE TABLE IF NOT EXISTS orders (query TEXT PRIMARY KEY, first TEXT NOT NULL, final TEXT NOT NULL);
"""

Grade = Literal[0, 1]


@dataclass(frozen=True, slots=True)
class Lift:
    """One measure of both stages over the judged questions, and their difference with its 95% interval."""

    measure: str
    first: float  # mean over the questions, in [0, 1]
    final: float
    difference: float
    low: float  # percentile bootstrap over questions (Sakai, 2006), 95%
    high: float
    p: float  # two-sided, paired randomization test
    wins: int
    ties: int
    losses: int


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """One question with the number of pages judged up and down, and nDCG@10 of both stages."""

    query: str
    up: int
    down: int
    first: float
    final: float


class Judgements(SQLiteFile):
    """The judgements in one SQLite file. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, SCHEMA)

    def judge(
        self,
        query: str,
        page_id: str,
        page: str,
        grade: Grade | None,
        *,
        who: str = "",
        first: Sequence[str] = (),
        final: Sequence[str] = (),
    ) -> None:
        """Store one reader's grade of a page, which replaces the same reader's earlier grade; None deletes it.

        page: its name, for example `report.pdf#page=12`. first, final: page_ids in the order of each stage when the
        question was asked.
        """
        at = datetime.now(UTC).isoformat(timespec="seconds")
        with self._lock, closing(self._database.cursor()) as cursor:
            if grade is None:
                cursor.execute(
                    "DELETE FROM judgements WHERE query = ? AND page_id = ? AND who = ?",
                    (query, page_id, who),
                )
                return
            cursor.execute(
                "INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, ?, ?, ?)",
                (query, page_id, page, grade, who, at),
            )
            if first:
                cursor.execute(
                    "INSERT OR REPLACE INTO orders VALUES (?, ?, ?)",
                    (query, json.dumps(list(first)), json.dumps(list(final))),
                )

    def of(self, query: str, who: str = "") -> dict[str, int]:
        """Returns one reader's grades for a question, by page_id."""
        rows = self._rows("SELECT page_id, grade FROM judgements WHERE query = ? AND who = ?", query, who)
        return {str(page_id): int(grade) for page_id, grade in rows}

    def everything(self) -> list[tuple[str, str, int, str, str]]:
        """Returns (question, `report.pdf#page=12`, grade, who, when) of all judgements, oldest first, for qrels."""
        return [
            (str(q), str(page), int(grade), str(who), str(at))
            for q, page, grade, who, at in self._rows(
                "SELECT query, page, grade, who, at FROM judgements ORDER BY at, query, page"
            )
        ]

    def lift(self) -> tuple[list[Lift], list[JudgedQuestion]]:
        """Returns the gain from reranking over the NEWEST questions with a page judged relevant, and these questions.

        The newest question is last. A question without a relevant page is left out: no order of it is better than
        another.
        """
        grades: dict[str, dict[str, int]] = {}
        for query, page_id, grade in self._rows(
            "SELECT query, page_id, ROUND(AVG(grade)) FROM judgements GROUP BY query, page_id ORDER BY MIN(at)"
        ):
            grades.setdefault(str(query), {})[str(page_id)] = int(grade)
        orders = {
            str(query): (json.loads(first), json.loads(final))
            for query, first, final in self._rows("SELECT query, first, final FROM orders")
        }
        judged = [query for query in grades if query in orders and any(grades[query].values())][-NEWEST:]
        if not judged:
            return [], []
        qrels = {query: grades[query] for query in judged}
        values = [
            measure_runs(MEASURES, qrels, {query: falling_scores(orders[query][stage]) for query in judged})
            for stage in (0, 1)
        ]
        lifts = [_lift(str(m), values[0][str(m)], values[1][str(m)]) for m in MEASURES]
        ndcg = str(MEASURES[0])
        rows = []
        for at, query in enumerate(judged):
            up = sum(grade > 0 for grade in grades[query].values())
            down = len(grades[query]) - up
            rows.append(JudgedQuestion(query, up, down, values[0][ndcg][at], values[1][ndcg][at]))
        return lifts, rows

    def _rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._database.execute(statement, values).fetchall()


def _lift(measure: str, first: Sequence[float], final: Sequence[float]) -> Lift:
    differences = np.array(final) - np.array(first)
    draws = np.random.default_rng(0).integers(0, len(differences), (ROUNDS, len(differences)))
    low, high = np.percentile(differences[draws].mean(axis=1), [2.5, 97.5])
    return Lift(
        measure=measure,
        first=float(np.mean(first)),
        final=float(np.mean(final)),
        difference=float(differences.mean()),
        low=float(low),
        high=float(high),
        p=paired_p(first, final, rounds=ROUNDS),
        wins=int((differences > 1e-9).sum()),
        ties=int((abs(differences) <= 1e-9).sum()),
        losses=int((differences < -1e-9).sum()),
    )
