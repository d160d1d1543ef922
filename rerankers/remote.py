"""Reranks on another server over HTTP, in one of four dialects (rerankers/dialects.py)."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import configs.settings as configs
from rerankers.dialects import dialect_for
from retrieval.errors import RerankerFailed
from retrieval.model_server import Server, data_url
from retrieval.types import PageContent


class RemoteReranker:
    """Scores on a reranking server. clock: returns seconds. Raises RerankerFailed without the server's key."""

    listwise = False

    def __init__(self, settings: configs.Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = f"remote {settings.dialect} ({settings.model})"
        self.notes: tuple[str, ...] = (
            f"page images and questions are sent to {settings.model} at {settings.url}",
        )
        self.batch_pages = settings.batch_size * settings.parallel
        self._settings = settings
        self._dialect = dialect_for(settings)
        self._server = Server(settings, clock, role="the reranker", failure=RerankerFailed)
        self._threads = ThreadPoolExecutor(settings.parallel, thread_name_prefix="remote")

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns the server's relevance scores, in the order given. Raises RerankerFailed."""
        step = self._settings.batch_size
        batches = [pages[start : start + step] for start in range(0, len(pages), step)]
        with self._server.guarded():
            return [s for batch in self._threads.map(lambda b: self._batch(query, b), batches) for s in batch]

    def _batch(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        documents = [page_document(page, self._settings) for page in pages]
        return self._server.post(
            self._dialect.path,
            self._dialect.body(query, documents),
            lambda answer: self._dialect.scores(answer, len(pages)),
            protocol=self._settings.dialect,
        )


def page_document(page: PageContent, settings: configs.HttpReranker) -> str:
    """Returns what is sent of a page: its text, or its image as a data URL."""
    if settings.reads == "image":
        return data_url(page.image(), settings.max_image_kb)
    return page.text[: settings.max_text_chars]
