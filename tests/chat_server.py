"""A real HTTP server that speaks OpenAI's chat completions, streamed, with replies that a test plans."""

import base64
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from PIL import Image


@dataclass
class Answer:
    """What the server says to one request."""

    text: str = ""
    status: int = 200
    body: str = ""  # of a status other than 200
    prompt_tokens: int | None = (
        None  # None: as many as the text has, at 4 characters a token, and 1,000 an image
    )
    finish: str | None = "stop"
    cut_after: int | None = None  # pieces after which the connection breaks
    delay_s: float = 0.0  # before each piece
    tool: bool = False
    raw: bytes | None = None  # sent as the whole stream
    piece: int = 7  # characters in an event


def claims(*rows: tuple[str, int, str]) -> str:
    """Return a reply in JSON, with a claim for each (text, page, quote)."""
    return json.dumps(
        {"claims": [{"evidence": [{"page": p, "quote": q}] if q else [], "text": t} for t, p, q in rows]}
    )


@dataclass
class Planned:
    """The replies to give in their order, the last one again and again, and the requests that came."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    broken: int = 0  # connections that the client closed before the end
    supports_schema: bool = True
    is_blind: bool = False

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class ChatServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = Planned()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def calls(self) -> int:
        return len(self.plan.requests)

    def will_say(self, *answers: Answer | str) -> None:
        self.plan.answers = [Answer(a) if isinstance(a, str) else a for a in answers]

    def text(self, at: int = -1) -> str:
        """Return the text parts of a request's last message, joined."""
        return "\n".join(part["text"] for part in self.parts(at) if part["type"] == "text")

    def parts(self, at: int = -1) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self.plan.requests[at]["messages"][-1]["content"]
        return parts

    def images(self, at: int = -1) -> list[Image.Image]:
        return [
            Image.open(BytesIO(base64.b64decode(part["image_url"]["url"].split(",", 1)[1])))
            for part in self.parts(at)
            if part["type"] == "image_url"
        ]


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plan = self.server.plan
        plan.requests.append({"path": self.path, **body})
        plan.headers.append(dict(self.headers))
        if "response_format" in body and not plan.supports_schema:
            self.send(400, b'{"error": {"message": "response_format json_schema is not supported"}}')
            return
        if plan.is_blind and any(part["type"] == "image_url" for part in body["messages"][-1]["content"]):
            self.send(400, b'{"error": {"message": "this model takes no image input"}}')
            return
        answer = plan.next()
        if answer.status != 200:
            self.send(answer.status, answer.body.encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.stream(answer, body)
        except (BrokenPipeError, ConnectionResetError):
            plan.broken += 1
        self.close_connection = True

    def stream(self, answer: Answer, body: dict[str, Any]) -> None:
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            return
        pieces = [answer.text[i : i + answer.piece] for i in range(0, len(answer.text), answer.piece)]
        for n, piece in enumerate(pieces):
            if answer.cut_after is not None and n >= answer.cut_after:
                return
            time.sleep(answer.delay_s)
            self.event({"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
        if answer.tool:
            call = {"index": 0, "id": "1", "function": {"name": "send_mail", "arguments": "{}"}}
            self.event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": None}]})
        self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": answer.finish}]})
        if body.get("stream_options", {}).get("include_usage"):
            self.event({"choices": [], "usage": {"prompt_tokens": answer.prompt_tokens or _tokens(body),
                                                 "completion_tokens": len(pieces)}})  # fmt: skip
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _tokens(body: dict[str, Any]) -> int:
    parts: Sequence[Any] = [
        part
        for message in body["messages"]
        for part in ([message["content"]] if isinstance(message["content"], str) else message["content"])
    ]
    texts = [part if isinstance(part, str) else part.get("text", "") for part in parts]
    images = sum(1 for part in parts if not isinstance(part, str) and part["type"] == "image_url")
    return len("".join(texts)) // 4 + 1000 * images


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()
