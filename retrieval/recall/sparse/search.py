"""The sparse evidence of one store's searches: loads the lists when they have changed, and scores pages with them."""

from collections.abc import Mapping

import configs.settings as configs
from retrieval.encoders import load_sparse_encoder
from retrieval.encoders.sparse import SparseEncoder
from retrieval.recall.sparse import upkeep
from retrieval.recall.sparse.lists import SparseLists, SparseScores
from retrieval.store.store import Store
from retrieval.types import Document


class SparseSearch:
    """Safe to use from several threads."""

    def __init__(self, store: Store, encoder: SparseEncoder) -> None:
        self._store = store
        self._encoder = encoder
        self._loaded: tuple[object, SparseLists | None] = (None, None)  # with the manifest's state

    def scores(
        self, text: str, documents: Mapping[str, Document], scanned: bool | None
    ) -> SparseScores | None:
        """Score the pages of `documents` (by doc_id) that match `scanned`, if it is given.

        Returns None while the lists lack one of these documents: pages without a score would be at a disadvantage.
        """
        lists = self._lists()
        if lists is None or upkeep.missing_documents(lists, list(documents.values())):
            return None
        query = self._encoder.encode_query(text)
        return lists.scores(query, self._encoder.by_rarity, documents, scanned)

    def _lists(self) -> SparseLists | None:
        state = upkeep.manifest_state(self._store)
        if state != self._loaded[0]:
            self._loaded = state, upkeep.load_lists(self._store, self._encoder)
        return self._loaded[1]


def sparse_search_for(store: Store, settings: configs.SparseSettings) -> SparseSearch | None:
    """Return the sparse search that the profile names, None if it names none. Raises ModelBroken."""
    encoder = load_sparse_encoder(settings)
    return None if encoder is None else SparseSearch(store, encoder)
