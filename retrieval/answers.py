"""Finds on a page the words that answer, from what a reader says of it and from the page's layout.

The reader's likeliest spans vote for a unit: a row of a table, or a sentence. Inside a row the answer is a whole cell,
that of the column whose head the question names, if it names one; inside a sentence it is the likeliest span. All text
is verbatim: one run of the page's words.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieval.layout import Cell, Layout
from retrieval.text import STOP_WORDS, stems, words
from retrieval.types import Answer, Box, PageContent, PageReading

CELLS = " · "
"""Stands between the cells of a row."""
SHORT = 8
"""A cell of at most this many words is an answer as a whole."""

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


@dataclass(frozen=True, slots=True)
class Found:
    """The words [first, end) of a page that answer, where they stand, and how sure the reader is."""

    first: int
    end: int
    passage: tuple[int, int]
    """The sentence or the row's words, of which those in reading order between first and last."""
    cells: tuple[Cell, ...]
    """The row's cells; none in prose."""
    heads: tuple[Cell, ...]
    """The heads of the answer's column and row."""
    votes: float
    """The probability of all spans in this unit."""
    share: float
    """Of the votes of all spans, those of this unit."""
    evidence: float
    """The mean probability of evidence of the answer's words."""
    settled: bool
    """Whether the choice of the cell was settled by its column's head; true in prose."""


def find(query: str, page: PageContent, reading: PageReading) -> Found | None:
    """Returns where the page answers; None if the reader found no span."""
    return _find(query, _layout(page), reading)


def _layout(page: PageContent) -> Layout:
    return Layout(page.words, page.page.width, page.page.height)


def _find(query: str, layout: Layout, reading: PageReading) -> Found | None:
    if not reading.spans:
        return None
    units: dict[tuple[int, int], list[tuple[int, int, float]]] = {}
    for first, end, probability in reading.spans:
        units.setdefault(_unit(layout, first, end), []).append((first, end, probability))
    votes = {unit: sum(span[2] for span in spans) for unit, spans in units.items()}
    asked = _stems(query)
    unit = max(units, key=lambda u: (votes[u] * math.exp(_named(layout, u, asked)), -u[0]))
    first, end, _ = units[unit][0]
    cells = layout.row_at(first)
    settled = True
    if cells:
        covered = [cell for cell in cells if cell.first < end and first < cell.end]
        own = next((cell for cell in covered if layout.is_numeric(cell)), layout.cell_at(first))
        cell, settled = _choose_cell(query, layout, cells, own)
        if not cell.first <= first < end <= cell.end or cell.end - cell.first <= SHORT:
            first, end = cell.first, cell.end
    first, end = _widen(layout, first, end)
    heads: tuple[Cell, ...] = ()
    if cells:
        own = layout.cell_at(first)
        heads = layout.heads_of(own)
        label = next((cell for cell in cells if not layout.is_numeric(cell)), None)
        if label is not None and label is not own:
            heads = (*heads, label)
    inside = reading.evidence[first:end]
    return Found(
        first,
        end,
        unit,
        cells,
        heads,
        votes[unit],
        votes[unit] / max(sum(votes.values()), 1e-9),
        sum(inside) / max(1, len(inside)),
        settled,
    )


def _unit(layout: Layout, first: int, end: int) -> tuple[int, int]:
    """Returns the words [first, end) of the row or the sentences in which a span stands."""
    cells = layout.row_at(first)
    if cells:
        line = layout.line_at(first)
        return line.first, line.end
    return layout.sentence(first, end)


def _named(layout: Layout, unit: tuple[int, int], asked: set[str]) -> float:
    """Returns the share of the question's words that stand in a unit, with all cells of its row."""
    cells = layout.row_at(unit[0])
    texts = [layout.text(cell.first, cell.end) for cell in cells] or [layout.text(*unit)]
    return len(asked & {stem for text in texts for stem in _stems(text)}) / max(1, len(asked))


def _choose_cell(query: str, layout: Layout, cells: Sequence[Cell], own: Cell) -> tuple[Cell, bool]:
    """Returns the cell of a row that answers, and whether the question or the row leaves no other choice.

    own: the cell that the reader's span is in.
    """
    values = [cell for cell in cells if layout.is_numeric(cell)]
    labels = {
        stem for cell in cells if cell not in values for stem in _stems(layout.text(cell.first, cell.end))
    }
    asked = _stems(query) - labels
    shared = [
        len(asked & {s for head in layout.heads_of(cell) for s in _stems(layout.text(head.first, head.end))})
        for cell in values
    ]
    best = max(shared, default=0)
    if own not in values:
        if not best and not _ASKS_NUMBER.search(query):
            return own, True
        if len(values) == 1:
            return values[0], True
    if best and shared.count(best) == 1:
        return values[shared.index(best)], True
    if own in values and shared[values.index(own)] == best:
        return own, len(values) == 1
    return values[shared.index(best)], False


def _stems(text: str) -> set[str]:
    return {stem for word in words(text) if word not in STOP_WORDS for stem in stems(word)}


def _widen(layout: Layout, first: int, end: int) -> tuple[int, int]:
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
    heads: tuple[Box, ...]
    lines: tuple[Box, ...]  # of the whole page
    heat: tuple[float, ...]  # of each line, in [0, 1]


def features(found: Found, confidence: float) -> dict[str, float]:
    """Returns what the probability of an answer is computed from. confidence: that the page answers, in (0, 1)."""
    return {
        "page": math.log(confidence / (1 - confidence)),
        "votes": math.log(max(found.votes, 1e-6)),
        "share": found.share,
        "evidence": found.evidence,
        "settled": float(found.settled),
        "row": float(bool(found.cells)),
        "length": math.log(found.end - found.first),
    }


def probability(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    """Returns the logistic function of the weighted features and of the weight "bias"."""
    total = weights["bias"] + sum(weight * values[name] for name, weight in weights.items() if name != "bias")
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, total))))


def locate(
    query: str,
    page: PageContent,
    reading: PageReading,
    confidence: float,
    weights: Mapping[str, float],
    least: float,
) -> Located | None:
    """Returns the page's answer with its probability; None if the reader found none.

    confidence: that the page answers, in (0, 1). weights: of `features`. least: the probability from which it is sure.
    """
    layout = _layout(page)
    found = _find(query, layout, reading)
    if found is None:
        return None
    row = tuple(cell.box for cell in found.cells)
    text = verbatim(page, found.first, found.end)
    passage, start = _passage(layout, found, text)
    sure = probability(weights, features(found, confidence))
    answer = Answer(
        page.page,
        text,
        layout.boxes(found.first, found.end),
        sure,
        passage,
        row or layout.boxes(*found.passage),
        start,
    )
    return Located(
        answer,
        found.first,
        found.end,
        sure >= least,
        tuple(cell.box for cell in found.heads),
        tuple(line.box for line in layout.lines),
        _heat(layout, reading),
    )


def _passage(layout: Layout, found: Found, text: str) -> tuple[str, int]:
    """Returns the row's cells or the sentence as text, and where the answer's text begins in it, -1 if it does not."""
    parts = [(cell.first, cell.end) for cell in found.cells] or [found.passage]
    passage, start = "", -1
    for first, end in parts:
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
