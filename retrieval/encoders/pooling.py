"""Reduces the vectors of a page by hierarchical token pooling.

Sources: Faysse et al., 2024, "ColPali", section 5.3; Clavié et al., 2024. A page's image vectors are clustered by their
cosine distances (Ward's method). Each cluster becomes its normalised mean, with the box around its cells as region.
"""

import numpy as np
import torch
from colpali_engine.compression.token_pooling import HierarchicalTokenPooler

from retrieval.types import Vectors


def pool_vectors(vectors: Vectors, regions: Vectors, factor: int) -> tuple[Vectors, Vectors]:
    """Returns the prompt's vectors unchanged, then at most n_image // factor pooled ones; and the regions of all.

    vectors (n, d), regions (n, 4). Vectors whose region is NaN belong to the prompt and are not pooled.
    """
    placed = ~np.isnan(regions).any(axis=1)
    image, cells = vectors[placed], regions[placed]
    if factor < 2 or len(image) < 2 * factor:
        return vectors, regions
    pooled = HierarchicalTokenPooler().pool_embeddings(
        [torch.from_numpy(image)], pool_factor=factor, return_dict=True, padding=False
    )
    clusters = pooled.cluster_id_to_indices[0].values()
    members = [np.asarray(cluster[0]) for cluster in clusters if len(cluster[0])]
    means = np.asarray(pooled.pooled_embeddings[0].numpy(), np.float32)[: len(members)]
    boxes = np.array([[*cells[m, :2].min(axis=0), *cells[m, 2:].max(axis=0)] for m in members], np.float32)
    return np.concatenate([vectors[~placed], means]), np.concatenate([regions[~placed], boxes])
