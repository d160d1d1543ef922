"""Cuts a page's lines (`retrieval.reading_lines`) into windows for a reader that looks for the answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rerankers.text import WORD_PIECES, Window
from retrieval.reading_lines import INSERTED, ReadingLine

Encode = Callable[[Sequence[str]], list[list[int]]]
"""Returns the pieces of texts."""


@dataclass(frozen=True, slots=True)
class EncodedLine:
    """A line's pieces, or some of a long one's, and for each the page's word or INSERTED. line: its number."""

    pieces: tuple[int, ...]
    words: tuple[int, ...]
    line: int


@dataclass(frozen=True, slots=True)
class LineWindow:
    """Some lines of a page as pieces. `words` (pieces,): the page's word that each piece belongs to, or INSERTED."""

    first: int
    end: int
    """The encoded lines [first, end)."""
    pieces: tuple[int, ...]
    words: tuple[int, ...]

    def spots(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Returns the words (n,) of the page in the window, where the pieces of each begin (n,), and stretches (n,).

        Words of the same stretch follow each other on the page, with nothing inserted between them.
        """
        words = np.array(self.words)
        begins = np.flatnonzero((words != INSERTED) & (words != np.concatenate([[INSERTED - 1], words[:-1]])))
        inserted = np.cumsum(words == INSERTED)[begins]
        breaks = (np.diff(words[begins]) != 1) | (np.diff(inserted) != 0)
        return words[begins], begins, np.concatenate([[0], np.cumsum(breaks)])[: len(begins)]

    def place(self, first: int, last: int) -> tuple[int, int] | None:
        """Returns the first and last piece of the words first to last; None if they do not stand together in here."""
        if first not in self.words or last not in self.words:
            return None
        start = self.words.index(first)
        end = len(self.words) - 1 - self.words[::-1].index(last)
        own = self.words[start : end + 1]
        return (start, end) if INSERTED not in own and own == tuple(sorted(own)) else None


def in_order(window: Window) -> LineWindow:
    """Returns a window of words in their order as one line."""
    counts = np.diff(window.starts)
    words = np.repeat(np.arange(window.first, window.end), counts)
    return LineWindow(0, 1, window.pieces, tuple(int(word) for word in words))


def encode_lines(encode: Encode, lines: Sequence[ReadingLine], room: int) -> list[EncodedLine]:
    """Returns the pieces of each line; a line with more than `room` pieces becomes several."""
    encoded = iter(encode([text for line in lines for text in line.texts]))
    found: list[EncodedLine] = []
    for number, line in enumerate(lines):
        pairs = [
            (piece, word)
            for word, ids in zip(line.words, (next(encoded) for _ in line.texts), strict=True)
            for piece in ids[:WORD_PIECES]
        ]
        for start in range(0, len(pairs), room):
            part = pairs[start : start + room]
            found.append(
                EncodedLine(tuple(piece for piece, _ in part), tuple(word for _, word in part), number)
            )
    return found


def line_windows(lines: Sequence[EncodedLine], room: int) -> list[LineWindow]:
    """Returns windows of whole lines with at most `room` pieces, each begun half a window after the one before."""
    found: list[LineWindow] = []
    start = 0
    while start < len(lines):
        end, size = start, 0
        while end < len(lines) and size + len(lines[end].pieces) <= room:
            size += len(lines[end].pieces)
            end += 1
        if size:
            pieces = tuple(piece for line in lines[start:end] for piece in line.pieces)
            words = tuple(word for line in lines[start:end] for word in line.words)
            found.append(LineWindow(start, end, pieces, words))
        if end >= len(lines):
            break
        start += max(1, (end - start) // 2)
    return found
