"""How the pages of the index are searched: on a GPU, in memory, through the inverted index, or streamed from disk.

Where a GPU has room for all vectors, a search scans them there. Elsewhere it scans them in memory while that is quick
enough (`search.recall_ms`). Past that, the inverted index gives a shortlist (`retrieval.recall.ivf`), and pages that it
does not have yet are scanned. Vectors that must be scanned and do not fit into memory (`search.exact_mb`) are streamed
from disk, which is as exact and slower.

After each change of the index a new plan is made in a thread of its own, which reads the vectors of new documents.
"""

import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import configs.settings as configs
from retrieval.errors import FolioscopeError, missing_extra
from retrieval.recall.inverted import InvertedPart
from retrieval.recall.ivf import upkeep
from retrieval.recall.ivf.inverted_index import InvertedIndex
from retrieval.recall.maxsim import vectors_per_ms
from retrieval.recall.memory_part import MemoryPart
from retrieval.recall.page_cache import PageVectorCache
from retrieval.recall.part import NoRoom
from retrieval.recall.part_cache import Gather, PartCache, ResidentPart
from retrieval.store.schema import revision
from retrieval.store.store import Store
from retrieval.types import Document

PLAN_WAIT_S = 2.0
"""Seconds that a search waits for the plan of a changed index, before it uses the plan that it has."""
HINT = "an inverted index would make it quicker"
PARTS, PARTS_ON_GPU = 24, 4
"""Parts that many small ingests may leave in memory or on a GPU: more than this are joined into one."""


class GpuScan(NamedTuple):
    """A GPU that scans vectors, or the reason why there is none."""

    name: str = ""
    gather: Gather | None = None  # moves vectors there
    why_not: str = ""  # empty if no GPU was asked for or found


def gpu_scan_for(device: str) -> GpuScan:
    """Finds the GPU that `search.device` names.

    Raises DeviceMissing and MissingExtra if a GPU is named that cannot be used; for "auto" the result says why not.
    """
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules):
        return GpuScan()
    try:
        from retrieval.recall import gpu, gpu_scan
    except ImportError as error:
        raise missing_extra(error) from error
    try:
        chosen = gpu.choose_gpu(device)
    except FolioscopeError as error:
        if device != "auto":
            raise
        return GpuScan(why_not=str(error))
    if chosen is None:
        return GpuScan()
    return GpuScan(gpu.gpu_name(chosen), partial(gpu_scan.GpuPart.gathered, device=chosen))


@dataclass(frozen=True, slots=True)
class Plan:
    """How the pages of one state of the index are searched."""

    state: tuple[object, ...] = ()
    revisions: Mapping[str, str] = field(default_factory=dict)  # of each document, by doc_id
    inverted: InvertedPart | None = None
    resident: tuple[ResidentPart, ...] = ()
    streamed: tuple[str, ...] = ()  # doc_ids, read from disk in each search
    place: str = "in memory"
    why: str = ""

    def lacks(self, document: Document) -> bool:
        """Whether the plan has no pages of this document, or those of another revision."""
        return self.revisions.get(document.doc_id) != revision(document)


@dataclass(frozen=True, slots=True, eq=False)
class _Build:
    """A plan that is being made for this state of the index."""

    state: tuple[object, ...]
    plan: Future[Plan]


