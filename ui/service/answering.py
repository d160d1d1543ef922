"""Writes answers for clients: searches in their turn, asks the model in another one, and stores what came of it."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeVar

import configs.settings as configs
from retrieval.answering.types import CitedAnswer
from retrieval.errors import FolioscopeError
from retrieval.types import SearchRequest, SearchResult
from ui.service.answers import AnswerJob, Present, StoredAnswer, question_key
from ui.service.fair_queue import FairQueue
from ui.service.library import Library

AT_ONCE = 4
"""Answers that are written at the same time: the model's server does the work, not our own cores."""
LOG = logging.getLogger("folioscope")
T = TypeVar("T")


class Searching(Protocol):
    """What an answer needs of the service."""

    @property
    def library(self) -> Library: ...
    async def search(self, request: SearchRequest, client: str) -> SearchResult: ...
    async def run_without_model(self, work: Callable[[], T], client: str) -> T: ...


class Answering:
    """The answers of one service. Belongs to the service's event loop."""

    def __init__(self, service: Searching, serve: configs.Serve) -> None:
        self._service = service
        self._queue = FairQueue(AT_ONCE, serve.waiting, serve.waiting_each)
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="answer")
        self._jobs: dict[str, AnswerJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Stop all answers that are being written."""
        for job in self._jobs.values():
            job.stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def start(self, request: SearchRequest, client: str, who: str) -> AnswerJob:
        """Search, and begin an answer from the pages found. It goes on until it is stored, whoever reads it.

        client: whose turn it is. who: the user to whom the answer belongs. Raises as `Service.search` does, and Busy;
        the job's events raise Busy too if the queue has filled up during the search.
        """
        self._queue.admit(client)  # reject before any work is done
        result = await self._service.search(request, client)
        job = AnswerJob(secrets.token_urlsafe(12), who, request, asyncio.get_running_loop())
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, result, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def running(self, id: str, who: str) -> AnswerJob | None:
        """Return this user's answer with this id if it is being written."""
        job = self._jobs.get(id)
        return job if job and job.who == who else None

    def running_for(self, request: SearchRequest, who: str) -> list[AnswerJob]:
        """Return this user's answers to a question that are being written, newest first."""
        key = question_key(request)
        jobs = [job for job in self._jobs.values() if job.who == who and question_key(job.request) == key]
        return jobs[::-1]

    async def stored(self, id: str, client: str, who: str) -> StoredAnswer:
        """Return a finished answer of this user. Raises NotFound."""
        library = self._service.library
        return await self._aside(lambda: library.answers.get(id, who, _present(library)), client)

    async def stored_for(self, request: SearchRequest, client: str, who: str) -> list[StoredAnswer]:
        """Return this user's finished answers to a question, newest first."""
        library = self._service.library
        return await self._aside(lambda: library.answers.of(request, who, _present(library)), client)

    async def _aside(self, work: Callable[[], T], client: str) -> T:
        waiting: Awaitable[T] = self._service.run_without_model(work, client)
        return await waiting

    async def _run(self, job: AnswerJob, result: SearchResult, client: str) -> None:
        library, loop = self._service.library, asyncio.get_running_loop()
        failure: Exception | None = None
        try:
            async with self._queue.turn(client):
                await loop.run_in_executor(self._threads, lambda: _write(job, result, library))
        except Exception as error:  # raised to whoever reads the job's events
            failure = error
            if not isinstance(error, FolioscopeError):  # perhaps nobody reads them
                LOG.exception("an answer could not be written")
        del self._jobs[job.id]
        job.end(failure)


def _write(job: AnswerJob, result: SearchResult, library: Library) -> None:
    """Write the answer from those pages that are still in the library, and store it."""
    leaving = library.jobs.pending_removals()  # a removal since the search
    hits = tuple(hit for hit in result.hits if hit.page.doc_id not in leaving)
    answers = tuple(answer for answer in result.answers if answer.page.doc_id not in leaving)
    allowed = replace(result, hits=hits, answers=answers)
    for event in library.answerer.steps(allowed, library.searcher, job.stop):
        if isinstance(event, CitedAnswer) and not job.stop.is_set():
            library.answers.add(job.id, job.who, job.request, event)
        job.add(event)


def _present(library: Library) -> Present:
    documents = frozenset(document.doc_id for document in library.store.documents())
    return Present(documents, library.jobs.pending_removals())
