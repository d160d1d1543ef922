"""Pages are embedded while others are read: batches over documents, order, and failures."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ingest.embed import Embedded, Event, embed
from ingest.sources import Source
from ingest.workers.messages import Failed, FailedPage, Finished, Idle, Opened, Prepared, PreparedPage
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import IndexBusy, UnreadableDocument
from retrieval.store.schema import now
from retrieval.types import Page, PageContent, PageEmbedding


class Recording(HashingEncoder):
    """Notes its batches; waits for `gate` before each."""

    batch_pages = 4

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.refused = ""

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        assert self.gate.wait(10)
        self.batches.append([page.page.name for page in pages])
        if any(page.page.document == self.refused for page in pages):
            raise RuntimeError("too odd")
        return super().encode_pages(pages)


def source(name: str) -> Source:
    return Source(Path(name), f"file:///{name}", 1, now())


def page(name: str, number: int) -> PreparedPage:
    return PreparedPage(source(name), number, 10, 10, (), "none", b"", b"")


def content_of(prepared: PreparedPage) -> PageContent:
    name = prepared.source.path.name
    return PageContent(Page(name, prepared.number, name), (), "none", bytes)


def document(name: str, pages: int) -> Iterator[Prepared]:
    for number in range(1, pages + 1):
        yield page(name, number)
    yield Finished(source(name))


def told(events: Iterator[Event]) -> list[str]:
    found = []
    for event in events:
        match event:
            case Embedded():
                found += [f"{p.content.page.name}" for p in event.pages]
            case Idle():
                found.append("Idle")
            case _:
                found.append(f"{type(event).__name__} {event.source.path.name}")
    return found


def test_every_page_comes_in_order_and_a_document_ends_after_its_last() -> None:
    encoder = Recording()
    stream = iter([*document("a", 6), *document("b", 1), *document("c", 0)])
    said = told(embed(stream, encoder, content_of))
    assert said.index("Finished a") > said.index("a#page=6")
    assert said.index("Finished b") > said.index("b#page=1")
    assert [line for line in said if line.startswith("a#")] == [f"a#page={n}" for n in range(1, 7)]
    assert sorted(line for line in said if line.startswith("Finished")) == [
        "Finished a",
        "Finished b",
        "Finished c",
    ]
    assert sum(map(len, encoder.batches)) == 7


def test_what_comes_in_while_the_device_works_makes_the_next_batch_whatever_document_it_is_of() -> None:
    encoder = Recording()
    encoder.gate.clear()

    def stream() -> Iterator[Prepared]:
        for name in "abcde":  # while the first page is computed, four documents of one page come in
            yield from document(name, 1)
        encoder.gate.set()
        yield from document("f", 1)

    timer = threading.Timer(0.5, encoder.gate.set)  # the fifth page makes a full batch: it is waited for
    timer.start()
    said = told(embed(stream(), encoder, content_of))
    timer.cancel()
    assert encoder.batches[0] == ["a#page=1"]
    assert encoder.batches[1] == ["b#page=1", "c#page=1", "d#page=1", "e#page=1"]
    assert said.count("Finished e") == 1


def test_a_document_that_cannot_be_embedded_fails_alone() -> None:
    encoder = Recording()
    encoder.refused = "b"
    encoder.gate.clear()

    def stream() -> Iterator[Prepared]:
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
    assert {"a#page=1", "c#page=1"} <= set(told(iter(events)))


def test_other_events_pass_and_unwanted_pages_are_left_out() -> None:
    encoder = Recording()
    lost = Failed(source("b"), UnreadableDocument("damaged", "cut"))
    stream: list[Prepared] = [
        Opened(source("a"), 2, "", "", "pymupdf"),
        FailedPage(source("a"), 1, "cut"),
        page("a", 2),
        page("gone", 1),
        lost,
        Finished(source("a")),
    ]

    def wanted(prepared: PreparedPage) -> PageContent | None:
        return content_of(prepared) if prepared.source.path.name != "gone" else None

    said = told(embed(iter(stream), encoder, wanted))
    assert sorted(said) == ["Failed b", "FailedPage a", "Finished a", "Opened a", "a#page=2"]
    assert said[:2] == ["Opened a", "FailedPage a"]
    assert said.index("Finished a") > said.index("a#page=2")
    assert encoder.batches == [["a#page=2"]]


def test_an_error_of_ours_ends_the_run() -> None:
    class Busy(Recording):
        def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
            raise IndexBusy("in use")

    with pytest.raises(IndexBusy):
        told(embed(document("a", 3), Busy(), content_of))
