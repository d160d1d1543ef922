"""Search: recall finds candidates, the reranker scores a shortlist within its budget, both orders are fused."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np

import configs.settings as configs
from retrieval import fuse, rules
from retrieval.answers import AnswerWeights, Located
from retrieval.confidence import Calibration
from retrieval.errors import BadQuery, NotFound, RerankerFailed
from retrieval.highlight import answer_heat, focus, heat, highlight
from retrieval.lru import LRU
from retrieval.page_answers import PageAnswers
from retrieval.phrases import missing_phrases
from retrieval.recall.recall import Recall
from retrieval.store.schema import revision
from retrieval.store.store import Store, in_order
from retrieval.text import has_unspaced_script, one_line
from retrieval.types import (
    EVERYTHING,
    Decision,
    Encoder,
    Filter,
    Heat,
    Highlight,
    Hit,
    Note,
    Page,
    PageContent,
    PageEmbedding,
    PageReader,
    QueryEmbedding,
    Reranker,
    SearchRequest,
    SearchResult,
    Stage,
)
from retrieval.work_notes import WorkNotes

FIRST_STEP = 1
"""Pages that are reranked before the budget is checked for the first time: on a busy machine one may take all of it."""
ANSWERED = 3
"""The most pages that are read as a whole for their answers."""
NEARLY = 0.5
"""Of the best page's confidence, what another page needs to be read for its answer."""
CACHED_QUERIES = 256
CACHED_PAGE_BYTES = 64 * 2**20
"""Words and vectors of pages that were read lately: about 20 shortlists of 20 pages with 260 vectors of 128 floats."""
WORD_BYTES = 300
"""The memory of one word with its box: the objects of CPython 3.11 sum to 290 bytes."""


@dataclass(frozen=True, slots=True)
class _StoredPage:
    """A page as it is read from the store, in one query for its content and its embedding."""

    content: PageContent
    embedding: PageEmbedding


@dataclass(frozen=True, slots=True)
class _Scored:
    """What the reranker made of a shortlist."""

    contents: list[PageContent]  # the pages of the shortlist that are still in the index
    scores: list[float]  # of the first of these pages; fewer if the budget ended, none after a failure
    failure: RerankerFailed | None = None


