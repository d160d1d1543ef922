"""The embedded reader: says of a page how well it answers, which words are the evidence, and which the answer.

One pass over `[CLS] question [SEP] title window [SEP]` gives the window's relevance, whether it has an answer, and for
each piece whether an answer begins or ends there and whether it belongs to the evidence (`rerankers/train/reader.py`).
The order of pages comes from few windows of many pages (`score`); what a page answers from many windows of it (`read`).
Training by comparison leaves open where the relevance has its zero: the manifest's fact `relevance_shift` is added to
it, so that 0 means about one half on held-out documents.
No heading is put before a window, though the reader was trained with and without: on held-out questions it makes no
difference (nDCG@10 85.95 without and 86.07 with headings).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

import configs.settings as configs
from rerankers.text import NOTHING, SEP, TextReranker, Window
from retrieval.lru import LRU
from retrieval.models.onnx import ModelFolder
from retrieval.types import PageContent, PageReading, Passage

READER_WINDOW = 96
"""The most pieces of a window, as in training."""
WINDOWS = 12
"""The most windows of a page that `read` reads: about 600 words, those around the question's words first."""
SPANS = 5
LONGEST = 24
"""The most words of an answer."""
KEPT_ROWS = 2048
"""Outputs of rows that were read lately: the best pages of a search are read once more for their answers and lights."""

Scores = NDArray[np.float64]
Outputs = tuple[NDArray[np.float32], ...]


class TextReader(TextReranker):
    """A TextReranker that is a PageReader. Raises ModelBroken."""

    file = "reader.onnx"

    def __init__(self, settings: configs.Text, folder: ModelFolder | None = None) -> None:
        folder = folder or ModelFolder(settings.model)
        super().__init__(settings, folder)
        self._shift = float(folder.facts.get("relevance_shift", 0.0))
        self._rows: LRU[tuple[int, ...], Outputs] = LRU(KEPT_ROWS)

    def room(self, before: int) -> int:
        return READER_WINDOW

    def run(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[NDArray[np.float32]]:
        return [outputs[0] for outputs in self._run(rows, lengths)]

    def read(self, query: str, pages: Sequence[PageContent], *, whole: bool) -> list[PageReading]:
        """Returns one reading for each page, in the order given. whole: of at most WINDOWS windows of each."""
        count = WINDOWS if whole else self._windows
        left = self.left(query)
        rows: list[list[int]] = []
        windows: list[list[Window]] = []
        starts: list[int] = []  # of the window in its row
        for page in pages:
            title = self.title(page)
            windows.append(self.windows(query, page, count))
            rows += [[*left, *title, *window.pieces, SEP] for window in windows[-1]]
            starts += [len(left) + len(title)] * len(windows[-1])
        outputs = iter(zip(self._run(rows, [len(left)] * len(rows)), starts, strict=True))
        return [
            _reading(len(page.words), [(window, *next(outputs)) for window in read], self._windows)
            for page, read in zip(pages, windows, strict=True)
        ]

    def _run(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[Outputs]:
        keys = [(length, *row) for row, length in zip(rows, lengths, strict=True)]
        known = {key: found for key in keys if (found := self._rows.get(key)) is not None}
        absent = list({key: i for i, key in enumerate(keys) if key not in known}.items())
        fresh = self._runner.run_outputs([rows[i] for _, i in absent], [lengths[i] for _, i in absent])
        for (key, _), (relevance, *others) in zip(absent, fresh, strict=True):
            known[key] = (relevance + np.float32(self._shift), *others)
            self._rows.put(key, known[key])
        return [known[key] for key in keys]


def _reading(words: int, read: Sequence[tuple[Window, Outputs, int]], scored: int) -> PageReading:
    """Returns what windows of a page say together. words: of the page. scored: how many windows `score` reads."""
    if not read:
        return PageReading(NOTHING, NOTHING)
    relevance = [float(outputs[0]) for _, outputs, _ in read]
    best = max(relevance)
    evidence = np.zeros(words)
    spans: dict[tuple[int, int], float] = {}
    for (window, outputs, start), logit in zip(read, relevance, strict=True):
        share = float(np.exp(logit - best))  # of the page's best window
        begins, ends, inside = _by_word(window, outputs, start)
        place = slice(window.first, window.end)
        evidence[place] = np.maximum(evidence[place], share * inside)
        for first, last, probability in _best_spans(begins, ends):
            span = (window.first + first, window.first + last + 1)
            spans[span] = max(spans.get(span, 0.0), share * probability)
    order = sorted(range(len(read)), key=lambda i: -relevance[i])
    return PageReading(
        max(relevance[:scored]),
        max(float(outputs[1]) for _, outputs, _ in read[:scored]),
        tuple(Passage(read[i][0].first, read[i][0].end, relevance[i]) for i in order),
        tuple(float(value) for value in evidence),
        tuple((*span, spans[span]) for span in sorted(spans, key=lambda s: (-spans[s], s))[:SPANS]),
    )


def _by_word(window: Window, outputs: Outputs, start: int) -> tuple[Scores, Scores, Scores]:
    """Returns for each word of a window the probability that the answer begins there, ends there, and of evidence.

    start: of the window in its row.
    """
    pieces = slice(start, start + len(window.pieces))
    at = window.starts
    begins, ends = (_sums(_softmax(logits[pieces]), at) for logits in outputs[2:4])
    if len(outputs) > 4:
        inside = _most(1 / (1 + np.exp(-outputs[4][pieces].astype(np.float64))), at)
    else:  # a reader without this output: the probability that the answer covers the word
        inside = np.cumsum(begins) * np.cumsum(ends[::-1])[::-1]
    return begins, ends, inside


def _sums(values: Scores, starts: Sequence[int]) -> Scores:
    """Returns the sum of each word's pieces, 0 for a word without any."""
    return np.diff(np.concatenate([[0.0], np.cumsum(values)])[list(starts)])


def _most(values: Scores, starts: Sequence[int]) -> Scores:
    """Returns the largest of each word's pieces, 0 for a word without any."""
    return np.array([values[a:b].max(initial=0.0) for a, b in pairwise(starts)])


def _best_spans(begins: Scores, ends: Scores) -> list[tuple[int, int, float]]:
    """Returns the likeliest spans: first and last word, and the probability."""
    joint = np.triu(begins[:, None] * ends[None, :])
    joint = joint - np.triu(joint, LONGEST)
    order = np.argsort(-joint, axis=None, kind="stable")[:SPANS]
    return [(int(i // len(ends)), int(i % len(ends)), float(joint.flat[i])) for i in order]


def _softmax(logits: NDArray[np.float32]) -> Scores:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares: Scores = powers / powers.sum()
    return shares
