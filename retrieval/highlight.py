"""Finds the places of a page to light for a question, and lights no place without evidence.

What answers is lit strongest, if a reader has found it (`retrieval/answers.py`): its words, then the sentence or row
around them and the heads of its column and row. Weaker are the words of the question that stand on the page (same stem,
with or without accents), and weakest the regions whose vectors are closer to one of these words than the page's other
vectors, by a clear margin. Strengths are relative to the whole question, not to each word, so that a word that is
nowhere on the page is not highlighted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.answers import Located
from retrieval.recall.maxsim import weighted
from retrieval.text import NEGATIONS, STOP_WORDS, stem, stems, words
from retrieval.types import (
    Box,
    Heat,
    Highlight,
    PageContent,
    PageEmbedding,
    QueryEmbedding,
    Region,
    TermMatch,
)

SMALL = 0.2
"""A region that covers more than this share of the page shows that the page matches, but not where."""
CLEAR = 2.8
"""A near match is at least this many standard deviations above the page's mean similarity..."""
NEAR = 0.6
"""... and has at least this cosine."""
NEAR_REGIONS = 3  # the most near matches of one word
NEAR_STRENGTH = 0.5
"""Strength of the best near match, when that of the word itself is 1."""
TERM_REGIONS = 200  # the most places of one word: a page that repeats one word would take seconds
SNIPPET_WORDS = 32
MARGIN = 0.06
"""Words this close to the top or bottom of the page, as a share of its height, are running heads: no snippet has them
unless they match."""
ANSWER, PASSAGE, HEAD, WORD = 1.0, 0.6, 0.5, 0.4
"""Strengths of the answer's words, of its sentence or row, of its heads, and of the best word of the question beside
them. Without an answer the best word has strength 1."""
LIKELY = 0.6
"""If the words that answer are not sure, their sentence or row is lit as the answer if it has it with at least this
probability, and otherwise softly, as a passage."""
SOFT = 0.8
"""Strength of such a passage: nothing else on the page is lit more strongly."""
TERMS = 32
"""The most words of the question to highlight: of a pasted paragraph the longest, which are the rarest."""
FAINT = 0.25
"""Heat below this share of the question's maximum becomes 0."""


def focus(query: QueryEmbedding, page: PageEmbedding, count: int = 12) -> tuple[Box, ...]:
    """Return the regions closest to the question as a whole, best first: where a reranker should read."""
    places = np.flatnonzero(~np.isnan(page.regions).any(axis=1))
    vectors = weighted(query)
    if not len(places) or not len(vectors):
        return ()
    similarity = page.vectors[places] @ vectors.T
    above = np.maximum(similarity - similarity.mean(axis=0), 0).sum(axis=1)
    small = _areas(page.regions[places]) < SMALL
    order = np.lexsort((-above, ~small))  # small regions before large ones, then the nearest
    return tuple(_box(page.regions[places[i]]) for i in order[:count])


def highlight(
    text: str,
    query: QueryEmbedding,
    page: PageContent,
    embedding: PageEmbedding,
    located: Located | None = None,
) -> Highlight:
    """Return what to highlight on `page` for the question `text`, whose embedding is `query`.

    located: what answers on the page, if a reader has found it.
    """
    page_stems = [frozenset(stems(word.text)) for word in page.words]
    near = _near(query, embedding)
    terms: list[TermMatch] = []
    for term in _terms(text):
        asked = set(stems(term))
        exact = [
            Region(word.box, 1.0, "word")
            for word, found in zip(page.words, page_stems, strict=True)
            if asked & found
        ]
        terms.append(TermMatch(term, tuple(exact[:TERM_REGIONS] or near.get(term.casefold(), ()))))
    regions = _merge_terms(_without_lone_negations(terms))
    if located:
        regions = _with_answer(located, regions)
    snippet, spans = _snippet(page, terms, regions, located)
    note = (
        ""
        if regions
        else (
            "No place on this page stands out for this question."
            if page.words
            else "No text was read on this page, so nothing can be highlighted."
        )
    )
    return Highlight(
        page.page,
        tuple(terms),
        regions,
        snippet,
        spans,
        note,
        located.answer if located and located.is_sure else None,
    )


def _terms(text: str) -> list[str]:
    """Return the question's words to highlight, each once, as they were written."""
    terms: dict[str, str] = {}
    for token in text.split():
        term = token.strip("\"'“”„«»()[]{}?!.,:;…")
        folded = words(term)
        if folded and not all(word in STOP_WORDS for word in folded):
            terms.setdefault(" ".join(map(stem, folded)), term)
    chosen = set(sorted(terms.values(), key=len, reverse=True)[:TERMS])
    return [term for term in terms.values() if term in chosen]


