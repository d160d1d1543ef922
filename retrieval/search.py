"""A question in, ranked pages out: recall, then the cross-encoder within its budget, then both fused."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

import configs.settings as configs
from retrieval import fuse, rules
from retrieval.confidence import Calibration
from retrieval.errors import BadQuery, NotFound, RerankerFailed
from retrieval.highlight import focus, heat, highlight
from retrieval.lru import LRU
from retrieval.recall.planner import Recall
from retrieval.store.store import Store
from retrieval.text import has_unspaced_script, one_line
from retrieval.types import (
    Decision,
    Encoder,
    Filter,
    Heat,
    Highlight,
    Hit,
    Page,
    PageContent,
    PageEmbedding,
    QueryEmbedding,
    Reranker,
    SearchResult,
    Stage,
)
from retrieval.work_notes import WorkNotes

FIRST_STEP = 8
"""Pages reranked before the clock is looked at for the first time, where the reranker likes them so many."""
CACHED_QUERIES = 256
PENDING = Decision(False, "not reranked yet")
"""The decision of a first step that a reranked one follows."""


class Searcher:
    """Safe to call from several threads. Sees what other processes write, at the next search."""

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        reranker: Reranker | None,
        settings: configs.Search,
        calibration: Calibration | None = None,
    ) -> None:
        """calibration: of this reranker and this index's encoder."""
        self._store = store
        self._encoder = encoder
        self._reranker = reranker
        self._settings = settings
        self._calibration = calibration
        self._recall = Recall(store, settings)
        self._queries: LRU[str, QueryEmbedding] = LRU(CACHED_QUERIES)

    def warm(self) -> None:
        """Load what searches need, so that the first of them does not wait for it."""
        self._recall.warm()

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    @property
    def reranker(self) -> Reranker | None:
        return self._reranker

    def search(
        self,
        query: str,
        *,
        top: int | None = None,
        where: Filter | None = None,
        rerank: bool = True,
        budget_ms: float | None = None,
        min_confidence: float | None = None,
    ) -> SearchResult:
        """The best `top` pages for `query`, best first. No hits means that nothing was found: `notes` say why.

        min_confidence: only pages that are this likely to answer, in [0, 1], by a calibrated reranker. Raises BadQuery
        for an empty or far too long query, and for a confidence that nothing here can tell.
        """
        *_, last = self.steps(
            query, where=where, rerank=rerank, budget_ms=budget_ms, min_confidence=min_confidence
        )
        return replace(last, hits=last.hits[: top if top is not None else self._settings.top])

    def steps(
        self,
        query: str,
        *,
        where: Filter | None = None,
        rerank: bool = True,
        budget_ms: float | None = None,
        min_confidence: float | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[SearchResult]:
        """The first stage's order as soon as it is there, then the reranked one, where there is one: all candidates.

        stop: set when nobody waits for the answer any more; reranking ends at the next batch. Raises what `search`
        raises.
        """
        text = self._checked(query)
        where = where or Filter()
        if min_confidence is not None and (self._calibration is None or self._reranker is None or not rerank):
            if self._calibration is None:
                raise BadQuery(
                    "no confidence can be given: this index is not calibrated for this profile",
                    remedy="run 'folioscope calibrate DATASET' first",
                )
            raise BadQuery("no confidence can be given without reranking: it is the reranker's")
        embedding, encode_stage = self._embed(text)
        recalled = self._recall.candidates(text, embedding, self._settings.depth, where)
        candidates = tuple(recalled.hits)
        why_not = self._why_not(candidates, rerank)
        if why_not is None and min_confidence is None:
            why_not = self._decided(candidates)
        first = SearchResult(
            text,
            candidates,
            candidates,
            (encode_stage, recalled.stage),
            why_not or PENDING,
            recalled.rankings,
            (*recalled.notes, *self._notes(text, embedding, candidates, where)),
            recalled.complete,
        )
        if why_not is not None:
            yield self._ruled(first)
            return
        yield first
        budget = (budget_ms if budget_ms is not None else self._settings.budget_ms) / 1000
        hits, stage, decision = self._rerank(text, embedding, candidates, budget, stop)
        hits, notes = self._judged(hits, first.notes, min_confidence)
        yield self._ruled(
            replace(first, hits=tuple(hits), stages=(*first.stages, stage), decision=decision, notes=notes)
        )

    def _ruled(self, result: SearchResult) -> SearchResult:
        """With the rules of the house applied, where the profile has any."""
        if not self._settings.rules or not result.hits:
            return result
        began = time.perf_counter()
        documents = {document.doc_id: document for document in self._store.documents()}
        hits, notes = rules.apply_rules(self._settings.rules, result.hits, documents, self._store.present)
        stage = rules.stage(notes, time.perf_counter() - began, len(result.hits))
        return replace(result, hits=tuple(hits), stages=(*result.stages, stage))

    def _judged(
        self, hits: list[Hit], notes: tuple[str, ...], least: float | None
    ) -> tuple[list[Hit], tuple[str, ...]]:
        """With each page's probability to answer, and a note where none is likely to; `least` keeps the likely ones."""
        read = [hit for hit in hits if hit.reranked]
        if least is not None and not read:
            return [], (*notes, "No confidence can be told: the reranker read no page.")
        if self._calibration is None or not read:
            return hits, notes
        likely = self._calibration.probability(np.array([hit.scores["rerank"] for hit in read]))
        known = {hit.page.page_id: float(value) for hit, value in zip(read, likely, strict=True)}
        told = [replace(hit, confidence=known.get(hit.page.page_id)) for hit in hits]
        if least is not None:
            told = [hit for hit in told if hit.confidence is not None and hit.confidence >= least]
            if not told:
                notes = (
                    *notes,
                    f"No page is {least:.0%} likely to answer; the likeliest is {max(likely):.0%}.",
                )
        elif max(likely) < self._settings.weak:
            notes = (
                *notes,
                f"Nothing matches well: the likeliest page answers with a probability of {max(likely):.0%}. "
                "The closest pages are shown.",
            )
        return told, notes

    def highlight(self, query: str, pages: Sequence[Page]) -> list[Highlight]:
        """What to light up on each page, in the order given. Raises NotFound for a page no longer there."""
        return [lit for _, lit in self.highlighted(query, pages)]

    def highlighted(self, query: str, pages: Sequence[Page]) -> list[tuple[PageContent, Highlight]]:
        """Each page's content, which had to be read, with what to light up on it. Raises as `highlight`."""
        return [(content, lit) for content, _, lit in self._lit(query, pages)]

    def look(self, query: str, page: Page) -> tuple[PageContent, Highlight, Heat]:
        """All there is to show of one page: also how near each of its parts is to each word found on it."""
        ((content, embedding, lit),) = self._lit(query, [page])
        return content, lit, heat(self._embed(self._checked(query))[0], embedding, lit)

    def _lit(self, query: str, pages: Sequence[Page]) -> list[tuple[PageContent, PageEmbedding, Highlight]]:
        text = self._checked(query)
        embedding, _ = self._embed(text)
        contents, embeddings = self._store.contents(pages), self._store.embeddings(pages)
        return [(c, e, highlight(text, embedding, c, e)) for c, e in zip(contents, embeddings, strict=True)]

    def focused(self, query: str, pages: Sequence[Page]) -> list[PageContent]:
        """What a reranker is given of these pages, in the order given. Raises NotFound for a page no longer there."""
        contents = self._focused(self._embed(self._checked(query))[0], pages)
        here = {content.page.page_id for content in contents}
        missing = [page.name for page in pages if page.page_id not in here]
        if missing:
            raise NotFound(f"{', '.join(missing)}: no longer in the index; search again")
        return contents

    def _focused(self, query: QueryEmbedding, pages: Sequence[Page]) -> list[PageContent]:
        """Of those of the pages that are still in the index, in the order given."""
        contents, embeddings = self._store.present(pages), self._store.present_embeddings(pages)
        here = [page.page_id for page in pages if page.page_id in contents and page.page_id in embeddings]
        return [replace(contents[key], focus=focus(query, embeddings[key])) for key in here]

    def remembers(self, query: str) -> bool:
        """Whether this question's vectors are at hand, so that looking at a page needs no model."""
        return one_line(query) in self._queries

    def _checked(self, query: str) -> str:
        text = one_line(query)
        if not text:
            raise BadQuery("the question is empty: ask for something, like 'net revenue by segment in 2023'")
        limit = self._settings.max_query_chars
        if len(text) > limit:
            raise BadQuery(
                f"the question has {len(text):,} characters, {limit:,} are allowed: a question finds "
                "pages, a document does not; shorten it, or raise search.max_query_chars"
            )
        return text

    def _embed(self, text: str) -> tuple[QueryEmbedding, Stage]:
        began = time.perf_counter()
        embedding = self._queries.get(text)
        note = "" if embedding is None else "remembered"
        if embedding is None:
            embedding = self._encoder.encode_queries([text])[0]
            self._queries.put(text, embedding)
        return embedding, Stage("encode query", time.perf_counter() - began, 0, note)

    def _why_not(self, candidates: Sequence[Hit], wanted: bool) -> Decision | None:
        """Why the cross-encoder is not spent on this query; None where it is."""
        if not wanted:
            return Decision(False, "not reranked: switched off for this search")
        if self._reranker is None:
            return Decision(False, "not reranked: this profile has no reranker")
        least = 2 if self._calibration is None else 1  # one page has an order, but may still be no answer
        if len(candidates) < least:
            found = f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}"
            return Decision(False, f"not reranked: {found} can be put in one order only")
        return None

    def _decided(self, candidates: Sequence[Hit]) -> Decision | None:
        """The gate: where the first stage leaves no doubt, the cross-encoder is not spent."""
        gate = self._settings.gate
        if len(candidates) < 2:  # it is read for its confidence: its lead over nothing says nothing of that
            return None
        lead = fuse.margin(np.array([hit.score for hit in candidates[:2]]))
        if gate is None or lead < gate:
            return None
        return Decision(
            False,
            f"not reranked: the first stage had decided, its best page leads by {lead:.2f}, {gate:g} are enough "
            "(search.gate)",
        )

    def _rerank(
        self,
        text: str,
        query: QueryEmbedding,
        candidates: Sequence[Hit],
        budget: float,
        stop: threading.Event | None,
    ) -> tuple[list[Hit], Stage, Decision]:
        """The hits in their new order, without pages that another process has removed since recall."""
        assert self._reranker is not None
        began = time.perf_counter()
        chosen = [hit.page for hit in candidates[: self._settings.rerank]]
        contents = self._focused(query, chosen)
        candidates = _without(candidates, chosen, contents)
        scores: list[float] = []
        work = WorkNotes()
        most = len(contents) if self._reranker.listwise else self._reranker.batch_pages
        step = most if self._reranker.listwise else min(most, FIRST_STEP)
        try:
            while step and len(scores) < len(contents) and not (stop and stop.is_set()):
                try:
                    with work.collecting():
                        scores += self._reranker.score(text, contents[len(scores) : len(scores) + step])
                except NotFound:  # its picture is read only now, and its document was removed meanwhile
                    unread = contents[len(scores) :]
                    there = self._store.present([content.page for content in unread])
                    left_over = [content for content in unread if content.page.page_id in there]
                    if len(left_over) == len(unread):
                        raise
                    candidates = _without(candidates, [content.page for content in unread], left_over)
                    contents = [*contents[: len(scores)], *left_over]
                    continue
                spent_so_far = time.perf_counter() - began
                left = (
                    budget - spent_so_far
                )  # as many as fit at the pace so far, one at least while time is left
                step = 0 if left <= 0 else max(1, int(min(most, left * len(scores) / spent_so_far)))
        except RerankerFailed as error:  # some pages with scores and some without would be no order at all
            seconds = time.perf_counter() - began
            stage = Stage("rerank", seconds, 0, self._reranker.name)
            return candidates, stage, Decision(False, f"not reranked: {error}")
        seconds = time.perf_counter() - began
        if not contents:
            stage = Stage("rerank", seconds, 0, self._reranker.name)
            return (
                candidates,
                stage,
                Decision(False, "not reranked: the candidates were removed from the index"),
            )
        hits = reorder(candidates, scores, self._settings.rerank_weight)
        spent = f"by {self._reranker.name} in {seconds * 1000:,.0f} ms"
        if len(scores) < len(contents):
            reason = (
                f"reranked the first {len(scores)} of {len(contents)} {spent}: the budget of "
                f"{budget * 1000:,.0f} ms was spent, the rest keep their first-stage place"
            )
        else:
            reason = f"reranked the first {len(scores)} of {len(candidates)} candidates {spent}"
        note = "; ".join(filter(None, (self._reranker.name, str(work))))
        return hits, Stage("rerank", seconds, len(scores), note), Decision(True, reason)

    def _notes(
        self, text: str, query: QueryEmbedding, candidates: Sequence[Hit], where: Filter
    ) -> tuple[str, ...]:
        notes = []
        if not len(query.vectors):
            notes.append(
                "The encoder knows none of these words: pages were found by their exact words alone."
            )
        elif has_unspaced_script(text):
            notes.append(
                "The encoder was trained on languages written with spaces: for this question, "
                "exact words count more than meaning."
            )
        if not candidates:
            if not self._store.documents():
                notes.append("The index is empty: add documents first.")
            elif where != Filter():
                notes.append("No page passes the filters, or none of those that pass matches.")
            else:
                notes.append("No page matches.")
        return tuple(notes)


def _without(
    candidates: Sequence[Hit], asked_for: Sequence[Page], contents: Sequence[PageContent]
) -> list[Hit]:
    """The candidates but those pages that were asked for and did not come; ranks from 1."""
    gone = {page.page_id for page in asked_for} - {content.page.page_id for content in contents}
    kept = [hit for hit in candidates if hit.page.page_id not in gone]
    return [replace(hit, rank=rank) for rank, hit in enumerate(kept, start=1)]


def reorder(candidates: Sequence[Hit], scores: Sequence[float], weight: float) -> list[Hit]:
    """The first len(scores) candidates by z(first stage) + weight * z(reranker); the rest stay behind them."""
    scored, rest = candidates[: len(scores)], candidates[len(scores) :]
    order, fused = fuse.second_stage(np.array([hit.score for hit in scored]), np.array(scores), weight)
    hits = [
        replace(
            scored[at],
            score=float(score),
            rank=rank,
            reranked=True,
            scores={**scored[at].scores, "rerank": float(scores[at])},
        )
        for rank, (at, score) in enumerate(zip(order, fused, strict=True), start=1)
    ]
    return [*hits, *(replace(hit, rank=rank) for rank, hit in enumerate(rest, start=len(hits) + 1))]
