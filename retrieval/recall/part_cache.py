"""Keeps the vectors of whole documents where they are scanned, in memory or on a GPU, in step with the index.

Vectors that are already here stay; those of new documents are read, and those of removed ones are released.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

import pyarrow as pa

from retrieval.recall.part import COLUMNS, Mask, NoRoom, Part
from retrieval.store.store import Store

RETRY_SHARE = 0.9
"""After an index did not fit, the cache tries again once it has fewer than this share of the pages it had then."""
RETRY_S = 60.0
"""Seconds after which the cache tries again where memory was full."""


class ResidentPart(Part, Protocol):
    """A part that has all its vectors at hand, in memory or on a GPU, and scans them."""

    @property
    def bytes(self) -> int: ...

    @property
    def count(self) -> int:
        """The number of vectors."""
        ...

    def warm(self) -> None:
        """Do everything that the first scan would have to wait for."""
        ...

    def select(self, keep: Mask) -> Self:
        """Returns the part without the pages where `keep` is false, or with these pages hidden. Raises NoRoom."""
        ...

    def join(self, others: Sequence[Self]) -> Self:
        """Returns one part with the pages of this one and of `others`. Raises NoRoom."""
        ...


Gather = Callable[[Iterable[pa.RecordBatch], int], tuple[ResidentPart, ...]]
"""Makes one part of pages, or none if there are no pages; the number limits its vectors' bytes. Raises NoRoom."""


class PartCache:
    """The resident parts of one index. Not safe for several threads: its caller holds a lock."""

    def __init__(
        self,
        store: Store,
        gather: Gather,
        limit_mb: int,
        setting: str,
        max_parts: int,
        on_release: Callable[[], None] = lambda: None,
    ) -> None:
        """limit_mb: most MiB of vectors, the value of `setting`; max_parts: with more parts than this, they are joined.

        on_release: called when all parts are released to make room, so that nothing else keeps them alive.
        """
        self._store = store
        self._gather = gather
        self._limit = limit_mb * 2**20
        self._too_large = f"more than the {limit_mb:,} MiB of {setting}"
        self._max_parts = max_parts
        self._on_release = on_release
        self._parts: tuple[ResidentPart, ...] = ()
        self._revisions: Mapping[str, str] = {}
        self._refused_pages: int | None = None
        self._refused_at = float("-inf")
        self.why = ""
        """Why the last index was refused."""

    @property
    def bytes(self) -> int:
        """The bytes of all vectors that the cache holds."""
        return sum(part.bytes for part in self._parts)

    def of(self, revisions: Mapping[str, str], pages: int) -> tuple[ResidentPart, ...] | None:
        """Returns parts with these documents and no others; None if they do not fit, and then the cache is empty.

        revisions: by doc_id; pages: the number of pages of these documents.
        """
        still_too_many = self._refused_pages is not None and pages >= RETRY_SHARE * self._refused_pages
        if still_too_many or time.monotonic() < self._refused_at + RETRY_S:
            return None
        try:
            try:
                self._parts = self._updated(revisions)
            except NoRoom as reason:
                has_hidden_pages = any("" in part.pages.doc_ids for part in self._parts)
                has_removed_documents = not self._revisions.items() <= revisions.items()
                if not self._parts or not (has_hidden_pages or has_removed_documents or reason.is_temporary):
                    raise
                self._release()  # pages that are no longer needed took the room
                self._parts = self._updated(revisions)
        except NoRoom as reason:
            self._refused_pages = None if reason.is_temporary else pages
            self.refuse(reason)
            return None
        self._revisions, self._refused_pages = revisions, None
        return self._parts

    def refuse(self, reason: NoRoom) -> None:
        """Release everything, for this reason; after a temporary one, refuse every index for `RETRY_S` seconds."""
        self._release()
        self.why = str(reason) or self._too_large
        if reason.is_temporary:
            self._refused_at = time.monotonic()

    def _release(self) -> None:
        self._parts, self._revisions = (), {}
        self._on_release()

    def _updated(self, revisions: Mapping[str, str]) -> tuple[ResidentPart, ...]:
        kept = {d: known for d, known in self._revisions.items() if revisions.get(d) == known}
        parts = list(self._parts)
        if len(kept) < len(self._revisions):
            parts = [part.select(part.pages.of(kept)) for part in parts]
            parts = [part for part in parts if len(part.pages)]
        fresh = sorted(revisions.keys() - kept.keys())
        if fresh:
            room = self._limit - sum(part.bytes for part in parts)
            parts += self._gather(self._store.stream_pages(fresh, COLUMNS), room)
        return (parts[0].join(parts[1:]),) if len(parts) > self._max_parts else tuple(parts)
