"""From a profile and an index to the parts that the screens and commands use. Heavy imports happen in here.

What a user should know of a model that was loaded (its device, what its licence forbids) goes to the log "folioscope"
at level INFO; the command line prints it.
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
    """Raises IndexMissing and its kin."""
    from retrieval.store.store import Store

    return Store.open(index)


def create_store(index: str, settings: configs.Settings) -> tuple["Store", "Encoder"]:
    """The index, made if it is new, and the encoder of the profile. Raises EncoderMismatch where they differ."""
    from retrieval.store.store import Store

    encoder = _encoder(settings)
    return Store.create(index, encoder.fingerprint, settings.ingest.vectors), encoder


def open_searcher(index: str, settings: configs.Settings, rerank: bool = True) -> tuple["Searcher", "Store"]:
    """Raises IndexMissing, EncoderMismatch, ModelBroken."""
    from retrieval.store.store import Store

    encoder = _encoder(settings)
    store = Store.open(index, encoder.fingerprint)
    return build_searcher(store, encoder, settings, rerank), store


def build_searcher(
    store: "Store", encoder: "Encoder", settings: configs.Settings, rerank: bool = True
) -> "Searcher":
    """With the profile's reranker, unless `rerank` is false. Raises ModelBroken."""
    import rerankers
    from retrieval import confidence
    from retrieval.search import Searcher

    reranker = rerankers.load_reranker(settings.reranker) if rerank else None
    if reranker is None:
        return Searcher(store, encoder, None, settings.search)
    _log(reranker.notes)
    try:
        known = confidence.load_calibration(
            store.uri, reranker=reranker.name, encoder=str(encoder.fingerprint)
        )
    except confidence.CalibrationMismatch as error:  # searching goes on, without confidences
        _log([f"not used: {error}"])
        known = None
    return Searcher(store, encoder, reranker, settings.search, known)


def refresh_inverted_index(store: "Store", settings: configs.Search, on_progress: "OnProgress") -> bool:
    """Refresh the recall lists, where the index is so large that searches gain by it. Whether that was done.

    Raises IndexBusy while another process is at it.
    """
    from retrieval.recall.ivf import upkeep
    from retrieval.recall.maxsim import vectors_per_ms

    if not upkeep.due(store, settings.recall_ms * vectors_per_ms(store.fingerprint.dim)):
        return False
    return upkeep.refresh(store, on_progress)


def _encoder(settings: configs.Settings) -> "Encoder":
    import retrieval.encoders

    encoder = retrieval.encoders.load_encoder(settings.encoder)
    _log(encoder.notes)
    return encoder


def _log(notes: Sequence[str]) -> None:
    for note in notes:
        LOG.info(note)
