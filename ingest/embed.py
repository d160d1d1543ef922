"""Pages to vectors while others are being read: one thread computes, and takes what has come in meanwhile.

A batch holds pages of any documents, as many as wait (up to the encoder's `batch_pages`): an encoder that is faster
than the readers gets each page at once, one that is slower gets full batches and never waits for a page.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby

from ingest.read.titles import clean
from ingest.sources import Source
from ingest.workers.messages import Failed, FailedPage, Finished, Idle, Opened, Prepared, PreparedPage
from retrieval.errors import FolioscopeError, UnreadableDocument
from retrieval.types import Encoder, PageContent, PageEmbedding

SIGN_OF_LIFE = 1.0
"""Seconds of waiting for the encoder after which the caller hears that it is at work, and may do something else."""


@dataclass(frozen=True, slots=True)
class EmbeddedPage:
    prepared: PreparedPage
    content: PageContent
    embedding: PageEmbedding


@dataclass(frozen=True, slots=True)
class Embedded:
    """Pages of one document, in their order."""

    source: Source
    pages: tuple[EmbeddedPage, ...]


@dataclass(frozen=True, slots=True)
class Computing:
    """The encoder is still at work on a batch that begins with a page of this document."""

    source: Source


Waiting = tuple[PreparedPage, PageContent]
OfDocument = Opened | Embedded | Computing | FailedPage | Finished | Failed
Event = OfDocument | Idle


def embed(
    events: Iterator[Prepared], encoder: Encoder, content_of: Callable[[PreparedPage], PageContent | None]
) -> Generator[Event, None, None]:
    """The workers' events, with embedded pages in place of prepared ones, and a document's end after its last page.

    `content_of` gives None for a page that is no longer wanted. A document whose pages cannot be embedded becomes
    Failed; the others of its batch do not suffer. Raises the FolioscopeError that an encoder raises.
    """
    waiting: list[Waiting] = []
    under_way: Counter[str] = Counter()  # by uri: pages that wait or are computed
    ended: dict[str, Finished] = {}  # documents that are read, and wait for their pages
    batch: list[Waiting] = []
    computing: Future[list[Embedded | Failed]] | None = None

    def taken(done: "Future[list[Embedded | Failed]]") -> Iterator[Event]:
        while not wait([done], SIGN_OF_LIFE).done:
            yield Computing(batch[0][0].source)
        yield from done.result()
        under_way.subtract(Counter(page.source.uri for page, _ in batch))
        for uri in [uri for uri in ended if not under_way[uri]]:
            yield ended.pop(uri)

    with ThreadPoolExecutor(1, thread_name_prefix="embed") as thread:
        for event in events:
            match event:
                case PreparedPage():
                    content = content_of(event)
                    if content is not None:
                        encoder.expect([content])
                        waiting.append((event, content))
                        under_way[event.source.uri] += 1
                case Finished() if under_way[event.source.uri]:
                    ended[event.source.uri] = event
                case _:
                    yield event
            if computing and (computing.done() or len(waiting) >= encoder.batch_pages):
                yield from taken(computing)
                computing = None
            if waiting and not computing:
                batch, waiting = waiting[: encoder.batch_pages], waiting[encoder.batch_pages :]
                computing = thread.submit(_encode, encoder, batch)
        while computing:
            yield from taken(computing)
            batch, waiting = waiting[: encoder.batch_pages], waiting[encoder.batch_pages :]
            computing = thread.submit(_encode, encoder, batch) if batch else None


def _encode(encoder: Encoder, batch: Sequence[Waiting]) -> list[Embedded | Failed]:
    """By document. Where the batch fails, each document's pages are tried by themselves."""
    documents = [list(pages) for _, pages in groupby(batch, key=lambda waiting: waiting[0].source.uri)]
    try:
        return _embedded(encoder, batch, documents)
    except FolioscopeError:
        raise
    except Exception as error:
        if len(documents) > 1:
            return [result for pages in documents for result in _encode(encoder, pages)]
        source = batch[0][0].source
        message = f"{clean(source.path.name)} could not be embedded ({type(error).__name__}: {error})"
        return [Failed(source, UnreadableDocument("not embedded", message))]


def _embedded(
    encoder: Encoder, batch: Sequence[Waiting], documents: Sequence[Sequence[Waiting]]
) -> list[Embedded | Failed]:
    embeddings = iter(encoder.encode_pages([content for _, content in batch]))
    return [
        Embedded(pages[0][0].source, tuple(EmbeddedPage(page, c, next(embeddings)) for page, c in pages))
        for pages in documents
    ]
