"""Makes deterministic vectors from hashed word stems (Weinberger et al., 2009), for tests and smoke runs.

Each word has a fixed random direction, so MaxSim counts how many of the query's words a page contains.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from retrieval.text import STOP_WORDS, stem, words
from retrieval.types import Fingerprint, PageContent, PageEmbedding, QueryEmbedding, Vectors


class HashingEncoder:
    """Implements Encoder with vectors of `dim` dimensions."""

    needs: frozenset[Literal["images", "words"]] = frozenset({"words"})
    batch_pages = 8
    notes: tuple[str, ...] = ()

    def __init__(self, dim: int = 64) -> None:
        self.fingerprint = Fingerprint(kind="hashing", model="blake2b", revision="1", dim=dim)

    def expect(self, pages: Sequence[PageContent]) -> None:
        """Does nothing: this encoder prepares nothing ahead."""

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        return [self._page(page) for page in pages]

    def encode_queries(self, queries: Sequence[str]) -> list[QueryEmbedding]:
        return [self._query(query) for query in queries]

    def _page(self, page: PageContent) -> PageEmbedding:
        placed = [(token, word.box) for word in page.words for token in words(word.text)]
        regions = np.array([box for _, box in placed], np.float32).reshape(-1, 4)
        return PageEmbedding(self._vectors([token for token, _ in placed]), regions)

    def _query(self, query: str) -> QueryEmbedding:
        tokens = words(query)
        content = tuple(token not in STOP_WORDS for token in tokens)
        weights = np.array(content, np.float32)
        return QueryEmbedding(self._vectors(tokens), tuple(tokens), content, weights)

    def _vectors(self, tokens: Sequence[str]) -> Vectors:
        dim = self.fingerprint.dim
        return np.array([_direction(stem(token), dim) for token in tokens], np.float32).reshape(-1, dim)


@lru_cache(maxsize=65_536)
def _direction(token: str, dim: int) -> tuple[float, ...]:
    seed = int.from_bytes(hashlib.blake2b(token.encode(), digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).standard_normal(dim)
    return tuple(vector / np.linalg.norm(vector))
