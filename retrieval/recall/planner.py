"""The first stage: MaxSim fused with BM25 over the same pages, by the way that suits the index's size and the device.

Where a GPU has room for all vectors, all are scanned there. Elsewhere they are scanned in memory while that is quick
enough (`search.recall_ms`). Past that, inverted lists lead to a few hundred pages, which are scored exactly from their
stored vectors (`retrieval.recall.ivf`); pages that the lists do not have yet are scanned. Vectors that are scanned and
do not fit into memory (`search.exact_mb`) are streamed from disk, as exact and slower. The `Stage` says which, and why.

Pages at a place that the question names ("page 14", "Figure 2") are lifted (`retrieval.recall.locators`).
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

import configs.settings as configs
from retrieval import fuse
from retrieval.errors import FolioscopeError, missing_extra
from retrieval.recall import locators
from retrieval.recall.inverted import InvertedPart
from retrieval.recall.ivf import upkeep
from retrieval.recall.ivf.lists import InvertedIndex
from retrieval.recall.maxsim import unweighted_query, vectors_per_ms
from retrieval.recall.page_cache import PageVectorCache, maxsim_stored
from retrieval.recall.part_cache import Gather, PartCache, ResidentPart
from retrieval.recall.parts import COLUMNS, MemoryPart, NoRoom, Part
from retrieval.store import text_query
from retrieval.store.schema import quantize, revision
from retrieval.store.store import Store
from retrieval.types import Document, Filter, Hit, Page, QueryEmbedding, Stage

T = TypeVar("T")
QUICKER = "'folioscope index build' makes it quicker"
PARTS, PARTS_ON_GPU = 24, 4
"""Parts of the vectors that are scanned, after many small ingests: past so many they are made one."""
DEEPER = 3
"""Times the depth, where the question names a place: captions are looked for on so many of the best pages."""
DECIMALS = 6
"""Scores are compared to this many decimals: past them BLAS's order of summing, not the page, decides."""


@dataclass(frozen=True, slots=True)
class RecallResult:
    """The first stage's list, and each kind of evidence's own, all best first and at most `depth` long."""

    hits: list[Hit]
    rankings: dict[str, tuple[Page, ...]]
    stage: Stage


@dataclass(frozen=True, slots=True)
class Plan:
    """How the pages of one state of the index are looked through."""

    state: tuple[object, ...] = ()
    listed: InvertedPart | None = None
    held: tuple[ResidentPart, ...] = ()
    streamed: tuple[str, ...] = ()  # doc_ids, read from disk at each search
    place: str = "in memory"
    why: str = ""


