"""The remote reranker against a real HTTP server on this machine that speaks the four dialects as specified."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

import configs.settings as configs
from rerankers.remote import RemoteReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import RerankerFailed
from retrieval.model_server import data_url
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Page, PageContent
from tests.build import add_document, content

TEXTS = ["alpha", "beta beta", "gamma gamma gamma"]


class Server(ThreadingHTTPServer):
    """Scores a text by its number of words and an image by its mean grey; answers with the best document first."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.planned: list[tuple[int, dict[str, str], bytes]] = []  # answers to give before the correct ones
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **body})
        self.server.headers.append(dict(self.headers))
        time.sleep(self.server.delay)
        if self.server.planned:
            status, headers, data = self.server.planned.pop(0)
        else:
            status, headers, data = 200, {}, json.dumps(self.answer(body)).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body: dict[str, Any]) -> Any:
        scored = sorted(((grade(d), i) for i, d in enumerate(body["documents"])), reverse=True)
        if body["model"] == "for sglang":
            return [{"score": score, "index": index, "meta_info": {}} for score, index in scored]
        results = [{"index": index, "relevance_score": score} for score, index in scored]
        return {"id": "x", "model": body["model"], "results": results[: body.get("top_n", len(results))]}

    def log_message(self, format: str, *args: Any) -> None:
        pass


def grade(document: Any) -> float:
    """Returns the score of a document in any dialect's form; another form is a fault of the client."""
    match document:
        case str(text) | {"text": str(text)} if not text.startswith("data:"):
            return len(text.split()) / 10
        case (
            {"image": str(url)}
            | {"content": [{"type": "image_url", "image_url": {"url": str(url)}}]}
            | [{"type": "image_url", "image_url": {"url": str(url)}}]
        ):
            kind, data = url.split(",", 1)
            assert kind == "data:image/jpeg;base64"
            return float(np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("L")).mean()) / 255
    raise AssertionError(document)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def remote(server: Server, dialect: str = "vllm", **more: Any) -> RemoteReranker:
    given = {
        "dialect": dialect,
        "url": server.url,
        "model": f"for {dialect}",
        "reads": "text",
        "timeout_s": 5,
        **more,
    }
    return RemoteReranker(configs.Remote.model_validate(given))


def grey(level: int, side: int = 60) -> PageContent:
    buffer = BytesIO()
    Image.new("RGB", (side, side), (level,) * 3).save(buffer, "PNG")
    return PageContent(Page("d", level, "d.pdf"), (), "none", buffer.getvalue)


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "jina", "cohere"])
def test_texts_are_scored_in_the_order_given_in_every_dialect(dialect: str, server: Server) -> None:
    scores = remote(server, dialect).score("beta", [content(text) for text in TEXTS])
    assert scores == pytest.approx([0.1, 0.2, 0.3])
    request = server.requests[0]
    assert request["path"] == ("/v2/rerank" if dialect == "cohere" else "/v1/rerank")
    assert request["query"] == "beta"
    assert request["model"] == f"for {dialect}"


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "jina"])
def test_page_images_are_sent_as_data_urls(dialect: str, server: Server) -> None:
    reranker = remote(server, dialect, reads="image", instruction="Find the page.", batch_size=2)
    assert reranker.score("dark", [grey(0), grey(255), grey(51)]) == pytest.approx([0, 1, 0.2], abs=0.02)
    assert len(server.requests) == 2  # in batches of two
    assert (server.requests[0].get("instruct") == "Find the page.") == (dialect == "sglang")


def test_the_cohere_dialect_does_not_send_images(server: Server) -> None:
    with pytest.raises(
        RerankerFailed, match="takes texts, but the profile says reads: image: set reads: text"
    ):
        remote(server, "cohere", reads="image")


def test_large_images_are_shrunk_to_the_limit() -> None:
    noisy = Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 700, 3)).astype(np.uint8))
    url = data_url(noisy, most_kb=100)
    assert len(url) <= 100 * 1024 + 40
    sent = Image.open(BytesIO(base64.b64decode(url.split(",")[1])))
    assert sent.width / sent.height == pytest.approx(700 / 900, abs=0.02)


def test_a_request_that_fails_for_a_temporary_reason_is_sent_again(server: Server) -> None:
    server.planned = [(503, {}, b"loading"), (429, {"Retry-After": "0.3"}, b"slow down")]
    began = time.monotonic()
    assert remote(server).score("beta", [content("beta")]) == [0.1]
    assert len(server.requests) == 3
    assert time.monotonic() - began > 0.4  # our own pause, then the one that the server asked for


