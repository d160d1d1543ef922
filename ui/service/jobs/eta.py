"""How fast a run goes, and how long it will take, by the seconds at work: waiting does not count."""

from collections import deque
from collections.abc import Callable

RECENT = 30.0  # seconds at work that the pages per second are of
SPEED_AFTER = 1.0  # seconds at work before there is a speed
LEFT_AFTER = (
    5.0  # seconds at work before the rest is estimated: starting the workers is not what the rest is like
)


class ThroughputEstimate:
    """Of one run, from its start to its end. Not for use by two threads at once. `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.pages = 0
        """Embedded so far."""
        self._clock = clock
        self._worked = 0.0
        self._since: float | None = None  # when the work that is going on began
        self._samples: deque[tuple[float, int]] = deque([(0.0, 0)])  # (seconds at work, pages by then)
        self._bytes = 0

    def work(self) -> None:
        """From now on, time counts."""
        if self._since is None:
            self._since = self._clock()

    def rest(self) -> None:
        if self._since is not None:
            self._worked, self._since = self.seconds, None

    def reach(self, pages: int) -> None:
        """So many pages of this run are embedded by now."""
        if pages > self.pages:
            self.pages = pages
            self._samples.append((self.seconds, pages))
            self._drop_old()

    def finish(self, size: int) -> None:
        """A file of `size` bytes has been read to its end. One that was skipped is not: it took no time."""
        self._bytes += size

    @property
    def seconds(self) -> float:
        """At work."""
        return self._worked + (max(0.0, self._clock() - self._since) if self._since is not None else 0.0)

    def pages_per_second(self) -> float:
        """Over the last RECENT seconds at work; 0 before there is anything to tell."""
        self._drop_old()
        began, before = self._samples[0]
        spent = self.seconds - began
        return (self.pages - before) / spent if spent >= SPEED_AFTER else 0.0

    def seconds_left(self, under_way: float, left: float) -> float | None:
        """For `left` bytes, by what has been read, `under_way` bytes of unfinished files included; None: too early."""
        done = self._bytes + under_way
        if self.seconds < LEFT_AFTER or done <= 0:
            return None
        return left * self.seconds / done

    def _drop_old(self) -> None:
        while len(self._samples) > 1 and self._samples[1][0] <= self.seconds - RECENT:
            self._samples.popleft()
