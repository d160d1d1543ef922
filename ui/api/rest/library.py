"""Routes about the library as a whole: its contents, the state of its index, and the readers' judgements."""

import asyncio
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from retrieval.recall.ivf import upkeep
from retrieval.store.verify import bytes_on_disk, table_facts, verify
from retrieval.text import one_line
from retrieval.types import SearchRequest
from ui.api import schemas
from ui.api.rest.common import ERRORS, user_of
from ui.api.rest.documents import facets
from ui.service import index_upkeep
from ui.service.judgements import ENOUGH
from ui.service.service import Service

SHOWN_PROBLEMS = 20


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["library"], responses=ERRORS)

    @router.get("/library")
    def library(request: Request) -> schemas.LibraryOut:
        """Return what there is to search, and whether searching is possible yet."""
        if service.state != "ready":
            failure = service.failure
            return schemas.LibraryOut(
                state=service.state,
                message=service.message,
                kind=type(failure).__name__ if failure else "",
                user=user_of(request),
            )
        library = service.library
        documents = library.store.documents()
        collections, tags = facets(documents)
        return schemas.LibraryOut(
            state="ready",
            documents=len(documents),
            pages=sum(d.pages for d in documents),
            scanned_pages=sum(d.scanned_pages for d in documents),
            collections=collections,
            tags=tags,
            samples=len(library.sample_files()),
            questions=library.questions(),
            reranks=library.reranks,
            answers=library.answerer.model,
            device=str(getattr(service.settings.encoder, "device", "cpu")),
            busy=library.jobs.summary().busy,
            folders=service.folders.any,
            undo_s=service.settings.serve.undo_s,
            user=user_of(request),
        )

    @router.get("/examples")
    def examples() -> list[schemas.ExampleOut]:
        """Return questions with known answers, if the samples are in the library."""
        return [
            schemas.ExampleOut(
                query=query,
                answers=[
                    schemas.RelevantOut(doc_id=page.doc_id, document=page.document, page=page.number)
                    for page in pages
                ],
            )
            for query, pages in service.library.examples()
        ]

    @router.get("/index")
    def index() -> schemas.IndexOut:
        """Return the state of the index: pages, disk space, models, text index, inverted index."""
        library = service.library
        documents = library.store.documents()
        return schemas.IndexOut(
            documents=len(documents),
            pages=sum(d.pages for d in documents),
            encoder=str(library.store.fingerprint),
            reranker=library.searcher.reranker.name if library.searcher.reranker else "",
            disk=bytes_on_disk(library.uri),
            tables=[(name, dict(facts)) for name, facts in table_facts(library.store)],
            recall=library.index_upkeep.doing or index_upkeep.describe_stats(upkeep.stats(library.store)),
        )

    @router.post("/index/reembed")
    async def reembed() -> schemas.Done:
        """Encode the pages of an index of another encoder again with the profile's encoder, from what is stored."""
        service.reembed()
        return schemas.Done(message="Encoding has begun.")

    @router.post("/index/{what}")
    def care(what: Literal["compact", "verify"]) -> schemas.Done:
        """compact: merge small files, refresh the text index. verify: look for damage. `/jobs` has the progress."""
        library = service.library

        def verified() -> str:
            report = verify(library.store)
            checked = f"{report.pages:,} pages of {report.documents:,} documents checked"
            if not report.problems:
                return f"The index is sound: {checked}."
            shown = "; ".join(
                ": ".join(filter(None, (problem.document, problem.message)))
                for problem in report.problems[:SHOWN_PROBLEMS]
            )
            return f"{len(report.problems)} problems, {checked}: {shown}"

        def compacted() -> str:
            before = sum(bytes_on_disk(library.uri).values())
            library.store.optimize()
            after = sum(bytes_on_disk(library.uri).values())
            return f"Compacted: {before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now."

        work, task = (compacted, "Compacting") if what == "compact" else (verified, "Verifying")
        library.jobs.run(work, task)
        return schemas.Done(message=f"{task} has begun.")

    @router.get("/judgements")
    def judgements() -> schemas.JudgementsOut:
        """Return what reranking gained, measured on the pages that readers judged."""
        lift, judged = service.library.judgements.lift()
        return schemas.JudgementsOut(
            lift=[schemas.LiftOut.model_validate(row, from_attributes=True) for row in lift],
            judged=[schemas.JudgedOut.model_validate(row, from_attributes=True) for row in judged],
            enough=ENOUGH,
        )

    @router.get("/judgements.txt", response_class=Response)
    def qrels() -> Response:
        """Return all judgements, one a line in the order of TREC's qrels but with tabs: question, 0, page, grade."""
        rows = service.library.judgements.everything()
        text = "".join(f"{query}\t0\t{page}\t{grade}\n" for query, page, grade, _, _ in rows)
        return PlainTextResponse(text, headers={"Content-Disposition": "attachment; filename=judgements.txt"})

    @router.post("/judgements")
    async def judge(request: Request, body: schemas.JudgeIn) -> schemas.Done:
        """Judge a page: thumb up or down, stored with both stages' orders for this question.

        The orders are those of the last reranked search of the whole library for this question. Without such a search
        the judgement is stored alone, and counts towards the lift once there is one.
        """
        library = service.library
        query = one_line(body.query)
        page = await asyncio.to_thread(library.store.page, body.doc_id, body.page)
        seen = await service.cached_result(SearchRequest(query))
        orders: dict[str, Any] = {}
        if seen and seen.decision.reranked:
            orders = {
                "first": [hit.page.page_id for hit in seen.candidates],
                "final": [hit.page.page_id for hit in seen.hits],
            }
        await asyncio.to_thread(
            library.judgements.judge, query, page.page_id, page.name, body.grade,
            who=user_of(request), **orders,
        )  # fmt: skip
        return schemas.Done(message="Noted." if body.grade is not None else "Removed.")

    return router
