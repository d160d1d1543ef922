"""Builds requests to reranking servers and reads their answers, in four dialects.

- vLLM: `POST /v1/rerank`; a document is a string, or `{"content": [parts]}` with parts as in OpenAI's messages.
- SGLang: `POST /v1/rerank`; a document is a string or a list of parts; the answer is a list of rows with `score`.
- Jina (api.jina.ai and compatible servers): `POST /v1/rerank`; a document is `{"text": ...}` or `{"image": data URL}`.
- Cohere: `POST /v2/rerank`; a document is a string.

Every answer gives the index of each document; its order is the server's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import configs.settings as configs
from retrieval.errors import RerankerFailed
from retrieval.model_server import BadAnswer


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's protocol: builds the body of a request, and reads the scores from the answer."""

    kind: str
    path: str
    model: str
    instruction: str | None = None

    def body(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Returns the JSON body of a request. documents: texts, or images as data URLs."""
        body: dict[str, Any] = {
            "model": self.model,
            "query": query,
            "documents": [self._document(d) for d in documents],
        }
        if self.kind == "sglang":
            if self.instruction:
                body["instruct"] = self.instruction
        else:
            body["top_n"] = len(documents)
        if self.kind in ("jina", "vllm"):
            body["return_documents"] = False
        return body

    def _document(self, document: str) -> Any:
        is_image = document.startswith("data:image/")
        part = {"type": "image_url", "image_url": {"url": document}}
        if self.kind == "jina":
            return {"image": document} if is_image else {"text": document}
        if not is_image:
            return document
        return [part] if self.kind == "sglang" else {"content": [part]}

    def scores(self, answer: Any, count: int) -> list[float]:
        """Returns the scores of `count` documents, in the documents' order. Raises BadAnswer."""
        rows = (
            answer if self.kind == "sglang" else answer.get("results") if isinstance(answer, dict) else None
        )
        if not isinstance(rows, list):
            raise BadAnswer(f"no list of results in {str(answer)[:80]!r}")
        field = "score" if self.kind == "sglang" else "relevance_score"
        score_of: dict[int, float] = {}
        for row in rows:
            try:
                index, score = int(row["index"]), float(row[field])
            except (KeyError, TypeError, ValueError) as error:
                raise BadAnswer(f"a result without index or {field}: {str(row)[:80]!r}") from error
            if not 0 <= index < count or index in score_of or not math.isfinite(score):
                raise BadAnswer(f"index {index} of {count} documents, score {score}")
            score_of[index] = score
        if len(score_of) != count:
            raise BadAnswer(f"scores for {len(score_of)} of {count} documents")
        return [score_of[i] for i in range(count)]


def dialect_for(settings: configs.Remote) -> Dialect:
    """Returns the dialect of these settings. Raises RerankerFailed for images in a dialect that only sends texts."""
    match settings.dialect:
        case "vllm" | "sglang" | "jina":
            return Dialect(settings.dialect, "/v1/rerank", settings.model, settings.instruction)
        case "cohere":
            if settings.reads == "image":
                raise RerankerFailed(
                    "Cohere's protocol takes texts, but the profile says reads: image",
                    remedy="set reads: text, or choose another dialect",
                )
            return Dialect("cohere", "/v2/rerank", settings.model)
        case _:
            assert_never(settings.dialect)
