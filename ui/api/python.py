"""Folioscope from Python: `from ui import open_index`.

Importing this module loads no model and no database; `open_index` does.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

    from configs.settings import Settings
    from ingest.progress import Progress
    from retrieval.answering.answerer import Answerer
    from retrieval.answering.types import CitedAnswer, Event
    from retrieval.search import Searcher
    from retrieval.store.store import Store
    from retrieval.types import Document, Filter, Hit, Page, SearchResult


class OpenIndex:
    """An open index with the models that search it. Safe to call from several threads; there is nothing to close."""

    def __init__(self, store: "Store", searcher: "Searcher", settings: "Settings") -> None:
        self.store = store
        self.searcher = searcher
        self.settings = settings
        self._lock = threading.Lock()
        self._answerer: Answerer | None = None  # made when it is first needed

    def search(
        self,
        question: str,
        top: int = 10,
        *,
        where: "Filter | None" = None,
        rerank: bool = True,
        budget_ms: float | None = None,
        min_confidence: float | None = None,
    ) -> "SearchResult":
        """Return the best `top` pages for a question, best first. The other arguments are SearchRequest's.

        Raises BadQuery for a question that cannot be searched for.
        """
        from retrieval.types import EVERYTHING

        return self.searcher.search(
            question,
            top=top,
            where=where or EVERYTHING,
            rerank=rerank,
            budget_ms=budget_ms,
            min_confidence=min_confidence,
        )

    def ask(self, question: str, *, where: "Filter | None" = None) -> "CitedAnswer":
        """Answer a question from the pages that match it, with a quote from its page for every sentence.

        The model that writes is the profile's `answer:`. If there is none, or if it fails, the answer's status says so.
        Raises BadQuery, and AnswerFailed if the environment variable with the server's key is not set.
        """
        *_, answer = self.ask_steps(question, where=where)
        return answer  # type: ignore[return-value]

    def ask_steps(self, question: str, *, where: "Filter | None" = None) -> "Iterator[Event]":
        """Yield what `ask` returns as it is written: the pages, text, citations, and at last the whole answer."""
        from ui import factory

        with self._lock:
            self._answerer = self._answerer or factory.build_answerer(self.settings)
        yield from self._answerer.steps(self.search(question, where=where), self.searcher)

    def page_image(self, page: "Hit | Page", question: str = "") -> "Image":
        """Return a page as an RGB image at the resolution of ingest; with a question, what matches it is highlighted.

        Raises NotFound for a page that is no longer in the index.
        """
        from retrieval.types import Hit
        from ui.api.render import highlighted_page

        shown = page.page if isinstance(page, Hit) else page
        if not question:
            return self.store.contents([shown])[0].image()
        ((content, highlight),) = self.searcher.highlighted(question, [shown])
        return highlighted_page(content.image(), highlight)

    def documents(self) -> "list[Document]":
        """Return the documents of the index, oldest first."""
        return self.store.documents()

    def ingest(
        self,
        paths: Sequence[str | PathLike[str]],
        *,
        password: str | None = None,
        collection: str = "default",
        tags: Sequence[str] = (),
    ) -> "Iterator[Progress]":
        """Read files, folders and glob patterns into the index, yielding the progress of each file.

        Nothing is read until the iterator is consumed. A file that cannot be read is an event "failed" and never stops
        the others; files that are in the index already are skipped. Raises BadSource for a path that does not exist,
        IndexBusy while another process writes to the index.
        """
        from ingest import pipeline
        from retrieval.errors import IndexBusy
        from ui import factory

        yield from pipeline.ingest(
            [str(path) for path in paths],
            self.store,
            self.searcher.encoder,
            self.settings.ingest,
            password=password,
            collection=collection,
            tags=tags,
        )
        with suppress(IndexBusy):  # the process that writes now refreshes the inverted index when it is done
            factory.refresh_inverted_index(self.store, self.settings.search, lambda *_: None)


def open_index(
    uri: str | PathLike[str], profile: str = "cpu", *, rerank: bool = True, create: bool = False
) -> OpenIndex:
    """Open the index at `uri` with the models of a profile, which is a name or the path of a YAML file.

    rerank: false loads no reranker. create: make the index if it does not exist. Raises IndexMissing (without
    `create`), EncoderMismatch for an index of another profile's encoder, and what loading the models raises.
    """
    import configs.settings as configs
    from ui import factory

    settings = configs.load_profile(profile)
    if create:
        store, encoder = factory.create_store(str(uri), settings)
        return OpenIndex(store, factory.build_searcher(store, encoder, settings, rerank), settings)
    searcher, store = factory.open_searcher(str(uri), settings, rerank)
    return OpenIndex(store, searcher, settings)
