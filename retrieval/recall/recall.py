"""The first stage: MaxSim over the vectors, fused with BM25 over the same pages. `Recall` is its public class.

`plan` decides how the vectors are searched; the `Stage` of each result says which way was taken, and why. Pages at a
place that the query names ("page 14", "Figure 2") get a bonus (`retrieval.recall.locators`).
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

import configs.settings as configs
from retrieval import fuse
from retrieval.recall import locators, threads
from retrieval.recall.inverted import InvertedPart
from retrieval.recall.maxsim import unweighted_query
from retrieval.recall.memory_part import MemoryPart
from retrieval.recall.page_cache import PageVectorCache, maxsim_stored
from retrieval.recall.part import COLUMNS, NoRoom, Part
from retrieval.recall.planner import PLAN_WAIT_S, GpuScan, Plan, Planner, gpu_scan_for
from retrieval.recall.sparse.lists import SparseScores
from retrieval.recall.sparse.search import sparse_search_for
from retrieval.store import text_query
from retrieval.store.schema import quantize
from retrieval.store.store import Store
from retrieval.types import Document, Filter, Hit, Note, Page, QueryEmbedding, Stage

T = TypeVar("T")
DEEPER = 3
"""If the query names a place, captions are searched for on this many times `depth` of the best pages."""
DECIMALS = 6
"""Scores are compared to this many decimals: further ones depend on the order in which BLAS sums, not on the page."""
NAMED = 3
"""Documents that a note names; it abbreviates the others."""


@dataclass(frozen=True, slots=True)
class RecallResult:
    """The first stage's list, and that of each kind of evidence: best first, and at most `depth` long."""

    hits: list[Hit]
    rankings: dict[str, tuple[Page, ...]]
    stage: Stage
    notes: tuple[Note, ...] = ()
    complete: bool = True
    """False if some pages of the index were not searched, because their vectors are still being read; see `notes`."""


