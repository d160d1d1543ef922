"""Writing documents to the index: they are opened, get their pages one by one, and are committed in groups."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ingest.embed import Embedded
from ingest.known import EDITED, edited
from ingest.sources import Source
from ingest.workers.messages import FailedPage, Opened, PreparedPage
from retrieval.errors import UnreadableDocument
from retrieval.store.schema import REVISION_KEY, LedgerEntry, Outcome, PageRecord, now
from retrieval.store.store import Store
from retrieval.store.write_batch import BUFFERED
from retrieval.types import Document, Page, PageContent

DOCUMENTS = 256
"""Documents that are committed together at most: it limits groups where more than a hundred files are read a second."""
SECONDS = 2.0
"""Age of a group's oldest entry at which the group is committed. A kill costs at most this much work, and searches in
other processes see a document at most this much later. In this time, two cores read 5 to 20 files of one page, so that
1,000 files need 69 commits; a commit to a local disk takes tens of milliseconds, a few per cent of this time."""
SIZE = BUFFERED // 2
"""Bytes of images and vectors at which a group is committed, before the batch stores its pages without listing them."""


@dataclass(slots=True)
class DocumentUnderWay:
    """A document whose pages are being read, embedded or stored. `read`, `embedded` and `scanned` count pages."""

    source: Source
    document: Document
    reason: str  # for its `done` event: new, replaced, read again
    began: float  # seconds, monotonic
    read: int = 0
    embedded: int = 0
    scanned: int = 0
    failures: list[FailedPage] = field(default_factory=list)
    seconds: float = 0.0  # from opening to its last page


@dataclass(frozen=True, slots=True)
class Done:
    """A document that was committed."""

    source: Source
    document: Document
    reason: str
    message: str
    read: int
    embedded: int


class Writer:
    """Collects documents and ledger entries, and commits them in groups. As a context manager, it drops the rest."""

    def __init__(self, store: Store, collection: str, tags: Sequence[str]) -> None:
        self._store = store
        self._collection = collection
        self._tags = tuple(tags)
        self._replaceable = {document.uri for document in store.documents()}
        self._batch = store.begin_batch()
        self._under_way: dict[str, DocumentUnderWay] = {}  # by uri
        self._complete: list[DocumentUnderWay] = []  # their pages are all in the batch
        self._oldest = 0.0  # time at which the group began, in seconds, monotonic

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._batch.__exit__(None, None, None)

    def under_way(self, uri: str) -> DocumentUnderWay | None:
        """Return the document that is being read from this file; None before it is opened and after its end."""
        return self._under_way.get(uri)

    def open(self, opened: Opened, doc_id: str, name: str) -> None:
        """Begin a document when a worker has opened its file."""
        source, known = opened.source, self._store.has(doc_id)
        document = Document(
            doc_id=doc_id,
            name=name,
            uri=source.uri,
            pages=opened.pages,
            added_at=now(),
            title=opened.title,
            collection=self._collection,
            tags=self._tags,
            date=opened.date or source.modified.date().isoformat(),
            meta=opened.meta,
        )
        self._under_way[source.uri] = DocumentUnderWay(
            source=source,
            document=self._as_edited(document),
            reason="read again" if known else "replaced" if source.uri in self._replaceable else "new",
            began=time.monotonic(),
        )

    def content(self, prepared: PreparedPage) -> PageContent | None:
        """Return what the encoder needs of a page that was just read; None if its document has failed."""
        under_way = self._under_way.get(prepared.source.uri)
        if under_way is None:
            return None
        under_way.read += 1
        document = under_way.document
        return PageContent(
            page=Page(
                doc_id=document.doc_id,
                number=prepared.number,
                document=document.name,
                width=prepared.width,
                height=prepared.height,
            ),
            words=prepared.words,
            source=prepared.text_source,
            read_image=lambda: prepared.image,
            title=document.title,
        )

    def add(self, embedded: Embedded) -> None:
        """Add embedded pages to their document."""
        under_way = self._under_way[embedded.source.uri]
        records = [
            PageRecord(
                page=page.content.page,
                words=page.content.words,
                source=page.content.source,
                title=page.content.title,
                embedding=page.embedding,
                image=page.prepared.image,
                thumbnail=page.prepared.thumbnail,
            )
            for page in embedded.pages
        ]
        self._batch.add(under_way.document.doc_id, records)
        under_way.embedded += len(records)
        under_way.scanned += sum(record.source == "ocr" for record in records)

    def leave_out(self, page: FailedPage) -> None:
        """Note a page that could not be rendered: its document continues without it."""
        self._under_way[page.source.uri].failures.append(page)

    def complete(self, source: Source) -> None:
        """Put the document, whose last page has been added, into the next commit.

        Raises UnreadableDocument if none of its pages could be rendered, or not one that the index has already.
        """
        under_way = self._under_way[source.uri]
        failures = under_way.failures
        if failures and not under_way.embedded:
            message = f"none of its {len(failures)} pages could be rendered: {failures[0].message}"
            raise UnreadableDocument("damaged", message)
        if lost := self._lost_pages(under_way):
            raise UnreadableDocument(
                "damaged",
                f"{under_way.document.name}: pages that were read before could not be rendered this time "
                f"({_first_ten(lost)}), so the index keeps its earlier pages",
            )
        under_way.seconds = time.monotonic() - under_way.began
        self._begin_group()
        self._complete.append(self._under_way.pop(source.uri))

    def fail(self, source: Source, doc_id: str, error: UnreadableDocument) -> None:
        """Drop the pages of the file's document, and record why."""
        if under_way := self._under_way.pop(source.uri, None):
            self._batch.abandon([under_way.document.doc_id])
        self._record(source, doc_id=doc_id, outcome="failed", reason=error.reason, message=str(error))

    def skip(self, source: Source, doc_id: str, reason: str, message: str) -> None:
        """Record that the file was not read."""
        self._record(source, doc_id=doc_id, outcome="skipped", reason=reason, message=message)

    @property
    def waits(self) -> bool:
        """Whether a commit would write anything."""
        return bool(self._complete or self._batch.entries)

    @property
    def due(self) -> bool:
        """Whether it is time for a commit."""
        if not self.waits:
            return False
        many = max(len(self._complete), self._batch.entries) >= DOCUMENTS
        return many or self._batch.size >= SIZE or time.monotonic() - self._oldest >= SECONDS

    def commit(self) -> tuple[list[Done], list[DocumentUnderWay]]:
        """Commit the complete documents and the ledger entries; return the documents.

        Second are those that were left out, because the caller has removed them while they were read again.
        """
        group: list[DocumentUnderWay] = []
        removed: list[DocumentUnderWay] = []
        for each in self._complete:
            is_removed = each.reason == "read again" and not self._store.has(each.document.doc_id)
            (removed if is_removed else group).append(each)
        self._complete = []
        self._batch.abandon([each.document.doc_id for each in removed])
        done = [self._done(under_way) for under_way in group]
        for finished, under_way in zip(done, group, strict=True):
            self._record(
                finished.source,
                doc_id=finished.document.doc_id,
                outcome="done",
                reason=finished.reason,
                message=finished.message,
                pages=finished.embedded,
                seconds=under_way.seconds,
            )
        self._batch.commit([finished.document for finished in done])
        return done, removed

    def _done(self, under_way: DocumentUnderWay) -> Done:
        """Return the document as it is committed, with what its `done` event says."""
        failed = [page.number for page in under_way.failures]
        document = self._as_edited(under_way.document)  # a person may have edited it while it was read
        meta = dict(document.meta) | ({"failed_pages": ", ".join(map(str, failed))} if failed else {})
        message = f"{under_way.embedded:,} page{'' if under_way.embedded == 1 else 's'}"
        if failed:
            message += f"; left out because they could not be rendered: {_first_ten(failed)}"
        return Done(
            source=under_way.source,
            document=replace(document, scanned_pages=under_way.scanned, meta=meta),
            reason=under_way.reason,
            message=message,
            read=under_way.read,
            embedded=under_way.embedded,
        )

    def _as_edited(self, document: Document) -> Document:
        """Return the document with the name, labels and edits that it has in the index, if it is there already."""
        if not self._store.has(document.doc_id):
            return document
        known = self._store.document(document.doc_id)
        edits = edited(known)
        return replace(
            document,
            name=known.name,
            added_at=known.added_at,
            collection=known.collection,
            tags=known.tags,
            title=known.title if "title" in edits else document.title,
            date=known.date if "date" in edits else document.date,
            meta=dict(document.meta)
            | ({EDITED: known.meta[EDITED]} if edits else {})
            | {REVISION_KEY: now().isoformat()},
        )

    def _lost_pages(self, under_way: DocumentUnderWay) -> list[int]:
        """Return the pages that could not be rendered now, but that the index has from the last time."""
        doc_id = under_way.document.doc_id
        if not self._store.has(doc_id):
            return []
        before = self._store.document(doc_id).meta.get("failed_pages", "").split(", ")
        return [page.number for page in under_way.failures if str(page.number) not in before]

    def _record(
        self,
        source: Source,
        *,
        doc_id: str,
        outcome: Outcome,
        reason: str,
        message: str,
        pages: int = 0,
        seconds: float = 0.0,
    ) -> None:
        self._begin_group()
        self._batch.record(
            LedgerEntry(
                uri=source.uri,
                doc_id=doc_id,
                size=source.size,
                modified=source.modified,
                outcome=outcome,
                reason=reason,
                message=message,
                pages=pages,
                seconds=seconds,
                at=now(),
            )
        )

    def _begin_group(self) -> None:
        if not self.waits:
            self._oldest = time.monotonic()


def _first_ten(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:10]))