@pytest.mark.parametrize(
    ("status", "data", "message", "requests"),
    [
        (500, b"out of memory", r"answered 500 \(out of memory\) \(3 attempts\)", 3),
        (400, b'{"error": "too long"}', "answered 400 .*too long", 1),
        (401, b"", r"rejected the key \(401\): check key_variable", 1),
        (200, b"<html>", "does not follow the protocol of vllm", 1),
        (200, b'{"results": [{"index": 0}]}', "without index or relevance_score", 1),
        (200, b'{"results": [{"index": 5, "relevance_score": 1}]}', "index 5 of 1 documents", 1),
        (200, b'{"results": [{"index": 0, "relevance_score": NaN}]}', "score nan", 1),
        (200, b'{"results": []}', "scores for 0 of 1 documents", 1),
        (200, b"[]", "no list of results", 1),
    ],
)
def test_a_failure_says_what_the_server_did(
    server: Server, status: int, data: bytes, message: str, requests: int
) -> None:
    server.planned = [(status, {}, data)] * 3
    with pytest.raises(RerankerFailed, match=message):
        remote(server).score("beta", [content("beta")])
    assert len(server.requests) == requests


def test_a_slow_server_and_an_absent_one_give_different_messages(server: Server) -> None:
    server.delay = 0.5
    with pytest.raises(RerankerFailed, match=r"did not answer within 0\.1 s$"):
        remote(server, timeout_s=0.1, retries=2).score("beta", [content("beta")])
    time.sleep(0.6)
    assert len(server.requests) == 1  # no retry, which would double the wait
    with pytest.raises(RerankerFailed, match="cannot be reached"):
        remote(server, url="http://127.0.0.1:9", retries=1).score("beta", [content("beta")])


def test_after_repeated_failures_no_request_is_sent_for_a_while(server: Server) -> None:
    now = [0.0]
    settings = configs.Remote(
        dialect="vllm", url=server.url, model="m", reads="text", retries=0, break_after=2, rest_s=30
    )
    reranker = RemoteReranker(settings, clock=lambda: now[0])
    server.planned = [(500, {}, b"broken")] * 2
    for _ in range(2):
        with pytest.raises(RerankerFailed, match="answered 500"):
            reranker.score("beta", [content("beta")])
    now[0] = 10
    with pytest.raises(RerankerFailed, match=r"answered 500 .*no request is sent for another 20 s"):
        reranker.score("beta", [content("beta")])
    assert len(server.requests) == 2
    now[0] = 31
    server.planned = [(500, {}, b"still broken")]
    with pytest.raises(RerankerFailed, match="still broken"):
        reranker.score("beta", [content("beta")])
    with pytest.raises(RerankerFailed, match="no request is sent for another 30 s"):  # one failure was enough
        reranker.score("beta", [content("beta")])
    now[0] = 62
    assert reranker.score("beta", [content("beta")]) == [0.1]
    server.planned = [(500, {}, b"broken")]
    with pytest.raises(RerankerFailed, match="answered 500"):
        reranker.score("beta", [content("beta")])
    assert reranker.score("beta", [content("beta")]) == [0.1]  # after a success, it takes two failures again


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RerankerFailed, match="the variable FOLIO_KEY is not set: set FOLIO_KEY"):
        remote(server, key_variable="FOLIO_KEY")
    monkeypatch.setenv("FOLIO_KEY", "secret")
    remote(server, key_variable="FOLIO_KEY").score("beta", [content("beta")])
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_if_the_reranker_fails_the_first_stages_order_remains_and_the_decision_says_why(
    server: Server, store: Store, encoder: HashingEncoder
) -> None:
    add_document(store, encoder, "a.pdf", ["harbour fees", "harbour harbour", "fees"])
    settings = configs.Search()
    searcher = Searcher(store, encoder, remote(server, retries=0), settings)
    result = searcher.search("harbour fees")
    assert result.decision.reranked
    server.planned = [(503, {}, b"loading the model")] * 2
    failed = searcher.search("harbour fees")
    assert not failed.decision.reranked
    assert "answered 503 (loading the model)" in failed.decision.reason
    assert [hit.page for hit in failed.hits] == [hit.page for hit in failed.candidates]
    assert failed.hits