class Recall:
    """Finds candidates. One object for each store and process keeps the vectors in memory between searches."""

    def __init__(
        self,
        store: Store,
        settings: configs.Search,
        gpu_scan: GpuScan | None = None,
        plan_wait_s: float = PLAN_WAIT_S,
        fusion: fuse.Fusion | None = None,
        sparse_fusion: fuse.Fusion | None = None,
    ) -> None:
        """gpu_scan: by default, what `settings.device` names; plan_wait_s: seconds, see `Planner.current`.

        fusion: of vectors and BM25; sparse_fusion: of these and the sparse vectors. By default, both are z-scores with
        the weights in `settings`.

        Raises DeviceMissing, MissingExtra.
        """
        self._store = store
        self._settings = settings
        self._plan_wait_s = plan_wait_s
        self._fusion = fusion or fuse.ZScores(settings.text_weight)
        self._sparse_fusion = sparse_fusion or fuse.ZScores(settings.text_weight, settings.sparse_weight)
        self._sparse = sparse_search_for(store, settings.sparse)
        self._vectors = PageVectorCache(store, settings.exact_mb * 2**20)
        gpu_scan = gpu_scan_for(settings.device) if gpu_scan is None else gpu_scan
        self.planner = Planner(store, settings, gpu_scan, self._vectors)

    @property
    def fusion(self) -> fuse.Fusion:
        """The fusion of a search that has all kinds of evidence which the settings name."""
        return self._fusion if self._sparse is None else self._sparse_fusion

    def warm(self) -> None:
        """Load what searches need, so that the first of them does not wait for it."""
        inverted = self._with_room(self._warm_parts).inverted
        if inverted:
            zero = np.zeros((1, self._store.fingerprint.dim), np.float32)
            query = unweighted_query(zero)
            inverted.scores(query, np.arange(len(inverted.pages)) == 0)  # compiles the kernels
            maxsim_stored(query, [quantize(zero, self._store.precision)])
            doc_ids = set(inverted.pages.doc_ids)
            self._vectors.fill(d for d in self._store.documents() if d.doc_id in doc_ids)

    def _warm_parts(self) -> Plan:
        plan, _ = self.planner.current(wait_s=None)
        for part in plan.resident:
            part.warm()
        return plan

    def _with_room(self, work: Callable[[], T]) -> T:
        """Returns what `work` returns; if the GPU turns out to be full, runs it again without the GPU."""
        try:
            return work()
        except NoRoom as reason:
            self.planner.refuse_gpu(reason)
        return work()

    def candidates(self, text: str, query: QueryEmbedding, depth: int, where: Filter) -> RecallResult:
        """Returns the best `depth` pages that `where` allows, by vectors and text together; ranks from 1.

        A document that was added or changed may be missing if its vectors cannot be read within `plan_wait_s` seconds;
        the result then says so. A document that was removed is never returned.
        """
        return self._with_room(lambda: self._candidates(text, query, depth, where))

    def _candidates(self, text: str, query: QueryEmbedding, depth: int, where: Filter) -> RecallResult:
        began = time.perf_counter()
        plan, is_current = self.planner.current(self._plan_wait_s)
        documents = {d.doc_id: d for d in self._store.documents(where)}
        # Documents may have been committed since the plan was made, also after `current` has compared the versions.
        is_current = is_current and self._store.version() == plan.state[0]
        unsearched = [] if is_current else [d for d in documents.values() if plan.lacks(d)]
        for document in unsearched:
            del documents[document.doc_id]
        restricted = None if replace(where, without=frozenset()) == Filter() else list(documents)
        bm25 = threads.readers().submit(
            self._store.search_text,
            text,
            depth,
            restricted,
            where.scanned,
            without=where.without.union(d.doc_id for d in unsearched),
        )
        sparse = (
            None
            if self._sparse is None
            else threads.readers().submit(self._sparse.scores, text, documents.copy(), where.scanned)
        )
        places = locators.parse_locators(text) if self._settings.reference_weight else locators.Locators()
        ends = {d.doc_id: d.pages for d in documents.values() if -1 in places.pages}
        deep = depth * (DEEPER if places else 1)
        scored: dict[str, tuple[Page, float]] = {}  # by page_id
        numbered: dict[str, float] = {}  # pages whose number the query names
        counts = {"inverted": 0, "scanned": 0, "exact": 0}
        by_text: dict[str, float] | None = None
        by_sparse: dict[str, float] = {}
        for part in self._parts(plan, documents):
            keep = part.pages.of(documents, where.scanned)
            scores = part.scores(query, keep).astype(np.float64).round(DECIMALS)
            best = part.shortlist(query, scores, deep) if len(query.vectors) else np.zeros(0, np.int64)
            if by_text is None:
                by_text = dict(bm25.result())
                by_sparse = _best_sparse(sparse, depth)
            same_number = part.pages.numbered(places.pages, ends)
            by_number = same_number[fuse.best(scores[same_number], depth)]
            others = np.concatenate([part.pages.find(by_text.keys() | by_sparse.keys()), by_number])
            at = np.unique(np.concatenate([best, others]))
            at = at[keep[at]]
            exact = part.maxsim(query, at, scores, documents).round(DECIMALS)
            at, exact = at[~np.isnan(exact)], exact[~np.isnan(exact)]
            named = set(by_number.tolist())
            chosen = {*fuse.best(exact, deep).tolist(), *np.flatnonzero(np.isin(at, others)).tolist()}
            for row in sorted(chosen):
                page = part.pages.page(int(at[row]), documents)
                scored[page.page_id] = (page, float(exact[row]))
                if at[row] in named:
                    numbered[page.page_id] = float(exact[row])
            # The cut is over all parts so far: streamed vectors come in many small parts, and each would keep its own
            # best otherwise.
            numbered = _best(numbered, depth)
            shortlist = _best({page_id: score for page_id, (_, score) in scored.items()}, deep)
            keys = shortlist.keys() | numbered.keys() | by_text.keys() | by_sparse.keys()
            scored = {page_id: item for page_id, item in scored.items() if page_id in keys}
            is_inverted = isinstance(part, InvertedPart)
            counts["inverted" if is_inverted else "scanned"] += int(keep.sum())
            counts["exact"] += len(at) if is_inverted else 0
        by_text = dict(bm25.result()) if by_text is None else by_text
        bonuses = self._bonuses(places, scored, documents)
        sparse_scores = None if sparse is None else sparse.result()
        hits, rankings = self._fuse(
            scored, by_text, sparse_scores, bonuses, depth, has_vectors=len(query.vectors) > 0
        )
        note = f"{_describe(plan, counts)}, BM25 found {len(by_text):,}{self._describe_text_query(text)}"
        if sparse is not None:
            note += f", {'sparse vectors' if sparse_scores else 'no sparse vectors yet: the lists are being made'}"
        if places:
            note += f", {len(bonuses):,} have what the question names: {places}"
        notes = _unsearched_notes(unsearched)
        if notes:
            note += f", {sum(d.pages for d in unsearched):,} new pages not searched yet"
        stage = Stage("recall", time.perf_counter() - began, counts["inverted"] + counts["scanned"], note)
        return RecallResult(hits, rankings, stage, notes, complete=not unsearched)

    def _fuse(
        self,
        scored: dict[str, tuple[Page, float]],
        by_text: dict[str, float],
        by_sparse: SparseScores | None,
        bonuses: dict[str, float],
        depth: int,
        has_vectors: bool,
    ) -> tuple[list[Hit], dict[str, tuple[Page, ...]]]:
        """Fuses the best `depth` of each kind; equal pages come in the order of their names."""
        in_order = sorted(scored.items(), key=lambda item: (item[1][0].document, item[1][0].number))
        pages = [page for _, (page, _) in in_order]
        vectors = np.array([score for _, (_, score) in in_order])
        bm25 = np.array([by_text.get(page_id, 0.0) for page_id, _ in in_order])
        bonus = np.array([bonuses.get(page_id, 0.0) for page_id, _ in in_order])
        sparse = None if by_sparse is None else np.array(by_sparse.of([page_id for page_id, _ in in_order]))
        fusion = self._fusion if sparse is None else self._sparse_fusion
        order, fused = fuse.first_stage(vectors if has_vectors else None, bm25, depth, fusion, bonus, sparse)
        hits = [
            Hit(
                pages[at],
                float(score),
                rank,
                rank,
                {"vectors": float(vectors[at]), "text": float(bm25[at])}
                | ({} if sparse is None else {"sparse": float(sparse[at])})
                | ({"place": float(bonus[at])} if bonus[at] else {})
                | {"first": float(score)},
            )
            for rank, (at, score) in enumerate(zip(order, fused, strict=True), start=1)
        ]
        best_vectors, best_text = fuse.each_kind(vectors if has_vectors else None, bm25, depth)
        rankings = {
            "vectors": tuple(pages[i] for i in best_vectors),
            "text": tuple(pages[i] for i in best_text),
        }
        return hits, rankings

    def _describe_text_query(self, text: str) -> str:
        """Says which phrases and prefixes BM25 searched for, besides single words."""
        parsed = text_query.parse_text_query(text)
        clauses = [f'"{phrase}"' for phrase in parsed.phrases]
        if clauses and not self._store.has_positions():
            clauses = ["no phrases, because the text index is missing: optimizing the index makes it"]
        clauses += [
            f"{prefix}* as {', '.join(self._store.expand_prefix(prefix)) or 'nothing'}"
            for prefix in parsed.prefixes
        ]
        return f" ({'; '.join(clauses)})" if clauses else ""

    def _bonuses(
        self,
        places: locators.Locators,
        scored: dict[str, tuple[Page, float]],
        documents: Mapping[str, Document],
    ) -> dict[str, float]:
        """Returns the bonus, by page_id, of each page that is at a place which the query names."""
        if not places:
            return {}
        contents = list(self._store.present_contents([page for page, _ in scored.values()]).values())
        counts = [documents[content.page.doc_id].pages for content in contents]
        matches = zip(contents, locators.match_locators(places, contents, counts), strict=True)
        return {c.page.page_id: self._settings.reference_weight * m for c, m in matches if m}

    def _parts(self, plan: Plan, documents: Mapping[str, Document]) -> Iterable[Part]:
        if plan.inverted:
            yield plan.inverted
        yield from plan.resident
        doc_ids = [doc_id for doc_id in plan.streamed if doc_id in documents]
        yield from map(MemoryPart.read, self._store.stream_pages(doc_ids, COLUMNS))


