"""Stores the weights that a training starts from in few bits, and reads them again.

Matrices are rounded to a step per row, in proportion to the row's root mean square, and the whole numbers are Huffman
coded by zlib. With entropy coding, uniform steps lose the least for their bits (Gish and Pierce, 1968): a row of n
steps in one standard deviation takes about log2(n) + 2.05 bits a weight. Vectors are float16.
"""

import json
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
Weights = dict[str, NDArray[np.float32]]


def write_start(
    path: Path,
    weights: Mapping[str, NDArray[np.float32]],
    steps: Callable[[str], float],
    facts: Mapping[str, Any],
    scales: Mapping[str, NDArray[np.float16]] | None = None,
) -> None:
    """Write weights to a file.

    steps: how many steps a row's root mean square has, of this matrix. facts: JSON. scales: of the matrices that
    consist of whole steps already, the size of a step (rows, 1).
    """
    blobs: list[bytes] = []
    header: list[dict[str, Any]] = []
    for name, value in weights.items():
        if value.ndim < 2:
            parts = [value.astype(np.float16).tobytes()]
        else:
            scale = (scales or {}).get(name)
            if scale is None:
                scale = row_scale(value, steps(name))
            whole = np.clip(np.rint(value / scale.astype(np.float32)), -LARGEST, LARGEST).astype(np.int8)
            parts = [scale.tobytes(), _huffman(whole.tobytes())]
        header.append({"name": name, "shape": value.shape, "parts": [len(part) for part in parts]})
        blobs += parts
    head = json.dumps({"facts": facts, "weights": header}).encode()
    path.write_bytes(struct.pack("<I", len(head)) + head + b"".join(blobs))


def read_start(path: Path) -> tuple[Weights, dict[str, Any]]:
    """Returns the weights in a file, rounded as they are there, and its facts."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<I", data)
    head = json.loads(data[4 : 4 + size])
    at = 4 + size
    weights: Weights = {}
    for row in head["weights"]:
        parts = []
        for length in row["parts"]:
            parts.append(data[at : at + length])
            at += length
        shape = tuple(row["shape"])
        if len(parts) == 1:
            weights[row["name"]] = np.frombuffer(parts[0], np.float16).astype(np.float32).reshape(shape)
        else:
            scale = np.frombuffer(parts[0], np.float16).astype(np.float32).reshape(-1, 1)
            whole = np.frombuffer(zlib.decompress(parts[1]), np.int8).reshape(shape)
            weights[row["name"]] = whole * scale
    return weights, head["facts"]


def row_scale(matrix: NDArray[np.float32], steps: float) -> NDArray[np.float16]:
    """Returns the size of a step (rows, 1) if a row's root mean square has this many."""
    rms = np.sqrt(np.mean(np.square(matrix), axis=1, keepdims=True))
    return np.maximum((rms / steps).astype(np.float16), np.float16(6e-8))  # above 0, also for a row of zeros


def _huffman(data: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(data) + coder.flush()
