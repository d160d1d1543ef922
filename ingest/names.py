"""Naming documents: the file's name, preceded by as many folders as make it unique in the index."""

from collections.abc import Iterable

from ingest.read.titles import printable
from ingest.sources import path_of
from retrieval.types import Document


class Names:
    """Keeps the names in use and their files. A file keeps its first name."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._owners = {document.name: document.uri for document in documents}

    def assign(self, uri: str) -> str:
        """Return the name for the document read from `uri`, and reserve it."""
        parts = path_of(uri).parts
        names = (printable("/".join(parts[-count:])) for count in range(1, len(parts) + 1))
        name = next((name for name in names if self._owners.get(name, uri) == uri), uri)
        self._owners[name] = uri
        return name

    def move(self, name: str, uri: str, keep: bool) -> str:
        """Return the name for a document `name` whose file has moved to `uri`: a new one, or with `keep` the same."""
        self._owners.pop(name, None)
        if not keep:
            return self.assign(uri)
        self._owners[name] = uri
        return name
