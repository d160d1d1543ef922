"""A reranker in another process or room, over HTTP.

One client, four dialects (rerankers/dialects.py). Requests that fail for a passing reason (no connection, 429, 5xx)
are tried again after a pause that doubles, a server that does not answer in time is not; then the stage fails as
RerankerFailed, and the first stage's order stands. After several failures in a row nothing is asked for a while, and
after that a single failure closes it again, so that a dead server does not cost every search its timeout (Nygard,
"Release It!", 2007: circuit breaker).
"""

import base64
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import httpx
from PIL import Image

import configs.settings as configs
from rerankers.dialects import BadAnswer, dialect
from retrieval.errors import RerankerFailed
from retrieval.types import PageContent

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
FIRST_PAUSE_S = 0.25
MOST_PAUSE_S = 8.0


class RemoteReranker:
    def __init__(self, settings: configs.Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"remote {settings.dialect} ({settings.model})"
        self.notes: tuple[str, ...] = (
            f"{settings.model} is asked at {settings.url}: page images and questions go there",
        )
        self.batch_pages = settings.batch_size * settings.parallel
        self._settings = settings
        self._dialect = dialect(settings)
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
        self._threads = ThreadPoolExecutor(settings.parallel, thread_name_prefix="remote")
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._why = ""

    def take_note(self) -> str:
        return ""

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """The server's relevance scores, in the order given. Raises RerankerFailed."""
        with self._lock:
            left = self._closed_until - self._clock()
        if left > 0:
            raise RerankerFailed(f"{self._why}; it is left alone for another {left:.0f} s")
        step = self._settings.batch_size
        batches = [pages[start : start + step] for start in range(0, len(pages), step)]
        try:
            scores = [s for batch in self._threads.map(lambda b: self._ask(query, b), batches) for s in batch]
        except RerankerFailed as error:
            self._count_failure(str(error))
            raise
        with self._lock:
            self._failures = 0
        return scores

    def _ask(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        if self._settings.reads == "image":
            documents = [data_url(page.image(), self._settings.max_image_kb) for page in pages]
        else:
            documents = [page.text[: self._settings.max_text_chars] for page in pages]
        body = self._dialect.body(query, documents)
        pause = FIRST_PAUSE_S
        for attempt in range(self._settings.retries + 1):
            failure, wait = self._once(body, len(pages))
            if isinstance(failure, list):
                return failure
            if wait is None or attempt == self._settings.retries:
                tried = f" ({attempt + 1} attempts)" if attempt else ""
                raise RerankerFailed(f"the reranker at {self._settings.url} {failure}{tried}")
            time.sleep(min(MOST_PAUSE_S, max(wait, pause * random.uniform(0.8, 1.2))))
            pause *= 2
        raise AssertionError("the loop above returns or raises")

    def _once(self, body: object, count: int) -> tuple[list[float] | str, float | None]:
        """The scores; or what went wrong, and the least pause in seconds: None where trying again is no use."""
        try:
            answer = self._client.post(self._dialect.path, json=body)
        except httpx.TimeoutException:
            return (
                f"did not answer within {self._settings.timeout_s:g} s",
                None,
            )  # asking again would double the wait
        except httpx.TransportError as error:
            return f"cannot be reached ({error})", 0.0
        if answer.status_code in PASSING:
            return f"answered {answer.status_code} ({_short(answer.text)})", _asked_pause(answer)
        if answer.status_code in (401, 403):
            return f"refused the key ({answer.status_code}): check key_variable in the profile", None
        if answer.status_code != 200:
            return f"answered {answer.status_code} ({_short(answer.text)})", None
        try:
            return self._dialect.scores(answer.json(), count), None
        except (BadAnswer, ValueError) as error:
            return f"gave an answer that is not {self._settings.dialect}'s: {error}", None

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
