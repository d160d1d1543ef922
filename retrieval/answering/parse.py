"""Reads a model's reply while it arrives, in either of two forms, as sentences with the quotes that support them.

JSON: {"claims": [{"evidence": [{"page": 1, "quote": "..."}], "text": "..."}]}, as `SCHEMA` says; an empty list means
that the pages do not answer. Text: `A sentence [1] "verbatim quote". Another one [2] "quote".`, or NOT_FOUND. A model
that was asked for one form may give the other. Text in <think> tags is no part of the reply.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOT_FOUND = "NOT_FOUND"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "claims": {
            "type": "array",
            "items": {
                "type": "object",
                # Evidence comes first, so that the model copies before it writes.
                "properties": {
                    "evidence": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {"page": {"type": "integer"}, "quote": {"type": "string"}},
                            "required": ["page", "quote"],
                            "additionalProperties": False,
                        },
                    },
                    "text": {"type": "string"},
                },
                "required": ["evidence", "text"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["claims"],
    "additionalProperties": False,
}
_MARK = r"\[(\d{1,3})\]"
_QUOTED = r"""(?:"((?:[^"\\]|\\.)*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»)"""
_EVIDENCE = re.compile(rf"\s*{_MARK}\s*[:,]?\s*(?:{_QUOTED})?")
_AFTER = re.compile(r"[ \t]*[.,;!?]?(?:[ \t]*\n)*")
_MORE_MAY_FOLLOW = re.compile(
    r"""\s*[.,;:!?]?\s*(?:\[\d{0,3}(?:\]\s*[:,]?\s*)?)?(?:"(?:[^"\\]|\\.)*\\?|“[^”]*|„[^“”]*|«[^»]*)?"""
)
_TEXT_FIELD = re.compile(r'"text"\s*:\s*"((?:[^"\\]|\\.)*)\Z')
_THOUGHT = re.compile(r"(?s)<think>.*?(?:</think>|\Z)\s*")
_FENCE = re.compile(r"\A```(?:json)?\s+")


@dataclass(frozen=True, slots=True)
class Evidence:
    page: int  # as the model numbers the pages
    quote: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the reply. `text` is without marks and quotes."""

    text: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """More of the sentence that is being written; its claim follows when the sentence is complete."""

    text: str


class Reply:
    """Parses a reply that arrives in pieces.

    Each call of `feed` returns what became known: parts of sentences, whose texts concatenated are the text of the
    claim that follows them. `end` returns the rest.
    """

    def __init__(self) -> None:
        self._raw = ""
        self._at = 0  # of the plain reply: everything before has been returned
        self._shown = 0  # characters of the current sentence that were returned as parts
        self._claims = 0  # claims that were returned
        self.not_found = False
        """Whether the model said that the pages do not answer."""
        self.is_broken = False
        """Whether the reply began as JSON and ended before its end."""

    def feed(self, text: str) -> list[Part | Claim]:
        self._raw += text
        reply = self._reply()
        if any(begin.startswith(reply[: len(begin)].rstrip()) for begin in ("<think>", "```json", NOT_FOUND)):
            return []  # too early to tell what it is
        return list(self._json(reply) if _is_json(reply) else self._plain(reply, ended=False))

    def end(self) -> list[Part | Claim]:
        reply = self._reply().strip()
        if _is_json(reply):
            events = list(self._json(reply))
            value = _parsed(reply)
            self.is_broken = value is None
            self.not_found = isinstance(value, dict) and not value.get("claims") and not self._claims
            return events
        if re.fullmatch(rf"\W*{NOT_FOUND}\W*", reply):
            self.not_found = True
            return []
        return list(self._plain(self._reply(), ended=True))

    def _reply(self) -> str:
        return _FENCE.sub("", _THOUGHT.sub("", self._raw).lstrip())

    def _json(self, reply: str) -> Iterator[Part | Claim]:
        claims, rest = _complete_claims(reply)
        for claim in claims[self._claims :]:
            if claim.text:
                yield from self._part(claim.text)
                yield claim
            self._claims += 1
            self._shown = 0
        partial = _TEXT_FIELD.search(rest)
        if partial:
            whole = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?\Z", "", partial[1])
            yield from self._part(json.loads(f'"{whole}"', strict=False))

    def _part(self, text: str) -> Iterator[Part]:
        if len(text) > self._shown:
            yield Part(text[self._shown :])
            self._shown = len(text)

    def _plain(self, reply: str, *, ended: bool) -> Iterator[Part | Claim]:
        while True:
            rest = reply[self._at :]
            begin = re.search(_MARK, rest)
            if begin is None:
                break
            evidence, end = _evidence(rest, begin.start())
            if not ended and _MORE_MAY_FOLLOW.fullmatch(rest, end):
                break  # more evidence of this sentence may follow
            after = _AFTER.match(rest, end)
            end = after.end() if after else end
            sentence = rest[: begin.start()].strip()
            yield from self._part(sentence)
            if sentence:
                yield Claim(sentence, evidence)
            self._at += end
            self._shown = 0
        rest = reply[self._at :]
        if ended:
            sentence = rest.strip()
            if re.search(r"\w", sentence):
                yield from self._part(sentence)
                yield Claim(sentence, ())
            return
        visible = rest[: begin.start()] if (begin := re.search(r"\s*\[", rest)) else rest.rstrip()
        yield from self._part(visible.strip())


def _evidence(text: str, start: int) -> tuple[tuple[Evidence, ...], int]:
    """Return the evidence that begins at `start`, and where it ends."""
    evidence, end = [], start
    while found := _EVIDENCE.match(text, end):
        quote = next((group for group in found.groups()[1:] if group is not None), "")
        evidence.append(Evidence(int(found[1]), quote.replace('\\"', '"').strip()))
        end = found.end()
    return tuple(evidence), end


def _is_json(reply: str) -> bool:
    return reply.startswith("{")


def _parsed(reply: str) -> Any:
    try:
        return json.JSONDecoder(strict=False).raw_decode(reply)[0]
    except ValueError:
        return None


def _complete_claims(reply: str) -> tuple[list[Claim], str]:
    """Return the claims whose objects are complete, and the text after them."""
    claims: list[Claim] = []
    begin = re.search(r'"claims"\s*:\s*\[', reply)
    if not begin:
        return [], ""
    at, decoder = begin.end(), json.JSONDecoder(strict=False)
    while match := re.compile(r"[\s,]*(?=\{)").match(reply, at):
        try:
            value, at = decoder.raw_decode(reply, match.end())
        except ValueError:
            return claims, reply[match.end() :]
        claims.append(_claim(value))
    return claims, ""


def _claim(value: Any) -> Claim:
    """Return a claim from an object that need not follow the schema."""
    fields = value if isinstance(value, dict) else {}
    given = fields.get("evidence")
    rows = given if isinstance(given, list) else [fields] if "quote" in fields else []
    evidence = []
    for row in rows:
        page, quote = (row.get("page"), row.get("quote")) if isinstance(row, dict) else (None, None)
        number = re.search(r"\d{1,3}", str(page))
        if isinstance(quote, str):
            evidence.append(Evidence(int(number[0]) if number else 0, quote.strip()))
    text = fields.get("text")
    sentence = re.sub(rf"\s*{_MARK}", "", text) if isinstance(text, str) else ""
    return Claim(sentence.strip(), tuple(evidence))
