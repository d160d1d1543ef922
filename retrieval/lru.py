"""A bounded cache that drops the least recently used entry first.

`functools.lru_cache` counts entries and computes missing values; this cache can also count bytes, and its callers
decide what to put in and when. `cachetools` has the same policy without the lock.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LRU(Generic[K, V]):
    """Maps keys to values. Safe to use from several threads.

    limit: number of entries; with `size`, the sum of what `size` returns for the values (each entry counts at least 1).
    A value that is larger than the limit by itself is not cached; a limit of 0 caches nothing.
    """

    def __init__(self, limit: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._limit = limit
        self._size = size
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()  # the least recently used is first
        self._total = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Return the value and mark it as the most recently used; None if the key is not cached."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V) -> None:
        """Cache the value, in place of the key's value so far."""
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
        """Return whether `put` would cache the value, under a new key, without dropping another."""
        return self._total + max(1, self._size(value)) <= self._limit

    @property
    def total(self) -> int:
        """The sum of the entries' sizes; never more than the limit."""
        return self._total

    def __contains__(self, key: K) -> bool:
        """Whether the key is cached. Does not count as a use."""
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)
