"""Which name a document gets: its file's, with as many folders in front as tell it from all others."""

from collections.abc import Iterable

from ingest.read.titles import clean
from ingest.sources import path_of
from retrieval.types import Document


class Names:
    """Names that are taken, and by which file; a file keeps the name that it was given first."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._owners = {document.name: document.uri for document in documents}

    def assign(self, uri: str) -> str:
        """The name of the document that is read from `uri`, which nobody else gets from now on."""
        parts = path_of(uri).parts
        names = (clean("/".join(parts[-count:])) for count in range(1, len(parts) + 1))
        name = next((name for name in names if self._owners.get(name, uri) == uri), uri)
        self._owners[name] = uri
        return name

    def move(self, name: str, uri: str, keep: bool) -> str:
        """The name of a document called `name` whose file has moved to `uri`; with `keep`, the one it had."""
        self._owners.pop(name, None)
        if not keep:
            return self.assign(uri)
        self._owners[name] = uri
        return name
