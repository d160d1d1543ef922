"""Learned sparse vectors (SPLADE: Formal et al., 2021) by a small ONNX model: `rerankers/train/splade.py` makes its
folder.

A window of word pieces becomes one weight for each piece of the vocabulary: the logarithm of 1 plus the highest logit
that the model's masked-word head gives to that piece at any place of the window, 0 if it is negative.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import configs.settings as configs
from retrieval.encoders.sparse import SparseVector
from retrieval.models.onnx import ModelFolder, RowRunner

CLS, SEP = 101, 102
WINDOW, OVERLAP = 254, 16  # pieces, without [CLS] and [SEP]
QUESTION_PIECES = 120
FILE = "sparse.onnx"


class SpladeEncoder:
    """Implements SparseTextEncoder, on the CPU. Raises ModelBroken."""

    most = (
        5.0  # the logarithm of 1 plus a logit of 147; the highest weight of splade-tiny's expansions is 3.6
    )
    by_rarity = False

    def __init__(self, settings: configs.Splade) -> None:
        folder = ModelFolder(settings.model)
        self._tokenizer = folder.tokenizer()
        self._runner = RowRunner(folder.session(FILE), settings.threads)
        revision = folder.revision(FILE, "table.bin", "tokenizer.json")
        self.name = f"splade {folder.name}@{revision}, windows {WINDOW}/{OVERLAP}"

    def encode_pages(self, pages: Sequence[Sequence[str]]) -> list[list[SparseVector]]:
        windows = [self._windows(page) for page in pages]
        rows = iter(self._runner.run_rows([[CLS, *ids, SEP] for page in windows for ids in page]))
        return [[_vector(next(rows)) for _ in page] for page in windows]

    def encode_query(self, query: str) -> SparseVector:
        ids = self._tokenizer.encode(query, add_special_tokens=False).ids[:QUESTION_PIECES]
        return _vector(self._runner.run_rows([[CLS, *ids, SEP]])[0])

    def _windows(self, page: Sequence[str]) -> list[list[int]]:
        ids = self._tokenizer.encode(" ".join(page), add_special_tokens=False).ids
        starts = range(0, max(len(ids) - OVERLAP, 1), WINDOW - OVERLAP) if ids else ()
        return [ids[start : start + WINDOW] for start in starts]


def _vector(weights: NDArray[np.float32]) -> SparseVector:
    """weights (vocabulary,): of every piece."""
    tokens = np.flatnonzero(weights > 0)
    return SparseVector(tokens.astype(np.uint32), weights[tokens])