class Planner:
    """Makes the plans for one store. Safe to use from several threads."""

    def __init__(
        self, store: Store, settings: configs.Search, gpu_scan: GpuScan, vectors: PageVectorCache
    ) -> None:
        """vectors: where the inverted index gets vectors for exact scores."""
        self._store = store
        self._settings = settings
        self._gpu = gpu_scan
        self._vectors = vectors
        self._index: tuple[object, InvertedIndex | None] = (None, None)  # with its manifest's state
        self._in_memory = PartCache(
            store, MemoryPart.gathered, settings.exact_mb, "search.exact_mb", PARTS, self._forget
        )
        self._on_gpu = gpu_scan.gather and PartCache(
            store, gpu_scan.gather, settings.gpu_mb, "search.gpu_mb", PARTS_ON_GPU, self._forget
        )
        self._making = threading.Lock()  # held while a plan is made, which may take long
        self._lock = threading.Lock()  # guards the next two; held for moments only
        self._plan = Plan()
        self._build: _Build | None = None

    @property
    def bytes_in_memory(self) -> int:
        """The bytes of the vectors that are scanned in memory."""
        return self._in_memory.bytes

    def current(self, wait_s: float | None = PLAN_WAIT_S) -> tuple[Plan, bool]:
        """Returns the plan for the index as it is now, and True.

        If it is not ready within `wait_s` seconds (None: wait forever), returns the plan before it, and False; the
        first plan is always waited for. Raises what reading the index raises.
        """
        deadline = None if wait_s is None else time.monotonic() + wait_s
        outdated: _Build | None = None  # was under way when this call came, for an earlier state
        while True:
            with self._lock:
                state = self._state()
                previous = self._plan
                if previous.state == state:
                    return previous, True
                if self._build is None:
                    self._build = self._begin(state)
                build = self._build
            if outdated is None and build.state != state:
                outdated = build
            limited = deadline is not None and previous.state
            wait([build.plan], max(0.0, deadline - time.monotonic()) if limited and deadline else None)
            if not build.plan.done():
                return previous, False
            if build is not outdated:
                return build.plan.result(), True

    def refuse_gpu(self, reason: NoRoom) -> None:
        """Release the GPU, which turned out to be full, and scan elsewhere for a while."""
        with self._making:
            if self._on_gpu:
                self._on_gpu.refuse(reason)
            self._forget()

    def _state(self) -> tuple[object, ...]:
        return self._store.version(), upkeep.manifest_state(self._store)

    def _begin(self, state: tuple[object, ...]) -> _Build:
        build = _Build(state, Future())
        threading.Thread(target=self._finish, args=(build,), name="search plan", daemon=True).start()
        return build

    def _finish(self, build: _Build) -> None:
        try:
            with self._making:
                plan = self._made(build.state)
                with self._lock:
                    self._plan, self._build = plan, None
        except BaseException as error:  # it belongs to the searches that wait, whatever it is
            with self._lock:
                self._build = None
            build.plan.set_exception(error)
        else:
            build.plan.set_result(plan)

    def _forget(self) -> None:
        """Drop the plan, so that the vectors of its parts are free and the next search waits for new ones."""
        with self._lock:
            self._plan = Plan()

    def _made(self, state: tuple[object, ...]) -> Plan:
        """Returns the plan that the size of the index and the devices ask for."""
        if self._index[0] != state[-1]:
            self._index = state[-1], upkeep.load_inverted_index(self._store)
        documents = self._store.documents()
        everything = {d.doc_id: revision(d) for d in documents}
        revisions, pages = everything, sum(d.pages for d in documents)
        why = [self._gpu.why_not] if self._gpu.why_not else []
        if self._on_gpu:
            resident = self._on_gpu.of(revisions, pages)
            if resident is not None:
                self._in_memory.of({}, 0)
                return Plan(state, everything, None, resident, place=f"on {self._gpu.name}")
            why.append(self._on_gpu.why)
        index, target = self._index[1], self._settings.recall_ms
        quick = target * vectors_per_ms(self._store.fingerprint.dim)  # vectors that a scan reads in that time
        inverted = None
        if index is not None and index.vectors > quick:
            inverted = InvertedPart.of(index, revisions, self._vectors)
            revisions = {d: r for d, r in revisions.items() if (d, r) not in index.documents}
            pages = sum(d.pages for d in documents if d.doc_id in revisions)
            why.append(f"a scan of {index.vectors:,} vectors would take longer than {target:g} ms")
        scanned = self._in_memory.of(revisions, pages)
        if scanned is None:
            if not inverted:
                why.append(f"{self._in_memory.why}: {HINT}")
            return Plan(state, everything, inverted, (), tuple(revisions), "from disk", "; ".join(why))
        if not inverted and sum(part.count for part in scanned) > quick:
            why.append(f"longer than the {target:g} ms aimed at: {HINT}")
        return Plan(state, everything, inverted, scanned, why="; ".join(why))
