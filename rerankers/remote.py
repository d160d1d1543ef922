"""A reranker in another process or room, over HTTP: one client, four dialects (rerankers/dialects.py)."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import configs.settings as configs
from rerankers.dialects import dialect
from rerankers.server import Server, data_url
from retrieval.types import PageContent


class RemoteReranker:
    listwise = False

    def __init__(self, settings: configs.Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"remote {settings.dialect} ({settings.model})"
        self.notes: tuple[str, ...] = (
            f"{settings.model} is asked at {settings.url}: page images and questions go there",
        )
        self.batch_pages = settings.batch_size * settings.parallel
        self._settings = settings
        self._dialect = dialect(settings)
        self._server = Server(settings, clock)
        self._threads = ThreadPoolExecutor(settings.parallel, thread_name_prefix="remote")

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """The server's relevance scores, in the order given. Raises RerankerFailed."""
        step = self._settings.batch_size
        batches = [pages[start : start + step] for start in range(0, len(pages), step)]
        with self._server.tried():
            return [s for batch in self._threads.map(lambda b: self._ask(query, b), batches) for s in batch]

    def _ask(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        documents = [shown(page, self._settings) for page in pages]
        body = self._dialect.body(query, documents)
        return self._server.ask(
            self._dialect.path,
            body,
            lambda answer: self._dialect.scores(answer, len(pages)),
            self._settings.dialect,
        )


def shown(page: PageContent, settings: configs.HttpModel) -> str:
    """What is sent of a page: its text, or its image as a data URL."""
    if settings.reads == "image":
        return data_url(page.image(), settings.max_image_kb)
    return page.text[: settings.max_text_chars]
