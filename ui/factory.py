"""Opens an index and loads a profile's models. Heavy libraries are imported inside the functions.

The notes of a loaded model (its device, what its licence forbids) go to the log "folioscope" at level INFO, which the
command line prints.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import configs.settings as configs

if TYPE_CHECKING:
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
    try:
        calibration = confidence.load_calibration(
            store.uri, reranker=reranker.name, encoder=str(encoder.fingerprint)
        )
    except confidence.CalibrationMismatch as error:  # searching goes on, without confidences
        _log([f"calibration not used: {error}"])
        calibration = None
    return Searcher(store, encoder, reranker, settings.search, calibration)


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