def _near(query: QueryEmbedding, page: PageEmbedding) -> dict[str, tuple[Region, ...]]:
    """Return, for each folded content token of the query, the regions that stand out for it, strongest first."""
    small = np.flatnonzero(_areas(page.regions) < SMALL)  # NaN compares false
    rows = [i for i, content in enumerate(query.content) if content]
    if len(small) < 4 or not rows:
        return {}
    similarity = _similarities(query, rows, page.vectors[small])
    top = max(float(values.max()) for values in similarity.values())
    found: dict[str, tuple[Region, ...]] = {}
    for word, values in similarity.items():
        clear = (values >= NEAR) & (values >= values.mean() + CLEAR * values.std())
        best = sorted(np.flatnonzero(clear), key=lambda j: -values[j])[:NEAR_REGIONS]
        found[word] = tuple(
            Region(_box(page.regions[small[j]]), NEAR_STRENGTH * float(values[j]) / max(top, 1e-6), "near")
            for j in best
        )
    return found


def _without_lone_negations(terms: Sequence[TermMatch]) -> list[TermMatch]:
    """Return the terms with those places of a negation only that are close to another word of the question."""
    others = [term for term in terms if words(term.term)[0] not in NEGATIONS]
    places = np.array([region.box for term in others for region in term.regions]).reshape(-1, 4)
    if not len(places):
        return list(terms)
    kept = []
    for term in terms:
        if term not in others and term.regions:
            boxes = np.array([region.box for region in term.regions])
            beside = np.flatnonzero(_close(boxes, places).any(axis=1))
            term = TermMatch(term.term, tuple(term.regions[at] for at in beside))
        kept.append(term)
    return kept


def _with_answer(located: Located, regions: Sequence[Region]) -> tuple[Region, ...]:
    """Return the regions of the answer before those of the question's words, which become weaker."""
    answer, passage = located.answer.boxes, located.answer.passage_boxes
    if located.is_sure:
        own = [Region(box, ANSWER, "answer") for box in answer]
        own += [Region(box, PASSAGE, "passage") for box in passage]
    else:
        likely = located.in_passage >= LIKELY
        own = [Region(box, ANSWER if likely else SOFT, "answer" if likely else "passage") for box in passage]
    heads = [Region(box, HEAD, "head") for box in located.heads if located.is_sure]
    words_lit = [Region(r.box, round(WORD * r.strength, 4), r.kind) for r in regions]
    return (*own, *heads, *words_lit)


def answer_heat(located: Located) -> Heat:
    """Return how much each line of the page answers, in [0, 1], as a heat map of one row, named "answer".

    It is the reader's evidence in the line, and the relevance of the passage around it.
    """
    values = np.array(located.heat, np.float32)[None]
    boxes = np.array(located.lines, np.float32).reshape(-1, 4)
    return Heat(("answer",), boxes, np.where(values >= FAINT, values, np.float32(0)))


def heat(query: QueryEmbedding, page: PageEmbedding, highlight: Highlight) -> Heat:
    """Return how far each small region stands out from the page for each word of `highlight`, in [0, 1].

    A value is the similarity above the page's mean by more than a standard deviation, divided by the largest of
    the question. It is normalised over the question, not over each word, which would highlight every word somewhere.
    Values below FAINT become 0. In contrast, the similarity maps of colpali-engine are normalised for each token.
    """
    small = np.flatnonzero(_areas(page.regions) < SMALL)
    rows = [i for i, content in enumerate(query.content) if content]
    found = {term.term.casefold(): term.term for term in highlight.terms if term.regions}
    similarity = _similarities(query, rows, page.vectors[small]) if len(small) >= 4 and rows else {}
    excess = {
        found[word]: np.maximum(values - values.mean() - values.std(), 0)
        for word, values in similarity.items()
        if word in found
    }
    top = max((float(values.max()) for values in excess.values()), default=0.0)
    if top <= 0:
        return Heat((), np.zeros((0, 4), np.float32), np.zeros((0, 0), np.float32))
    values = np.stack(list(excess.values())) / top
    values[values < FAINT] = 0
    return Heat(tuple(excess), page.regions[small], values.astype(np.float32))


