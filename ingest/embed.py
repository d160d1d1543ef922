"""Embedding pages in one thread while the workers read further pages.

A batch has the pages, of any documents, that arrived during the batch before it, up to the encoder's `batch_pages`. An
encoder that is faster than the workers gets each page at once; a slower one gets full batches and never waits.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby

from ingest.read.titles import printable
from ingest.sources import Source
from ingest.workers.messages import Failed, FailedPage, Finished, Idle, Opened, PreparedPage, WorkerEvent
from retrieval.errors import FolioscopeError, UnreadableDocument
from retrieval.types import Encoder, PageContent, PageEmbedding

SIGN_OF_LIFE = 1.0
"""Seconds of waiting for the encoder after which the caller gets a `Computing`, and may do something else."""


@dataclass(frozen=True, slots=True)
class EmbeddedPage:
    """A page as a worker prepared it, as the encoder saw it, and its embedding."""

    prepared: PreparedPage
    content: PageContent
    embedding: PageEmbedding


@dataclass(frozen=True, slots=True)
class Embedded:
    """Pages of one document, in order."""

    source: Source
    pages: tuple[EmbeddedPage, ...]


@dataclass(frozen=True, slots=True)
class Computing:
    """The encoder is still working on a batch that begins with a page of this document."""

    source: Source


Waiting = tuple[PreparedPage, PageContent]
OfDocument = Opened | Embedded | Computing | FailedPage | Finished | Failed
Event = OfDocument | Idle


def embed(
    events: Iterator[WorkerEvent], encoder: Encoder, content_of: Callable[[PreparedPage], PageContent | None]
) -> Generator[Event, None, None]:
    """Yield the workers' events with embedded pages in place of prepared ones; Finished follows a document's last page.

    `content_of` returns None for a page that is not to be embedded, because its document has failed. A document whose
    pages cannot be embedded becomes Failed, without effect on the other documents of its batch. Raises the
    FolioscopeError that an encoder raises.
    """
    waiting: list[Waiting] = []
    pending: Counter[str] = Counter()  # by uri: pages that wait for the encoder, or are in its batch
    finished: dict[str, Finished] = {}  # by uri: documents that are read, but have pending pages
    batch: list[Waiting] = []
    computing: Future[list[Embedded | Failed]] | None = None

    def results(future: "Future[list[Embedded | Failed]]") -> Iterator[Event]:
        while not wait([future], SIGN_OF_LIFE).done:
            yield Computing(batch[0][0].source)
        yield from future.result()
        pending.subtract(Counter(page.source.uri for page, _ in batch))
        for uri in [uri for uri in finished if not pending[uri]]:
            yield finished.pop(uri)

    with ThreadPoolExecutor(1, thread_name_prefix="embed") as thread:
        for event in events:
            match event:
                case PreparedPage():
                    content = content_of(event)
                    if content is not None:
                        encoder.expect([content])
                        waiting.append((event, content))
                        pending[event.source.uri] += 1
                case Finished() if pending[event.source.uri]:
                    finished[event.source.uri] = event
                case _:
                    yield event
            if computing and (computing.done() or len(waiting) >= encoder.batch_pages):
                yield from results(computing)
                computing = None
            if waiting and not computing:
                batch, waiting = waiting[: encoder.batch_pages], waiting[encoder.batch_pages :]
                computing = thread.submit(_encode, encoder, batch)
        while computing:
            yield from results(computing)
            batch, waiting = waiting[: encoder.batch_pages], waiting[encoder.batch_pages :]
            computing = thread.submit(_encode, encoder, batch) if batch else None


def _encode(encoder: Encoder, batch: Sequence[Waiting]) -> list[Embedded | Failed]:
    """Return results by document. If the batch fails, the pages of each document are embedded by themselves."""
    documents = [list(pages) for _, pages in groupby(batch, key=lambda page: page[0].source.uri)]
    try:
        return _encode_batch(encoder, batch, documents)
    except FolioscopeError:
        raise
    except Exception as error:
        if len(documents) > 1:
            return [result for pages in documents for result in _encode(encoder, pages)]
        source = batch[0][0].source
        message = f"{printable(source.path.name)} could not be embedded ({type(error).__name__}: {error})"
        return [Failed(source, UnreadableDocument("not embedded", message))]


def _encode_batch(
    encoder: Encoder, batch: Sequence[Waiting], documents: Sequence[Sequence[Waiting]]
) -> list[Embedded | Failed]:
    embeddings = iter(encoder.encode_pages([content for _, content in batch]))
    return [
        Embedded(
            source=pages[0][0].source,
            pages=tuple(EmbeddedPage(prepared, content, next(embeddings)) for prepared, content in pages),
        )
        for pages in documents
    ]
