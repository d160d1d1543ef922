"""The bounded cache of everything that is kept for a while: the least recently used entry goes first.

`functools.lru_cache` counts entries and computes what is missing; this one can also count bytes, and leaves it to its
caller what to put in and when. `cachetools` has the same policy without the lock.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Safe to use from several threads.

    limit: entries; with `size`, the sum of what `size` returns for each value (an entry counts 1 at least). A value
    that is larger than the limit by itself is not kept; 0 keeps nothing.
    """

    def __init__(self, limit: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size = size
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()  # the least recently used is first
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, which is now the most recently used one; None if it is not here."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V) -> None:
        """Keep the value, in the place of the one that has this key."""
        size = max(1, self._size(value))
        with self._lock:
            if key in self._entries:
                self._total -= self._entries.pop(key)[1]
            if size > self._limit:
                return
            self._entries[key] = value, size
            self._total += size
            while self._total > self._limit:
                self._total -= self._entries.popitem(last=False)[1][1]

    def has_room(self, value: V) -> bool:
        """Whether `put` would keep the value without dropping another."""
        return self._total + max(1, self._size(value)) <= self._limit

    @property
    def total(self) -> int:
        """The sum of the entries' sizes; never more than the limit."""
        return self._total

    def __contains__(self, key: K) -> bool:
        """Does not count as a use."""
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
