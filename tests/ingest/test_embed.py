"""Pages are embedded while others are read: batches across documents, order, and failures."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ingest.embed import Embedded, Event, embed
from ingest.sources import Source
from ingest.workers.messages import Failed, FailedPage, Finished, Idle, Opened, PreparedPage, WorkerEvent
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import IndexBusy, UnreadableDocument
from retrieval.store.schema import now
from retrieval.types import Page, PageContent, PageEmbedding


class Recording(HashingEncoder):
    """Records its batches; waits for `gate` before each."""

    batch_pages = 4

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.rejected = ""

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        assert self.gate.wait(10)
        self.batches.append([page.page.name for page in pages])
        if any(page.page.document == self.rejected for page in pages):
            raise RuntimeError("too odd")
        return super().encode_pages(pages)


def source(name: str) -> Source:
    return Source(Path(name), f"file:///{name}", 1, now())


def page(name: str, number: int) -> PreparedPage:
    return PreparedPage(source(name), number, 10, 10, (), "none", b"", b"")


def content_of(prepared: PreparedPage) -> PageContent:
    name = prepared.source.path.name
    page = Page(doc_id=name, number=prepared.number, document=name)
    return PageContent(page=page, words=(), source="none", read_image=bytes)


def document(name: str, pages: int) -> Iterator[WorkerEvent]:
    for number in range(1, pages + 1):
        yield page(name, number)
    yield Finished(source(name))


def described(events: Iterator[Event]) -> list[str]:
    lines = []
    for event in events:
        match event:
            case Embedded():
                lines += [f"{p.content.page.name}" for p in event.pages]
            case Idle():
                lines.append("Idle")
            case _:
                lines.append(f"{type(event).__name__} {event.source.path.name}")
    return lines


def test_pages_come_in_order_and_a_document_ends_after_its_last_page() -> None:
    encoder = Recording()
    stream = iter([*document("a", 6), *document("b", 1), *document("c", 0)])
    lines = described(embed(stream, encoder, content_of))
    assert lines.index("Finished a") > lines.index("a#page=6")
    assert lines.index("Finished b") > lines.index("b#page=1")
    assert [line for line in lines if line.startswith("a#")] == [f"a#page={n}" for n in range(1, 7)]
    assert sorted(line for line in lines if line.startswith("Finished")) == [
        "Finished a",
        "Finished b",
        "Finished c",
    ]
    assert sum(map(len, encoder.batches)) == 7


def test_pages_of_any_document_that_arrive_during_a_batch_make_the_next_batch() -> None:
    encoder = Recording()
    encoder.gate.clear()

    def stream() -> Iterator[WorkerEvent]:
        for name in "abcde":  # while the first page is embedded, four documents of one page arrive
            yield from document(name, 1)
        encoder.gate.set()
        yield from document("f", 1)

    timer = threading.Timer(
        0.5, encoder.gate.set
    )  # the fifth page fills the batch, which waits for the encoder
    timer.start()
    lines = described(embed(stream(), encoder, content_of))
    timer.cancel()
    assert encoder.batches[0] == ["a#page=1"]
    assert encoder.batches[1] == ["b#page=1", "c#page=1", "d#page=1", "e#page=1"]
    assert lines.count("Finished e") == 1


def test_a_document_that_cannot_be_embedded_fails_alone() -> None:
    encoder = Recording()
    encoder.rejected = "b"
    encoder.gate.clear()

    def stream() -> Iterator[WorkerEvent]:
        yield from document("x", 1)
        yield page("a", 1)
        yield page("b", 1)
        yield page("c", 1)
        encoder.gate.set()
        yield Finished(source("a"))
        yield Finished(source("b"))
        yield Finished(source("c"))

    events = list(embed(stream(), encoder, content_of))
    failures = [event for event in events if isinstance(event, Failed)]
    assert [failure.source.path.name for failure in failures] == ["b"]
    assert "b could not be embedded (RuntimeError: too odd)" in str(failures[0].error)
    assert {"a#page=1", "c#page=1"} <= set(described(iter(events)))


def test_other_events_pass_through_and_pages_of_failed_documents_are_left_out() -> None:
    encoder = Recording()
    lost = Failed(source("b"), UnreadableDocument("damaged", "cut"))
    stream: list[WorkerEvent] = [
        Opened(source("a"), 2, "", "", "pymupdf"),
        FailedPage(source("a"), 1, "cut"),
        page("a", 2),
        page("gone", 1),
        lost,
        Finished(source("a")),
    ]

    def unless_gone(prepared: PreparedPage) -> PageContent | None:
        return content_of(prepared) if prepared.source.path.name != "gone" else None

    lines = described(embed(iter(stream), encoder, unless_gone))
    assert sorted(lines) == ["Failed b", "FailedPage a", "Finished a", "Opened a", "a#page=2"]
    assert lines[:2] == ["Opened a", "FailedPage a"]
    assert lines.index("Finished a") > lines.index("a#page=2")
    assert encoder.batches == [["a#page=2"]]


def test_a_folioscope_error_of_the_encoder_ends_the_run() -> None:
    class Busy(Recording):
        def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
            raise IndexBusy("in use")

    with pytest.raises(IndexBusy):
        described(embed(document("a", 3), Busy(), content_of))