class Recall:
    """`candidates` is the whole of it; one Recall per store and process keeps the vectors warm."""

    def __init__(self, store: Store, settings: configs.Search) -> None:
        self._store = store
        self._settings = settings
        self._plan = Plan()
        self._lists: tuple[object, InvertedIndex | None] = (None, None)  # with the manifest's state
        self._vectors = PageVectorCache(store, settings.exact_mb * 2**20)
        self._in_memory = PartCache(store, MemoryPart.gathered, settings.exact_mb, "search.exact_mb", PARTS)
        self._gpu, gather, self._no_gpu = gpu_scan_for(settings.device)
        self._on_gpu = gather and PartCache(store, gather, settings.gpu_mb, "search.gpu_mb", PARTS_ON_GPU)
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="bm25")

    def warm(self) -> None:
        """Load what searches need, so that the first of them does not wait for it."""
        listed = self._with_room(self._warmed).listed
        if listed:
            nothing = np.zeros((1, self._store.fingerprint.dim), np.float32)
            query = unweighted_query(nothing)
            listed.scores(query, np.arange(len(listed.pages)) == 0)  # all is compiled before the first search
            maxsim_stored(query, [quantize(nothing, self._store.precision)])
            there = set(listed.pages.doc_ids)
            self._vectors.fill(d for d in self._store.documents() if d.doc_id in there)

    def _warmed(self) -> Plan:
        plan = self._planned()
        for part in plan.held:
            part.warm()
        return plan

    def _with_room(self, work: Callable[[], T]) -> T:
        """What `work` returns; done a second time without the GPU, where that turns out to be full."""
        try:
            return work()
        except NoRoom as reason:
            with self._lock:
                if self._on_gpu:
                    self._on_gpu.refuse(reason)
                self._plan = Plan()
        return work()

    def candidates(self, text: str, query: QueryEmbedding, depth: int, where: Filter) -> RecallResult:
        """The best `depth` pages that `where` allows, by vectors and text together; ranks from 1."""
        return self._with_room(lambda: self._candidates(text, query, depth, where))

    def _candidates(self, text: str, query: QueryEmbedding, depth: int, where: Filter) -> RecallResult:
        began = time.perf_counter()
        plan = self._planned()
        documents = {d.doc_id: d for d in self._store.documents(where)}
        restricted = None if replace(where, without=frozenset()) == Filter() else list(documents)
        bm25 = self._pool.submit(self._store.search_text, text, depth, restricted, where.scanned)
        asked = locators.parse_locators(text) if self._settings.reference_weight else locators.Locators()
        ends = {d.doc_id: d.pages for d in documents.values() if -1 in asked.pages}
        deep = depth * (DEEPER if asked else 1)
        found: dict[str, tuple[Page, float]] = {}  # by page_id
        numbered: dict[str, float] = {}  # of those whose number the question names
        pages = {"listed": 0, "scanned": 0, "exactly": 0}
        wanted: dict[str, float] | None = None
        for part in self._parts(plan, documents):
            keep = part.pages.of(documents, where.scanned)
            scores = part.scores(query, keep).astype(np.float64).round(DECIMALS)
            best = part.shortlist(query, scores, deep) if len(query.vectors) else np.zeros(0, np.int64)
            wanted = dict(bm25.result()) if wanted is None else wanted
            places = part.pages.numbered(asked.pages, ends)
            by_place = places[fuse.best(scores[places], depth)]
            others = np.concatenate([part.pages.find(wanted), by_place])
            at = np.unique(np.concatenate([best, others]))
            at = at[keep[at]]
            exact = part.maxsim(query, at, scores, documents).round(DECIMALS)
            at, exact = at[~np.isnan(exact)], exact[~np.isnan(exact)]
            named = set(by_place.tolist())
            chosen = {*fuse.best(exact, deep).tolist(), *np.flatnonzero(np.isin(at, others)).tolist()}
            for row in sorted(chosen):
                page = part.pages.page(int(at[row]), documents)
                found[page.page_id] = (page, float(exact[row]))
                if at[row] in named:
                    numbered[page.page_id] = float(exact[row])
            # Of all parts so far, as of a single one: streamed vectors come in many small parts, and each would keep
            # the best of its own.
            numbered = _best(numbered, depth)
            shortlist = _best({page_id: score for page_id, (_, score) in found.items()}, deep)
            kept = shortlist.keys() | numbered.keys() | wanted.keys()
            found = {page_id: scored for page_id, scored in found.items() if page_id in kept}
            pages["listed" if isinstance(part, InvertedPart) else "scanned"] += int(keep.sum())
            pages["exactly"] += len(at) if isinstance(part, InvertedPart) else 0
        wanted = dict(bm25.result()) if wanted is None else wanted
        lifted = self._lifted(asked, found, documents)
        hits, rankings = self._fuse(found, wanted, lifted, depth, has_vectors=len(query.vectors) > 0)
        note = f"{_told(plan, pages)}, BM25 found {len(wanted):,}{self._together(text)}"
        if asked:
            note += f", {len(lifted):,} have what the question names: {asked}"
        looked_at = pages["listed"] + pages["scanned"]
        return RecallResult(hits, rankings, Stage("recall", time.perf_counter() - began, looked_at, note))

    def _fuse(
        self,
        found: dict[str, tuple[Page, float]],
        text: dict[str, float],
        lifted: dict[str, float],
        depth: int,
        has_vectors: bool,
    ) -> tuple[list[Hit], dict[str, tuple[Page, ...]]]:
        """Both lists' best `depth` together, by z-scores; equal pages in the order of their names."""
        named = sorted(found.items(), key=lambda item: (item[1][0].document, item[1][0].number))
        pages = [page for _, (page, _) in named]
        vectors = np.array([score for _, (_, score) in named])
        bm25 = np.array([text.get(page_id, 0.0) for page_id, _ in named])
        bonus = np.array([lifted.get(page_id, 0.0) for page_id, _ in named])
        order, fused = fuse.first_stage(
            vectors if has_vectors else None, bm25, depth, self._settings.text_weight, bonus
        )
        hits = [
            Hit(
                pages[at],
                float(score),
                rank,
                rank,
                {"vectors": float(vectors[at]), "text": float(bm25[at])}
                | ({"place": float(bonus[at])} if bonus[at] else {})
                | {"first": float(score)},
            )
            for rank, (at, score) in enumerate(zip(order, fused, strict=True), start=1)
        ]
        by_vectors, by_text = fuse.each_kind(vectors if has_vectors else None, bm25, depth)
        rankings = {"vectors": tuple(pages[i] for i in by_vectors), "text": tuple(pages[i] for i in by_text)}
        return hits, rankings

    def _together(self, text: str) -> str:
        """What BM25 was asked beside single words."""
        asked = text_query.parse_text_query(text)
        told = [f'"{phrase}"' for phrase in asked.phrases]
        if told and not self._store.has_positions():
            told = ["no phrases, for which 'folioscope index optimize' makes a text index"]
        told += [
            f"{prefix}* as {', '.join(self._store.beginning(prefix)) or 'nothing'}"
            for prefix in asked.prefixes
        ]
        return f" ({'; '.join(told)})" if told else ""

    def _lifted(
        self,
        asked: locators.Locators,
        found: dict[str, tuple[Page, float]],
        documents: Mapping[str, Document],
    ) -> dict[str, float]:
        """By page_id, by how much each page is lifted that is at a place which the question names."""
        if not asked:
            return {}
        contents = list(self._store.present([page for page, _ in found.values()]).values())
        counts = [documents[content.page.doc_id].pages for content in contents]
        matches = zip(contents, locators.match_locators(asked, contents, counts), strict=True)
        return {c.page.page_id: self._settings.reference_weight * m for c, m in matches if m}

    def _parts(self, plan: Plan, documents: Mapping[str, Document]) -> Iterable[Part]:
        if plan.listed:
            yield plan.listed
        yield from plan.held
        wanted = [doc_id for doc_id in plan.streamed if doc_id in documents]
        yield from map(MemoryPart.read, self._store.pages(wanted, COLUMNS))

    def _planned(self) -> Plan:
        with self._lock:
            manifest = upkeep.state(self._store)
            state = self._store.version(), manifest
            if self._plan.state == state:
                return self._plan
            if self._lists[0] != manifest:
                self._lists = manifest, upkeep.load_inverted_index(self._store)
            self._plan = Plan()  # what is let go meanwhile is free
            self._plan = self._made(state)
            return self._plan

    def _made(self, state: tuple[object, ...]) -> Plan:
        """What the index's size and the devices ask for."""
        documents = self._store.documents()
        revisions, pages = {d.doc_id: revision(d) for d in documents}, sum(d.pages for d in documents)
        why = [self._no_gpu] if self._no_gpu else []
        if self._on_gpu:
            resident = self._on_gpu.of(revisions, pages)
            if resident is not None:
                self._in_memory.of({}, 0)
                return Plan(state, None, resident, place=f"on {self._gpu}")
            why.append(self._on_gpu.why)
        lists, target = self._lists[1], self._settings.recall_ms
        quick = target * vectors_per_ms(
            self._store.fingerprint.dim
        )  # vectors that a scan takes in the time aimed at
        listed = None
        if lists is not None and lists.vectors > quick:
            listed = InvertedPart.of(lists, revisions, self._vectors)
            revisions = {d: r for d, r in revisions.items() if (d, r) not in lists.documents}
            pages = sum(d.pages for d in documents if d.doc_id in revisions)
            why.append(f"a scan of {lists.vectors:,} vectors would take longer than {target:g} ms")
        scanned = self._in_memory.of(revisions, pages)
        if scanned is None:
            if not listed:
                why.append(f"{self._in_memory.why}: {QUICKER}")
            return Plan(state, listed, (), tuple(revisions), "from disk", "; ".join(why))
        if not listed and sum(part.count for part in scanned) > quick:
            why.append(f"longer than the {target:g} ms aimed at: {QUICKER}")
        return Plan(state, listed, scanned, why="; ".join(why))


