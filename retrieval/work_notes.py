"""Notes that a reranker leaves about the work of one search: how much a cache saved, what had to be repaired.

The reranker calls `note` from within `score`; the caller of `score` collects. Two searches share a reranker but never
their notes, because the collector is a context variable: each thread and each asyncio task has its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class WorkNotes:
    """Collects the notes of one search, from any number of calls of `score`."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, ...]] = {}

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Send the notes of this context here until the block ends."""
        token = _collector.set(self)
        try:
            yield
        finally:
            _collector.reset(token)

    def add(self, template: str, numbers: tuple[int, ...]) -> None:
        """Add the numbers to those that this template has already."""
        earlier = self._sums.get(template, (0,) * len(numbers))
        self._sums[template] = tuple(a + b for a, b in zip(earlier, numbers, strict=True))

    def __str__(self) -> str:
        """All notes in one line, in the order in which they first came; "" if there are none."""
        return "; ".join(
            template.format(*sums) if sums else template for template, sums in self._sums.items()
        )


_collector: ContextVar[WorkNotes | None] = ContextVar("_collector", default=None)


def note(template: str, *numbers: int) -> None:
    """Leave a note with the collector of this context, if there is one.

    template: with a {} for each number, like "features of {} of {} pages were cached"; the numbers of all notes with
    the same template are added up. A template without numbers is taken as it is.
    """
    if (collector := _collector.get()) is not None:
        collector.add(template, numbers)
