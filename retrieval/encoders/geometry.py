"""Finds the rectangle of the page that each image token covers, for every family of ColPali-like models.

Each function takes the processor's token ids of one page. It returns the positions of the image tokens in the sequence,
and their boxes as fractions of the page's width and height. The grids are read from the tokens and from
`image_grid_thw`, not from the libraries' formulas: some of those disagree with the libraries' own processors.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]  # (n,)
Boxes = NDArray[np.float32]  # (n, 4): x0, y0, x1, y1


def grid(columns: int, rows: int, width: float = 1.0, height: float = 1.0) -> Boxes:
    """Returns the cells, in reading order, of a rectangle of this size at the origin."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    step = np.array([width / columns, height / rows] * 2)
    return np.asarray(np.stack([x, y, x + 1, y + 1], axis=1) * step, np.float32)


def square(ids: Sequence[int], image_token: int) -> tuple[Positions, Boxes]:
    """Returns positions and boxes for ColPali and ColGemma3, which squash the page to n x n cells.

    Raises ValueError if the number of image tokens is not a square.
    """
    positions = np.flatnonzero(np.asarray(ids) == image_token)
    side = math.isqrt(len(positions))
    if side * side != len(positions):
        raise ValueError(f"{len(positions)} image tokens do not make a square")
    return positions, grid(side, side)


def merged(
    ids: Sequence[int], image_token: int, patches: Sequence[int], merge: int
) -> tuple[Positions, Boxes]:
    """Returns positions and boxes for ColQwen, which merges merge x merge patches into one token and pads nothing.

    patches: (frames, rows, columns) before merging. Raises ValueError if the tokens do not fill that grid.
    """
    positions = np.flatnonzero(np.asarray(ids) == image_token)
    _, rows, columns = patches
    boxes = grid(columns // merge, rows // merge)
    if len(boxes) != len(positions):
        raise ValueError(
            f"{len(positions)} image tokens do not fill a grid of {rows // merge} x {columns // merge}"
        )
    return positions, boxes


def tiled(
    ids: Sequence[int], image_token: int, places: Mapping[int, tuple[int, int] | None]
) -> tuple[Positions, Boxes]:
    """Returns positions and boxes for ColIdefics3 and ColModernVBert, which read tiles and then a thumbnail.

    Each tile is a square of cells. The page is stretched to whole tiles, not padded. places: for the id of each
    `<row_r_col_c>` token its row and column from 0, for the id of the thumbnail's token None. Raises ValueError if the
    tokens do not fill the tiles.
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
    """Returns positions and boxes for NeoMME, whose tokens are a marker, then rows of patches that end in a row token.

    size: the page's (width, height) in pixels after resizing, before the last patches are padded with zeros. Boxes end
    at the page's edge. Raises ValueError if the rows are not equally long.
    """
    row_count = sum(token == row_token for token in ids)
    positions = np.flatnonzero(np.asarray(ids) == image_token)[1:]
    if not row_count or len(positions) % row_count:
        raise ValueError(f"{len(positions)} patches do not fill {row_count} rows")
    columns = len(positions) // row_count
    boxes = grid(columns, row_count, columns * patch / size[0], row_count * patch / size[1])
    return positions, np.minimum(boxes, 1.0)


def thumbnail_places(tokenizer: Any, most: int = 10) -> dict[int, tuple[int, int] | None]:
    """Returns the `places` of `tiled` for this tokenizer, for up to `most` rows and columns."""
    vocabulary = tokenizer.get_vocab()
    places: dict[int, tuple[int, int] | None] = {
        vocabulary[f"<row_{r + 1}_col_{c + 1}>"]: (r, c)
        for r in range(most)
        for c in range(most)
        if f"<row_{r + 1}_col_{c + 1}>" in vocabulary
    }
    return places | {vocabulary["<global-img>"]: None}
