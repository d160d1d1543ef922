"""What is to be done with a file: read it, or skip it because the index or this run has its content already."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.names import Names
from ingest.read.titles import clean
from ingest.sources import Source, content_id, path_of, state_of
from retrieval.errors import UnreadableDocument
from retrieval.store.store import Store
from retrieval.types import Document

EDITED = "edited"
"""In a document's `meta`: which of its name, title and date a person has changed. Reading its file again keeps them."""


@dataclass(frozen=True, slots=True)
class Read:
    """The file is to be read, as the document with this id and name."""

    doc_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The file is not read, for a `reason` in two words and a `message` in a sentence."""

    doc_id: str
    reason: str
    message: str
    recorded: bool = True  # in the ledger; it need not be where the ledger says the same already


@dataclass(frozen=True, slots=True)
class Missing:
    """A document whose file is not there. `gone`: it shall be removed; else only its folder cannot be seen."""

    document: Document
    path: Path
    gone: bool


class Known:
    """What the index and its ledger knew when the run began, and what the run has taken up since.

    A document whose file has moved is renamed in the index at once. `again`: known content is read again, from the
    file that the document stands for.
    """

    def __init__(self, store: Store, names: Names, again: bool) -> None:
        self._store = store
        self._names = names
        self._again = again
        self._ledger = {entry.uri: entry for entry in store.ledger()}
        self._taken: dict[str, str] = {}  # doc_id -> uri: content that this run is reading or has read

    def decide(self, source: Source) -> Read | Skip:
        """What is to be done with the file. Raises UnreadableDocument where it cannot be opened."""
        entry = self._ledger.get(source.uri)
        unchanged = entry and (entry.size, entry.modified) == (source.size, source.modified)
        settled = entry and unchanged and entry.outcome != "failed" and self._store.has(entry.doc_id)
        if entry and settled and not self._again:
            return Skip(entry.doc_id, "unchanged", "unchanged since it was ingested", recorded=False)
        doc_id = _content_id(source)
        if self._store.has(doc_id) and not (self._again and self._is_at(source, doc_id)):
            return self._skip(source, doc_id)
        if doc_id in self._taken:
            twin = clean(path_of(self._taken[doc_id]).name)
            return Skip(doc_id, "same content", f"the same content as {twin}, which is ingested once")
        self._taken[doc_id] = source.uri
        return Read(doc_id, self._names.assign(source.uri))  # now, in the order of the sources

    def release(self, doc_id: str) -> None:
        """The file with this content has failed: another one with the same content may be read."""
        self._taken.pop(doc_id, None)

    def missing(self, roots: Sequence[Path], present: set[str], unread: Sequence[Path]) -> Iterator[Missing]:
        """Documents under `roots` whose file is not there. One whose content is `present` (uris) under another name is
        renamed instead.

        A folder that is there but empty may be a disk that is not mounted, and one that may not be entered says nothing
        of its files: `gone` is false for those, as for the folders `unread`.
        """
        twins = {entry.doc_id: entry.uri for entry in self._store.ledger() if entry.uri in present}
        for document in self._store.documents():
            path = path_of(document.uri)
            if document.uri in present or not any(path.is_relative_to(root) for root in roots):
                continue
            state = state_of(path)
            if state == "gone" and document.doc_id in twins:
                self._rename(document, twins[document.doc_id])
            elif state in ("gone", "unreachable"):
                unseen = any(path.is_relative_to(folder) for folder in unread) or _is_hidden(path)
                yield Missing(document, path, gone=state == "gone" and not unseen)

    def _is_at(self, source: Source, doc_id: str) -> bool:
        """Whether the document with this content is read from this file: since now, if the file has moved here."""
        document = self._store.document(doc_id)
        if document.uri != source.uri and not _may_hold(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            return True
        return document.uri == source.uri

    def _skip(self, source: Source, doc_id: str) -> Skip:
        document = self._store.document(doc_id)
        if document.uri == source.uri:
            return Skip(doc_id, "unchanged", "touched, but its content is unchanged")
        if not _may_hold(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            return Skip(doc_id, "moved", f"known as {document.name}, whose file has moved here")
        message = f"the same content as {document.name}, which is in the index"
        return Skip(doc_id, "same content", message)

    def _rename(self, document: Document, uri: str) -> None:
        name = self._names.move(document.name, uri, keep="name" in edited(document))
        self._store.update(replace(document, uri=uri, name=name))


def edited(document: Document) -> list[str]:
    """Which of its name, title and date a person has changed."""
    return list(filter(None, document.meta.get(EDITED, "").split(", ")))


def _content_id(source: Source) -> str:
    try:
        return content_id(source.path)
    except (OSError, UnreadableDocument) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableDocument(
            "unreadable", f"{clean(source.path.name)} cannot be read: {reason}"
        ) from error


def _may_hold(path: Path, doc_id: str) -> bool:
    """Whether the file at `path` has the content of `doc_id`, or may have it, as it cannot be reached now."""
    try:
        return content_id(path) == doc_id
    except OSError:
        return state_of(path) in ("file", "unreachable")


def _is_hidden(path: Path) -> bool:
    """Whether the folder of `path` is there but shows nothing."""
    try:
        return not any(path.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
