"""Reranks with any CrossEncoder of sentence-transformers, on page images (LightOn-rerank, Nemotron-rerank-vl) or texts.

The library puts the question and the page into the roles "query" and "document". A checkpoint whose chat template does
not handle these roles would get a prompt that it was never trained on; loading it is an error.
"""

import threading
from collections.abc import Sequence
from typing import Any

from sentence_transformers import CrossEncoder

import configs.settings as configs
from configs.models import cautions
from retrieval.errors import ModelBroken, RerankerFailed, first_line
from retrieval.models import checkpoints
from retrieval.types import PageContent


class SentenceTransformersReranker:
    """Scores with a CrossEncoder that `load` has checked."""

    listwise = False

    def __init__(
        self, settings: configs.SentenceTransformers, model: Any, placement: checkpoints.Placement
    ) -> None:
        self.name = f"sentence_transformers ({settings.model})"
        self.batch_pages = 32 if placement.device.type == "cuda" else 2
        notes = cautions(settings.model)
        if settings.trust_remote_code:
            notes.append(f"{settings.model} runs code of its own (trust_remote_code)")
        self.notes = (f"{settings.model}: {placement}", *notes)
        self._lock = threading.Lock()
        self._model, self._batch, self._reads = model, settings.batch_size, settings.reads

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns the model's scores, which are probabilities for most models. Raises RerankerFailed.

        Calls from several threads take turns, because they would compete for the same memory.
        """
        pairs = [(query, page.image() if self._reads == "image" else page.text) for page in pages]
        try:
            with self._lock:
                scores = self._model.predict(pairs, batch_size=self._batch, show_progress_bar=False)
        except (ValueError, RuntimeError, TypeError) as error:
            first = first_line(error)
            raise RerankerFailed(f"{self.name} failed ({type(error).__name__}: {first})") from error
        return [float(score) for score in scores]


def load(settings: configs.SentenceTransformers) -> SentenceTransformersReranker:
    """Returns the reranker. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    placement = checkpoints.choose_placement(settings.device, settings.dtype, settings.attn)
    folder = checkpoints.fetch_checkpoint(settings.model, settings.revision, code=settings.trust_remote_code)
    checkpoints.check_files(folder)
    options = {"dtype": placement.dtype, "attn_implementation": placement.attention}
    try:
        model = CrossEncoder(
            str(folder),
            device=str(placement.device),
            local_files_only=True,
            trust_remote_code=settings.trust_remote_code,
            model_kwargs=options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelBroken(
            f"{settings.model} cannot be loaded as a CrossEncoder ({first_line(error)})",
            remedy=checkpoints.OTHER_KIND,
        ) from error
    if settings.reads == "image":
        if "image" not in model.modalities and "message" not in model.modalities:
            raise ModelBroken(
                f"{settings.model} takes {', '.join(map(str, model.modalities))}, but no images",
                remedy="set reads: text",
            )
        checkpoints.check_template(model[0].processor, settings.model, "query", "document")
    return SentenceTransformersReranker(settings, model, placement)
