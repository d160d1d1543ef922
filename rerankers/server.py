"""A model server over HTTP: tried again where that helps, left alone for a while where it does not.

Requests that fail for a passing reason (no connection, 429, 5xx) are tried again after a pause that doubles, a server
that does not answer in time is not; then the stage fails as RerankerFailed, and the first stage's order stands. After
several failures in a row nothing is asked for a while, and after that a single failure closes it again, so that a dead
server does not cost every search its timeout (Nygard, "Release It!", 2007: circuit breaker).
"""

import base64
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NoReturn, TypeVar

import httpx
from PIL import Image

import configs.settings as configs
from retrieval.errors import RerankerFailed

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
FIRST_PAUSE_S = 0.25
MOST_PAUSE_S = 8.0
T = TypeVar("T")


class BadAnswer(Exception):
    """What came back is not what the server's protocol says."""


class Server:
    """Safe to call from several threads."""

    def __init__(self, settings: configs.HttpModel, clock: Callable[[], float] = time.monotonic) -> None:
        """Raises RerankerFailed where the key is not in its environment variable."""
        self._settings = settings
        headers = {}
        if settings.key_variable:
            key = os.environ.get(settings.key_variable)
            if not key:
                raise RerankerFailed(
                    f"the key for {settings.url} is to be in the environment variable {settings.key_variable}, "
                    "which is not set"
                )
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(base_url=settings.url, headers=headers, timeout=settings.timeout_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._why = ""

    @contextmanager
    def tried(self) -> Iterator[None]:
        """One use of the server, of any number of requests. Raises RerankerFailed at once while it is left alone."""
        with self._lock:
            left = self._closed_until - self._clock()
        if left > 0:
            raise RerankerFailed(f"{self._why}; it is left alone for another {left:.0f} s")
        try:
            yield
        except RerankerFailed as error:
            self._count_failure(str(error))
            raise
        with self._lock:
            self._failures = 0

    def ask(self, path: str, body: object, read: Callable[[Any], T], protocol: str) -> T:
        """What `read` makes of the answer, raising BadAnswer where it is not `protocol`'s. Raises RerankerFailed."""
        pause = FIRST_PAUSE_S
        for attempt in range(self._settings.retries + 1):
            answer, failure, wait = self._once(path, body)
            if answer is not None:
                try:
                    return read(answer.json())
                except (BadAnswer, ValueError) as error:
                    failure, wait = f"gave an answer that is not {protocol}'s: {error}", None
            if wait is None or attempt == self._settings.retries:
                tried = f" ({attempt + 1} attempts)" if attempt else ""
                raise RerankerFailed(f"the reranker at {self._settings.url} {failure}{tried}")
            time.sleep(min(MOST_PAUSE_S, max(wait, pause * random.uniform(0.8, 1.2))))
            pause *= 2
        raise AssertionError("the loop above returns or raises")

    def fail(self, what: str) -> NoReturn:
        """Raises RerankerFailed: the server answered, and it is of no use."""
        raise RerankerFailed(f"the reranker at {self._settings.url} {what}")

    def _once(self, path: str, body: object) -> tuple[httpx.Response | None, str, float | None]:
        """The answer; or what went wrong, and the least pause in seconds: None where trying again is no use."""
        limit = self._settings.timeout_s
        try:
            answer = self._client.post(path, json=body)
        except httpx.TimeoutException:  # asking again would double the wait
            return None, f"did not answer within {limit:g} s", None
        except httpx.TransportError as error:
            return None, f"cannot be reached ({error})", 0.0
        if answer.status_code in PASSING:
            return None, f"answered {answer.status_code} ({_short(answer.text)})", _asked_pause(answer)
        if answer.status_code in (401, 403):
            return None, f"refused the key ({answer.status_code}): check key_variable in the profile", None
        if answer.status_code != 200:
            return None, f"answered {answer.status_code} ({_short(answer.text)})", None
        return answer, "", None

    def _count_failure(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._settings.break_after:
                self._closed_until = self._clock() + self._settings.rest_s  # then one more failure is enough
                self._why = why


def data_url(image: Image.Image, most_kb: int) -> str:
    """The image as a data URL of at most `most_kb` KiB: JPEG, then smaller JPEGs."""
    quality, scale = 90, 1.0
    while True:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        buffer = BytesIO()
        (image if scale == 1 else image.resize(size, Image.Resampling.LANCZOS)).save(
            buffer, "JPEG", quality=quality
        )
        encoded = base64.b64encode(buffer.getvalue())
        if len(encoded) <= most_kb * 1024 or max(size) <= 64:
            return "data:image/jpeg;base64," + encoded.decode()
        quality, scale = 80, scale * min(0.85, (most_kb * 1024 / len(encoded)) ** 0.5)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:119] + "…"


def _asked_pause(answer: httpx.Response) -> float:
    """Seconds that the server asks to be left alone (Retry-After), as far as we go along."""
    try:
        return min(MOST_PAUSE_S, float(answer.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
