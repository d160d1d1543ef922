"""What ingest reports while it works: one value for everything that happens, drawn by the caller."""

import time
from dataclasses import dataclass
from typing import Literal

from ingest.read.titles import clean
from ingest.sources import Source

Event = Literal["found", "page", "done", "skipped", "failed", "removed", "finished"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`found`: all files are known. `page`: `name` is open, or more of its pages are read or embedded, or it is
    still at work. `done`, `skipped`, `failed`: a file has come to its end, `reason` in a word or two, `message` in
    a sentence; with `done`, its document is in the index. `removed`: a document whose file is gone (sync).
    `finished`: the run is over, the index is in order.
    """

    event: Event
    uri: str = ""
    name: str = ""
    doc_id: str = ""
    page: int = 0  # pages of this document embedded so far
    pages: int = 0  # pages of this document
    read: int = 0  # pages of this document rasterized and read so far, never fewer than `page`
    reason: str = ""
    message: str = ""
    files: int = 0  # of the whole run
    files_ended: int = 0
    pages_done: int = 0  # of the whole run
    seconds: float = 0.0  # since the run began


class Reporter:
    """Makes the events of one run, each with the run's totals so far."""

    def __init__(self, files: int) -> None:
        self.pages_done = 0
        self._files = files
        self._files_ended = 0
        self._began = time.perf_counter()

    def end(
        self,
        event: Event,
        source: Source,
        *,
        doc_id: str = "",
        page: int = 0,
        pages: int = 0,
        read: int = 0,
        reason: str,
        message: str,
    ) -> Progress:
        """The event with which one of the run's files comes to its end."""
        self._files_ended += 1
        return self.event(
            event, source, doc_id=doc_id, page=page, pages=pages, read=read, reason=reason, message=message
        )

    def event(
        self,
        event: Event,
        source: Source | None = None,
        *,
        doc_id: str = "",
        page: int = 0,
        pages: int = 0,
        read: int = 0,
        reason: str = "",
        message: str = "",
    ) -> Progress:
        return Progress(
            event=event,
            uri=source.uri if source else "",
            name=clean(source.path.name) if source else "",
            doc_id=doc_id,
            page=page,
            pages=pages,
            read=read,
            reason=reason,
            message=message,
            files=self._files,
            files_ended=self._files_ended,
            pages_done=self.pages_done,
            seconds=time.perf_counter() - self._began,
        )
