"""A segment: the inverted lists of some documents, on disk. It is never changed after it is written.

    documents.json   [[doc_id, revision], ...]
    pages.arrow      document (its position above), number, width, height, scanned, vectors (how many)
    starts.npy       (centroids + 1,): list c is postings[starts[c]:starts[c + 1]]
    page.npy, signs.npy, factor.npy    one row for each posting: one vector of one page

The lists are memory-mapped: a search reads the lists of its centroids only, and the system caches them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
from numpy.typing import NDArray

from retrieval.recall.ivf.codebook import Codes

AT_ONCE = 4_000_000
"""Postings in memory while segments are merged: about 200 MB."""
COLUMNS = {"document": np.int32, "number": np.int32, "width": np.float32, "height": np.float32,
           "scanned": np.bool_, "vectors": np.int32}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Segment:
    """Pages are ordered by document and number; `starts`, `page`, `signs` and `factor` are the lists."""

    documents: list[tuple[str, str]]  # (doc_id, revision)
    pages: dict[str, NDArray[Any]]  # by name of COLUMNS, (pages,) each
    starts: NDArray[np.int64]
    page: NDArray[np.uint32]  # (postings,)
    signs: NDArray[np.uint64]  # (postings, words)
    factor: NDArray[np.uint8]  # (postings,)

    def __len__(self) -> int:
        return len(self.pages["number"])


def load_segment(folder: Path) -> Segment:
    """Loads a segment, its lists memory-mapped. Raises OSError and ValueError for an incomplete one."""
    documents = [
        (doc_id, revision) for doc_id, revision in json.loads((folder / "documents.json").read_bytes())
    ]
    table = pyarrow.feather.read_table(folder / "pages.arrow", memory_map=False)
    pages = {name: table[name].to_numpy().astype(kind) for name, kind in COLUMNS.items()}
    lists = [
        np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ("page", "signs", "factor")
    ]
    return Segment(documents, pages, np.load(folder / "starts.npy"), *lists)


def write_segment(
    folder: Path,
    documents: Sequence[tuple[str, str]],
    pages: dict[str, NDArray[Any]],
    codes: Codes,
    centroids: int,
) -> None:
    """Write a segment to a new folder.

    pages: in any order, `document` being a position in `documents`; codes: of their vectors, in the same order.
    """
    order = np.lexsort((pages["number"], pages["document"]))
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order), dtype=np.uint32)
    of_page = np.repeat(place, pages["vectors"])
    by_list = np.argsort(codes.centroids, kind="stable")
    folder.mkdir(parents=True)
    _write_pages(folder, documents, {name: column[order] for name, column in pages.items()})
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes.centroids, minlength=centroids))])
    np.save(folder / "starts.npy", starts.astype(np.int64))
    np.save(folder / "page.npy", of_page[by_list])
    np.save(folder / "signs.npy", codes.signs[by_list])
    np.save(folder / "factor.npy", codes.factors[by_list])


def merge_segments(folder: Path, segments: Sequence[Segment], keep: Sequence[NDArray[np.bool_]]) -> None:
    """Write one segment with those pages of several segments for which `keep` is true, list by list.

    keep[i] (pages of segment i,): the same for all pages of a document.
    """
    documents: list[tuple[str, str]] = []
    columns: list[dict[str, NDArray[Any]]] = []
    places: list[NDArray[np.int64]] = []  # of each segment's pages in the new one; -1 where dropped
    count = 0
    for segment, mask in zip(segments, keep, strict=True):
        used = np.unique(segment.pages["document"][mask])
        renumbered = np.searchsorted(used, segment.pages["document"][mask]) + len(documents)
        columns.append(
            {name: column[mask] for name, column in segment.pages.items()} | {"document": renumbered}
        )
        documents += [segment.documents[at] for at in used]
        places.append(np.where(mask, np.cumsum(mask) - 1 + count, -1))
        count += int(mask.sum())
    folder.mkdir(parents=True)
    _write_pages(folder, documents, {name: np.concatenate([c[name] for c in columns]) for name in COLUMNS})
    postings = sum(int(s.pages["vectors"][mask].sum()) for s, mask in zip(segments, keep, strict=True))
    width = segments[0].signs.shape[1]
    sizes = np.zeros(len(segments[0].starts), np.int64)
    with (
        _array(folder / "page.npy", (postings,), np.uint32) as page,
        _array(folder / "signs.npy", (postings, width), np.uint64) as signs,
        _array(folder / "factor.npy", (postings,), np.uint8) as factor,
    ):
        for low, high in _ranges(segments):
            parts = [_of_range(s, p, low, high) for s, p in zip(segments, places, strict=True)]
            lists, pages_, signs_, factors_ = (np.concatenate(column) for column in zip(*parts, strict=True))
            order = np.argsort(lists, kind="stable")
            sizes[low + 1 : high + 1] = np.bincount(lists, minlength=high - low)
            page.write(pages_[order].tobytes())
            signs.write(signs_[order].tobytes())
            factor.write(factors_[order].tobytes())
    np.save(folder / "starts.npy", np.cumsum(sizes))


def _ranges(segments: Sequence[Segment]) -> Iterator[tuple[int, int]]:
    """Yields runs of lists with about AT_ONCE postings in all segments together, but of at least one list."""
    starts = sum(segment.starts for segment in segments)
    assert isinstance(starts, np.ndarray)
    low, end = 0, len(starts) - 1
    while low < end:
        high = max(low + 1, int(np.searchsorted(starts, starts[low] + AT_ONCE, side="right")) - 1)
        yield low, min(high, end)
        low = min(high, end)


def _of_range(
    segment: Segment, places: NDArray[np.int64], low: int, high: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.uint64], NDArray[np.uint8]]:
    """Returns list (0 is `low`), new page, signs and factor of the postings that are kept."""
    rows = slice(segment.starts[low], segment.starts[high])
    lists = np.repeat(np.arange(high - low), np.diff(segment.starts[low : high + 1]))
    page = places[segment.page[rows]]
    mask = page >= 0
    return lists[mask], page[mask].astype(np.uint32), segment.signs[rows][mask], segment.factor[rows][mask]


def _write_pages(
    folder: Path, documents: Sequence[tuple[str, str]], columns: dict[str, NDArray[Any]]
) -> None:
    (folder / "documents.json").write_text(json.dumps(documents), encoding="utf-8")
    table = pa.table({name: columns[name].astype(kind) for name, kind in COLUMNS.items()})
    pyarrow.feather.write_feather(table, str(folder / "pages.arrow"), compression="uncompressed")


def _array(path: Path, shape: tuple[int, ...], kind: Any) -> IO[bytes]:
    """Opens a .npy file of this shape, which the caller fills row by row."""
    file = path.open("wb")
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file
