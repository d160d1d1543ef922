"""The events that ingest yields while it works; its callers display them."""

import time
from dataclasses import dataclass
from typing import Literal

from ingest.read.titles import printable
from ingest.sources import Source

ProgressKind = Literal["found", "page", "done", "skipped", "failed", "removed", "finished"]


@dataclass(frozen=True, slots=True)
class Progress:
    """One event.

    `found`: the search for files is over. `page`: the file `name` was opened, or more of its pages were read or
    embedded, or the encoder is still working on it. `done`, `skipped`, `failed`: the file needs no more work, with a
    `reason` in a word or two and a `message` in a sentence; after `done`, its document is in the index. `removed`: a
    document was removed because its file is gone (sync). `finished`: the run is over and the index is optimized.
    """

    event: ProgressKind
    uri: str = ""
    name: str = ""
    doc_id: str = ""
    page: int = 0  # pages of this document embedded so far
    pages: int = 0  # pages of this document
    read: int = 0  # pages of this document rasterized and read so far, never fewer than `page`
    reason: str = ""
    message: str = ""
    files: int = 0  # in the whole run
    files_ended: int = 0  # of these, done, skipped or failed so far
    pages_done: int = 0  # pages of the whole run embedded so far
    seconds: float = 0.0  # since the run began


class Reporter:
    """Creates the events of one run, each with the run's totals so far."""

    def __init__(self, files: int) -> None:
        self.pages_done = 0
        self._files = files
        self._files_ended = 0
        self._began = time.perf_counter()

    def end(
        self,
        event: ProgressKind,
        source: Source,
        *,
        doc_id: str = "",
        page: int = 0,
        pages: int = 0,
        read: int = 0,
        reason: str,
        message: str,
    ) -> Progress:
        """Return the last event of one of the run's files, and count the file as ended."""
        self._files_ended += 1
        return self.event(
            event, source, doc_id=doc_id, page=page, pages=pages, read=read, reason=reason, message=message
        )

    def event(
        self,
        event: ProgressKind,
        source: Source | None = None,
        *,
        doc_id: str = "",
        page: int = 0,
        pages: int = 0,
        read: int = 0,
        reason: str = "",
        message: str = "",
    ) -> Progress:
        """Return any other event."""
        return Progress(
            event=event,
            uri=source.uri if source else "",
            name=printable(source.path.name) if source else "",
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