def _similarities(
    query: QueryEmbedding, rows: Sequence[int], vectors: NDArray[np.float32]
) -> dict[str, NDArray[np.float32]]:
    """Return each folded word's similarity to each vector; a word of several tokens has their maximum."""
    similarity: dict[str, NDArray[np.float32]] = {}
    for row, values in zip(rows, query.vectors[rows] @ vectors.T, strict=True):
        word = query.tokens[row].casefold()
        similarity[word] = np.maximum(similarity[word], values) if word in similarity else values
    return similarity


def _merge_terms(terms: Sequence[TermMatch]) -> tuple[Region, ...]:
    """Merge all terms' regions, each box once, stronger if more of the question's words are close by."""
    places = [np.array([region.box for region in term.regions]).reshape(-1, 4) for term in terms]
    weights = [1 / (1 + np.log1p(len(term.regions))) for term in terms]  # rare on the page counts more
    found: dict[Box, Region] = {}
    for term, place in zip(terms, places, strict=True):
        near_by = sum(
            weight * _close(place, other).any(axis=1) for weight, other in zip(weights, places, strict=True)
        )
        for region, close in zip(term.regions, np.broadcast_to(near_by, len(place)), strict=True):
            strength = region.strength * float(close)
            if region.box not in found or found[region.box].strength < strength:
                found[region.box] = Region(region.box, strength, region.kind)
    top = max((region.strength for region in found.values()), default=1.0)
    scaled = [Region(r.box, round(r.strength / top, 4), r.kind) for r in found.values()]
    return tuple(sorted(scaled, key=lambda r: (-r.strength, r.box)))


def _close(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which boxes (len(a), len(b)) are within 4% of the page's height and 35% of its width of each other."""
    apart_y = np.abs(a[:, None, 1] - b[None, :, 1])
    apart_x = np.abs((a[:, None, 0] + a[:, None, 2]) - (b[None, :, 0] + b[None, :, 2]))
    close: NDArray[np.bool_] = (apart_y < 0.04) & (apart_x < 0.7)  # sums of two edges, so twice the distance
    return close


def _snippet(
    page: PageContent, terms: Sequence[TermMatch], regions: Sequence[Region], located: Located | None
) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return about SNIPPET_WORDS words around the answer, else around the strongest region or from the start.

    The spans are those to print bold: the answer if there is one, else the words of the question.
    """
    matching = {region.box for term in terms for region in term.regions if region.kind == "word"}
    bold = [word.box in matching for word in page.words]
    centre = _word_inside(page, regions[0].box) if regions else 0
    if located:
        centre = (located.first + located.end) // 2
    if located and located.is_sure:
        bold = [located.first <= at < located.end for at in range(len(page.words))]
    shown = [
        at
        for at, word in enumerate(page.words)
        if bold[at] or at == centre or (word.box[1] >= MARGIN and word.box[3] <= 1 - MARGIN)
    ] or list(range(len(page.words)))
    at = shown.index(centre) if centre in shown else 0
    start = max(0, min(at - SNIPPET_WORDS // 2, len(shown) - SNIPPET_WORDS))
    text = "… " if start else ""
    spans: list[tuple[int, int]] = []
    before = -2
    for at in shown[start : start + SNIPPET_WORDS]:
        word = page.words[at].text
        if bold[at]:
            whole = located is not None and located.is_sure and bold[at - 1] and at == before + 1 and spans
            spans.append((spans.pop()[0] if whole else len(text), len(text) + len(word)))
        text += word + " "
        before = at
    text += "…" if start + SNIPPET_WORDS < len(shown) else ""
    return text.rstrip(), tuple(spans)


def _word_inside(page: PageContent, box: Box) -> int:
    """Return the middle one of the words whose centre is inside the box, 0 if there is none."""
    x0, y0, x1, y1 = box
    inside = [
        i
        for i, word in enumerate(page.words)
        if x0 <= (word.box[0] + word.box[2]) / 2 <= x1 and y0 <= (word.box[1] + word.box[3]) / 2 <= y1
    ]
    return inside[len(inside) // 2] if inside else 0


def snippet_pieces(highlight: Highlight) -> list[tuple[str, bool]]:
    """Return the snippet in pieces, each with whether it matches."""
    snippet, at = highlight.snippet, 0
    pieces: list[tuple[str, bool]] = []
    for start, end in highlight.snippet_matches:
        pieces += [(snippet[at:start], False), (snippet[start:end], True)]
        at = end
    return [piece for piece in [*pieces, (snippet[at:], False)] if piece[0]]


def _areas(regions: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])
    return areas


def _box(region: NDArray[np.float32]) -> Box:
    x0, y0, x1, y1 = (float(value) for value in region)
    return x0, y0, x1, y1
