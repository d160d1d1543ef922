"""The service behind the web page, REST and MCP: one library, one queue before its models, one cache of recent results.

The models load in the background; until they are ready, every request raises NotReady, which says so.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar

import configs.settings as configs
from retrieval.errors import BadQuery, EncoderMismatch, FolioscopeError
from retrieval.lru import LRU
from retrieval.text import one_line
from retrieval.types import DecisionKind, SearchRequest, SearchResult
from ui.service.answering import Answering
from ui.service.fair_queue import Busy, FairQueue
from ui.service.folders import Folders
from ui.service.library import SAMPLES, Library, open_library, reembed_library
from ui.service.metrics import Metrics
from ui.service.uploads import Uploads

State = Literal["loading", "ready", "failed"]
CACHED_RESULTS = 128
MODEL_FREE_THREADS = 4  # threads that read pages and draw images
LOOKUP_THREADS = 8  # threads that read the version of the index and the job table
LOADING = "The models are being loaded…"
UNFINISHED: frozenset[DecisionKind] = frozenset({"reranked_in_part", "failed"})
"""Decisions on reranking that another search may better: a later equal request is searched for again."""
T = TypeVar("T")


class NotReady(FolioscopeError):
    """The models are still loading, or could not be loaded."""

    exit_code = 3


CacheKey = tuple[SearchRequest, int, frozenset[str]]


class Service:
    """Searches one library for many clients.

    open_library: opens the library; `start` calls it in a thread of its own. reembed_library: encodes the pages of the
    index again and yields (done, total) pages; needed for `reembed` only.
    """

    def __init__(
        self,
        settings: configs.Settings,
        open_library: Callable[[], Library],
        folders: Folders | None = None,
        reembed_library: Callable[[], Iterator[tuple[int, int]]] | None = None,
    ) -> None:
        serve = settings.serve
        self.settings = settings
        self.folders = folders or Folders(())
        self.metrics = Metrics(self._gauges)
        self._open_library = open_library
        self._reembed_library = reembed_library
        self._library: Library | None = None
        # The first stage is quick and has a queue of its own, so that its results never wait behind reranking.
        self._rerank_queue = FairQueue(serve.at_once, serve.waiting, serve.waiting_each)
        self._first_stage_queue = FairQueue(serve.at_once, serve.waiting, serve.waiting_each)
        self._model_free_queue = FairQueue(MODEL_FREE_THREADS, serve.waiting, serve.waiting_each)
        self._search_threads = ThreadPoolExecutor(2 * serve.at_once, thread_name_prefix="search")
        self._model_free_threads = ThreadPoolExecutor(MODEL_FREE_THREADS, thread_name_prefix="model-free")
        self._lookup_threads = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="lookup")
        self.uploads = Uploads(
            most_file=settings.ingest.max_file_mb * 2**20,
            most_gb=serve.max_library_gb,
            at_once=serve.uploads_at_once,
            idle_s=serve.upload_idle_s,
        )
        self._results: LRU[CacheKey, SearchResult] = LRU(CACHED_RESULTS)
        self.answering = Answering(self, serve)
        self._closed = threading.Event()
        self._opening = threading.Lock()
        self.failure: Exception | None = None
        """Why the library could not be opened."""
        self.progress = LOADING
        """What the service does before the library is open, as a sentence."""

    # Opening

    def start(self, on_failure: Callable[[], None] = lambda: None) -> None:
        """Open the library in the background. Calls `on_failure`, in that thread, if it cannot be opened."""

        def open_or_record_failure() -> None:
            try:
                self.open()
            except Exception as error:  # `library` raises it for clients, `serve` prints it on the terminal
                self.failure = error
                on_failure()

        threading.Thread(target=open_or_record_failure, name="loading", daemon=True).start()

    def open(self) -> None:
        """Open the library. Raises the errors of loading a model and of opening an index."""
        library = self._open_library()
        library.searcher.warm()
        with self._opening:
            if self._closed.is_set():
                library.close()
                return
            library.jobs.start()
            library.index_upkeep.start()
            self._library = library

    def close(self) -> None:
        """Close the library, or make `open` close it when it is done, and drop all waiting work."""
        self.answering.close()
        with self._opening:
            self._closed.set()
            if self._library:
                self._library.close()
        for pool in (self._search_threads, self._model_free_threads, self._lookup_threads):
            pool.shutdown(wait=False, cancel_futures=True)
        self.uploads.close()

    @property
    def state(self) -> State:
        return "ready" if self._library else "failed" if self.failure else "loading"

    @property
    def message(self) -> str:
        """Why nothing can be searched yet; "" when the library is open."""
        return "" if self._library else _in_words(self.failure) if self.failure else self.progress

    @property
    def library(self) -> Library:
        """The open library. Raises NotReady while it is being opened, and with the reason if it cannot be opened."""
        if self._library:
            return self._library
        if self.failure:
            raise NotReady(f"the library cannot be opened: {_in_words(self.failure)}")
        raise NotReady(f"{self.progress} Searching begins as soon as that is done.")

    def reembed(self) -> None:
        """Encode the stored pages of another encoder's index again in the background, then open the new index.

        Raises FolioscopeError if the index is not another encoder's.
        """
        if not isinstance(self.failure, EncoderMismatch) or self._reembed_library is None:
            raise FolioscopeError("the index is of this profile's encoder: there is nothing to encode again")
        reembed_library, mismatch = self._reembed_library, self.failure

        def reembed_and_open() -> None:
            try:
                for done, total in reembed_library():
                    self.progress = f"The pages are being encoded again: {done:,} of {total:,} so far."
                self.progress = LOADING
                self.open()
            except Exception as error:
                mismatch.args = (f"{mismatch.message} (encoding again failed: {_in_words(error)})",)
                self.failure = mismatch

        self.failure, self.progress = None, "The pages are being encoded again."
        threading.Thread(target=reembed_and_open, name="reembed", daemon=True).start()

    # Searching

    async def search(self, request: SearchRequest, client: str) -> SearchResult:
        """Returns all candidates in the final order. Raises BadQuery, Busy, NotReady."""
        *_, last = [result async for result in self.steps(request, client)]
        return last

    async def steps(self, request: SearchRequest, client: str) -> AsyncGenerator[SearchResult, None]:
        """Yields the first stage's order, then the reranked order; only the final order if it is cached and finished.

        client: who searches; the queue is fair between clients. Raises BadQuery, Busy, NotReady.
        """
        library = self.library
        key = request, _, leaving = await self._look_up(lambda: self._cache_key(request))
        cached = self._results.get(key)
        if cached is not None and cached.decision.kind not in UNFINISHED:
            self.metrics.count_outcome("remembered")
            yield cached
            return
        where = replace(request.where, without=request.where.without | leaving)
        began = time.perf_counter()
        stop = threading.Event()
        steps = library.searcher.steps(replace(request, where=where), stop=stop)
        try:
            self._rerank_queue.admit(client)  # reject a search before any work is done for it
            async with self._first_stage_queue.turn(client):
                result = await self._finish(lambda: next(steps), self._search_threads, stop)
            if result.decision.kind == "pending":
                yield result  # outside of any turn: a slow reader must not hold one
                async with self._rerank_queue.turn(client, admitted=True):
                    self.metrics.observe_wait(time.perf_counter() - began)
                    result = await self._finish(lambda: next(steps), self._search_threads, stop)
        except (BadQuery, Busy):
            self.metrics.count_outcome("refused")
            raise
        except Exception:
            self.metrics.count_outcome("failed")
            raise
        self.metrics.count_search(result)
        if result.complete:
            self._results.put(key, result)
        yield result

    async def cached_result(self, request: SearchRequest) -> SearchResult | None:
        """Returns the last result of an equal request, even if its reranking was cut or failed.

        Returns None if there is none, or if the library has changed since.
        """
        return self._results.get(await self._look_up(lambda: self._cache_key(request)))

    # Other work for clients

    async def run_with_model(self, query: str, client: str, work: Callable[[], T]) -> T:
        """Run `work`, which encodes `query` unless the encoder has it cached, in the client's turn.

        Raises Busy, NotReady, and the errors of `work`.
        """
        if not query.strip() or self.library.searcher.remembers(query):
            return await self.run_without_model(work, client)
        async with self._first_stage_queue.turn(client):
            return await self._finish(work, self._search_threads)

    async def run_without_model(self, work: Callable[[], T], client: str) -> T:
        """Run `work`, which needs no model, in the client's turn: one client's images must not starve the others.

        Raises Busy, and the errors of `work`.
        """
        async with self._model_free_queue.turn(client):
            return await self._finish(work, self._model_free_threads)

    async def _look_up(self, work: Callable[[], T]) -> T:
        """Run a short look-up in the index or in SQLite in a thread: a slow disk must not block the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._lookup_threads, work)

    async def _finish(
        self, work: Callable[[], T], pool: ThreadPoolExecutor, stop: threading.Event | None = None
    ) -> T:
        """Run `work` in a thread of `pool`. If the client disconnects, set `stop` and wait until the thread has ended.

        The client's turn thus lasts as long as the thread is busy.
        """
        working = asyncio.get_running_loop().run_in_executor(pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            if stop:
                stop.set()
            await asyncio.wait([working])
            raise

    def _cache_key(self, request: SearchRequest) -> CacheKey:
        """Returns everything that a result depends on: the request, the version of the index, pending removals."""
        library = self.library
        return (
            replace(request, query=one_line(request.query)),
            library.store.version(),
            library.jobs.pending_removals(),
        )

    def _gauges(self) -> dict[str, tuple[float, str]]:
        values = {
            "ready": (float(self._library is not None), "1 when the models are loaded."),
            "searches_waiting": (
                float(self._rerank_queue.waiting + self._first_stage_queue.waiting),
                "Searches in the queue.",
            ),
        }
        if self._library:
            documents = self._library.store.documents()
            jobs = self._library.jobs.summary()
            values |= {
                "documents": (float(len(documents)), "Documents in the index."),
                "pages": (float(sum(d.pages for d in documents)), "Pages in the index."),
                "ingest_pages_per_second": (jobs.pages_per_second, "Speed of the server's own ingest."),
                **{
                    f"jobs_{state}": (float(count), f"Files of the server's own ingest: {state}.")
                    for state, count in sorted(jobs.counts.items())
                },
            }
        return values


def service_for(
    uri: str, settings: configs.Settings, *, samples: Path = SAMPLES, roots: Sequence[Path] = ()
) -> Service:
    """Returns a service over the index at `uri`, which `start` opens.

    roots: folders that clients may ingest from. Raises FolioscopeError for a root that is not a folder.
    """
    folders = Folders(roots)
    return Service(
        settings,
        lambda: open_library(uri, settings, samples, folders.has_escaped),
        folders,
        lambda: reembed_library(uri, settings),
    )


def _in_words(error: Exception) -> str:
    """Returns what a reader of the web page learns of an error, without the server's commands and paths."""
    if isinstance(error, FolioscopeError):
        return error.message
    # The text of an OSError ends with its path.
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
