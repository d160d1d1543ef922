"""Finds on a page the words that answer, from what a reader says of it and from the page's layout.

The reader's likeliest spans are candidates, and so are the whole cells that they stand in and the other cells of these
rows. Each candidate has features: what the reader thinks of it, whether the question asks for a number and it is one,
whether the question names its row and the head of its column. A regression chooses the best one; others say how likely
it is right, and how likely the answer is in its sentence or row (`benchmarks/reader_calibration.py` fits them). All
text is verbatim: one run of the page's words.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.confidence import sigmoid
from retrieval.layout import Cell, Layout
from retrieval.tables import Row, Tables, page_tables
from retrieval.text import STOP_WORDS, stems, words
from retrieval.types import Answer, Box, PageContent, PageReading

CELLS = " · "
"""Stands between the cells of a row."""
SHORT = 8
"""A cell of at most this many words is an answer as a whole."""
MOST_CELLS = 24
"""The most cells of a row that are candidates."""
ALIKE = 0.5
"""Spans that share this much with a candidate (F1 of words) speak for it."""
NAMED_ROWS = 2
"""The most rows that the question names whose cells are candidates, whatever the reader says."""
MOST_LEAD = 4.0
LITTLE = 1e-4
"""Votes below this are as good as none."""

_ASKS_NUMBER = re.compile(
    r"\bhow (?:many|much|long|large|high|old|big|far|tall|wide|heavy|often|fast|low)\b|\bpercent|%|\bwie ?viele?\b|"
    r"\bwie (?:hoch|lang|gross|groß|lange|oft)\b|\bcombien\b|\bquel(?:le)? (?:part|pourcentage|montant|taux)\b|"
    r"\bcuánt|\bquant[iaoe]\b|\bhoeveel\b|\bwhat (?:share|percentage|proportion|number|amount)\b",
    re.IGNORECASE,
)
_UNIT_WORDS = """
    % percent thousand million billion trillion bn m k mio mrd millionen milliarden euro euros pounds dollars usd eur
    gbp tonnes tons kg g mg km cm mm hours hour day days week weeks month months year years minutes seconds ms mw gw
    kw kwh mwh gwh twh v a ma w °c prozent stunden tage wochen monate jahre jours jour semaines mois ans heures pages
    people passengers
"""
_UNITS = frozenset(_UNIT_WORDS.split())
_CURRENCY = frozenset({"£", "$", "€", "¥", "usd", "eur", "gbp", "chf"})
_TRIM = ",.;:"


_ASKS_DATE = re.compile(
    r"\bwhen\b|\bwhat (?:day|date|year|month|time)\b|\bwhich (?:day|date|year|month)\b|\bwann\b|\bquand\b|\bcuándo\b|"
    r"\bquando\b|\bwanneer\b|\bin welchem (?:jahr|monat)\b|\bquelle (?:date|année)\b",
    re.IGNORECASE,
)

AnswerWeights = Mapping[str, Mapping[str, float]]
"""Weights of three regressions: "choice" over the features of candidates; "sure" and "passage" over those of the best,
for the probability that it is right, and that its sentence or row has the answer."""


Unit = tuple[tuple[int, int], ...]
"""Runs [first, end) of words: those of a row's cells, or one of a sentence."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The words [first, end) of a page that may answer, where they stand, and what speaks for them."""

    first: int
    end: int
    passage: Unit
    """The words of the sentence, or of the row's cells."""
    row: Row | None
    """The row of a table; None in prose."""
    features: Mapping[str, float]

    @property
    def heads(self) -> tuple[Cell, ...]:
        """The heads of the answer's column, and the row's label."""
        if self.row is None:
            return ()
        own = self.row.cells[0]
        label = (own,) if not own.first <= self.first < own.end else ()
        return (*self.row.heads_of(self.first), *label)


@dataclass(frozen=True, slots=True)
class Found:
    """The best candidate, and the probability that it is right."""

    candidate: Candidate
    probability: float
    in_passage: float
    """The probability that the answer is in the candidate's sentence or row."""


