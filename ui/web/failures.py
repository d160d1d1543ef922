"""Slows down guessing: an address with too many failed logins in the last minutes has to wait."""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from retrieval.errors import FolioscopeError

FAILURES, WINDOW = 10, 300.0  # failed logins within this many seconds after which an address has to wait
ADDRESSES = 10_000  # addresses whose failures are remembered


class TooManyAttempts(FolioscopeError):
    """`seconds`: how long the client has to wait before its next attempt is checked."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Failures:
    """The latest failed logins of each client address. Safe to call from several threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()  # the address that failed last is last
        self._lock = threading.Lock()

    def check(self, address: str) -> None:
        """Raise TooManyAttempts if the address has FAILURES failures within the last WINDOW seconds."""
        with self._lock:
            times = self._times.get(address)
            left = times[0] + WINDOW - self._clock() if times and len(times) == FAILURES else 0
        if left > 0:
            minutes = math.ceil(left / 60)
            raise TooManyAttempts(
                f"Too many failed logins from this address: try again in {minutes} min.", math.ceil(left)
            )

    def add(self, address: str) -> None:
        """Count one failed login. Forgets the address whose last failure is oldest beyond ADDRESSES addresses."""
        with self._lock:
            self._times.setdefault(address, deque(maxlen=FAILURES)).append(self._clock())
            self._times.move_to_end(address)
            if len(self._times) > ADDRESSES:
                self._times.popitem(last=False)
