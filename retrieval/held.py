"""Vectors of whole documents, kept where they are scanned: what is there stays, new ones are read, gone ones let go."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self

import pyarrow as pa

from retrieval.parts import COLUMNS, Mask, NoRoom, Part
from retrieval.store import Store

MERGE_AT = 24  # parts before they are made one
AGAIN = 0.9  # of the pages that did not fit: with fewer it is tried again


class Held(Part, Protocol):
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
        """Only the pages where `keep` is true."""
        ...

    def join(self, others: Sequence[Self]) -> Self:
        """One part of this and others. Raises NoRoom."""
        ...


Gather = Callable[[Iterable[pa.RecordBatch], int], tuple[Held, ...]]
"""Pages and the bytes that their vectors may take -> one part, or none of no pages. Raises NoRoom, as `join` may."""


class HeldVectors:
    """For one caller at a time. room: bytes."""

    def __init__(self, store: Store, gather: Gather, room: int) -> None:
        self._store = store
        self._gather = gather
        self._room = room
        self._parts: tuple[Held, ...] = ()
        self._readings: Mapping[str, str] = {}
        self._too_many: int | None = None  # pages

    def of(self, readings: Mapping[str, str], pages: int) -> tuple[Held, ...] | None:
        """Parts with these documents and no others; None, and nothing kept, where they do not fit.

        readings: by doc_id; pages: of theirs.
        """
        if self._too_many is not None and pages >= AGAIN * self._too_many:
            return None
        try:
            self._parts = self._updated(readings)
        except NoRoom:
            self._parts, self._readings, self._too_many = (), {}, pages
            return None
        self._readings, self._too_many = readings, None
        return self._parts

    def _updated(self, readings: Mapping[str, str]) -> tuple[Held, ...]:
        kept = {d: read for d, read in self._readings.items() if readings.get(d) == read}
        parts = list(self._parts)
        if len(kept) < len(self._readings):
            parts = [part.select(part.pages.of(kept)) for part in parts]
            parts = [part for part in parts if len(part.pages)]
        fresh = sorted(readings.keys() - kept.keys())
        if fresh:
            room = self._room - sum(part.bytes for part in parts)
            parts += self._gather(self._store.pages(fresh, COLUMNS), room)
        return (parts[0].join(parts[1:]),) if len(parts) > MERGE_AT else tuple(parts)
