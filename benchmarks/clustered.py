"""Makes a corpus of synthetic pages that is as hard for recall as pages of a vision encoder are said to be.

Vectors are noisy copies of 5,000 "visual words" around 150 themes in a space that is wider in some directions than in
others. A document has three of 160 topics, of 40 words each, some frequent and some rare; its pages mix the topics and
have a style of their own and of the document, and 15 to 45% of their vectors are common to all pages (margins, white).
So a page's mean says next to nothing. A question has some of a page's vectors, with much more noise, and a quarter of
its vectors have nothing to do with the page.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.types import Vectors

DIM = 128
WORDS, COMMON, THEMES, TOPICS, TOPIC_WORDS = 5_000, 40, 150, 160, 40
PER_DOCUMENT = 12  # pages that share topics and style
BLOCK = 1_200  # pages that are made at once, from one seed
COMMON_DIRECTION, STYLE, NOISE = 0.35, 0.25, 0.40
OWN, QUERY_NOISE, CHAFF = 0.30, 1.1, 0.25


def unit(vectors: Vectors) -> Vectors:
    made: Vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return made


def directions(rng: np.random.Generator, count: int) -> Vectors:
    """Returns (count, DIM) of length 1, with a decreasing spectrum."""
    spread = 1 / np.sqrt(1 + np.arange(DIM) / 12)
    return unit((rng.standard_normal((count, DIM)) * spread).astype(np.float32))


def falling(count: int, power: float) -> NDArray[np.float64]:
    """Returns Zipf's probabilities (count,)."""
    weights = 1 / np.arange(1, count + 1) ** power
    made: NDArray[np.float64] = weights / weights.sum()
    return made


@cache
def world() -> tuple[Vectors, Vectors, NDArray[np.int64]]:
    """Returns (words (WORDS, DIM), the direction that all share (DIM,), topics (TOPICS, TOPIC_WORDS))."""
    rng = np.random.default_rng(7)
    themes = directions(rng, THEMES)[rng.integers(0, THEMES, WORDS)]
    words = unit(0.75 * themes + 0.66 * directions(rng, WORDS))
    topics = np.stack([rng.permutation(np.arange(COMMON, WORDS))[:TOPIC_WORDS] for _ in range(TOPICS)])
    return words, directions(rng, 1)[0], topics


def block(first: int, pages: int, per_page: int) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """Returns (vectors (pages, per_page, DIM), the word of each (pages, per_page)) of pages from `first` on."""
    words, shared, topics = world()
    rng = np.random.default_rng(1_000 + first)
    vectors = np.empty((pages, per_page, DIM), np.float16)
    ids = np.empty((pages, per_page), np.int32)
    for page in range(pages):
        if page % PER_DOCUMENT == 0:
            document_topics, document_style = rng.choice(TOPICS, 3, replace=False), directions(rng, 1)
        empty = round(per_page * rng.uniform(0.15, 0.45))
        topic = document_topics[rng.choice(3, per_page - empty, p=rng.dirichlet([0.6] * 3))]
        content = topics[topic, rng.choice(TOPIC_WORDS, per_page - empty, p=falling(TOPIC_WORDS, 0.8))]
        ids[page] = rng.permutation([*rng.choice(COMMON, empty, p=falling(COMMON, 1.0)), *content])
        style = STYLE * (document_style + directions(rng, 1))
        noise = NOISE * directions(rng, per_page)
        vectors[page] = unit(words[ids[page]] + COMMON_DIRECTION * shared + style + noise)
    return vectors, ids


def write(folder: Path, pages: int, per_page: int) -> tuple[NDArray[np.float16], NDArray[np.int32]]:
    """Returns the corpus as two mapped files, made if they are not there; a larger one begins with the smaller one."""
    paths = [folder / f"{name}-{pages}x{per_page}.npy" for name in ("vectors", "words")]
    if not all(path.exists() for path in paths):
        folder.mkdir(parents=True, exist_ok=True)
        fresh = [path.with_suffix(".part") for path in paths]
        vectors = np.lib.format.open_memmap(fresh[0], "w+", np.float16, (pages, per_page, DIM))
        ids = np.lib.format.open_memmap(fresh[1], "w+", np.int32, (pages, per_page))
        firsts = range(0, pages, BLOCK)
        counts = [min(BLOCK, pages - first) for first in firsts]
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            made = pool.map(block, firsts, counts, [per_page] * len(counts))
            for first, (block_vectors, block_ids) in zip(firsts, made, strict=True):
                pages_made = slice(first, first + len(block_vectors))
                vectors[pages_made], ids[pages_made] = block_vectors, block_ids
        for part, path in zip(fresh, paths, strict=True):
            part.rename(path)
    vectors, ids = (np.load(path, mmap_mode="r") for path in paths)
    return vectors, ids


def questions(
    vectors: NDArray[np.float16], ids: NDArray[np.int32], count: int, seed: int = 3
) -> Iterator[Vectors]:
    """Yields questions (10 to 30, DIM): two to five words of one page, in several vectors each, and chaff."""
    words, shared, _ = world()
    rng = np.random.default_rng(seed)
    for _ in range(count):
        page = int(rng.integers(len(vectors)))
        length = int(rng.integers(10, 31))
        chaff = round(length * CHAFF)
        on_page = np.unique(ids[page][ids[page] >= COMMON])
        chosen = rng.choice(on_page, int(rng.integers(2, 6)), replace=False)
        places = [
            rng.choice(np.flatnonzero(ids[page] == word)) for word in rng.choice(chosen, length - chaff)
        ]
        plain = words[ids[page][places]] + COMMON_DIRECTION * shared
        noisy = plain + OWN * (vectors[page][places].astype(np.float32) - plain)
        noisy += QUERY_NOISE * directions(rng, length - chaff)
        other = (
            COMMON_DIRECTION * shared
            + 0.5 * words[rng.integers(0, WORDS, chaff)]
            + 0.9 * directions(rng, chaff)
        )
        yield unit(np.concatenate([noisy, other])).astype(np.float32)
