"""Which rectangle of the page each image token saw, for every family of ColPali-like models.

Each function takes what the processor made of one page and returns the positions of the page's image tokens in
the sequence, and their boxes, page-relative. The grids are read back from the tokens and from `image_grid_thw`,
never computed from a formula: some that the libraries offer disagree with their own processors.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]  # (n,)
Boxes = NDArray[np.float32]  # (n, 4): x0, y0, x1, y1


def grid(columns: int, rows: int, width: float = 1.0, height: float = 1.0) -> Boxes:
    """Cells in reading order that share a rectangle of the given size at the origin."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    step = np.array([width / columns, height / rows] * 2)
    return np.asarray(np.stack([x, y, x + 1, y + 1], axis=1) * step, np.float32)


def square(ids: Sequence[int], image_token: int) -> tuple[Positions, Boxes]:
    """ColPali, ColGemma3: the page is squashed to a square of n x n cells."""
    positions = np.flatnonzero(np.asarray(ids) == image_token)
    side = math.isqrt(len(positions))
    if side * side != len(positions):
        raise ValueError(f"{len(positions)} image tokens do not make a square")
    return positions, grid(side, side)


def merged(
    ids: Sequence[int], image_token: int, patches: Sequence[int], merge: int
) -> tuple[Positions, Boxes]:
    """ColQwen: `patches` is (frames, rows, columns) before merge x merge of them become one token; no padding."""
    positions = np.flatnonzero(np.asarray(ids) == image_token)
    _, rows, columns = patches
    boxes = grid(columns // merge, rows // merge)
    if len(boxes) != len(positions):
        raise ValueError(f"{len(positions)} image tokens, and a grid of {rows // merge} x {columns // merge}")
    return positions, boxes


def tiled(
    ids: Sequence[int], image_token: int, places: Mapping[int, tuple[int, int] | None]
) -> tuple[Positions, Boxes]:
    """ColIdefics3, ColModernVBert: tile by tile, each a square of cells, then the whole page once more, small.

    `places` gives for the id of each `<row_r_col_c>` token its row and column from 0, and None for the thumbnail's.
    The page is stretched to whole tiles, not padded.
    """
    positions: list[int] = []
    owners: list[tuple[int, int] | None] = []
    current: tuple[int, int] | None = None
    for position, token in enumerate(ids):
        if token in places:
            current = places[token]
        elif token == image_token:
            positions.append(position)
            owners.append(current)
    tiles = sorted({owner for owner in owners if owner is not None})
    cells = sum(owner is None for owner in owners)
    side = math.isqrt(cells)
    if side * side != cells or len(owners) != cells * (len(tiles) + 1):
        raise ValueError(f"{len(owners)} image tokens do not make {len(tiles)} tiles and a thumbnail")
    rows = 1 + max((row for row, _ in tiles), default=0)
    columns = 1 + max((column for _, column in tiles), default=0)
    cell = grid(side, side)
    shrink = np.array([columns, rows, columns, rows], np.float32)
    boxes = [
        cell if owner is None else (cell + np.array([owner[1], owner[0]] * 2, np.float32)) / shrink
        for owner in owners[::cells]
    ]
    return np.array(positions), np.concatenate(boxes)


def rowed(
    ids: Sequence[int], image_token: int, row_token: int, patch: int, size: tuple[int, int]
) -> tuple[Positions, Boxes]:
    """NeoMME: a marker, then rows of patches, each ended by a row token.

    `size` is the page's (width, height) in pixels after resizing, before zeros fill the last patches: boxes are
    cut off at the page's edge.
    """
    row_count = sum(token == row_token for token in ids)
    positions = np.flatnonzero(np.asarray(ids) == image_token)[1:]
    if not row_count or len(positions) % row_count:
        raise ValueError(f"{len(positions)} patches in {row_count} rows")
    columns = len(positions) // row_count
    boxes = grid(columns, row_count, columns * patch / size[0], row_count * patch / size[1])
    return positions, np.minimum(boxes, 1.0)


def thumbnail_places(tokenizer: Any, most: int = 10) -> dict[int, tuple[int, int] | None]:
    """The `places` of `tiled`, from the tokenizer's own vocabulary."""
    vocabulary = tokenizer.get_vocab()
    places: dict[int, tuple[int, int] | None] = {
        vocabulary[f"<row_{r + 1}_col_{c + 1}>"]: (r, c)
        for r in range(most)
        for c in range(most)
        if f"<row_{r + 1}_col_{c + 1}>" in vocabulary
    }
    return places | {vocabulary["<global-img>"]: None}
