"""The ingest: files in, an index out, and an event for everything that happens.

Discover, hash, skip what is known, prepare pages in worker processes, embed, write, record. A document is
written whole or not at all, and the ledger says what became of every file, so stopping at any moment and
starting again repeats at most the documents that were under way.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import configs.settings as configs
from ingest.embed import Computing, Embedded, embed
from ingest.progress import Event, Progress
from ingest.sources import Source, content_id, discover, path_of, state_of
from ingest.titles import clean
from ingest.worker import Failed, FailedPage, Finished, Opened, PreparedPage, Task, prepare
from retrieval.errors import UnreadableDocument
from retrieval.store import PendingDocument, Store
from retrieval.tables import READ_AGAIN, LedgerEntry, Outcome, PageRecord, now
from retrieval.types import Document, Encoder, Page, PageContent

PAGES_WRITTEN = 32
"""Pages of one document that are written together: fewer make more small files."""
OPTIMIZE_EVERY = 2_000
"""Pages between two clean-ups during a run: small files slow LanceDB down."""
EDITED = "edited"
"""In a document's `meta`: which of its name, title and date a person has changed. Reading its file again keeps them."""


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
    where another process writes; a bad file raises nothing, it becomes a `failed` event.
    """
    unread: dict[Path, str] = {}
    sources = list(discover(paths, unread.__setitem__))
    with store.writing():
        files = len(sources) + len(unread)
        run = _Run(
            store,
            encoder,
            settings,
            password,
            collection,
            tuple(tags),
            again,
            stop or threading.Event(),
            files,
        )
        yield from run.events(sources)
        for folder, why in unread.items():
            yield run.unread_folder(folder, why)
        if sync and not run.stopped:
            roots = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 (links stay as they were named)
            yield from run.remove_missing(roots, {source.uri for source in sources}, list(unread))
        store.optimize()
        yield run.progress("finished")


@dataclass
class _Writing:
    """A document under way."""

    document: Document
    pending: PendingDocument
    began: float
    reason: str  # of its `done`
    records: list[PageRecord] = field(default_factory=list)  # to be written
    read: int = 0
    embedded: int = 0
    scanned: int = 0
    failures: list[FailedPage] = field(default_factory=list)


class _Run:
    def __init__(
        self,
        store: Store,
        encoder: Encoder,
        settings: configs.Ingest,
        password: str | None,
        collection: str,
        tags: tuple[str, ...],
        again: bool,
        stop: threading.Event,
        files: int,
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._settings = settings
        self._password = password
        self._collection = collection
        self._tags = tags
        self._again = again
        self._stop = stop
        self._files = files
        self._ended = 0
        self._pages = 0
        self._since_optimize = 0
        self._began = time.perf_counter()
        self._ledger = {entry.uri: entry for entry in store.ledger()}
        self._owners = {d.name: d.uri for d in store.documents()}
        self._known = set(self._owners.values())
        self._names: dict[str, str] = {}  # uri -> name of files of this run
        self._ids: dict[str, str] = {}  # uri -> doc_id of files of this run
        self._taken: dict[str, str] = {}  # doc_id -> uri: content that this run has under way or done
        self._writing: dict[str, _Writing] = {}  # by uri
        self._failed: set[str] = set()  # uris
        self._skips: deque[Progress] = deque()  # found while the workers asked for more to do

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def progress(
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
        uri, name = (source.uri, clean(source.path.name)) if source else ("", "")
        seconds = time.perf_counter() - self._began
        return Progress(
            event,
            uri,
            name,
            doc_id,
            page,
            pages,
            read,
            reason,
            message,
            self._files,
            self._ended,
            self._pages,
            seconds,
        )

    def events(self, sources: Sequence[Source]) -> Iterator[Progress]:
        yield self.progress("found")
        stream = prepare(self._tasks(sources), self._settings)
        embedded = embed(stream, self._encoder, self._content)
        try:
            for event in embedded:
                yield from self._drain()
                if self._stop.is_set():
                    break
                if event.source.uri in self._failed or (
                    not isinstance(event, Opened | Failed) and event.source.uri not in self._writing
                ):
                    continue  # this document has failed, while its pages were on their way
                match event:
                    case Opened():
                        self._open(event)
                        yield self._page_event(event.source)
                    case Computing():
                        yield self._page_event(event.source)
                    case Embedded():
                        yield self._add(event)
                    case FailedPage():
                        self._writing[event.source.uri].failures.append(event)
                    case Finished():
                        yield from self._finish(event.source)
                    case Failed():
                        yield self._fail(event.source, event.error)
            yield from self._drain()
        finally:
            embedded.close()
            stream.close()
            for writing in self._writing.values():
                writing.pending.abandon()

    def unread_folder(self, folder: Path, why: str) -> Progress:
        self._ended += 1
        source = Source(folder, folder.as_posix(), 0, now())
        message = f"{clean(str(folder))} cannot be read: {why}"
        return self.progress("failed", source, reason="unreadable", message=message)

    def remove_missing(
        self, roots: Sequence[Path], present: set[str], unread: Sequence[Path]
    ) -> Iterator[Progress]:
        """Remove documents under `roots` whose file has gone; one whose twin is still there takes its place.

        A folder that is there but empty may be a disk that is not mounted: its documents stay, and it is said.
        """
        twins = {e.doc_id: e.uri for e in self._store.ledger() if e.uri in present}
        for document in self._store.documents():
            path = path_of(document.uri)
            if document.uri in present or not any(path.is_relative_to(root) for root in roots):
                continue
            state = state_of(path)
            if state not in ("gone", "unreachable"):
                continue
            if state == "gone" and document.doc_id in twins:
                self._rename(document, twins[document.doc_id])
                continue
            gone = Source(path, document.uri, 0, document.added_at)
            if (
                state == "unreachable"
                or _hidden(path)
                or any(path.is_relative_to(folder) for folder in unread)
            ):
                message = (
                    f"{document.name}: its folder {path.parent} is empty or cannot be read, as when a disk is not "
                    "mounted, so it stays; 'folioscope docs remove' takes it out"
                )
                yield self.progress(
                    "skipped", gone, doc_id=document.doc_id, reason="folder empty", message=message
                )
                continue
            self._store.remove([document.doc_id])
            self._store.forget([document.uri])
            message = f"{document.name}: its file is gone, so it was removed"
            yield self.progress("removed", gone, doc_id=document.doc_id, reason="file gone", message=message)

    def _tasks(self, sources: Sequence[Source]) -> Iterator[Task]:
        """What the workers must read; what is known already becomes a `skipped` event."""
        for source in sources:
            if self._stop.is_set():
                return
            known = self._ledger.get(source.uri)
            unchanged = known and (known.size, known.modified) == (source.size, source.modified)
            settled = known and unchanged and known.outcome != "failed" and self._store.has(known.doc_id)
            if known and settled and not self._again:
                self._skip(source, known.doc_id, "unchanged", "unchanged since it was ingested", record=False)
                continue
            try:
                doc_id = content_id(source.path)
            except (OSError, UnreadableDocument) as error:
                message = (
                    f"{clean(source.path.name)} cannot be read: {getattr(error, 'strerror', None) or error}"
                )
                self._skips.append(self._fail(source, UnreadableDocument("unreadable", message)))
                continue
            self._ids[source.uri] = doc_id
            if self._store.has(doc_id) and not (self._again and self._is_at(source, doc_id)):
                self._skip_known(source, doc_id)
            elif doc_id in self._taken:
                twin = clean(path_of(self._taken[doc_id]).name)
                self._skip(
                    source, doc_id, "same content", f"the same content as {twin}, which is ingested once"
                )
            else:
                self._taken[doc_id] = source.uri
                self._names[source.uri] = self._name(source.uri)  # now, in the order of the sources
                yield Task(source, self._password)

    def _is_at(self, source: Source, doc_id: str) -> bool:
        """Whether the document with this content is read from this file: since now, if the file has moved here."""
        document = self._store.document(doc_id)
        if document.uri != source.uri and not _may_hold(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            return True
        return document.uri == source.uri

    def _skip_known(self, source: Source, doc_id: str) -> None:
        document = self._store.document(doc_id)
        if document.uri == source.uri:
            self._skip(source, doc_id, "unchanged", "touched, but its content is unchanged")
        elif not _may_hold(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            self._skip(source, doc_id, "moved", f"known as {document.name}, whose file has moved here")
        else:
            self._skip(
                source, doc_id, "same content", f"the same content as {document.name}, which is in the index"
            )

    def _rename(self, document: Document, uri: str) -> None:
        self._owners.pop(document.name, None)
        if "name" in _edited(document):
            self._owners[document.name] = uri
            self._store.update(replace(document, uri=uri))
        else:
            self._store.update(replace(document, uri=uri, name=self._name(uri)))

    def _skip(self, source: Source, doc_id: str, reason: str, message: str, record: bool = True) -> None:
        self._ended += 1
        if record:
            self._record(source, doc_id, "skipped", reason, message, 0, 0.0)
        self._skips.append(self.progress("skipped", source, doc_id=doc_id, reason=reason, message=message))

    def _drain(self) -> Iterator[Progress]:
        while self._skips:
            yield self._skips.popleft()

    def _open(self, opened: Opened) -> None:
        source, doc_id = opened.source, self._ids[opened.source.uri]
        modified = source.modified.date().isoformat()
        document = Document(
            doc_id,
            self._names[source.uri],
            source.uri,
            opened.pages,
            now(),
            opened.title,
            self._collection,
            self._tags,
            opened.date or modified,
            0,
            opened.meta,
        )
        reason = (
            "read again" if self._store.has(doc_id) else "replaced" if source.uri in self._known else "new"
        )
        self._writing[source.uri] = _Writing(
            self._as_edited(document), self._store.begin(doc_id), time.perf_counter(), reason
        )

    def _as_edited(self, document: Document) -> Document:
        """One that is in the index already keeps its name and what people have said of it."""
        if not self._store.has(document.doc_id):
            return document
        known = self._store.document(document.doc_id)
        edited = _edited(known)
        return replace(
            document,
            name=known.name,
            added_at=known.added_at,
            collection=known.collection,
            tags=known.tags,
            title=known.title if "title" in edited else document.title,
            date=known.date if "date" in edited else document.date,
            meta=dict(document.meta)
            | ({EDITED: known.meta[EDITED]} if edited else {})
            | {READ_AGAIN: now().isoformat()},
        )

    def _add(self, embedded: Embedded) -> Progress:
        """Keep these pages, and write once there are enough."""
        writing = self._writing[embedded.source.uri]
        writing.records += [
            PageRecord(
                page.content.page, page.content.words, page.content.source, page.content.title, page.embedding,
                page.prepared.image, page.prepared.thumbnail,
            )
            for page in embedded.pages
        ]  # fmt: skip
        if len(writing.records) >= PAGES_WRITTEN:
            writing.pending.add(writing.records)
            writing.records = []
        count = len(embedded.pages)
        writing.embedded += count
        writing.scanned += sum(page.content.source == "ocr" for page in embedded.pages)
        self._pages += count
        self._since_optimize += count
        return self._page_event(embedded.source)

    def _page_event(self, source: Source) -> Progress:
        writing = self._writing[source.uri]
        document = writing.document
        return self.progress(
            "page",
            source,
            doc_id=document.doc_id,
            page=writing.embedded,
            pages=document.pages,
            read=writing.read,
        )

    def _content(self, prepared: PreparedPage) -> PageContent | None:
        """What the encoder may ask of a page that has just been read; None for a document that has failed."""
        writing = self._writing.get(prepared.source.uri)
        if writing is None:
            return None
        writing.read += 1
        document = writing.document
        page = Page(document.doc_id, prepared.number, document.name, prepared.width, prepared.height)
        return PageContent(page, prepared.words, prepared.text_source, lambda: prepared.image, document.title)

    def _finish(self, source: Source) -> Iterator[Progress]:
        writing = self._writing[source.uri]
        if writing.failures and not writing.embedded:
            first = writing.failures[0]
            yield self._fail(
                source,
                UnreadableDocument(
                    "damaged", f"none of its {len(writing.failures)} pages could be rendered: {first.message}"
                ),
            )
            return
        failed = [f.number for f in writing.failures]
        if lost := self._lost(writing.document, failed):
            message = (
                f"{writing.document.name}: pages that were read before could not be rendered this time "
                f"({_listed(lost)}), so what is in the index stays"
            )
            yield self._fail(source, UnreadableDocument("damaged", message))
            return
        if writing.records:
            writing.pending.add(writing.records)
        del self._writing[source.uri]
        document = self._as_edited(writing.document)  # it may have been edited while it was read
        meta = dict(document.meta) | ({"failed_pages": ", ".join(map(str, failed))} if failed else {})
        document = replace(document, scanned_pages=writing.scanned, meta=meta)
        writing.pending.commit(document)
        reason = writing.reason
        message = f"{writing.embedded:,} page{'' if writing.embedded == 1 else 's'}"
        if failed:
            message += f"; left out, as they could not be rendered: {_listed(failed)}"
        seconds = time.perf_counter() - writing.began
        self._record(source, document.doc_id, "done", reason, message, writing.embedded, seconds)
        self._ended += 1
        if self._since_optimize >= OPTIMIZE_EVERY:
            self._store.optimize()
            self._since_optimize = 0
        yield self.progress(
            "done",
            source,
            doc_id=document.doc_id,
            page=writing.embedded,
            pages=document.pages,
            read=writing.read,
            reason=reason,
            message=message,
        )

    def _lost(self, document: Document, failed: Sequence[int]) -> list[int]:
        """Pages among `failed` that the index has, from an earlier reading of the same content."""
        if not self._store.has(document.doc_id):
            return []
        before = self._store.document(document.doc_id).meta.get("failed_pages", "").split(", ")
        return [number for number in failed if str(number) not in before]

    def _fail(self, source: Source, error: UnreadableDocument) -> Progress:
        doc_id = self._ids.get(source.uri, "")
        writing = self._writing.pop(source.uri, None)
        if writing:
            writing.pending.abandon()
        self._failed.add(source.uri)
        self._taken.pop(doc_id, None)
        self._ended += 1
        self._record(source, doc_id, "failed", error.reason, str(error), 0, 0.0)
        return self.progress("failed", source, reason=error.reason, message=str(error))

    def _record(
        self,
        source: Source,
        doc_id: str,
        outcome: Outcome,
        reason: str,
        message: str,
        pages: int,
        seconds: float,
    ) -> None:
        entry = LedgerEntry(
            source.uri, doc_id, source.size, source.modified, outcome, reason, message, pages, seconds, now()
        )
        self._store.record(entry)
        self._since_optimize += 1  # it, too, makes a small file

    def _name(self, uri: str) -> str:
        """The file's name, with as many of its folders in front as tell it from all others; kept from now on."""
        parts = path_of(uri).parts
        names = (clean("/".join(parts[-count:])) for count in range(1, len(parts) + 1))
        name = next((name for name in names if self._owners.get(name, uri) == uri), uri)
        self._owners[name] = uri
        return name


def _edited(document: Document) -> list[str]:
    return list(filter(None, document.meta.get(EDITED, "").split(", ")))


def _listed(numbers: Sequence[int]) -> str:
    """The first ten."""
    return ", ".join(map(str, numbers[:10]))


def _may_hold(path: Path, doc_id: str) -> bool:
    """Whether the file at `path` has the content of `doc_id`, or may have it, as it cannot be reached now."""
    try:
        return content_id(path) == doc_id
    except OSError:
        return state_of(path) in ("file", "unreachable")


def _hidden(path: Path) -> bool:
    """Whether the folder of `path` is there but shows nothing."""
    try:
        return not any(path.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
