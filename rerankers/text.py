"""Reranks with a small cross-encoder that reads question and page text together: the default reranker.

It reads windows of question, document title and page text. It only reads the windows of a page around what the first
stage found (`PageContent.focus`); the page's score is that of its best window.

A model folder has one of two kinds of models. `cross.onnx` reads pairs of at most 128 word pieces and gives one logit.
`reader.onnx` (`"reranker": "reader"` in the manifest's facts; `rerankers/train/reader.py`) reads windows of at most 96
pieces and gives relevance, whether there is an answer, and where; the page's score is the relevance. The reader was
trained with and without the heading above each window. No heading is looked up here: on held-out questions it makes no
difference (nDCG@10 85.95 without and 86.07 with headings).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import configs.settings as configs
from retrieval.models.onnx import ModelFolder, RowRunner
from retrieval.text import STOP_WORDS, stem, stems, words
from retrieval.types import PageContent

CLS, SEP = 101, 102
PAIR = 128  # most pieces of a pair for `cross.onnx`, as in training
READER_WINDOW = 96  # most pieces of a window for `reader.onnx`, as in training
QUESTION_PIECES = 40
TITLE_PIECES = 12
WORD_PIECES = 16
NOTHING = -12.0
"""Logit of a page without text: lower than the model's logit of any passage."""


class TextReranker:
    """Scores with the ONNX model `cross.onnx` or `reader.onnx`, on the CPU. Raises ModelBroken."""

    batch_pages = 4
    listwise = False
    notes: tuple[str, ...] = ()

    def __init__(self, settings: configs.Text) -> None:
        folder = ModelFolder(settings.model)
        self.name = f"text ({folder.name})"
        self._tokenizer = folder.tokenizer()
        self._is_reader = folder.facts.get("reranker") == "reader"
        file = "reader.onnx" if self._is_reader else "cross.onnx"
        self._runner = RowRunner(folder.session(file), settings.threads)
        self._windows = settings.windows

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns the score of each page's best window, a logit, or NOTHING for a page without words."""
        left = [CLS, *self._ids([query])[0][:QUESTION_PIECES], SEP]
        rows: list[list[int]] = []
        owners: list[int] = []
        for owner, page in enumerate(pages):
            for text in self._passages(query, page, len(left)):
                rows.append([*left, *text, SEP])
                owners.append(owner)
        lengths = [len(left)] * len(rows)
        scores = [NOTHING] * len(pages)
        for owner, logit in zip(owners, self.run(rows, lengths), strict=True):
            scores[owner] = max(scores[owner], float(logit))
        return scores

    def run(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        """Returns the logits of rows of word pieces. lengths: how many pieces of each row are the question's."""
        return self._runner.run_rows(rows, lengths)

    def passage(self, query: str, page: PageContent) -> str:
        """Returns title and text of the most promising window, as the model reads them; "" for a page without words."""
        question = self._ids([query])[0][:QUESTION_PIECES]
        best = next(iter(self._passages(query, page, len(question) + 2)), [])
        return str(self._tokenizer.decode(best))

    def _passages(self, query: str, page: PageContent, before: int) -> list[list[int]]:
        """Returns title and text of the windows to read, most promising first.

        before: pieces of the pair before the title.
        """
        query_stems = {stem(word) for word in words(query) if word not in STOP_WORDS}
        title = self._ids([page.title])[0][:TITLE_PIECES]
        room = READER_WINDOW if self._is_reader else PAIR - 1 - before - len(title)
        return [[*title, *text] for text in self._best_windows(page, query_stems, room)]

    def _best_windows(self, page: PageContent, query_stems: set[str], room: int) -> list[list[int]]:
        """Returns the word pieces of the windows to read, most promising first."""
        per_word = [ids[:WORD_PIECES] for ids in self._ids([word.text for word in page.words])]
        worth = self._worth(page, query_stems)
        spans: list[tuple[float, int, int]] = []
        start = 0
        while start < len(per_word):
            end, size = start, 0
            while end < len(per_word) and size + len(per_word[end]) <= room:
                size += len(per_word[end])
                end += 1
            spans.append((sum(worth[start:end]), start, end))
            if end >= len(per_word):
                break
            start += max(1, (end - start) // 3)
        chosen: list[tuple[int, int]] = []
        for _, start, end in sorted(spans, key=lambda span: (-span[0], span[1])):
            if all(min(end, e) - max(start, s) <= (end - start) // 2 for s, e in chosen):
                chosen.append((start, end))
                if len(chosen) == self._windows:
                    break
        return [[piece for ids in per_word[start:end] for piece in ids] for start, end in chosen]

    def _worth(self, page: PageContent, query_stems: set[str]) -> list[float]:
        """Returns how promising each word of the page is: whether the first stage found it, or the question has it."""
        worth = []
        for word in page.words:
            x, y = (word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2
            inside = (
                1 / (2 + rank)
                for rank, (x0, y0, x1, y1) in enumerate(page.focus)
                if x0 <= x <= x1 and y0 <= y <= y1
            )
            worth.append(
                max(inside, default=0.0) + (0.5 if query_stems.intersection(stems(word.text)) else 0.0)
            )
        return worth

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]
