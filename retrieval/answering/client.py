"""Sends a prompt to an OpenAI-compatible server (`POST /v1/chat/completions`), and streams the reply.

Any server with that protocol will do: vLLM, SGLang, llama.cpp, Ollama, or a service. If a server rejects the JSON
schema or the options of streaming, the request is sent again without them, and the client remembers that.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from PIL import Image, ImageDraw, ImageFont

import configs.settings as configs
from retrieval.answering.prompt import Prompt, response_format
from retrieval.errors import AnswerFailed, BadReply
from retrieval.model_server import Rejected, Server, data_url

PATH = "/v1/chat/completions"
PROTOCOL = "chat completions"
Form = Literal["json_schema", "text"]
SCHEMA_WORDS = ("response_format", "json_schema", "json schema", "guided", "grammar", "structured")
PROBE_WORD = "HERON"  # a word that a model which sees nothing will not guess
PROBE_SIZE = (256, 96)  # pixels: in 32 x 32, which are a single token of Qwen3-VL, no model could read a word


@dataclass(slots=True)
class Completion:
    """What a stream has said besides its text; complete when the stream has ended."""

    finish: str = ""  # stop, length, or what else the server says
    usage: Mapping[str, int] = field(default_factory=dict)


class ChatClient:
    """A chat model behind HTTP. Safe to call from several threads. Raises AnswerFailed without the server's key."""

    def __init__(self, settings: configs.Answer, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: returns seconds, for the pause after several failures."""
        self._settings = settings
        self._server = Server(settings, clock, role="the answering model", failure=AnswerFailed)
        self._lock = threading.Lock()
        self._form: Form = "text" if settings.format == "text" else "json_schema"
        self._asks_for_usage = True

    @property
    def form(self) -> Form:
        """The form in which the next request asks for the reply."""
        with self._lock:
            return self._form

    def stream(
        self, prompt: Callable[[Form], Prompt], completion: Completion, stop: threading.Event | None = None
    ) -> Iterator[str]:
        """Yield the text of the reply in pieces, and fill `completion`.

        prompt: builds the prompt for a form, again if the server rejects the schema. stop: set it to end the request.
        Raises AnswerFailed if the server fails or ends the stream in the middle, BadReply for a reply that cannot be
        read or asks for a tool.
        """
        with self._server.guarded():
            while True:
                form, asks_for_usage = self.form, self._asks_for_usage
                body = self._body(prompt(form), form, asks_for_usage)
                try:
                    yield from self._text(body, completion, stop)
                except Rejected as error:
                    if not self._adapted(error, form, asks_for_usage):
                        self._server.fail(str(error))
                else:
                    return

    def sees_pictures(self) -> bool:
        """Ask the model to read the word in a small picture, and return whether it does.

        Raises AnswerFailed.
        """
        picture = Image.new("RGB", PROBE_SIZE, "white")
        ImageDraw.Draw(picture).text((24, 20), PROBE_WORD, fill="black", font=ImageFont.load_default(48))
        content = [
            {"type": "image_url", "image_url": {"url": data_url(picture, 64)}},
            {"type": "text", "text": "Which word is in this picture? Reply with the word only."},
        ]
        body = self._common([{"role": "user", "content": content}])
        try:
            reply = "".join(self._text(body, Completion(), None))
        except Rejected as error:
            if "image" in error.text.lower() or "multimodal" in error.text.lower():
                return False
            self._server.fail(str(error))
        return PROBE_WORD in reply.upper()

    def _refuse(self, what: str) -> NoReturn:
        raise BadReply(f"the answering model at {self._settings.url} {what}")

    def _common(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "model": self._settings.model,
            "messages": messages,
            "temperature": 0,
            "max_tokens": self._settings.max_tokens,
            "stream": True,
        }

    def _body(self, prompt: Prompt, form: Form, asks_for_usage: bool) -> dict[str, Any]:
        body = self._common(prompt.messages)
        if form == "json_schema":
            body["response_format"] = response_format()
        if asks_for_usage:
            body["stream_options"] = {"include_usage": True}
        return body

    def _adapted(self, error: Rejected, form: Form, asks_for_usage: bool) -> bool:
        """Change what later requests ask for if the server rejected it. Return whether a new request makes sense."""
        said = error.text.lower()
        with self._lock:
            if "stream_options" in said and asks_for_usage:
                self._asks_for_usage = False
                return True
            if (
                self._settings.format == "auto"
                and form == "json_schema"
                and any(w in said for w in SCHEMA_WORDS)
            ):
                self._form = "text"
                return True
        return False

    def _text(self, body: Any, completion: Completion, stop: threading.Event | None) -> Iterator[str]:
        for event in self._server.stream(PATH, body, protocol=PROTOCOL):
            if stop and stop.is_set():
                completion.finish = "stopped"
                return
            yield from self._read(event, completion)
        if not completion.finish:
            self._server.fail("ended its answer in the middle")

    def _read(self, event: Any, completion: Completion) -> Iterator[str]:
        """Yield the text of one event."""
        try:
            if event.get("error"):
                self._server.fail(f"stopped with an error: {str(event['error'])[:120]}")
            if event.get("usage"):
                completion.usage = {k: v for k, v in event["usage"].items() if isinstance(v, int)}
            for choice in event.get("choices") or ():
                message = choice.get("delta") or choice.get("message") or {}
                if message.get("tool_calls") or message.get("function_call"):
                    self._refuse("asked for a tool, but it has none: its answer was refused")
                if message.get("content"):
                    yield str(message["content"])
                completion.finish = choice.get("finish_reason") or completion.finish
        except (AttributeError, TypeError):
            self._refuse(
                f"gave an answer that does not follow the protocol of {PROTOCOL}: {str(event)[:80]!r}"
            )
