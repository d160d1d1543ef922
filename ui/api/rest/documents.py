"""What is in the library, and how it changes: documents, uploads, folders, jobs."""

import asyncio
from collections import Counter
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from retrieval.labels import checked_labels
from retrieval.types import Document
from ui.api import schemas
from ui.api.problems import problem
from ui.api.responses import document_response
from ui.api.rest.common import ERRORS
from ui.service import ingest_status, uploads
from ui.service.jobs.queue import Job
from ui.service.library import Library
from ui.service.service import Service

LISTED = 60  # jobs of one answer
SORTS = Literal["added", "name", "pages", "date"]


def routes(service: Service) -> APIRouter:
    router = APIRouter(tags=["documents"], responses=ERRORS)

    @router.get("/documents")
    def documents(
        find: Annotated[
            str, Query(max_length=400, description="Part of a name, title, tag or collection.")
        ] = "",
        collection: str = "",
        tag: str = "",
        sort: SORTS = "added",
        descending: bool = True,
        start: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> schemas.DocumentsOut:
        library = service.library
        leaving = library.jobs.leaving()
        found = [d for d in library.store.documents() if _matches(d, find, collection, tag)]
        found.sort(key=lambda d: _sorted_by(d, sort), reverse=descending)
        return schemas.DocumentsOut(
            documents=[document_response(d, leaving) for d in found[start : start + count]],
            total=len(found),
            pages=sum(d.pages for d in found),
        )

    @router.get("/documents/{doc_id}")
    def document(doc_id: str) -> schemas.DocumentOut:
        library = service.library
        return document_response(library.store.document(doc_id), library.jobs.leaving())

    @router.patch("/documents/{doc_id}")
    def change(doc_id: str, asked: schemas.ChangeIn) -> schemas.DocumentOut:
        """Rename a document, or change its title, collection, tags or date."""
        library = service.library
        changed = library.jobs.change(doc_id, **asked.model_dump(exclude_none=True))
        return document_response(changed, library.jobs.leaving())

    @router.post("/documents/remove")
    def remove(asked: schemas.DocumentsIn) -> schemas.JobsOut:
        """Take documents out of the library; within `undo_s` seconds `undo` brings them back."""
        library = service.library
        library.jobs.remove(asked.doc_ids, delay_s=service.settings.serve.undo_s)
        return _jobs(library)

    @router.post("/documents/undo")
    def undo(asked: schemas.DocumentsIn) -> schemas.JobsOut:
        library = service.library
        library.jobs.undo(asked.doc_ids)
        return _jobs(library)

    @router.post("/documents/reread")
    def reread(asked: schemas.DocumentsIn) -> schemas.JobsOut:
        """Read the files of these documents again, as after a change of the settings."""
        library = service.library
        library.jobs.reread(asked.doc_ids)
        return _jobs(library)

    @router.put("/upload/{name:path}", status_code=201, response_model=schemas.UploadOut,
                responses={status: {"model": schemas.ErrorOut} for status in (408, 413, 507)})  # fmt: skip
    async def upload(
        name: str,
        request: Request,
        collection: Annotated[str, Query(min_length=1, max_length=60)] = "default",
        tag: Annotated[list[str], Query(max_length=20)] = [],  # noqa: B006 (FastAPI copies it)
    ) -> JSONResponse:
        """Add one file: its bytes are the body."""
        checked_labels(collection=collection, tags=tag)  # before anything is kept
        library = service.library
        try:
            kept = await service.uploads.receive(request, library.jobs.folder, name)
        except uploads.Refused as refused:
            headers = {"Retry-After": str(uploads.RETRY_S)} if refused.status == 429 else {}
            if refused.status == 408:  # what comes after all would be taken for the next request
                headers["Connection"] = "close"
            return problem(refused.status, "UploadRefused", str(refused), headers)
        await asyncio.to_thread(library.jobs.add, [kept], collection=collection, tags=tuple(tag))
        return JSONResponse({"name": kept.name}, 201)

    @router.post("/samples")
    def samples() -> schemas.JobsOut:
        """Add the documents that ship with Folioscope, to try it with."""
        library = service.library
        library.jobs.add(library.sample_files(), collection="samples")
        return _jobs(library)

    @router.get("/folders")
    def folders(id: str = "") -> schemas.FoldersOut:
        """Folders of the server that may be ingested: the roots, or what is in one that was listed before."""
        listing = service.folders.listing(id)
        return schemas.FoldersOut(
            id=listing.id,
            name=listing.name,
            parent=listing.parent,
            documents=listing.documents,
            folders=[schemas.FolderOut(id=i, name=n, documents=c) for i, n, c in listing.folders],
            note=listing.note,
        )

    @router.post("/folders/ingest")
    def ingest_folder(asked: schemas.FolderIn) -> schemas.JobsOut:
        """Read all documents of a folder of the server, where they lie."""
        library = service.library
        library.jobs.add(service.folders.files(asked.id), collection=asked.collection, tags=tuple(asked.tags))
        return _jobs(library)

    @router.get("/jobs")
    def jobs() -> schemas.JobsOut:
        return _jobs(service.library)

    @router.post("/jobs/{what}")
    def all_jobs(what: Literal["cancel", "retry", "clear"]) -> schemas.JobsOut:
        """cancel: everything that waits or is read. retry: everything that failed. clear: forget what has ended."""
        jobs = service.library.jobs
        {"cancel": jobs.cancel_all, "retry": jobs.retry_all_failed, "clear": jobs.clear}[what]()
        return _jobs(service.library)

    @router.post("/jobs/{job_id}/{what}")
    def one_job(job_id: int, what: Literal["cancel", "retry"]) -> schemas.JobsOut:
        jobs = service.library.jobs
        {"cancel": jobs.cancel, "retry": jobs.retry}[what](job_id)
        return _jobs(service.library)

    return router


def facets(documents: list[Document]) -> tuple[dict[str, int], dict[str, int]]:
    """Documents of each collection, and with each tag; the most used first."""
    collections = Counter(d.collection for d in documents)
    tags = Counter(tag for d in documents for tag in d.tags)
    return dict(collections.most_common(200)), dict(tags.most_common(200))


def _matches(document: Document, find: str, collection: str, tag: str) -> bool:
    said = "\n".join((document.name, document.title, document.collection, *document.tags)).casefold()
    return (
        all(part in said for part in find.casefold().split())
        and (not collection or document.collection == collection)
        and (not tag or tag in document.tags)
    )


def _sorted_by(document: Document, sort: SORTS) -> tuple[object, ...]:
    first = {
        "added": document.added_at,
        "name": document.name.casefold(),
        "pages": document.pages,
        "date": document.date,
    }
    return first[sort], document.name.casefold(), document.doc_id


def _jobs(library: Library) -> schemas.JobsOut:
    summary = library.jobs.summary()  # first: what it calls ended has ended in the list, too
    jobs = library.jobs.listed(LISTED)
    run = ingest_status.current_status(library.uri)
    return schemas.JobsOut(
        jobs=[_job(job) for job in jobs],
        counts=dict(summary.counts.items()),
        busy=summary.busy,
        pages_per_second=round(summary.pages_per_second, 2),
        seconds_left=summary.seconds_left,
        waiting=summary.waiting,
        task=summary.task,
        task_result=summary.task_result,
        command_line=schemas.RunOut(
            state=run.state,
            files=run.files,
            files_ended=run.files_ended,
            failed=run.failed,
            pages_done=run.pages_done,
            pages_per_second=round(run.pages_done / run.seconds, 2) if run.seconds else 0.0,
            names=[name for name, *_ in run.names],
            message=run.message,
        )
        if run
        else None,
    )


def _job(job: Job) -> schemas.JobOut:
    return schemas.JobOut(
        id=job.id, name=job.name, state=job.state, read=job.read, page=job.page, pages=job.pages,
        size=job.size, reason=job.reason, message=job.message, seconds=round(job.seconds, 1),
    )  # fmt: skip
