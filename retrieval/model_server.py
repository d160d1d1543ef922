"""Calls a model server over HTTP, with retries and a circuit breaker (Nygard, "Release It!", 2007).

A request that fails for a temporary reason (no connection, 429, 5xx) is sent again after a pause that doubles each
time; a request that times out is not. Then the call fails with the error that the server was made with. After several
failures in a row the circuit opens: calls fail at once for a while, so that not every search waits for the timeout of a
dead server. After that while, a single failure opens it again.
"""

import base64
import json
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NoReturn, TypeVar

import httpx
from PIL import Image

import configs.settings as configs
from retrieval.errors import FolioscopeError

TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
NOT_REJECTIONS = TEMPORARY | {401, 403}  # of the statuses 400 to 499
FIRST_PAUSE_S = 0.25
MOST_CONNECT_S = 10.0  # to connect to a server whose answer is streamed
MOST_PAUSE_S = 8.0
T = TypeVar("T")


class BadAnswer(Exception):
    """The server's answer does not follow its protocol."""


class Rejected(Exception):
    """The server rejected what the request asks for (400, 404, 422, ...): another request may succeed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"answered {status} ({_short(text)})")
        self.text = text


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a request failed."""

    what: str  # after "the reranker at URL", or what else the server is
    pause_s: float | None = None  # the shortest pause before a retry; None if a retry cannot help
    remedy: str = ""