def choose(found: Sequence[Candidate], weights: AnswerWeights) -> Found | None:
    """Returns the best candidate with its probability; None if there are no candidates."""
    if not found:
        return None
    logits = [weigh(weights["choice"], candidate.features) for candidate in found]
    best = max(range(len(found)), key=lambda i: (logits[i], -i))
    values = sure_features(found[best], logits)
    logits_of = np.array([weights[of]["bias"] + weigh(weights[of], values) for of in ("sure", "passage")])
    sure, passage = map(float, sigmoid(logits_of))
    return Found(found[best], sure, max(sure, passage))


def sure_features(best: Candidate, logits: Sequence[float]) -> dict[str, float]:
    """Returns what the best candidate's probability is computed from: its features, and its lead. logits: of all."""
    first, *others = sorted(logits, reverse=True)
    return {**best.features, "lead": min(MOST_LEAD, first - others[0] if others else MOST_LEAD)}


def weigh(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    """Returns the sum of the weighted features."""
    return sum(weights.get(name, 0.0) * value for name, value in values.items())


def candidates(query: str, tables: Tables, reading: PageReading, confidence: float) -> list[Candidate]:
    """Returns all words that may answer, those of the likeliest spans first; none if the reader found no span.

    confidence: that the page answers, in (0, 1).
    """
    if not reading.spans:
        return []
    asked = _QuestionStems(query, tables)
    places = _places(tables, reading, asked)
    units = {place: _unit(tables.layout, row, *place) for place, row in places.items()}
    votes = dict.fromkeys(units.values(), 0.0)
    exact: dict[tuple[int, int], float] = {}
    for first, end, vote in reading.spans:
        place = _widened(tables.layout, first, end)
        exact[place] = exact.get(place, 0.0) + vote
        if place in units:
            votes[units[place]] += vote
    rows = [asked.of_row(row) for row in places.values() if row is not None]
    most_named = max((named for named, _ in rows), default=0.0)
    total = max(sum(vote for _, _, vote in reading.spans), LITTLE)
    found: list[Candidate] = []
    for (first, end), row in places.items():
        unit = units[first, end]
        row_named, label_named = asked.of_row(row) if row else (0.0, 0.0)
        features = {
            "page": math.log(confidence / (1 - confidence)),
            **_reader_features(reading, (first, end), unit, total),
            "exact": math.log(max(exact.get((first, end), 0.0), LITTLE)),
            "unit": votes[unit] / total,
            "length": math.log(end - first),
            "row": float(row is not None),
            "named": asked.share(" ".join(tables.layout.text(*part) for part in unit)),
            "row named": row_named,
            "row less named": most_named - row_named if row else 0.0,
            "label named": label_named,
            **asked.column_features(row, first),
            **_kind_features(query, tables.layout.text(first, end)),
            "echo": asked.echo(tables.layout.text(first, end)),
        }
        found.append(Candidate(first, end, unit, row, features))
    return found


Places = dict[tuple[int, int], Row | None]


def _places(tables: Tables, reading: PageReading, asked: "_QuestionStems") -> Places:
    """Returns the words [first, end) that are candidates, with the rows that they stand in."""
    layout = tables.layout
    places: Places = {}
    for first, end, _ in reading.spans:
        if layout.crosses_cells(first, end):
            continue
        row = tables.row_at(first)
        places.setdefault(_widened(layout, first, end), row)
        if row is not None:
            own = next(cell for cell in row.cells if cell.first <= first < cell.end)
            if own.end - own.first <= SHORT:
                places.setdefault((own.first, own.end), row)
    rows = {row.cells[0].first: row for row in places.values() if row is not None}
    named = sorted(tables.rows, key=lambda row: -asked.of_row(row)[0])[:NAMED_ROWS]
    rows |= {row.cells[0].first: row for row in named if asked.of_row(row)[0] > 0}
    for row in rows.values():
        for cell in row.cells[:MOST_CELLS]:
            if cell.end - cell.first <= SHORT:
                places.setdefault(_widened(layout, cell.first, cell.end), row)
    return places


def _reader_features(
    reading: PageReading, place: tuple[int, int], unit: Unit, total: float
) -> dict[str, float]:
    """Returns what the reader thinks of the words. total: the votes of all spans."""
    support = sum(vote for first, end, vote in reading.spans if _f1((first, end), place) >= ALIKE)
    inside = reading.evidence[slice(*place)]
    around = [value for part in unit for value in reading.evidence[slice(*part)]]
    return {
        "support": math.log(max(support, LITTLE)),
        "share": support / total,
        "evidence": sum(inside) / max(1, len(inside)),
        "around": sum(around) / max(1, len(around)),
    }


def _kind_features(query: str, text: str) -> dict[str, float]:
    """Returns whether the words are of the kind that the question asks for."""
    has_number = any(c.isdigit() for c in text)
    number, date = bool(_ASKS_NUMBER.search(query)), bool(_ASKS_DATE.search(query))
    return {
        "number asked and given": float(number and has_number),
        "number asked, none given": float(number and not has_number),
        "date asked, no number": float(date and not has_number),
        "number not asked": float(not number and not date and has_number),
        "only a number": float(has_number and not any(c.isalpha() for c in text)),
    }


class _QuestionStems:
    """The question's words that bear meaning, compared with those of a page."""

    def __init__(self, query: str, tables: Tables) -> None:
        self._stems = _stems(query)
        self._layout = tables.layout
        self._rows: dict[int, tuple[float, float]] = {}  # by first word

    def share(self, text: str) -> float:
        """Returns the share of the question's words that stand in a text."""
        return len(self._stems & _stems(text)) / max(1, len(self._stems))

    def echo(self, text: str) -> float:
        """Returns the share of a text's words that the question has already."""
        own = _stems(text)
        return len(own & self._stems) / max(1, len(own))

    def of_row(self, row: Row) -> tuple[float, float]:
        """Returns the share of the question's words in a row's label and section, and of the label's among those."""
        key = row.cells[0].first
        if key not in self._rows:
            label = self._cells(row.cells[:1])
            names = label | self._cells([row.section] if row.section else [])
            shared = len(label & self._stems) / max(1, len(label))
            self._rows[key] = (len(names & self._stems) / max(1, len(self._stems)), shared)
        return self._rows[key]

    def column_features(self, row: Row | None, word: int) -> dict[str, float]:
        """Returns whether the question names the head of the column with this word, and not that of another one."""
        own, best, tied, is_label = 0, 0, 1, False
        if row is not None:
            wanted = self._stems - self._cells([*row.cells[:1], *([row.section] if row.section else [])])
            shared = [len(wanted & self._cells(heads)) for heads in row.heads]
            at = next(i for i, cell in enumerate(row.cells) if cell.first <= word < cell.end)
            own, best, is_label = shared[at], max(shared), at == 0
            tied = shared.count(best)
        return {
            "label": float(is_label),
            "head named": float(own > 0),
            "only head named": float(own > 0 and own == best and tied == 1),
            "other head named": float(best > own),
        }

    def _cells(self, cells: Sequence[Cell]) -> set[str]:
        return {stem for cell in cells for stem in _stems(self._layout.text(cell.first, cell.end))}


def _f1(one: tuple[int, int], other: tuple[int, int]) -> float:
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(0.0, 2 * shared / (one[1] - one[0] + other[1] - other[0]))


def _unit(layout: Layout, row: Row | None, first: int, end: int) -> Unit:
    """Returns the words of the row or the sentences in which a span stands."""
    if row is not None:
        return tuple((cell.first, cell.end) for cell in row.cells)
    return (layout.sentence(first, end),)


def _stems(text: str) -> set[str]:
    return {stem for word in words(text) if word not in STOP_WORDS for stem in stems(word)}


def _widened(layout: Layout, first: int, end: int) -> tuple[int, int]:
    """Returns the span with the currency before a number and the unit after it."""
    cell = layout.cell_at(first)
    page = layout.words
    while first > cell.first and page[first - 1].text.casefold() in _CURRENCY:
        first -= 1
    last = layout.cell_at(end - 1)
    if page[end - 1].text[-1:].isdigit():
        while end < last.end and page[end].text.casefold().strip(_TRIM) in _UNITS:
            end += 1
    return first, end


def verbatim(page: PageContent, first: int, end: int) -> str:
    """Returns words [first, end) of the page, without the punctuation after and the brackets around them."""
    text = " ".join(word.text for word in page.words[first:end]).rstrip(_TRIM).strip()
    for left, right in ("()", "[]", "“”", '""'):
        if text.startswith(left) and text.endswith(right) and len(text) > 2:
            text = text[1:-1]
        elif text.endswith(right) and left not in text[:-1]:
            text = text[:-1].rstrip(_TRIM)
        elif text.startswith(left) and right not in text[1:]:
            text = text[1:]
    return text


@dataclass(frozen=True, slots=True)
class Located:
    """An answer with all that is lit on its page. Boxes are page-relative."""

    answer: Answer
    first: int  # the answer's words [first, end)
    end: int
    is_sure: bool
    """Whether these words are likely enough to be shown as the answer."""
    in_passage: float
    """The probability that the answer is in the sentence or row of these words."""
    heads: tuple[Box, ...]
    lines: tuple[Box, ...]  # of the whole page
    heat: tuple[float, ...]  # of each line, in [0, 1]


def locate(
    query: str,
    page: PageContent,
    reading: PageReading,
    confidence: float,
    weights: AnswerWeights,
    least: float,
) -> Located | None:
    """Returns the page's answer with its probability; None if the reader found none.

    confidence: that the page answers, in (0, 1). least: the probability from which it is sure.
    """
    tables = page_tables(page)
    found = choose(candidates(query, tables, reading, confidence), weights)
    if found is None:
        return None
    layout, own = tables.layout, found.candidate
    row = tuple(cell.box for cell in own.row.cells) if own.row else ()
    text = verbatim(page, own.first, own.end)
    passage, start = _passage(layout, own, text)
    answer = Answer(
        page.page,
        text,
        layout.boxes(own.first, own.end),
        found.probability,
        passage,
        row or layout.boxes(*own.passage[0]),
        start,
    )
    return Located(
        answer,
        own.first,
        own.end,
        found.probability >= least,
        found.in_passage,
        tuple(cell.box for cell in own.heads),
        tuple(line.box for line in layout.lines),
        _heat(layout, reading),
    )


def _passage(layout: Layout, found: Candidate, text: str) -> tuple[str, int]:
    """Returns the row's cells or the sentence as text, and where the answer's text begins in it, -1 if it does not."""
    passage, start = "", -1
    for first, end in found.passage:
        passage += CELLS if passage else ""
        if first <= found.first < end:
            before = len(passage) + len(layout.text(first, found.first))
            start = (passage + layout.text(first, end)).find(text, before)
        passage += layout.text(first, end)
    return passage, start


def _heat(layout: Layout, reading: PageReading) -> tuple[float, ...]:
    """Returns how much each line answers: half by the best passage over it, half by its evidence."""
    best = max((passage.relevance for passage in reading.passages), default=0.0)
    relevance = [0.0] * len(layout.words)
    for passage in reading.passages:
        share = math.exp(passage.relevance - best)
        relevance[passage.first : passage.end] = [
            max(share, value) for value in relevance[passage.first : passage.end]
        ]
    most = max(reading.evidence, default=0.0) or 1.0
    return tuple(
        max(relevance[line.first : line.end]) / 2 + max(reading.evidence[line.first : line.end]) / most / 2
        for line in layout.lines
    )
