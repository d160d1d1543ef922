"""The ingest: files in, an index out, and an event for everything that happens.

Discover, hash, skip what is known, prepare pages in worker processes, embed, write, record. A document is
written whole or not at all, and the ledger says what became of every file. Documents are committed in groups, and
reported as done when they are committed: stopping at any moment and starting again repeats at most the documents of
the group that was under way.
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
from ingest.read.titles import clean
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
"""Pages between two clean-ups during a run: small files slow LanceDB down."""


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
    """Read files, folders and glob patterns into the index, yielding what happens as it happens.

    `sync` also removes documents whose file has gone from the given folders. `again` also reads files whose content
    is known, as after a change of the settings: their documents keep their collection, tags and what a person has
    edited. Set `stop` to end early: what is under way is dropped, what is done stays. Between two events the caller
    may write to the store itself, in the same thread. Raises BadSource for a path that matches nothing, IndexBusy
    where another process writes, BadChange for a collection or tag that a document cannot have; a bad file raises
    nothing, it becomes a `failed` event.
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
            yield from _Reading(store, known, writer, report, password, stop).events(
                sources, encoder, settings
            )
        for folder, reason in unread.items():
            source = Source(folder, folder.as_posix(), 0, now())
            message = f"{clean(str(folder))} cannot be read: {reason}"
            yield report.end("failed", source, reason="unreadable", message=message)
        if sync and not stop.is_set():
            roots = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (links stay as they were named)
            for missing in known.missing(roots, {source.uri for source in sources}, list(unread)):
                yield _sync(store, missing, report)
        store.optimize()
        yield report.event("finished")


class _Reading:
    """Files that are read, from what is decided about each to its end."""

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
        self._reading: dict[str, Read] = {}  # by uri: files that have not come to their end
        self._aside: deque[Progress] = deque()  # what was decided while the workers asked for more to do
        self._to_optimize = 0  # pages, and commits, since the last clean-up

    def events(
        self, sources: Sequence[Source], encoder: Encoder, settings: configs.Ingest
    ) -> Iterator[Progress]:
        with (
            closing(prepare(self._tasks(sources), settings)) as prepared,
            closing(embed(prepared, encoder, self._writer.content)) as events,
        ):
            for event in events:
                yield from self._set_aside()
                if self._stop.is_set():
                    break
                # An Idle only gives the occasion to commit a group in time while a page takes long. Of a document
                # that has failed, pages may still be on their way.
                if not isinstance(event, Idle) and event.source.uri in self._reading:
                    yield from self._take(event)
                # With nothing left to read, nobody need wait until the group is large or old enough.
                if self._writer.due or not self._reading:
                    yield from self._commit()
        yield from self._set_aside()
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
                self._to_optimize += len(event.pages)
                yield self._page(source)
            case FailedPage():
                self._writer.lose(event)
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
        """What the workers shall read. The ends of the other files are set aside: this runs within `prepare`."""
        for source in sources:
            if self._stop.is_set():
                return
            try:
                decision = self._known.decide(source)
            except UnreadableDocument as error:
                self._aside.append(self._fail(source, error))
                continue
            if isinstance(decision, Read):
                self._reading[source.uri] = decision
                yield Task(source, self._password)
                continue
            if decision.recorded:
                self._writer.skip(source, decision.doc_id, decision.reason, decision.message)
            self._aside.append(
                self._report.end(
                    "skipped",
                    source,
                    doc_id=decision.doc_id,
                    reason=decision.reason,
                    message=decision.message,
                )
            )

    def _set_aside(self) -> Iterator[Progress]:
        while self._aside:
            yield self._aside.popleft()

    def _page(self, source: Source) -> Progress:
        under_way = self._writer.under_way(source.uri)
        assert under_way is not None  # it has been opened, and has not come to its end
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
        done = self._writer.commit()
        self._to_optimize += 1  # it, too, makes a small file
        if self._to_optimize >= OPTIMIZE_EVERY:
            self._store.optimize()
            self._to_optimize = 0
        for each in done:
            yield self._done(each)

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
    """Remove the document if its file is gone."""
    document, path = missing.document, missing.path
    source = Source(path, document.uri, 0, document.added_at)
    if missing.gone:
        store.remove([document.doc_id])
        store.forget([document.uri])
        message = f"{document.name}: its file is gone, so it was removed"
        return report.event("removed", source, doc_id=document.doc_id, reason="file gone", message=message)
    message = (
        f"{document.name}: its folder {path.parent} is empty or cannot be read, as when a disk is not "
        "mounted, so it stays; 'folioscope docs remove' takes it out"
    )
    return report.event("skipped", source, doc_id=document.doc_id, reason="folder empty", message=message)
