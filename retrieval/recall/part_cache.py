"""Vectors of whole documents, kept where they are scanned: what is there stays, new ones are read, gone ones let go."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

import pyarrow as pa

from retrieval.recall.parts import COLUMNS, Mask, NoRoom, Part
from retrieval.store.store import Store

AGAIN = 0.9  # of the pages that did not fit: with fewer it is tried again
LATER = 60.0  # seconds until it is tried again where there was no memory


class ResidentPart(Part, Protocol):
    """A part that has all its vectors at hand, in memory or on a GPU, and looks at each."""

    @property
    def bytes(self) -> int: ...

    @property
    def count(self) -> int:
        """Vectors."""
        ...

    def warm(self) -> None:
        """What the first scan would have to wait for is done."""
        ...

    def select(self, keep: Mask) -> Self:
        """Only the pages where `keep` is true; others are gone, or passed over. Raises NoRoom."""
        ...

    def join(self, others: Sequence[Self]) -> Self:
        """One part of this and others. Raises NoRoom."""
        ...


Gather = Callable[[Iterable[pa.RecordBatch], int], tuple[ResidentPart, ...]]
"""Pages and the bytes that their vectors may take -> one part, or none of no pages. Raises NoRoom."""


class PartCache:
    """For one caller at a time. room: MiB, as the setting of this name says; parts: past so many they are made one."""

    def __init__(self, store: Store, gather: Gather, room: int, setting: str, parts: int) -> None:
        self._store = store
        self._gather = gather
        self._room = room * 2**20
        self._too_large = f"more than the {room:,} MiB of {setting}"
        self._most_parts = parts
        self._parts: tuple[ResidentPart, ...] = ()
        self._readings: Mapping[str, str] = {}
        self._too_many: int | None = None  # pages
        self._not_before = 0.0
        self.why = ""
        """Of the last refusal."""

    def of(self, revisions: Mapping[str, str], pages: int) -> tuple[ResidentPart, ...] | None:
        """Parts with these documents and no others; None, and nothing kept, where they do not fit.

        readings: by doc_id; pages: of theirs.
        """
        many = self._too_many is not None and pages >= AGAIN * self._too_many
        if many or time.monotonic() < self._not_before:
            return None
        try:
            try:
                self._parts = self._updated(revisions)
            except NoRoom as reason:
                passed_over = any("" in part.pages.doc_ids for part in self._parts)
                removed = not self._readings.items() <= revisions.items()
                if not self._parts or not (passed_over or removed or reason.passing):
                    raise
                self._let_go()  # what is not needed any more took room
                self._parts = self._updated(revisions)
        except NoRoom as reason:
            self._too_many = None if reason.passing else pages
            self.refuse(reason)
            return None
        self._readings, self._too_many = revisions, None
        return self._parts

    def refuse(self, reason: NoRoom) -> None:
        """Let go of everything, because of this."""
        self._let_go()
        self.why = str(reason) or self._too_large
        if reason.passing:
            self._not_before = time.monotonic() + LATER

    def _let_go(self) -> None:
        self._parts, self._readings = (), {}

    def _updated(self, revisions: Mapping[str, str]) -> tuple[ResidentPart, ...]:
        kept = {d: read for d, read in self._readings.items() if revisions.get(d) == read}
        parts = list(self._parts)
        if len(kept) < len(self._readings):
            parts = [part.select(part.pages.of(kept)) for part in parts]
            parts = [part for part in parts if len(part.pages)]
        fresh = sorted(revisions.keys() - kept.keys())
        if fresh:
            room = self._room - sum(part.bytes for part in parts)
            parts += self._gather(self._store.pages(fresh, COLUMNS), room)
        return (parts[0].join(parts[1:]),) if len(parts) > self._most_parts else tuple(parts)
