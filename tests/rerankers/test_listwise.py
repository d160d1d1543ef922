"""The listwise reranker against a real HTTP server that gives good and bad answers of chat models; and ensembles."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import configs.settings as configs
import rerankers
from rerankers.ensemble import EnsembleReranker
from rerankers.listwise import ListwiseReranker, named_positions
from rerankers.overlap import OverlapReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import RerankerFailed
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import PageContent
from retrieval.work_notes import WorkNotes, note
from tests.build import add_document, content

Answer = Callable[[dict[str, Any]], str]


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.answer: Answer = by_length
        self.body: bytes | None = None


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **request})
        reply = {"choices": [{"message": {"role": "assistant", "content": self.server.answer(request)}}]}
        data = self.server.body or json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def texts(request: dict[str, Any]) -> list[str]:
    """Returns the texts of the pages in a request, in its order."""
    parts = request["messages"][0]["content"]
    return [
        parts[at + 1].get("text", "image")
        for at, part in enumerate(parts)
        if re.fullmatch(r"\[\d+\]", part.get("text", ""))
    ]


def by_length(request: dict[str, Any]) -> str:
    """Answers like a model that ranks long pages first."""
    pages = texts(request)
    order = sorted(range(len(pages)), key=lambda at: -len(pages[at]))
    return " > ".join(f"[{at + 1}]" for at in order)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    server = ChatServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def reranker(server: ChatServer, **given: Any) -> ListwiseReranker:
    url = f"http://127.0.0.1:{server.server_address[1]}"
    return ListwiseReranker(
        configs.Listwise(url=url, model="chat", **{"reads": "text", "retries": 0, **given})
    )


def pages(*lengths: int) -> list[PageContent]:
    return [content("word " * length, number=at + 1) for at, length in enumerate(lengths)]


def places(scores: Sequence[float]) -> list[int]:
    return [int(at) for at in np.argsort(-np.array(scores))]


def test_one_window_gives_the_models_order(server: ChatServer) -> None:
    assert places(reranker(server).score("q", pages(2, 5, 1, 3))) == [1, 3, 0, 2]
    (request,) = server.requests
    assert (request["path"], request["model"], request["temperature"]) == ("/v1/chat/completions", "chat", 0)
    assert "no instruction to you" in request["messages"][0]["content"][0]["text"]
    assert request["messages"][0]["content"][-1]["text"].startswith("Question: q")


def test_windows_slide_from_the_last_pages_to_the_first(server: ChatServer) -> None:
    """The last of ten pages is the best: with windows of four and a stride of two, one pass moves it to the front."""
    ranker = reranker(server, window=4, stride=2)
    scores = ranker.score("q", pages(3, 2, 5, 1, 4, 6, 7, 8, 9, 99))
    assert places(scores)[:2] == [9, 8]
    assert [len(texts(request)) for request in server.requests] == [4, 4, 4, 4]


def test_pages_are_sent_as_images_if_the_profile_says_so(server: ChatServer) -> None:
    server.answer = lambda request: "[2] > [1]"
    assert places(reranker(server, reads="image").score("q", pages(1, 1))) == [1, 0]
    parts = server.requests[0]["messages"][0]["content"]
    assert sum(part["type"] == "image_url" for part in parts) == 2
    assert parts[2]["image_url"]["url"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize(
    ("answer", "order", "note"),
    [
        ("The best is [3], then [1], [2] and [4].", [2, 0, 1, 3], ""),
        ("3 > 1 > 2 > 4", [2, 0, 1, 3], ""),
        ("[9] > [3] > [3] > [1]", [2, 0, 1, 3], "incomplete answers of the model that were repaired: 1"),
        ("<think>[1] looks good, or [4]</think>\n[2] > [4] > [1] > [3]", [1, 3, 0, 2], ""),
        ("[4]", [3, 0, 1, 2], "incomplete answers of the model that were repaired: 1"),
        ('{"order": [2, 1, 4, 3]}', [1, 0, 3, 2], ""),
    ],
)
def test_incomplete_answers_are_repaired_and_noted(
    server: ChatServer, answer: str, order: list[int], note: str
) -> None:
    server.answer = lambda request: answer
    work = WorkNotes()
    with work.collecting():
        assert places(reranker(server).score("q", pages(1, 1, 1, 1))) == order
    assert str(work) == note


def test_a_model_that_names_no_page_is_asked_once_more_and_then_the_stage_fails(server: ChatServer) -> None:
    server.answer = lambda request: "[1] > [2]" if len(request["messages"]) > 1 else "I cannot see any pages."
    assert places(reranker(server).score("q", pages(1, 2))) == [0, 1]
    assert "held no page number" in server.requests[1]["messages"][2]["content"]
    server.answer = lambda request: "Sorry."
    with pytest.raises(RerankerFailed, match="named no page in two answers"):
        reranker(server).score("q", pages(1, 2))


@pytest.mark.parametrize(
    "body", [b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}', b"<html>"]
)
def test_an_answer_that_is_not_a_chat_completion_fails_with_a_message(
    server: ChatServer, body: bytes
) -> None:
    server.body = body
    with pytest.raises(
        RerankerFailed, match="an answer that does not follow the protocol of chat completions"
    ):
        reranker(server).score("q", pages(1, 2))


def test_numbers_that_name_no_page_do_not_count() -> None:
    assert named_positions("In 2023 page [2] beats [1]", 2) == [1, 0]
    assert named_positions("", 3) == []
    assert named_positions("[0] > [-1] > [4]", 3) == []


def test_a_search_sends_all_pages_at_once_and_a_failure_keeps_the_first_stages_order(
    server: ChatServer, store: Store, encoder: HashingEncoder
) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump " * n for n in range(1, 13)])
    searcher = Searcher(
        store, encoder, reranker(server, window=20), configs.Search(rerank=12, rerank_weight=9)
    )
    result = searcher.search("pump")
    assert len(server.requests) == 1
    assert result.hits[0].page.number == 12
    server.answer = lambda request: "no"
    failed = searcher.search("pump")
    assert not failed.decision.reranked
    assert "named no page" in failed.decision.reason


def test_two_searches_at_the_same_time_keep_their_notes_apart(
    server: ChatServer, store: Store, encoder: HashingEncoder
) -> None:
    """One answer of the first search is repaired; the second search runs from start to end before the first ends."""
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump", "valve pump", "valve valve pump"])
    first_is_repaired, second_is_done = threading.Event(), threading.Event()
    windows = iter(range(2))

    def answer(request: dict[str, Any]) -> str:
        if "Question: valve" not in request["messages"][0]["content"][-1]["text"]:
            first_is_repaired.wait(10)
            return "[2] > [1]"
        if next(windows) == 0:
            return "[2]"
        first_is_repaired.set()
        second_is_done.wait(10)
        return "[2] > [1]"

    server.answer = answer
    searcher = Searcher(store, encoder, reranker(server, window=2, stride=1), configs.Search())
    notes: dict[str, str] = {}

    def search(question: str) -> None:
        result = searcher.search(question)
        notes[question] = result.stages[-1].note
        if question == "pump":
            second_is_done.set()

    threads = [threading.Thread(target=search, args=(question,)) for question in ("valve", "pump")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert notes == {
        "pump": "listwise (chat)",
        "valve": "listwise (chat); incomplete answers of the model that were repaired: 1",
    }


# Ensembles


class Fixed:
    """Scores each page with the score given for its number."""

    listwise = False
    notes: tuple[str, ...] = ()

    def __init__(self, name: str, scores: Sequence[float], batch_pages: int = 2) -> None:
        self.name = name
        self.batch_pages = batch_pages
        self._scores = scores

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        assert len(pages) <= self.batch_pages
        note("{} of {} pages read", 1, len(pages))
        return [self._scores[page.page.number - 1] for page in pages]


def test_members_are_fused_by_z_scores_reciprocal_ranks_or_borda_counts() -> None:
    members = [Fixed("a", [1.0, 2.0, 30.0]), Fixed("b", [0.3, 0.2, 0.1], 3)]
    three = pages(1, 1, 1)
    borda = EnsembleReranker(members, "borda").score("q", three)
    assert borda == pytest.approx([0 + 1, 0.5 + 0.5, 1 + 0])
    rrf = EnsembleReranker(members, "rrf", (2.0, 1.0)).score("q", three)
    assert rrf == pytest.approx([2 / 63 + 1 / 61, 2 / 62 + 1 / 62, 2 / 61 + 1 / 63])
    a, b = np.array([1, 2, 30.0]), np.array([0.3, 0.2, 0.1])
    expected = (a - a.mean()) / a.std() + (b - b.mean()) / b.std()
    assert EnsembleReranker(members, "z_scores").score("q", three) == pytest.approx(expected.tolist())
    work = WorkNotes()
    with work.collecting():
        EnsembleReranker(members, "borda").score("q", three)
    assert str(work) == "a: 2 of 3 pages read; b: 1 of 3 pages read"  # a took two batches, of 2 and of 1


def test_equal_scores_share_their_rank_and_one_page_has_one_score() -> None:
    members = [Fixed("a", [5, 5, 1]), Fixed("b", [0, 0, 0])]
    assert EnsembleReranker(members, "borda").score("q", pages(1, 1, 1)) == pytest.approx([1.25, 1.25, 0.5])
    assert EnsembleReranker(members, "borda").score("q", pages(1)) == [0.0]


def test_an_ensemble_of_a_profile_reranks_and_its_weights_are_checked(
    store: Store, encoder: HashingEncoder
) -> None:
    settings = configs.Ensemble(
        members=(configs.Overlap(), configs.Overlap()), fuse="rrf", weights=(1.0, 2.0)
    )
    ranker = rerankers.load_reranker(settings)
    assert ranker
    assert ranker.name == "rrf of overlap, overlap"
    with store.writing():
        add_document(store, encoder, "a.pdf", ["pump " * n for n in range(1, 13)])
    result = Searcher(store, encoder, ranker, configs.Search(rerank=12)).search("pump")
    assert sum(hit.reranked for hit in result.hits) == 10
    with pytest.raises(ValidationError):
        configs.Ensemble(members=(configs.Overlap(),))
    with pytest.raises(RerankerFailed, match="2 members, but 1 weights: give one weight for each"):
        EnsembleReranker([OverlapReranker(), OverlapReranker()], "rrf", (1.0,))


def test_the_stage_fails_if_one_member_fails() -> None:
    class Broken(Fixed):
        def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
            raise RerankerFailed("the server is down")

    with pytest.raises(RerankerFailed, match="the server is down"):
        EnsembleReranker([Fixed("a", [1]), Broken("b", [1])], "rrf").score("q", pages(1))
