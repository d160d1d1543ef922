"""Ingest: from files to an index, yielding an event for each step.

Files are found, hashed and skipped if their content is known; worker processes prepare the pages of the others, which
are embedded and written. A document is written completely or not at all, and the ledger records the status of every
file. Documents are committed in groups and reported as done when they are committed, so that stopping at any moment and
starting again repeats at most the documents of one group.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import configs.settings as configs
from ingest.embed import Computing, Embedded, OfDocument, embed
from ingest.known import Known, Missing, Read
from ingest.names import Names
from ingest.progress import Progress, Reporter
from ingest.read.titles import printable
from ingest.sources import Source, discover
from ingest.workers.dispatch import prepare
from ingest.workers.messages import Failed, FailedPage, Finished, Idle, Opened, Task
from ingest.writer import Done, Writer
from retrieval.errors import UnreadableDocument
from retrieval.labels import checked_labels
from retrieval.store.schema import now
from retrieval.store.store import Store
from retrieval.types import Encoder

OPTIMIZE_EVERY = 2_000
"""Pages, counting a commit as one, between two optimizations during a run: many small files slow LanceDB down."""


def ingest(
    paths: Sequence[str | Path],
    store: Store,
    encoder: Encoder,
    settings: configs.Ingest,
    *,
    password: str | None = None,
    collection: str = "default",
    tags: Sequence[str] = (),
    sync: bool = False,
    again: bool = False,
    stop: threading.Event | None = None,
) -> Iterator[Progress]:
    """Read files, folders and glob patterns into the index, yielding events while the work goes on.

    sync: also remove documents whose file is gone from the given folders. again: also read files whose content is
    known, as after a change of settings; their documents keep their collection, tags and a person's edits. stop: set it
    to end early; complete documents are committed, the others are dropped. Between two events the caller may write to
    the store itself, in the same thread.

    Raises BadSource for a path that matches nothing, IndexBusy if another process writes to the index, BadLabel for a
    collection or tag that a document cannot have. A bad file raises nothing: it becomes a `failed` event.
    """
    labels = checked_labels(collection=collection, tags=tags)
    stop = stop or threading.Event()
    unread: dict[Path, str] = {}
    sources = list(discover(paths, unread.__setitem__))
    with store.writing():
        report = Reporter(files=len(sources) + len(unread))
        known = Known(store, Names(store.documents()), again)
        yield report.event("found")
        with Writer(store, labels["collection"], labels["tags"]) as writer:
            run = _Run(store, known, writer, report, password, stop)
            yield from run.events(sources, encoder, settings)
        for folder, reason in unread.items():
            source = Source(path=folder, uri=folder.as_posix(), size=0, modified=now())
            message = f"{printable(str(folder))} cannot be read: {reason}"
            yield report.end("failed", source, reason="unreadable", message=message)
        if sync and not stop.is_set():
            roots = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (resolve() follows links)
            for missing in known.missing(roots, {source.uri for source in sources}, list(unread)):
                yield _sync(store, missing, report)
        store.optimize()
        yield report.event("finished")


class _Run:
    """Takes the files of one run from the decision to read them to their last event."""

    def __init__(
        self,
        store: Store,
        known: Known,
        writer: Writer,
        report: Reporter,
        password: str | None,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._known = known
        self._writer = writer
        self._report = report
        self._password = password
        self._stop = stop
        self._reading: dict[str, Read] = {}  # by uri: files whose last event is still to come
        self._queued: deque[Progress] = deque()  # last events of files that the workers do not get
        self._since_optimize = 0  # pages and commits since the last optimization

    def events(
        self, sources: Sequence[Source], encoder: Encoder, settings: configs.Ingest
    ) -> Iterator[Progress]:
        with (
            closing(prepare(self._tasks(sources), settings)) as prepared,
            closing(embed(prepared, encoder, self._writer.content)) as events,
        ):
            for event in events:
                yield from self._queued_events()
                if self._stop.is_set():
                    break
                # An Idle is only an occasion to commit a group in time while a page takes long. Pages of a document
                # that has failed may still arrive, and are ignored.
                if not isinstance(event, Idle) and event.source.uri in self._reading:
                    yield from self._take(event)
                # When no file is being read, the group is committed although it is neither large nor old.
                if self._writer.due or not self._reading:
                    yield from self._commit()
        yield from self._queued_events()
        yield from self._commit()

    def _take(self, event: OfDocument) -> Iterator[Progress]:
        source = event.source
        match event:
            case Opened():
                read = self._reading[source.uri]
                self._writer.open(event, read.doc_id, read.name)
                yield self._page(source)
            case Computing():
                yield self._page(source)
            case Embedded():
                self._writer.add(event)
                self._report.pages_done += len(event.pages)
                self._since_optimize += len(event.pages)
                yield self._page(source)
            case FailedPage():
                self._writer.leave_out(event)
            case Failed():
                yield self._fail(source, event.error)
            case Finished():
                try:
                    self._writer.complete(source)
                except UnreadableDocument as error:
                    yield self._fail(source, error)
                else:
                    del self._reading[source.uri]

    def _tasks(self, sources: Sequence[Source]) -> Iterator[Task]:
        """Yield tasks for the workers. The events of files without a task are queued, as this runs within `prepare`."""
        for source in sources:
            if self._stop.is_set():
                return
            try:
                decision = self._known.decide(source)
            except UnreadableDocument as error:
                self._queued.append(self._fail(source, error))
                continue
            if isinstance(decision, Read):
                self._reading[source.uri] = decision
                yield Task(source, self._password)
                continue
            if decision.recorded:
                self._writer.skip(source, decision.doc_id, decision.reason, decision.message)
            self._queued.append(
                self._report.end(
                    "skipped",
                    source,
                    doc_id=decision.doc_id,
                    reason=decision.reason,
                    message=decision.message,
                )
            )

    def _queued_events(self) -> Iterator[Progress]:
        while self._queued:
            yield self._queued.popleft()

    def _page(self, source: Source) -> Progress:
        under_way = self._writer.under_way(source.uri)
        assert under_way is not None  # it has been opened, and has not ended
        return self._report.event(
            "page",
            source,
            doc_id=under_way.document.doc_id,
            page=under_way.embedded,
            pages=under_way.document.pages,
            read=under_way.read,
        )

    def _fail(self, source: Source, error: UnreadableDocument) -> Progress:
        read = self._reading.pop(source.uri, None)
        if read:
            self._known.release(read.doc_id)
        self._writer.fail(source, read.doc_id if read else "", error)
        return self._report.end("failed", source, reason=error.reason, message=str(error))

    def _commit(self) -> Iterator[Progress]:
        if not self._writer.waits:
            return
        done, removed = self._writer.commit()
        self._since_optimize += 1  # a commit makes small files too
        for each in done:
            yield self._done(each)
        for under_way in removed:
            name = under_way.document.name
            message = (
                f"{name} was removed from the index while its file was being read again, so it stays removed"
            )
            yield self._report.end("skipped", under_way.source, reason="removed meanwhile", message=message)
        if self._since_optimize >= OPTIMIZE_EVERY:  # last: what is committed is reported even if this fails
            self._store.optimize()
            self._since_optimize = 0

    def _done(self, done: Done) -> Progress:
        return self._report.end(
            "done",
            done.source,
            doc_id=done.document.doc_id,
            page=done.embedded,
            pages=done.document.pages,
            read=done.read,
            reason=done.reason,
            message=done.message,
        )


def _sync(store: Store, missing: Missing, report: Reporter) -> Progress:
    """Remove the document if its file is gone; return the event."""
    document, path = missing.document, missing.path
    source = Source(path=path, uri=document.uri, size=0, modified=document.added_at)
    if missing.gone:
        store.remove([document.doc_id])
        store.delete_from_ledger([document.uri])
        message = f"{document.name}: its file is gone, so the document was removed"
        return report.event("removed", source, doc_id=document.doc_id, reason="file gone", message=message)
    message = (
        f"{document.name}: its folder {path.parent} is empty or cannot be read, as when a disk is not "
        "mounted, so the document stays in the index; remove the document itself if it is not wanted any more"
    )
    return report.event("skipped", source, doc_id=document.doc_id, reason="folder empty", message=message)
