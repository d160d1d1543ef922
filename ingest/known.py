"""Deciding for each file whether to read it, or to skip it because the index or this run has its content already."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ingest.names import Names
from ingest.read.titles import printable
from ingest.sources import Source, content_id, path_of, state_of
from retrieval.errors import UnreadableDocument
from retrieval.store.store import Store
from retrieval.types import Document

EDITED = "edited"
"""Key in a document's `meta`: which of name, title and date a person has edited. Reading the file again keeps them."""


@dataclass(frozen=True, slots=True)
class Read:
    """The decision to read a file, as the document with this id and name."""

    doc_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The decision not to read a file, with a `reason` in two words and a `message` in a sentence."""

    doc_id: str
    reason: str
    message: str
    recorded: bool = True  # whether to record it in the ledger; False if the ledger has the file already


@dataclass(frozen=True, slots=True)
class Missing:
    """A document whose file was not found. `gone`: the file is deleted; otherwise it only cannot be reached."""

    document: Document
    path: Path
    gone: bool


class Known:
    """Knows the content of the index and its ledger at the start of the run, and what the run has decided since.

    Renames a document whose file has moved, at once. again: read known content again, from its document's own file.
    """

    def __init__(self, store: Store, names: Names, again: bool) -> None:
        self._store = store
        self._names = names
        self._again = again
        self._ledger = {entry.uri: entry for entry in store.ledger()}
        self._claimed: dict[str, str] = {}  # doc_id -> uri of the file from which this run reads this content

    def decide(self, source: Source) -> Read | Skip:
        """Decide what to do with the file. Raises UnreadableDocument if it cannot be opened."""
        entry = self._ledger.get(source.uri)
        unchanged = entry and (entry.size, entry.modified) == (source.size, source.modified)
        is_indexed = entry and unchanged and entry.outcome != "failed" and self._store.has(entry.doc_id)
        if entry and is_indexed and not self._again:
            message = "unchanged since it was ingested"
            return Skip(doc_id=entry.doc_id, reason="unchanged", message=message, recorded=False)
        doc_id = _content_id(source)
        if self._store.has(doc_id) and not (self._again and self._is_at(source, doc_id)):
            return self._skip(source, doc_id)
        if doc_id in self._claimed:
            twin = printable(path_of(self._claimed[doc_id]).name)
            message = f"the same content as {twin}, which is ingested in its place"
            return Skip(doc_id=doc_id, reason="same content", message=message)
        self._claimed[doc_id] = source.uri
        # The name is assigned now, so that names depend on the order of the sources alone.
        return Read(doc_id=doc_id, name=self._names.assign(source.uri, doc_id))

    def release(self, doc_id: str) -> None:
        """Allow another file with this content to be read, because the one that was read has failed."""
        self._claimed.pop(doc_id, None)

    def missing(self, roots: Sequence[Path], present: set[str], unread: Sequence[Path]) -> Iterator[Missing]:
        """Yield the documents under `roots` whose file was not found; rename those whose content is in another file.

        present: uris of the files that were found. unread: folders that could not be read. `gone` is false in `unread`,
        in a folder without permission, and in an empty folder, which may be a disk that is not mounted.
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
                hidden = any(path.is_relative_to(folder) for folder in unread) or _is_hidden(path)
                yield Missing(document=document, path=path, gone=state == "gone" and not hidden)

    def _is_at(self, source: Source, doc_id: str) -> bool:
        """Return whether this file is that of the document with this content; if its file has moved here, it is now."""
        document = self._store.document(doc_id)
        if document.uri != source.uri and not _may_have(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            return True
        return document.uri == source.uri

    def _skip(self, source: Source, doc_id: str) -> Skip:
        document = self._store.document(doc_id)
        if document.uri == source.uri:
            message = "its modification time has changed, its content has not"
            return Skip(doc_id=doc_id, reason="unchanged", message=message)
        if not _may_have(path_of(document.uri), doc_id):
            self._rename(document, source.uri)
            message = f"the file of {document.name}, which has moved here"
            return Skip(doc_id=doc_id, reason="moved", message=message)
        message = f"the same content as {document.name}, which is in the index"
        return Skip(doc_id=doc_id, reason="same content", message=message)

    def _rename(self, document: Document, uri: str) -> None:
        name = self._names.move(document, uri, keep="name" in edited(document))
        self._store.update(replace(document, uri=uri, name=name))


def edited(document: Document) -> list[str]:
    """Return which of the document's name, title and date a person has edited."""
    return list(filter(None, document.meta.get(EDITED, "").split(", ")))


def _content_id(source: Source) -> str:
    try:
        return content_id(source.path)
    except (OSError, UnreadableDocument) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableDocument(
            "unreadable", f"{printable(source.path.name)} cannot be read: {reason}"
        ) from error


def _may_have(path: Path, doc_id: str) -> bool:
    """Return whether the file at `path` has this content, or cannot be reached and so may have it."""
    try:
        return content_id(path) == doc_id
    except OSError:
        return state_of(path) in ("file", "unreachable")


def _is_hidden(path: Path) -> bool:
    """Return whether the folder of `path` exists, but is empty or cannot be read."""
    try:
        return not any(path.parent.iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