def _best(scores: Mapping[str, float], count: int) -> dict[str, float]:
    """Returns the `count` highest scores, by page_id."""
    ids = list(scores)
    return {ids[at]: scores[ids[at]] for at in fuse.best(np.array(list(scores.values()), np.float64), count)}


def _best_sparse(scores: Future[SparseScores | None] | None, count: int) -> dict[str, float]:
    """Returns the best `count` pages by their sparse vectors, by page_id; {} if there are no sparse vectors."""
    found = None if scores is None else scores.result()
    return {} if found is None else found.best(count)


def _unsearched_notes(documents: Sequence[Document]) -> tuple[Note, ...]:
    """Says, to the reader, which documents were not searched; () if all were."""
    if not documents:
        return ()
    names = ", ".join(d.name for d in documents[:NAMED]) + (", …" if len(documents) > NAMED else "")
    pages = sum(d.pages for d in documents)
    text = (
        f"{pages:,} page{'s' * (pages != 1)} just added or changed could not be searched yet ({names}): "
        "search again in a moment."
    )
    return (Note("not_searched_yet", text),)


def _describe(plan: Plan, counts: Mapping[str, int]) -> str:
    """Says how the vectors were searched, and why so."""
    scan = f"exact scan {plan.place} of {counts['scanned']:,} {'new ' if plan.inverted else ''}pages"
    reason = f" ({plan.why})" if plan.why else ""
    if not plan.inverted:
        return f"{scan}{reason}"
    lists = f"inverted lists of {counts['inverted']:,} pages{reason}, {counts['exact']:,} scored exactly"
    return f"{lists}, {scan}" if counts["scanned"] else lists
