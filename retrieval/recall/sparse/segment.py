"""A segment: the sparse vectors of some documents' passages, by token, on disk. It is never changed once written.

    documents.json                     [[doc_id, revision], ...]
    document.npy, number.npy, scanned.npy   one row for each page, ordered by document and number
    passages.npy                       (pages + 1,): page i has passages[i] to passages[i + 1]
    tokens.npy                         (tokens,) ascending
    starts.npy                         (tokens + 1,): list t is postings[starts[t]:starts[t + 1]]
    pages_with.npy                     (tokens,) pages that have the token
    passage.npy, impact.npy            one row for each posting; a list has its passages in ascending order

The lists are memory-mapped: a search reads those of its tokens only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

STEPS = 255
"""An impact is a weight in this many steps of the encoder's highest weight."""
KINDS = {"document": np.int32, "number": np.int32, "scanned": np.bool_, "passages": np.int64, "tokens": np.uint32,
         "starts": np.int64, "pages_with": np.int64, "passage": np.uint32, "impact": np.uint8}  # fmt: skip
MAPPED = ("passage", "impact")


@dataclass(frozen=True, slots=True)
class Segment:
    """The arrays of the files of the same names."""

    documents: list[tuple[str, str]]
    document: NDArray[np.int32]
    number: NDArray[np.int32]
    scanned: NDArray[np.bool_]
    passages: NDArray[np.int64]
    tokens: NDArray[np.uint32]
    starts: NDArray[np.int64]
    pages_with: NDArray[np.int64]
    passage: NDArray[np.uint32]
    impact: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True, slots=True)
class Postings:
    """Postings in any order, one row each: token, position of the passage, impact."""

    token: NDArray[np.uint32]
    passage: NDArray[np.int64]
    impact: NDArray[np.uint8]


def make_segment(
    documents: Sequence[tuple[str, str]], pages: dict[str, NDArray[Any]], postings: Postings
) -> Segment:
    """Return the segment of these pages; pages: its arrays document, number, scanned and passages."""
    order = np.lexsort((postings.passage, postings.token))
    tokens, sizes = np.unique(postings.token, return_counts=True)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    passage = postings.passage[order]
    page = np.searchsorted(pages["passages"], passage, side="right") - 1
    is_first = np.ones(len(page), np.bool_)  # of its page in its list
    is_first[1:] = page[1:] != page[:-1]
    is_first[starts[:-1]] = True
    pages_with = np.add.reduceat(is_first.astype(np.int64), starts[:-1]) if len(tokens) else sizes
    arrays = {**pages, "tokens": tokens, "starts": starts, "pages_with": pages_with, "passage": passage}
    arrays["impact"] = postings.impact[order]
    return Segment(list(documents), **{name: arrays[name].astype(kind) for name, kind in KINDS.items()})


def merge_segments(segments: Sequence[Segment], keep: Sequence[NDArray[np.bool_]]) -> Segment:
    """Return one segment with those pages of several for which `keep` is true; the same for a document's pages."""
    documents: list[tuple[str, str]] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("document", "number", "scanned")}
    lengths, tokens, passages, impacts = [], [], [], []
    count = 0
    for part, mask in zip(segments, keep, strict=True):
        used = np.unique(part.document[mask])
        columns["document"].append(np.searchsorted(used, part.document[mask]) + len(documents))
        columns["number"].append(part.number[mask])
        columns["scanned"].append(part.scanned[mask])
        documents += [part.documents[at] for at in used]
        length = np.diff(part.passages)
        kept = np.repeat(mask, length)
        place = np.cumsum(kept) - 1 + count
        count += int(kept.sum())
        lengths.append(length[mask])
        rows = kept[part.passage]
        tokens.append(np.repeat(part.tokens, np.diff(part.starts))[rows])
        passages.append(place[part.passage][rows])
        impacts.append(part.impact[rows])
    pages = {name: np.concatenate(parts) for name, parts in columns.items()}
    pages["passages"] = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    postings = Postings(np.concatenate(tokens), np.concatenate(passages), np.concatenate(impacts))
    return make_segment(documents, pages, postings)


def write_segment(folder: Path, segment: Segment) -> None:
    """Write a segment to a new folder."""
    folder.mkdir(parents=True)
    (folder / "documents.json").write_text(json.dumps(segment.documents), encoding="utf-8")
    for name in KINDS:
        np.save(folder / f"{name}.npy", getattr(segment, name))


def load_segment(folder: Path) -> Segment:
    """Load a segment, its lists memory-mapped. Raises OSError, EOFError and ValueError for an incomplete one."""
    documents = [
        (doc_id, revision) for doc_id, revision in json.loads((folder / "documents.json").read_bytes())
    ]
    arrays = {
        name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r" if name in MAPPED else None))
        for name in KINDS
    }
    segment = Segment(documents, **arrays)
    if len(segment.passage) != segment.starts[-1] or len(segment.impact) != segment.starts[-1]:
        raise ValueError(f"{folder}: {len(segment.passage)} postings, {segment.starts[-1]} expected")
    return segment


assert [field.name for field in fields(Segment)] == ["documents", *KINDS]