class Searcher:
    """Answers questions about one index. Safe to call from several threads.

    Each search sees the documents that any process has added, changed or removed before it. If reading their vectors
    takes longer than `retrieval.recall.planner.PLAN_WAIT_S`, they are left out, and a note names them.
    """

    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        reranker: Reranker | None,
        settings: configs.Search,
        calibration: Calibration | None = None,
        answer_weights: AnswerWeights | None = None,
    ) -> None:
        """calibration: for this reranker over this index's encoder.

        answer_weights: for this reranker. Answers need both, and a PageReader.

        Raises ModelBroken if `settings.fuse` needs coefficients that the encoder's model does not have.
        """
        self._store = store
        self._encoder = encoder
        self._reranker = reranker
        self._settings = settings
        self._calibration = calibration
        self._answers = (
            PageAnswers(reranker, calibration, answer_weights, settings.answer)
            if calibration and answer_weights and isinstance(reranker, PageReader)
            else None
        )
        self._recall = Recall(
            store,
            settings,
            fusion=fuse.choose_fusion(settings, encoder),
            sparse_fusion=fuse.choose_fusion(settings, encoder, settings.sparse.kind),
        )
        self._queries: LRU[str, QueryEmbedding] = LRU(CACHED_QUERIES)
        self._pages: LRU[tuple[str, str, str], _StoredPage] = LRU(CACHED_PAGE_BYTES, _page_bytes)

    def warm(self) -> None:
        """Load what searches need, so that the first search does not wait for it."""
        self._recall.warm()

    @property
    def fusion(self) -> fuse.Fusion:
        """The fusion of a search that has all kinds of evidence which the profile names."""
        return self._recall.fusion

    @property
    def encoder(self) -> Encoder:
        return self._encoder

    @property
    def reranker(self) -> Reranker | None:
        return self._reranker

    # Searching

    def search(
        self,
        query: str,
        *,
        top: int | None = None,
        where: Filter = EVERYTHING,
        rerank: bool = True,
        budget_ms: float | None = None,
        min_confidence: float | None = None,
    ) -> SearchResult:
        """Return the best `top` pages for `query`, best first; `notes` say why if there are none.

        The other arguments are the fields of SearchRequest. Raises BadQuery for an empty or too long query, and for a
        `min_confidence` if the profile and the index give no confidences.
        """
        *_, last = self.steps(SearchRequest(query, where, rerank, budget_ms, min_confidence))
        return replace(last, hits=last.hits[: top if top is not None else self._settings.top])

    def steps(self, request: SearchRequest, *, stop: threading.Event | None = None) -> Iterator[SearchResult]:
        """Yield the first stage's result as soon as it is there, then the reranked one if there is one.

        Both have all candidates. The decision of a result that another follows is "pending". stop: set it when nobody
        waits for the answer any more; reranking ends at the next batch. Raises BadQuery as `search` does.
        """
        text = self._validate(request)
        query, encode_stage = self._embed(text)
        recalled = self._recall.candidates(text, query, self._settings.depth, request.where)
        candidates = tuple(recalled.hits)
        first = SearchResult(
            text,
            candidates,
            candidates,
            (encode_stage, recalled.stage),
            self._decide(request, candidates),
            recalled.rankings,
            (
                *recalled.notes,
                *self._first_stage_notes(text, query, candidates, request.where),
                *missing_phrases(text, request.where, self._store, self._read_contents),
            ),
            recalled.complete,
        )
        if first.decision.kind != "pending":
            yield self._apply_rules(first)
            return
        yield first
        budget_ms = request.budget_ms if request.budget_ms is not None else self._settings.budget_ms
        reranked = self._rerank(first, query, budget_ms / 1000, stop)
        ordered = self._apply_rules(self._add_confidence(reranked, request.min_confidence))
        yield self._add_answers(ordered, query)

    def remembers(self, query: str) -> bool:
        """Return whether a page is highlighted without a model: its vectors are cached, and there is no reader."""
        return self._answers is None and one_line(query) in self._queries

    def _validate(self, request: SearchRequest) -> str:
        """Return the question's text on one line. Raises BadQuery."""
        text = self._checked_text(request.query)
        if request.min_confidence is None:
            return text
        if self._calibration is None:
            raise BadQuery(
                "no confidence can be given: this index is not calibrated for this profile",
                remedy="run 'folioscope calibrate DATASET' first",
            )
        if self._reranker is None or not request.rerank:
            raise BadQuery(
                "no confidence can be given without reranking: it comes from the reranker's scores"
            )
        return text

    def _checked_text(self, query: str) -> str:
        text = one_line(query)
        if not text:
            raise BadQuery("the question is empty: ask for something, like 'net revenue by segment in 2023'")
        limit = self._settings.max_query_chars
        if len(text) > limit:
            raise BadQuery(
                f"the question has {len(text):,} characters, {limit:,} are allowed: ask a shorter question",
                remedy="or raise search.max_query_chars in the profile",
            )
        return text

    def _embed(self, text: str) -> tuple[QueryEmbedding, Stage]:
        began = time.perf_counter()
        embedding = self._queries.get(text)
        note = "" if embedding is None else "from the cache"
        if embedding is None:
            embedding = self._encoder.encode_queries([text])[0]
            self._queries.put(text, embedding)
        return embedding, Stage("encode query", time.perf_counter() - began, 0, note)

    def _decide(self, request: SearchRequest, candidates: Sequence[Hit]) -> Decision:
        """Decide whether the reranker reads these candidates: then the decision is "pending"."""
        if not request.rerank:
            return Decision("off", "not reranked: switched off for this search")
        if self._reranker is None:
            return Decision("no_reranker", "not reranked: this profile has no reranker")
        least = (
            2 if self._calibration is None else 1
        )  # a single page has an order, but may still be no answer
        if len(candidates) < least:
            count = f"{len(candidates)} candidate{'s' * (len(candidates) != 1)}"
            return Decision("too_few_candidates", f"not reranked: {count} can be put in one order only")
        gate = self._settings.gate
        # With a minimum confidence, or a single candidate, the reranker reads for the confidence, not for the order.
        if gate is not None and request.min_confidence is None and len(candidates) > 1:
            lead = fuse.margin(np.array([hit.score for hit in candidates[:2]]))
            if lead >= gate:
                return Decision(
                    "gate",
                    f"not reranked: the first stage's best page leads by {lead:.2f}, and {gate:g} is enough "
                    "(search.gate)",
                )
        return Decision("pending", "not reranked yet")

    def _first_stage_notes(
        self, text: str, query: QueryEmbedding, candidates: Sequence[Hit], where: Filter
    ) -> tuple[Note, ...]:
        notes = []
        if not len(query.vectors):
            notes.append(
                Note(
                    "unknown_words",
                    "The encoder knows none of these words: pages were found by their exact words alone.",
                )
            )
        elif has_unspaced_script(text):
            notes.append(
                Note(
                    "unspaced_script",
                    "The encoder was trained on languages written with spaces: for this question, "
                    "exact words count more than meaning.",
                )
            )
        if not candidates:
            if not self._store.documents():
                notes.append(Note("empty_index", "The index is empty: add documents first."))
            elif where != EVERYTHING:
                notes.append(
                    Note("filtered_out", "No page passes the filters, or none of those that pass matches.")
                )
            else:
                notes.append(Note("no_match", "No page matches."))
        return tuple(notes)

    # Reranking

    def _rerank(
        self, first: SearchResult, query: QueryEmbedding, budget: float, stop: threading.Event | None
    ) -> SearchResult:
        """Return the result in its new order, without pages that another process has removed since recall.

        budget: seconds.
        """
        assert self._reranker is not None
        began = time.perf_counter()
        pages = [hit.page for hit in first.candidates[: self._settings.rerank]]
        work = WorkNotes()
        with work.collecting():
            scored = self._score_shortlist(first.query, self._focus(query, pages), began + budget, stop)
        seconds = time.perf_counter() - began
        present = {content.page.page_id for content in scored.contents}
        candidates = _without(
            first.candidates, {page.page_id for page in pages if page.page_id not in present}
        )
        note = self._reranker.name
        if scored.failure or not scored.contents:
            decision = (
                Decision("failed", f"not reranked: {scored.failure.message}")
                if scored.failure
                else Decision("removed", "not reranked: the candidates were removed from the index")
            )
        else:
            decision = self._describe_reranking(scored, len(candidates), seconds, budget)
            candidates = reorder(candidates, scored.scores, self._settings.rerank_weight)
            note = "; ".join(filter(None, (note, str(work))))
        stage = Stage("rerank", seconds, len(scored.scores), note)
        return replace(first, hits=tuple(candidates), stages=(*first.stages, stage), decision=decision)

    def _score_shortlist(
        self, text: str, contents: list[PageContent], deadline: float, stop: threading.Event | None
    ) -> _Scored:
        """Score pages, best candidates first, until the deadline (of `time.perf_counter`) or until `stop` is set.

        A listwise reranker gets all pages at once. Another one gets the first page, and then as many as fit into the
        rest of the time at the pace of the call before. So the deadline is exceeded by one page, or by what one call
        takes longer than the one before it.
        """
        assert self._reranker is not None
        scores: list[float] = []
        most = len(contents) if self._reranker.listwise else self._reranker.batch_pages
        step = most if self._reranker.listwise else FIRST_STEP
        while step and len(scores) < len(contents) and not (stop and stop.is_set()):
            began, batch = time.perf_counter(), contents[len(scores) : len(scores) + step]
            try:
                scores += self._reranker.score(text, batch)
            except NotFound:  # the image is read only now, and its document was removed meanwhile
                unread = contents[len(scores) :]
                stored = self._read([content.page for content in unread])
                present = [content for content in unread if content.page.page_id in stored]
                if len(present) == len(unread):
                    raise
                contents = [*contents[: len(scores)], *present]
                continue
            except RerankerFailed as failure:  # scores of some pages only would give no order
                return _Scored(contents, [], failure)
            now = time.perf_counter()
            # The last call's pace: that of the first may hold the loading of the model or a server's round trip.
            fitting = (deadline - now) * len(batch) / max(now - began, 1e-9)
            step = 0 if now >= deadline else max(1, int(min(most, fitting)))
        return _Scored(contents, scores)

    def _describe_reranking(
        self, scored: _Scored, candidates: int, seconds: float, budget: float
    ) -> Decision:
        assert self._reranker is not None
        read, shortlist = len(scored.scores), len(scored.contents)
        by = f"by {self._reranker.name} in {seconds * 1000:,.0f} ms"
        if read < shortlist:
            return Decision(
                "reranked_in_part",
                f"reranked the first {read} of {shortlist} {by}: the budget of {budget * 1000:,.0f} ms was spent, "
                "the rest keep their first-stage place",
                read,
                shortlist,
            )
        reason = f"reranked the first {read} of {candidates} candidates {by}"
        return Decision("reranked", reason, read, shortlist)

    def _add_confidence(self, result: SearchResult, least: float | None) -> SearchResult:
        """Add to each reranked hit the probability that it answers; drop the hits below `least`, if it is given.

        A note says so if no page is likely to answer.
        """
        scored = [hit for hit in result.hits if hit.reranked]
        if least is not None and not scored:
            note = Note("no_confidence", "No confidence can be given: the reranker read no page.")
            return replace(result, hits=(), notes=(*result.notes, note))
        if self._calibration is None or not scored:
            return result
        likely = self._calibration.probability(np.array([hit.scores["rerank"] for hit in scored]))
        by_page = {hit.page.page_id: float(value) for hit, value in zip(scored, likely, strict=True)}
        hits = [replace(hit, confidence=by_page.get(hit.page.page_id)) for hit in result.hits]
        notes = list(result.notes)
        if least is not None:
            hits = [hit for hit in hits if hit.confidence is not None and hit.confidence >= least]
            if not hits:
                text = f"No page is {least:.0%} likely to answer; the likeliest is {max(likely):.0%}."
                notes.append(Note("below_min_confidence", text))
        elif max(likely) < self._settings.weak:
            cut = result.decision.kind == "reranked_in_part"
            none = f"None of the {_count(len(scored), 'page')} that were read" if cut else "No page"
            text = f"{none} answers this well; the likeliest does with a probability of {max(likely):.0%}."
            text += " Nearest pages:"
            notes.append(Note("weak_match", text))
        return replace(result, hits=tuple(hits), notes=tuple(notes))

    def _add_answers(self, result: SearchResult, query: QueryEmbedding) -> SearchResult:
        """Add what the best page answers, and what those answer that are nearly as likely to."""
        best = [hit for hit in result.hits[:ANSWERED] if hit.confidence is not None]
        if self._answers is None or not best or not result.decision.reranked:
            return result
        began = time.perf_counter()
        least = max(self._settings.weak, NEARLY * (best[0].confidence or 0.0))
        pages = [hit.page for hit in best if (hit.confidence or 0.0) >= least]
        located = self._answers.locate(result.query, self._focus(query, pages), whole=True)
        sure = [each.answer for each in located if each and each.is_sure]
        sure.sort(key=lambda answer: -answer.probability)
        stage = Stage("answer", time.perf_counter() - began, len(pages), _count(len(sure), "answer"))
        return replace(result, answers=tuple(sure), stages=(*result.stages, stage))

    def _apply_rules(self, result: SearchResult) -> SearchResult:
        """Apply the profile's rules, if it has any, to the order of the hits."""
        if not self._settings.rules or not result.hits:
            return result
        began = time.perf_counter()
        documents = {document.doc_id: document for document in self._store.documents()}
        hits, notes = rules.apply_rules(self._settings.rules, result.hits, documents, self._read_contents)
        stage = Stage("rules", time.perf_counter() - began, len(result.hits), "; ".join(notes))
        return replace(result, hits=tuple(hits), stages=(*result.stages, stage))

    # Looking at pages

    def highlight(self, query: str, pages: Sequence[Page]) -> list[Highlight]:
        """Return what to highlight on each page, in the order given. Raises NotFound for a page no longer there."""
        return [lit for _, lit in self.highlighted(query, pages)]

    def highlighted(self, query: str, pages: Sequence[Page]) -> list[tuple[PageContent, Highlight]]:
        """Return each page's content with what to highlight on it. Raises as `highlight` does."""
        return in_order(pages, self.highlight_present(query, pages))

    def highlight_present(
        self, query: str, pages: Sequence[Page], *, read: bool = True
    ) -> dict[str, tuple[PageContent, Highlight]]:
        """Return content and highlights, by page_id, of those of `pages` that are still in the index.

        read: let the reader, if there is one, say where the pages answer. Pages that it has just scored cost little.
        """
        text = self._checked_text(query)
        embedding, _ = self._embed(text)
        stored_pages = self._read(pages)
        return {
            page_id: (stored.content, highlight(text, embedding, stored.content, stored.embedding, located))
            for (page_id, stored), located in zip(
                stored_pages.items(),
                self._locate(text, embedding, stored_pages.values(), read=read),
                strict=True,
            )
        }

    def inspect_page(self, query: str, page: Page) -> tuple[PageContent, Highlight, Heat]:
        """Return one page's content, highlights and heat map. Raises as `highlight` does."""
        text, query_embedding, (stored,) = self._read_for(query, [page])
        (located,) = self._locate(text, query_embedding, [stored], whole=True)
        highlights = highlight(text, query_embedding, stored.content, stored.embedding, located)
        warmth = answer_heat(located) if located else heat(query_embedding, stored.embedding, highlights)
        return stored.content, highlights, warmth

    def _locate(
        self,
        text: str,
        query: QueryEmbedding,
        pages: Iterable[_StoredPage],
        *,
        whole: bool = False,
        read: bool = True,
    ) -> list[Located | None]:
        """Return what answers on each page, None if it is unknown or too unlikely to be lit."""
        contents = [_focus_page(query, page) for page in pages]
        if self._answers is None or not read:
            return [None] * len(contents)
        located = self._answers.locate(text, contents, whole=whole)
        return [each if each and each.in_passage >= self._settings.lit else None for each in located]

    def focused(self, query: str, pages: Sequence[Page]) -> list[PageContent]:
        """Return what a reranker reads of these pages, in the order given. Raises as `highlight` does."""
        _, query_embedding, stored = self._read_for(query, pages)
        return [_focus_page(query_embedding, page) for page in stored]

    def _focus(self, query: QueryEmbedding, pages: Sequence[Page]) -> list[PageContent]:
        """Return what the reranker reads of those pages that are still in the index, in the order given."""
        stored = self._read(pages)
        return [_focus_page(query, stored[page.page_id]) for page in pages if page.page_id in stored]

    def _read_for(self, query: str, pages: Sequence[Page]) -> tuple[str, QueryEmbedding, list[_StoredPage]]:
        text = self._checked_text(query)
        embedding, _ = self._embed(text)
        return text, embedding, in_order(pages, self._read(pages))

    def _read_contents(self, pages: Sequence[Page]) -> dict[str, PageContent]:
        return {page_id: stored.content for page_id, stored in self._read(pages).items()}

    def _read(self, pages: Sequence[Page]) -> dict[str, _StoredPage]:
        """Return those of `pages` that are still in the index, by page_id, each read from the store once.

        The reranker, the rules and the highlights of one answer ask for the same pages. The cache's key has the
        document's revision and name, so that a changed document is read again.
        """
        documents = {document.doc_id: document for document in self._store.documents()}
        keys = {
            page.page_id: (page.page_id, revision(documents[page.doc_id]), documents[page.doc_id].name)
            for page in pages
            if page.doc_id in documents
        }
        stored = {page_id: page for page_id, key in keys.items() if (page := self._pages.get(key))}
        absent = [page for page in pages if page.page_id in keys and page.page_id not in stored]
        for page_id, page in self._read_from_store(absent).items() if absent else ():
            self._pages.put(keys[page_id], page)
            stored[page_id] = page
        # Each caller keeps the images that it reads, the cache keeps none.
        return {
            page_id: replace(page, content=replace(page.content, read_image=cache(page.content.read_image)))
            for page_id, page in stored.items()
        }

    def _read_from_store(self, pages: Sequence[Page]) -> Mapping[str, _StoredPage]:
        return {
            page_id: _StoredPage(
                replace(content, read_image=partial(self._store.image, page_id)), _own_arrays(embedding)
            )
            for page_id, (content, embedding) in self._store.read(pages).items()
        }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _own_arrays(embedding: PageEmbedding) -> PageEmbedding:
    """Copy the arrays: they are views of all pages that were read with this one, and would keep all of them alive."""
    return replace(embedding, vectors=embedding.vectors.copy(), regions=embedding.regions.copy())


def _page_bytes(page: _StoredPage) -> int:
    return (
        page.embedding.vectors.nbytes + page.embedding.regions.nbytes + WORD_BYTES * len(page.content.words)
    )


def _focus_page(query: QueryEmbedding, page: _StoredPage) -> PageContent:
    return replace(page.content, focus=focus(query, page.embedding))


def _without(candidates: Sequence[Hit], removed: set[str]) -> list[Hit]:
    """Return the candidates without the pages `removed` (page_ids), with ranks from 1."""
    present = [hit for hit in candidates if hit.page.page_id not in removed]
    return [replace(hit, rank=rank) for rank, hit in enumerate(present, start=1)]


def reorder(candidates: Sequence[Hit], scores: Sequence[float], weight: float) -> list[Hit]:
    """Order the first len(scores) candidates by z(first stage) + weight * z(reranker); the rest stay behind them."""
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
