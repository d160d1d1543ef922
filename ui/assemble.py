"""From a profile and an index to the parts that the screens and commands use. Heavy imports happen in here."""

from typing import TYPE_CHECKING

import configs.settings as configs

if TYPE_CHECKING:
    from retrieval.search import Searcher
    from retrieval.store import Store
    from retrieval.types import Encoder


def store_to_read(index: str) -> "Store":
    """Raises IndexMissing and its kin."""
    from retrieval.store import Store

    return Store.open(index)


def store_to_write(index: str, settings: configs.Settings) -> tuple["Store", "Encoder"]:
    """The index, made if it is new, and the encoder of the profile. Raises EncoderMismatch where they differ."""
    import retrieval.encoders
    from retrieval.store import Store

    encoder = retrieval.encoders.load(settings.encoder)
    return Store.create(index, encoder.fingerprint), encoder


def searcher(index: str, settings: configs.Settings, rerank: bool = True) -> tuple["Searcher", "Store"]:
    """Raises IndexMissing, EncoderMismatch, ModelBroken."""
    import retrieval.encoders
    from retrieval.store import Store

    encoder = retrieval.encoders.load(settings.encoder)
    store = Store.open(index, encoder.fingerprint)
    return searcher_of(store, encoder, settings, rerank), store


def searcher_of(
    store: "Store", encoder: "Encoder", settings: configs.Settings, rerank: bool = True
) -> "Searcher":
    """With the profile's reranker, unless `rerank` is false. Raises ModelBroken."""
    import rerankers
    from retrieval.search import Searcher

    return Searcher(store, encoder, rerankers.load(settings.reranker) if rerank else None, settings.search)
