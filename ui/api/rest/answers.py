"""Routes to ask for a written answer, as one JSON object or as server-sent events, and to read it again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from retrieval.answering.types import CitedAnswer, Event
from retrieval.errors import FolioscopeError
from retrieval.types import Document
from ui.api.answers import AnswerIn, AnswersOut, CitedAnswerOut, answer_response, event_response
from ui.api.problems import unexpected
from ui.api.rest.common import ERRORS, answer_of, client_of, user_of
from ui.api.rest.search import NEVER, SearchQuery
from ui.service.answers import AnswerJob
from ui.service.service import Service

EVENTS = "text/event-stream"
QUIET_S = 15.0  # seconds without an event, after which a comment keeps proxies from closing the connection
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {EVENTS: {}},
        "description": "One JSON object. As `text/event-stream`: the event `pages` (PagesOut) first, then `delta` "
        "(DeltaOut) and `citation` (CitationOut) as the model writes, and `done` (the whole object) at the end; "
        "`error` (ErrorOut) if it fails after the first event.",
    }
}


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["answer"], responses=ERRORS)

    async def documents() -> Mapping[str, Document]:
        return await asyncio.to_thread(lambda: {d.doc_id: d for d in service.library.store.documents()})

    async def stream(request: Request, job: AnswerJob) -> Response:
        events = _events(request, job, await documents())
        return StreamingResponse(events, media_type=EVENTS, headers={**NEVER, "X-Accel-Buffering": "no"})

    @router.post("/answer", response_model=CitedAnswerOut, responses=STREAMED)
    async def answer(request: Request, asked: AnswerIn) -> Any:
        """Answer a question from the pages that match it, with a quote from its page for every sentence.

        The quotes are looked up on the pages; what is not there is marked. If no page is likely to answer, no model is
        asked. If the profile has no model, or it cannot be reached, the answer consists of words of the pages. The
        answer is stored, also if the client leaves before its end.
        """
        job = await service.answering.start(asked.request(), client_of(request), user_of(request))
        if asked.stream or EVENTS in request.headers.get("accept", ""):
            return await stream(request, job)
        return answer_response(await _finished(job), job.id, documents=await documents())

    @router.get("/answer/{id}", response_model=CitedAnswerOut, responses=STREAMED)
    async def stored(request: Request, id: str) -> Any:
        """Return an answer that this user asked for. One that is still being written is awaited, or streamed again."""
        job = service.answering.running(id, user_of(request))
        if job and EVENTS in request.headers.get("accept", ""):
            return await stream(request, job)
        if job:
            return answer_response(await _finished(job), job.id, documents=await documents())
        found = await service.answering.stored(id, client_of(request), user_of(request))
        return answer_response(found.answer, found.id, found.at, await documents())

    @router.get("/answers")
    async def answers(request: Request, ask: SearchQuery) -> AnswersOut:
        """Return the answers of this user to the same question about the same documents."""
        running = service.answering.running_for(ask, user_of(request))
        found = await service.answering.stored_for(ask, client_of(request), user_of(request))
        present = await documents()
        return AnswersOut(
            answers=[answer_response(stored.answer, stored.id, stored.at, present) for stored in found],
            running=[job.id for job in running],
        )

    return router


async def _finished(job: AnswerJob) -> CitedAnswer:
    async for event in job.events():
        if isinstance(event, CitedAnswer):
            return event
    raise FolioscopeError("the answer was not finished, because the server is stopping: ask again")


async def _events(
    request: Request, job: AnswerJob, documents: Mapping[str, Document]
) -> AsyncGenerator[str, None]:
    """Yield the job's events as server-sent events, and comments while there are none. Leaving does not end the job."""
    async with aclosing(job.events()) as events:
        following = asyncio.ensure_future(anext(events, None))
        try:
            while True:
                await asyncio.wait([following], timeout=QUIET_S)
                if not following.done():
                    yield ": still working\n\n"
                    continue
                event: Event | None = following.result()
                if event is None:
                    return
                name, body = event_response(event, job.request.query, job.id, documents)
                yield f"event: {name}\ndata: {body.model_dump_json()}\n\n"
                following = asyncio.ensure_future(anext(events, None))
        except FolioscopeError as error:
            yield f"event: error\ndata: {bytes(answer_of(error).body).decode()}\n\n"
        except Exception as error:
            failed = unexpected(request.scope, error, "The answer could not be written")
            yield f"event: error\ndata: {bytes(failed.body).decode()}\n\n"
        finally:
            following.cancel()
            await asyncio.wait([following])
