"""Fewer vectors a page: hierarchical token pooling (Faysse et al., 2024, "ColPali", section 5.3; Clavié et al., 2024).

Ward clustering on the cosine distances between a page's image vectors; each cluster becomes its normalised mean,
and its region the box around all of its cells.
"""

import numpy as np
import torch
from colpali_engine.compression.token_pooling import HierarchicalTokenPooler

from retrieval.types import Vectors


def pool(vectors: Vectors, regions: Vectors, factor: int) -> tuple[Vectors, Vectors]:
    """(n, d), (n, 4) -> the prompt's vectors as they are, then at most n_image // factor pooled ones.

    Vectors without a place (NaN regions) belong to the prompt and are not pooled.
    """
    placed = ~np.isnan(regions).any(axis=1)
    image, cells = vectors[placed], regions[placed]
    if factor < 2 or len(image) < 2 * factor:
        return vectors, regions
    pooled = HierarchicalTokenPooler().pool_embeddings(
        [torch.from_numpy(image)], pool_factor=factor, return_dict=True, padding=False
    )
    members = [np.asarray(found[0]) for found in pooled.cluster_id_to_indices[0].values() if len(found[0])]
    means = np.asarray(pooled.pooled_embeddings[0].numpy(), np.float32)[: len(members)]
    boxes = np.array([[*cells[m, :2].min(axis=0), *cells[m, 2:].max(axis=0)] for m in members], np.float32)
    return np.concatenate([vectors[~placed], means]), np.concatenate([regions[~placed], boxes])
