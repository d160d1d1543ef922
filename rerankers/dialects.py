"""How servers want to be asked to rerank, and how they answer.

- vLLM: `POST /v1/rerank`; a document is a string, or `{"content": [parts]}` in the manner of OpenAI's messages.
- SGLang: `POST /v1/rerank`; a document is a string, or a bare list of parts; the answer is a bare list with `score`.
- Jina (api.jina.ai and look-alikes): `POST /v1/rerank`; a document is `{"text": ...}` or `{"image": data URL}`.
- Cohere: `POST /v2/rerank`; strings only.

All answer with the index of each document, in an order of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import configs.settings as configs
from rerankers.server import BadAnswer
from retrieval.errors import RerankerFailed


@dataclass(frozen=True, slots=True)
class Dialect:
    kind: str
    path: str
    model: str
    instruction: str | None = None

    def body(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """`documents` are texts, or images as data URLs."""
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
        """In the order of the documents. Raises BadAnswer."""
        rows = (
            answer if self.kind == "sglang" else answer.get("results") if isinstance(answer, dict) else None
        )
        if not isinstance(rows, list):
            raise BadAnswer(f"no list of results in {str(answer)[:80]!r}")
        field = "score" if self.kind == "sglang" else "relevance_score"
        found: dict[int, float] = {}
        for row in rows:
            try:
                index, score = int(row["index"]), float(row[field])
            except (KeyError, TypeError, ValueError) as error:
                raise BadAnswer(f"a result without index or {field}: {str(row)[:80]!r}") from error
            if not 0 <= index < count or index in found or not math.isfinite(score):
                raise BadAnswer(f"index {index} of {count} documents, score {score}")
            found[index] = score
        if len(found) != count:
            raise BadAnswer(f"scores for {len(found)} of {count} documents")
        return [found[i] for i in range(count)]


def dialect(settings: configs.Remote) -> Dialect:
    """Raises RerankerFailed for a dialect that cannot carry what is to be read."""
    match settings.dialect:
        case "vllm" | "sglang" | "jina":
            return Dialect(settings.dialect, "/v1/rerank", settings.model, settings.instruction)
        case "cohere":
            if settings.reads == "image":
                raise RerankerFailed(
                    "Cohere's protocol carries texts only: set reads: text, or choose another dialect"
                )
            return Dialect("cohere", "/v2/rerank", settings.model)
        case _:
            assert_never(settings.dialect)
