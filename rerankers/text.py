"""Reranks with a small model that reads question and page text together: the default reranker.

It reads windows of question, document title and page text. For the order it only reads the windows of a page around
what the first stage found (`PageContent.focus`); the page's score is that of its best window.

A model folder has one of two kinds of models. `cross.onnx` reads pairs of at most 128 word pieces and gives one logit.
`reader.onnx` (`"reranker": "reader"` in the manifest's facts; `rerankers/train/reader.py`) reads windows of at most 96
pieces and also says whether there is an answer, and where (`rerankers/reader.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import configs.settings as configs
from retrieval.models.onnx import ModelFolder, RowRunner
from retrieval.text import STOP_WORDS, stem, stems, words
from retrieval.types import PageContent

CLS, SEP = 101, 102
PAIR = 128
"""The most pieces of a pair, as in training."""
QUESTION_PIECES = 40
TITLE_PIECES = 12
WORD_PIECES = 16
NOTHING = -9.0
"""Score of a page without text: below the logits of passages, which are -6 for most of them, and not far away from
them, because an outlier would push all others together."""


@dataclass(frozen=True, slots=True)
class Window:
    """Words [first, end) of a page as pieces. `starts` (end - first + 1,): where each word begins, and the end."""

    first: int
    end: int
    pieces: tuple[int, ...]
    starts: tuple[int, ...]


class TextReranker:
    """Scores with an ONNX model that reads pairs, on the CPU. Raises ModelBroken."""

    batch_pages = 4
    listwise = False
    notes: tuple[str, ...] = ()
    file = "cross.onnx"

    def __init__(self, settings: configs.Text, folder: ModelFolder | None = None) -> None:
        """folder: that of `settings.model`, if it is open already."""
        folder = folder or ModelFolder(settings.model)
        self.name = f"text ({folder.name})"
        self._tokenizer = folder.tokenizer()
        self._runner = RowRunner(folder.session(self.file), settings.threads)
        self._windows = settings.windows

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns the score of each page's best window, a logit, or NOTHING for a page without words."""
        left = self.left(query)
        rows: list[list[int]] = []
        owners: list[int] = []
        for owner, page in enumerate(pages):
            title = self.title(page)
            for window in self.windows(query, page, self._windows):
                rows.append([*left, *title, *window.pieces, SEP])
                owners.append(owner)
        lengths = [len(left)] * len(rows)
        logits: list[list[float]] = [[] for _ in pages]
        for owner, logit in zip(owners, self.run(rows, lengths), strict=True):
            logits[owner].append(float(logit))
        return [max(own, default=NOTHING) for own in logits]

    def run(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        """Returns the logits of rows of word pieces. lengths: how many pieces of each row are the question's."""
        return self._runner.run_rows(rows, lengths)

    def passage(self, query: str, page: PageContent) -> str:
        """Returns title and text of the most promising window, as the model reads them; "" for a page without words."""
        best = self.windows(query, page, 1)
        return str(self._tokenizer.decode([*self.title(page), *best[0].pieces])) if best else ""

    def left(self, query: str) -> list[int]:
        """Returns the pieces of a pair before the title."""
        return [CLS, *self._ids([query])[0][:QUESTION_PIECES], SEP]

    def title(self, page: PageContent) -> list[int]:
        """Returns the pieces of the document's title."""
        return self._ids([page.title])[0][:TITLE_PIECES]

    def room(self, before: int) -> int:
        """Returns the most pieces of a window. before: pieces of the pair before it."""
        return PAIR - 1 - before

    def windows(self, query: str, page: PageContent, count: int) -> list[Window]:
        """Returns at most `count` windows to read, most promising first; no two share more than half of their words."""
        per_word = [ids[:WORD_PIECES] for ids in self._ids([word.text for word in page.words])]
        spans = _spans(per_word, self.room(len(self.left(query)) + len(self.title(page))))
        worth = np.cumsum([0.0, *self._worth(query, page)])
        chosen: list[tuple[int, int]] = []
        for start, end in sorted(spans, key=lambda span: (worth[span[0]] - worth[span[1]], span[0])):
            if all(min(end, e) - max(start, s) <= (end - start) // 2 for s, e in chosen):
                chosen.append((start, end))
                if len(chosen) == count:
                    break
        return [_window(per_word, start, end) for start, end in chosen]

    def _worth(self, query: str, page: PageContent) -> list[float]:
        """Returns how promising each word of the page is: whether the first stage found it, or the question has it."""
        asked = self._asked(query)
        worth = []
        for word in page.words:
            x, y = (word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2
            inside = (
                1 / (2 + rank)
                for rank, (x0, y0, x1, y1) in enumerate(page.focus)
                if x0 <= x <= x1 and y0 <= y <= y1
            )
            worth.append(max(inside, default=0.0) + (0.5 if asked.intersection(stems(word.text)) else 0.0))
        return worth

    def _asked(self, query: str) -> set[str]:
        """Returns the stems of the question's words that bear meaning."""
        return {stem(word) for word in words(query) if word not in STOP_WORDS}

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _spans(per_word: Sequence[Sequence[int]], room: int) -> list[tuple[int, int]]:
    """Returns windows of words that fill `room` pieces, each a third of a window after the one before."""
    spans: list[tuple[int, int]] = []
    start = 0
    while start < len(per_word):
        end, size = start, 0
        while end < len(per_word) and size + len(per_word[end]) <= room:
            size += len(per_word[end])
            end += 1
        spans.append((start, end))
        if end >= len(per_word):
            break
        start += max(1, (end - start) // 3)
    return spans


def _window(per_word: Sequence[Sequence[int]], start: int, end: int) -> Window:
    starts = np.cumsum([0, *(len(ids) for ids in per_word[start:end])])
    pieces = tuple(piece for ids in per_word[start:end] for piece in ids)
    return Window(start, end, pieces, tuple(int(at) for at in starts))
