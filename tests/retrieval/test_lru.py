"""The bounded cache: what it drops, what it counts, and threads that use it at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

from retrieval.lru import LRU


def test_the_least_recently_used_entry_is_dropped_first() -> None:
    cache: LRU[str, int] = LRU(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1  # now "b" is the least recently used
    cache.put("c", 3)
    assert [key for key in "abc" if key in cache] == ["a", "c"]
    assert cache.get("b") is None


def test_bytes_are_bounded_and_a_value_larger_than_the_limit_is_not_cached() -> None:
    cache: LRU[str, bytes] = LRU(10, len)
    cache.put("a", b"1234")
    cache.put("b", b"12345")
    assert (cache.total, cache.has_room(b"1"), cache.has_room(b"12")) == (9, True, False)
    cache.put("a", b"123456")  # replaces 4 bytes by 6: 11 are too many, and "b" is the older one
    assert (cache.total, "a" in cache, "b" in cache) == (6, True, False)
    cache.put("a", b"12345678901")
    assert (cache.total, len(cache)) == (0, 0)


def test_empty_values_count_as_one_so_that_their_number_is_bounded_too() -> None:
    cache: LRU[int, bytes] = LRU(3, len)
    for key in range(100):
        cache.put(key, b"")
    assert len(cache) == 3
    empty: LRU[int, bytes] = LRU(0, len)
    empty.put(1, b"")
    assert len(empty) == 0


def test_sizes_add_up_after_several_threads_used_the_cache_at_once() -> None:
    cache: LRU[int, bytes] = LRU(500, len)
    start = threading.Barrier(6)

    def work(thread: int) -> None:
        start.wait()
        for step in range(3_000):
            key = (step * 7 + thread) % 60
            cache.put(key, bytes(1 + (step + thread) % 40))
            cache.get((key + thread) % 60)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    values = [value for key in range(60) if (value := cache.get(key)) is not None]
    assert cache.total == sum(map(len, values)) <= 500
    assert len(cache) == len(values)
