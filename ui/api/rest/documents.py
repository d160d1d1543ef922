"""Routes to list and change the library: documents, uploads, folders, jobs."""

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

LISTED = 60  # the most jobs of one answer
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
        """List documents: those that match, sorted, `count` of them from number `start`."""
        library = service.library
        leaving = library.jobs.pending_removals()
        matching = [d for d in library.store.documents() if _matches(d, find, collection, tag)]
        matching.sort(key=lambda d: _sorted_by(d, sort), reverse=descending)
        return schemas.DocumentsOut(
            documents=[document_response(d, leaving) for d in matching[start : start + count]],
            total=len(matching),
            pages=sum(d.pages for d in matching),
        )

    @router.get("/documents/{doc_id}")
    def document(doc_id: str) -> schemas.DocumentOut:
        """Return one document."""
        library = service.library
        return document_response(library.store.document(doc_id), library.jobs.pending_removals())

    @router.patch("/documents/{doc_id}")
    def change(doc_id: str, body: schemas.ChangeIn) -> schemas.DocumentOut:
        """Rename a document, or change its title, collection, tags or date."""
        library = service.library
        changed = library.jobs.change(doc_id, **body.model_dump(exclude_none=True))
        return document_response(changed, library.jobs.pending_removals())

    @router.post("/documents/remove")
    def remove(body: schemas.DocumentsIn) -> schemas.JobsOut:
        """Remove documents from the library; within `undo_s` seconds `undo` brings them back."""
        library = service.library
        library.jobs.remove(body.doc_ids, delay_s=service.settings.serve.undo_s)
        return _jobs(library)

    @router.post("/documents/undo")
    def undo(body: schemas.DocumentsIn) -> schemas.JobsOut:
        """Bring back documents that are about to be removed."""
        library = service.library
        library.jobs.undo(body.doc_ids)
        return _jobs(library)

    @router.post("/documents/reread")
    def reread(body: schemas.DocumentsIn) -> schemas.JobsOut:
        """Read the files of these documents again, for example after a change of the settings."""
        library = service.library
        library.jobs.reread(body.doc_ids)
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
        checked_labels(collection=collection, tags=tag)  # before any byte is stored
        library = service.library
        try:
            file = await service.uploads.receive(request, library.jobs.folder, name)
        except uploads.UploadRejected as rejected:
            headers = {"Retry-After": str(uploads.RETRY_S)} if rejected.status == 429 else {}
            if rejected.status == 408:  # bytes that still arrive would be read as the next request
                headers["Connection"] = "close"
            return problem(rejected.status, "UploadRefused", str(rejected), headers)
        await asyncio.to_thread(library.jobs.add, [file], collection=collection, tags=tuple(tag))
        return JSONResponse({"name": file.name}, 201)

    @router.post("/samples")
    def samples() -> schemas.JobsOut:
        """Add the sample documents that ship with Folioscope."""
        library = service.library
        library.jobs.add(library.sample_files(), collection="samples")
        return _jobs(library)

    @router.get("/folders")
    def folders(id: str = "") -> schemas.FoldersOut:
        """List folders of the server that may be ingested: the roots, or the content of a folder listed before."""
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
    def ingest_folder(body: schemas.FolderIn) -> schemas.JobsOut:
        """Ingest all documents of a folder of the server, without copying the files."""
        library = service.library
        library.jobs.add(service.folders.files(body.id), collection=body.collection, tags=tuple(body.tags))
        return _jobs(library)

    @router.get("/jobs")
    def jobs() -> schemas.JobsOut:
        """List the files that are being ingested and the last ones that ended, with totals."""
        return _jobs(service.library)

    @router.post("/jobs/{what}")
    def all_jobs(what: Literal["cancel", "retry", "clear"]) -> schemas.JobsOut:
        """cancel: stop unfinished jobs. retry: try failed jobs again. clear: remove ended jobs from the list."""
        jobs = service.library.jobs
        {"cancel": jobs.cancel_all, "retry": jobs.retry_all_failed, "clear": jobs.clear}[what]()
        return _jobs(service.library)

    @router.post("/jobs/{job_id}/{what}")
    def one_job(job_id: int, what: Literal["cancel", "retry"]) -> schemas.JobsOut:
        """Cancel one unfinished job, or retry one that failed."""
        jobs = service.library.jobs
        {"cancel": jobs.cancel, "retry": jobs.retry}[what](job_id)
        return _jobs(service.library)

    return router


def facets(documents: list[Document]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the number of documents by collection and by tag, the most used first, at most 200 of each."""
    collections = Counter(d.collection for d in documents)
    tags = Counter(tag for d in documents for tag in d.tags)
    return dict(collections.most_common(200)), dict(tags.most_common(200))


def _matches(document: Document, find: str, collection: str, tag: str) -> bool:
    text = "\n".join((document.name, document.title, document.collection, *document.tags)).casefold()
    return (
        all(part in text for part in find.casefold().split())
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
    summary = library.jobs.summary()  # first, so that jobs that it counts as ended have ended in the list too
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
