"""The speed of a run and the time it still needs, measured in seconds at work: waiting does not count."""

from collections import deque
from collections.abc import Callable

RECENT = 30.0  # seconds at work over which the pages per second are averaged
SPEED_AFTER = 1.0  # seconds at work before there is a speed
LEFT_AFTER = 5.0  # seconds at work before the rest is estimated: starting the workers would distort it


class ThroughputEstimate:
    """The throughput of one run, from its start to its end. Not safe for use by two threads. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.pages = 0
        """Pages embedded so far."""
        self._clock = clock
        self._worked = 0.0
        self._since: float | None = None  # when the current stretch of work began
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)])  # (seconds at work, pages by then)
        self._bytes = 0

    def resume(self) -> None:
        """Count time from now on."""
        if self._since is None:
            self._since = self._clock()

    def pause(self) -> None:
        """Count no time from now on."""
        if self._since is not None:
            self._worked, self._since = self.seconds, None

    def set_pages(self, pages: int) -> None:
        """Record that `pages` pages of this run have been embedded so far."""
        if pages > self.pages:
            self.pages = pages
            self._samples.append((self.seconds, pages))
            self._drop_old()

    def add_file(self, size: int) -> None:
        """Record that a file of `size` bytes has been read. A skipped file does not count: it takes no time."""
        self._bytes += size

    @property
    def seconds(self) -> float:
        """Seconds at work so far."""
        return self._worked + (max(0.0, self._clock() - self._since) if self._since is not None else 0.0)

    def pages_per_second(self) -> float:
        """Returns the speed over the last RECENT seconds at work; 0 before SPEED_AFTER seconds."""
        self._drop_old()
        began, before = self._samples[0]
        spent = self.seconds - began
        return (self.pages - before) / spent if spent >= SPEED_AFTER else 0.0

    def seconds_left(self, under_way: float, left: float) -> float | None:
        """Returns the seconds needed for `left` bytes, by the bytes read so far; None if it is too early.

        under_way: bytes already read of unfinished files.
        """
        done = self._bytes + under_way
        if self.seconds < LEFT_AFTER or done <= 0:
            return None
        return left * self.seconds / done

    def _drop_old(self) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= self.seconds - RECENT:
            self._samples.popleft()
