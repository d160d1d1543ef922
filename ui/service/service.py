"""What the page, REST and MCP all ask: one library, one queue before its models, one memory of recent results.

The models load in the background: until they are there every question is answered by NotReady, which says so.
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
from retrieval.types import SearchRequest, SearchResult
from ui.service.fair_queue import Busy, FairQueue
from ui.service.folders import Folders
from ui.service.library import SAMPLES, Library, open_library, reembed_library
from ui.service.metrics import Metrics
from ui.service.uploads import Uploads

State = Literal["loading", "ready", "failed"]
REMEMBERED = 128  # results
ASIDE = 4  # threads that read pages and draw
LOOKS = 8  # threads that look up the index's version and what is in SQLite
T = TypeVar("T")


class NotReady(FolioscopeError):
    """The models are being loaded, or could not be."""

    exit_code = 3


Key = tuple[SearchRequest, int, frozenset[str]]


class Service:
    """Made with a library, or with what opens one: then `start` opens it in a thread of its own."""

    def __init__(
        self,
        settings: configs.Settings,
        opening: Callable[[], Library],
        folders: Folders | None = None,
        reembedding: Callable[[], Iterator[tuple[int, int]]] | None = None,
    ) -> None:
        serve = settings.serve
        self.settings = settings
        self.folders = folders or Folders(())
        self.metrics = Metrics(self._gauges)
        self._opening = opening
        self._reembedding = reembedding
        self._library: Library | None = None
        self._turns = FairQueue(serve.at_once, serve.waiting, serve.waiting_each)  # before the reranker
        # Before the first stage, which is quick: its results never wait behind rerankings.
        self._quick = FairQueue(serve.at_once, serve.waiting, serve.waiting_each)
        self._drawing = FairQueue(ASIDE, serve.waiting, serve.waiting_each)
        self._pool = ThreadPoolExecutor(2 * serve.at_once, thread_name_prefix="search")
        self._aside = ThreadPoolExecutor(ASIDE, thread_name_prefix="aside")
        self._looking = ThreadPoolExecutor(LOOKS, thread_name_prefix="look")
        self.uploads = Uploads(
            most_file=settings.ingest.max_file_mb * 2**20,
            most_gb=serve.max_library_gb,
            at_once=serve.uploads_at_once,
            idle_s=serve.upload_idle_s,
        )
        self._results: LRU[Key, SearchResult] = LRU(REMEMBERED)
        self._closed = threading.Event()
        self._opened = threading.Lock()
        self.failure: Exception | None = None
        """Why the library could not be opened."""
        self.progress = "The models are being loaded…"
        """What is done before the library is open."""

    # Opening

    def start(self, failed: Callable[[], None] = lambda: None) -> None:
        """Open the library in the background; `failed` is called, in that thread, where that is not possible."""

        def opening() -> None:
            try:
                self.open()
            except Exception as error:  # told by `library` to whoever asks, and by `serve` on the terminal
                self.failure = error
                failed()

        threading.Thread(target=opening, name="loading", daemon=True).start()

    def open(self) -> None:
        """Raises what loading a model and opening an index raise."""
        library = self._opening()
        library.searcher.warm()
        with self._opened:
            if self._closed.is_set():
                library.close()
                return
            library.jobs.start()
            library.keeper.start()
            self._library = library

    def close(self) -> None:
        with self._opened:
            self._closed.set()
            if self._library:
                self._library.close()
        for pool in (self._pool, self._aside, self._looking):
            pool.shutdown(wait=False, cancel_futures=True)
        self.uploads.close()

    @property
    def state(self) -> State:
        return "ready" if self._library else "failed" if self.failure else "loading"

    @property
    def message(self) -> str:
        """Why nothing can be searched yet; "" once it can."""
        return "" if self._library else _in_words(self.failure) if self.failure else self.progress

    @property
    def library(self) -> Library:
        """Raises NotReady while it is being opened, and with the reason where it cannot be."""
        if self._library:
            return self._library
        if self.failure:
            raise NotReady(f"the library cannot be opened: {_in_words(self.failure)}")
        raise NotReady(f"{self.progress} Searching begins as soon as that is done.")

    def reembed(self) -> None:
        """Encode the pages of an index of another encoder again, from what it holds, and open it when that is done.

        Raises FolioscopeError where the index is not of another encoder.
        """
        if not isinstance(self.failure, EncoderMismatch) or self._reembedding is None:
            raise FolioscopeError("the index is of this profile's encoder: there is nothing to encode again")
        reembedding, mismatch = self._reembedding, self.failure

        def work() -> None:
            try:
                for done, total in reembedding():
                    self.progress = f"The pages are encoded again, {done:,} of {total:,} so far."
                self.progress = "The models are being loaded…"
                self.open()
            except Exception as error:
                mismatch.args = (f"{mismatch} (encoding again failed: {error})",)
                self.failure = mismatch

        self.failure, self.progress = None, "The pages are encoded again."
        threading.Thread(target=work, name="reembed", daemon=True).start()

    # Searching

    async def search(self, ask: SearchRequest, client: str) -> SearchResult:
        """All candidates, in the final order. Raises BadQuery, Busy, NotReady."""
        *_, last = [result async for result in self.steps(ask, client)]
        return last

    async def steps(self, ask: SearchRequest, client: str) -> AsyncGenerator[SearchResult, None]:
        """The first stage's order, then the reranked one; only the last where it is remembered. Raises as `search`.

        client: who asks, for the queue's fairness.
        """
        library = self.library
        key = ask, _, leaving = await self._look(lambda: self._key(ask))
        remembered = self._results.get(key)
        if remembered is not None:
            self.metrics.counted("remembered")
            yield remembered
            return
        where = replace(ask.where, without=ask.where.without | leaving)
        began = time.perf_counter()
        stop = threading.Event()
        steps = library.searcher.steps(replace(ask, where=where), stop=stop)
        try:
            self._turns.admit(client)  # before anything is done for it
            async with self._quick.turn(client):
                result = await self._to_its_end(lambda: next(steps), self._pool, stop)
            if result.decision.kind == "pending":
                yield result  # never within a turn: a reader may be slow
                async with self._turns.turn(client, admitted=True):
                    self.metrics.waited(time.perf_counter() - began)
                    result = await self._to_its_end(lambda: next(steps), self._pool, stop)
        except (BadQuery, Busy):
            self.metrics.counted("refused")
            raise
        except Exception:
            self.metrics.counted("failed")
            raise
        self.metrics.searched(result)
        self._results.put(key, result)
        yield result

    async def with_model(self, query: str, client: str, work: Callable[[], T]) -> T:
        """Run `work` about a question, in turn where the question is new to the encoder. Raises Busy, NotReady."""
        if not query.strip() or self.library.searcher.remembers(query):
            return await self.aside(work, client)
        async with self._quick.turn(client):
            return await self._to_its_end(work, self._pool)

    async def remembered(self, ask: SearchRequest) -> SearchResult | None:
        """The answer to an equal question, if it was asked lately and the library is as it was."""
        return self._results.get(await self._look(lambda: self._key(ask)))

    async def aside(self, work: Callable[[], T], client: str) -> T:
        """Run work that needs no model: in turn, too, so that one client's pictures starve nobody. Raises Busy."""
        async with self._drawing.turn(client):
            return await self._to_its_end(work, self._aside)

    async def _look(self, work: Callable[[], T]) -> T:
        """Run a short look at the index or at SQLite in a thread: on a slow disk it must not stop the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._looking, work)

    async def _to_its_end(
        self, work: Callable[[], T], pool: ThreadPoolExecutor, stop: threading.Event | None = None
    ) -> T:
        """Where the reader has gone, `stop` is set, and the turn is kept until the thread has ended."""
        working = asyncio.get_running_loop().run_in_executor(pool, work)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            if stop:
                stop.set()
            await asyncio.wait([working])
            raise

    def _key(self, ask: SearchRequest) -> Key:
        """What an answer depends on: the question, the library as it is, and what is about to leave it."""
        library = self.library
        return replace(ask, query=one_line(ask.query)), library.store.version(), library.jobs.leaving()

    def _gauges(self) -> dict[str, tuple[float, str]]:
        values = {
            "ready": (float(self._library is not None), "1 once the models are loaded."),
            "searches_waiting": (
                float(self._turns.waiting + self._quick.waiting),
                "Searches that wait for their turn.",
            ),
        }
        if self._library:
            documents = self._library.store.documents()
            jobs = self._library.jobs.summary()
            values |= {
                "documents": (float(len(documents)), "Documents in the index."),
                "pages": (float(sum(d.pages for d in documents)), "Pages in the index."),
                "ingest_pages_per_second": (jobs.pages_per_second, "Of the server's own ingest."),
                **{
                    f"jobs_{state}": (float(count), f"Files of the server's own ingest: {state}.")
                    for state, count in sorted(jobs.counts.items())
                },
            }
        return values


def _in_words(error: Exception) -> str:
    """What a web reader is told of an error: without the commands and paths of whoever runs the server."""
    return error.message if isinstance(error, FolioscopeError) else str(error)


def service_for(
    uri: str, settings: configs.Settings, *, samples: Path = SAMPLES, roots: Sequence[Path] = ()
) -> Service:
    """A service over the index at `uri`, opened by `start`. Raises FolioscopeError for a root that is no folder."""
    folders = Folders(roots)
    return Service(
        settings,
        lambda: open_library(uri, settings, samples, folders.has_escaped),
        folders,
        lambda: reembed_library(uri, settings),
    )
