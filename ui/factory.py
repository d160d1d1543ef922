"""Opens an index and loads a profile's models. Heavy libraries are imported inside the functions.

The notes of a loaded model (its device, what its licence forbids) go to the log "folioscope" at level INFO, which the
command line prints.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import configs.settings as configs

if TYPE_CHECKING:
    from retrieval import confidence
    from retrieval.answering.answerer import Answerer
    from retrieval.recall.ivf.upkeep import OnProgress
    from retrieval.search import Searcher
    from retrieval.store.store import Store
    from retrieval.types import Encoder

LOG = logging.getLogger("folioscope")


def open_store(index: str) -> "Store":
    """Open the index, whatever its encoder. Raises IndexMissing, IndexDamaged, SchemaMismatch."""
    from retrieval.store.store import Store

    return Store.open(index)


def create_store(index: str, settings: configs.Settings) -> tuple["Store", "Encoder"]:
    """Open or create the index; return it with the profile's encoder. Raises EncoderMismatch if they do not match."""
    from retrieval.store.store import Store

    encoder = _encoder(settings)
    return Store.create(index, encoder.fingerprint, settings.ingest.vectors), encoder


def open_searcher(index: str, settings: configs.Settings, rerank: bool = True) -> tuple["Searcher", "Store"]:
    """Open the index with the profile's models. Raises IndexMissing, EncoderMismatch, ModelBroken."""
    from retrieval.store.store import Store

    encoder = _encoder(settings)
    store = Store.open(index, encoder.fingerprint)
    return build_searcher(store, encoder, settings, rerank), store


def build_searcher(
    store: "Store", encoder: "Encoder", settings: configs.Settings, rerank: bool = True
) -> "Searcher":
    """Return a searcher, with the profile's reranker unless `rerank` is false. Raises ModelBroken."""
    import rerankers
    from retrieval import confidence
    from retrieval.search import Searcher

    reranker = rerankers.load_reranker(settings.reranker) if rerank else None
    if reranker is None:
        return Searcher(store, encoder, None, settings.search)
    _log(reranker.notes)
    names = {"reranker": reranker.name, "encoder": str(encoder.fingerprint)}
    shipped = _shipped_calibration(settings.reranker, names)
    try:
        calibration = confidence.load_calibration(store.uri, **names) or shipped
    except (
        confidence.CalibrationMismatch
    ) as error:  # searching goes on, maybe with the model's own calibration
        _log([f"calibration not used: {error}"])
        calibration = shipped
    weights = shipped.answer if shipped else None
    return Searcher(store, encoder, reranker, settings.search, calibration, weights)


def _shipped_calibration(
    settings: "configs.RerankerSettings", names: dict[str, str]
) -> "confidence.Calibration | None":
    """Return the calibration in the folder of the profile's embedded reranker, None if it has none."""
    from retrieval import confidence
    from retrieval.models.onnx import ModelFolder

    if not isinstance(settings, configs.Text):
        return None
    return confidence.load_shipped(ModelFolder(settings.model).path, **names)


def build_answerer(settings: configs.Settings) -> "Answerer":
    """Return what answers questions by the profile's `answer:`. Raises AnswerFailed without its server's key."""
    from retrieval.answering.answerer import Answerer

    if settings.answer:
        sent = "images and text of pages" if settings.answer.images else "text of pages"
        _log(
            [
                f"questions and {sent} are sent to {settings.answer.model} at {settings.answer.url} to write answers"
            ]
        )
    return Answerer(settings.answer)


def refresh_inverted_index(store: "Store", settings: configs.Search, on_progress: "OnProgress") -> bool:
    """Refresh the inverted index if the index is large enough to gain by one, and the sparse lists if it has some.

    Returns whether one of them was refreshed. Raises IndexBusy while another process refreshes them, and ModelBroken.
    """
    from retrieval.encoders import load_sparse_encoder
    from retrieval.recall.ivf import upkeep
    from retrieval.recall.maxsim import vectors_per_ms
    from retrieval.recall.sparse import upkeep as sparse_upkeep

    encoder = load_sparse_encoder(settings.sparse)
    has_new_lists = encoder is not None and sparse_upkeep.refresh(store, encoder, on_progress)

    if not upkeep.is_refresh_due(store, settings.recall_ms * vectors_per_ms(store.fingerprint.dim)):
        return has_new_lists
    return upkeep.refresh(store, on_progress) or has_new_lists


def _encoder(settings: configs.Settings) -> "Encoder":
    import retrieval.encoders

    encoder = retrieval.encoders.load_encoder(settings.encoder)
    _log(encoder.notes)
    return encoder


def _log(notes: Sequence[str]) -> None:
    for note in notes:
        LOG.info(note)
