"""The library: what is being added, and what is there."""

from typing import Any

import gradio as gr

from retrieval.types import Document
from ui.components import assets
from ui.jobs import ENDED, Job
from ui.library import Library
from ui.media import image_url

Value = dict[str, Any]  # what static/documents.js draws
SHOWN_DOCUMENTS = 1000


def documents() -> gr.HTML:
    return assets.component("documents", value={})


def documents_value(library: Library, problem: str = "") -> Value:
    jobs, found = library.jobs.list(), library.store.documents()
    leaving = {job.doc_id for job in jobs if job.doc_id and job.state not in ENDED}
    newest = sorted(found, key=lambda document: document.added_at, reverse=True)
    return {
        "jobs": [_job(job) for job in jobs if job.state != "removing"],
        "busy": any(job.state not in ENDED for job in jobs),
        "documents": [
            _document(document, document.doc_id in leaving) for document in newest[:SHOWN_DOCUMENTS]
        ],
        "total": len(found),
        "pages": sum(document.pages for document in found),
        "samples": 0 if found or jobs else len(library.sample_files()),
        "problem": problem,
    }


def _job(job: Job) -> dict[str, Any]:
    return {"id": job.id, "name": job.name, "state": job.state, "page": job.page, "pages": job.pages,
            "message": job.message}  # fmt: skip


def _document(document: Document, leaving: bool) -> dict[str, Any]:
    return {
        "doc": document.doc_id,
        "name": document.name,
        "title": document.title,
        "pages": document.pages,
        "scanned": document.scanned_pages,
        "added": document.added_at.isoformat(timespec="seconds"),
        "thumb": image_url(document, 1, thumb=True),
        "left_out": document.meta.get("failed_pages", ""),
        "leaving": leaving,
    }