def _best(scores: Mapping[str, float], count: int) -> dict[str, float]:
    """The `count` highest scores, by page_id."""
    ids = list(scores)
    return {ids[at]: scores[ids[at]] for at in fuse.best(np.array(list(scores.values()), np.float64), count)}


def gpu_scan_for(device: str) -> tuple[str, Gather | None, str]:
    """For `search.device`: a GPU's name and how vectors get there, or "", None and, where there is one, why not.

    Raises DeviceMissing, MissingExtra where a GPU is asked for by name.
    """
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules):
        return "", None, ""
    try:
        from retrieval.recall import gpu, gpu_scan
    except ImportError as error:
        raise missing_extra(error) from error
    try:
        chosen = gpu.choose_gpu(device)
    except FolioscopeError as error:
        if device != "auto":
            raise
        return "", None, str(error)
    if chosen is None:
        return "", None, ""
    return gpu.gpu_name(chosen), partial(gpu_scan.GpuPart.gathered, device=chosen), ""


def _told(plan: Plan, pages: Mapping[str, int]) -> str:
    """What was done, and why so."""
    scan = f"exact scan {plan.place} of {pages['scanned']:,} {'new ' if plan.listed else ''}pages"
    reason = f" ({plan.why})" if plan.why else ""
    if not plan.listed:
        return f"{scan}{reason}"
    lists = f"inverted lists of {pages['listed']:,} pages{reason}, {pages['exactly']:,} scored exactly"
    return f"{lists}, {scan}" if pages["scanned"] else lists