class _Failed(Exception):
    """A stream failed; `failure` says why."""

    def __init__(self, failure: _Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


class Server:
    """One model server. Safe to call from several threads."""

    def __init__(
        self,
        settings: configs.HttpModel,
        clock: Callable[[], float] = time.monotonic,
        *,
        role: str,
        failure: type[FolioscopeError],
    ) -> None:
        """clock: returns seconds. role: what the server is, for messages, as in "the reranker".

        failure: the error that every call raises if the server fails. It is raised here too, if the environment
        variable with the key is not set.
        """
        self._settings = settings
        self._role = role
        self._failure = failure
        headers = {}
        if settings.key_variable:
            key = os.environ.get(settings.key_variable)
            if not key:
                raise failure(
                    f"the key for {settings.url} is missing: the variable {settings.key_variable} is not set",
                    remedy=f"set {settings.key_variable}, or remove key_variable from the profile",
                )
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx.Client(base_url=settings.url, headers=headers, timeout=settings.timeout_s)
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until = 0.0  # of the circuit breaker: no requests before this time
        self._last_failure = ""

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Count the requests in this block as one success or failure of the circuit breaker.

        Raises the server's failure at once while the circuit is open.
        """
        with self._lock:
            left = self._open_until - self._clock()
        if left > 0:
            raise self._failure(f"{self._last_failure}; no request is sent for another {left:.0f} s")
        try:
            yield
        except self._failure as error:
            self._count_failure(error.message)
            raise
        with self._lock:
            self._failures = 0

    def post(self, path: str, body: object, read: Callable[[Any], T], *, protocol: str) -> T:
        """Posts `body` as JSON, and returns what `read` makes of the JSON that comes back. Raises the server's failure.

        read: raises BadAnswer if the answer does not follow `protocol`, whose name is for the message.
        """
        pause = FIRST_PAUSE_S
        for attempt in range(self._settings.retries + 1):
            answer = self._once(path, body)
            if isinstance(answer, httpx.Response):
                try:
                    return read(answer.json())
                except (BadAnswer, ValueError) as error:
                    answer = _Failure(
                        f"gave an answer that does not follow the protocol of {protocol}: {error}"
                    )
            if answer.pause_s is None or attempt == self._settings.retries:
                attempts = f" ({attempt + 1} attempts)" if attempt else ""
                self.fail(answer.what + attempts, answer.remedy)
            time.sleep(min(MOST_PAUSE_S, max(answer.pause_s, pause * random.uniform(0.8, 1.2))))
            pause *= 2
        raise AssertionError("the loop above returns or raises")

    def stream(self, path: str, body: object, *, protocol: str) -> Iterator[Any]:
        """Posts `body` as JSON, and yields the JSON of each server-sent event until `[DONE]` or the end of the stream.

        A server that does not stream gives one value. A request that fails before the first event is sent again as
        `post` does. The whole stream may take `timeout_s`. Closing the iterator closes the connection, so that the
        server stops working. Raises the server's failure, and Rejected.
        """
        pause = FIRST_PAUSE_S
        for attempt in range(self._settings.retries + 1):
            events = self._events(path, body, protocol)
            try:
                first = next(events, None)
            except _Failed as error:
                failure = error.failure
                if failure.pause_s is None or attempt == self._settings.retries:
                    attempts = f" ({attempt + 1} attempts)" if attempt else ""
                    self.fail(failure.what + attempts, failure.remedy)
                time.sleep(min(MOST_PAUSE_S, max(failure.pause_s, pause * random.uniform(0.8, 1.2))))
                pause *= 2
                continue
            with closing(events):
                if first is not None:
                    yield first
                try:
                    yield from events
                except _Failed as error:
                    self.fail(error.failure.what, error.failure.remedy)
            return

    def _events(self, path: str, body: object, protocol: str) -> Generator[Any, None, None]:
        limit = self._settings.timeout_s
        deadline = time.monotonic() + limit
        timeout = httpx.Timeout(limit, connect=min(limit, MOST_CONNECT_S))
        try:
            with self._client.stream("POST", path, json=body, timeout=timeout) as answer:
                if answer.status_code != 200:
                    answer.read()
                    if 400 <= answer.status_code < 500 and answer.status_code not in NOT_REJECTIONS:
                        raise Rejected(answer.status_code, answer.text)
                    raise _Failed(_refusal(answer))
                if "event-stream" not in answer.headers.get("content-type", ""):
                    answer.read()
                    yield answer.json()
                    return
                for line in answer.iter_lines():
                    if time.monotonic() > deadline:
                        raise _Failed(_Failure(f"did not finish within {limit:g} s"))
                    data = line.removeprefix("data:").strip()
                    if not line.startswith("data:") or not data:
                        continue
                    if data == "[DONE]":
                        return
                    yield json.loads(data)
        except httpx.TimeoutException as error:
            raise _Failed(_Failure(f"did not answer within {limit:g} s")) from error
        except httpx.RemoteProtocolError as error:
            raise _Failed(_Failure(f"ended its answer in the middle ({error})", 0.0)) from error
        except httpx.TransportError as error:
            raise _Failed(_Failure(f"cannot be reached ({error})", 0.0)) from error
        except ValueError as error:
            what = f"gave an answer that does not follow the protocol of {protocol}: {error}"
            raise _Failed(_Failure(what)) from error

    def fail(self, what: str, remedy: str = "") -> NoReturn:
        """Raises the server's failure with its role and URL before `what`."""
        raise self._failure(f"{self._role} at {self._settings.url} {what}", remedy=remedy)

    def _once(self, path: str, body: object) -> httpx.Response | _Failure:
        limit = self._settings.timeout_s
        try:
            answer = self._client.post(path, json=body)
        except httpx.TimeoutException:  # a second timeout would double the wait
            return _Failure(f"did not answer within {limit:g} s")
        except httpx.TransportError as error:
            return _Failure(f"cannot be reached ({error})", 0.0)
        return _refusal(answer) if answer.status_code != 200 else answer

    def _count_failure(self, why: str) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._settings.break_after:
                self._open_until = (
                    self._clock() + self._settings.rest_s
                )  # afterwards one more failure is enough
                self._last_failure = why


def _refusal(answer: httpx.Response) -> _Failure:
    """Returns why a server refused a request. Reads the rest of the answer."""
    if answer.status_code in (401, 403):
        return _Failure(
            f"rejected the key ({answer.status_code})", remedy="check key_variable in the profile"
        )
    pause = _requested_pause(answer) if answer.status_code in TEMPORARY else None
    return _Failure(f"answered {answer.status_code} ({_short(answer.text)})", pause)


def data_url(image: Image.Image, most_kb: int) -> str:
    """Returns the image as a data URL with a JPEG of at most `most_kb` KiB, shrunk as far as necessary.

    An image of 64 pixels or less in its longer side is returned whatever its size in bytes.
    """
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


def _requested_pause(answer: httpx.Response) -> float:
    """Returns the seconds that the server asks for in Retry-After, at most MOST_PAUSE_S."""
    try:
        return min(MOST_PAUSE_S, float(answer.headers.get("Retry-After", 0)))
    except ValueError:
        return 0.0
