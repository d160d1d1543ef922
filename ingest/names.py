"""Naming documents: the file's name, preceded by as many folders as make it unique in the index."""

from collections.abc import Iterable

from ingest.read.titles import printable
from ingest.sources import path_of
from retrieval.types import Document


class Names:
    """Keeps the names in use, each with its document and file. A file keeps its first name."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._owners = {document.name: (document.uri, document.doc_id) for document in documents}

    def assign(self, uri: str, doc_id: str) -> str:
        """Return the name for this document, read from `uri`, and reserve it."""
        parts = path_of(uri).parts
        names = (printable("/".join(parts[-count:])) for count in range(1, len(parts) + 1))
        name = next((name for name in names if name not in self._owners or self._owners[name][0] == uri), uri)
        self._owners[name] = uri, doc_id
        return name

    def move(self, document: Document, uri: str, keep: bool) -> str:
        """Return the name for a document whose file has moved to `uri`: a new one, or with `keep` the same.

        A new file at its old place may have the old name by now: then the name stays with the new file's document.
        """
        if document.name not in self._owners or self._owners[document.name][1] == document.doc_id:
            self._owners.pop(document.name, None)
            if keep:
                self._owners[document.name] = uri, document.doc_id
                return document.name
        return self.assign(uri, document.doc_id)
