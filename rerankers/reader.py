"""The embedded reader: says of a page how well it answers, which words are the evidence, and which the answer.

One pass over `[CLS] question [SEP] title window [SEP]` gives the window's relevance, whether it has an answer, and for
each piece whether an answer begins or ends there and whether it belongs to the evidence (`rerankers/train/reader.py`).
The order of pages comes from few windows of many pages, words in their order (`score`). What a page answers comes from
many windows of few pages, in lines: rows of tables have the heads of their columns beside the values (`read`).
Training by comparison leaves open where the relevance has its zero: the manifest's fact `relevance_shift` is added to
it, so that 0 means about one half on held-out documents.
No heading is put before a window, though the reader was trained with and without: on held-out questions it makes no
difference (nDCG@10 85.95 without and 86.07 with headings).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import configs.settings as configs
from rerankers.line_windows import LineWindow, encode_lines, in_order, line_windows
from rerankers.text import NOTHING, SEP, TextReranker
from retrieval.lru import LRU
from retrieval.models.onnx import ModelFolder
from retrieval.reading_lines import INSERTED, ReadingLine, reading_lines
from retrieval.tables import page_tables
from retrieval.text import stems
from retrieval.types import PageContent, PageReading, Passage

READER_WINDOW = 96
"""The most pieces of a window, as in training."""
WINDOWS = 12
"""The most windows of a page that `read` reads for its answer, those with the question's words first."""
SPANS = 5
LONGEST = 24
"""The most words of an answer."""
KEPT_ROWS = 2048
"""Outputs of rows that were read lately: the best pages of a search are read once more for their answers and lights."""

Scores = NDArray[np.float64]
Outputs = tuple[NDArray[np.float32], ...]
Read = tuple[LineWindow, Outputs, int]
OUTSIDE = np.float32(-1e4)
"""Logit of a piece that cannot be part of an answer."""


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
        """Returns one reading for each page, in the order given.

        whole: of at most WINDOWS windows of lines. Otherwise of the windows that `score` reads. The page's score comes
        from these in any case.
        """
        left = self.left(query)
        scored = [[in_order(window) for window in self.windows(query, page, self._windows)] for page in pages]
        lines = [self._line_windows(query, page) for page in pages] if whole else scored
        rows: list[list[int]] = []
        starts: list[int] = []  # of the window in its row
        for page, windows in zip([*pages, *pages], [*scored, *lines], strict=True):
            title = self.title(page)
            rows += [[*left, *title, *window.pieces, SEP] for window in windows]
            starts += [len(left) + len(title)] * len(windows)
        outputs = iter(zip(self._run(rows, [len(left)] * len(rows)), starts, strict=True))
        judged = [[next(outputs)[0] for _ in windows] for windows in scored]
        read = [[(window, *next(outputs)) for window in windows] for windows in lines]
        return [
            _reading(len(page.words), own, windows)
            for page, own, windows in zip(pages, judged, read, strict=True)
        ]

    def _line_windows(self, query: str, page: PageContent) -> list[LineWindow]:
        """Returns at most WINDOWS windows of the page's lines, most promising first, in part overlapping."""
        lines = reading_lines(page_tables(page))
        encoded = encode_lines(self._ids, lines, READER_WINDOW)
        windows = line_windows(encoded, READER_WINDOW)
        worth, asked = self._worth(query, page), self._asked(query)
        of_line = [
            sum(worth[word] for word in set(part.words) - {INSERTED}) + _named(lines[part.line], asked) / 2
            for part in encoded
        ]
        totals = [sum(of_line[window.first : window.end]) for window in windows]
        order = sorted(range(len(windows)), key=lambda i: (-totals[i], i))
        return [windows[i] for i in order[:WINDOWS]]

    def _run(self, rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[Outputs]:
        keys = [(length, *row) for row, length in zip(rows, lengths, strict=True)]
        known = {key: found for key in keys if (found := self._rows.get(key)) is not None}
        absent = list({key: i for i, key in enumerate(keys) if key not in known}.items())
        fresh = self._runner.run_outputs([rows[i] for _, i in absent], [lengths[i] for _, i in absent])
        for (key, _), (relevance, *others) in zip(absent, fresh, strict=True):
            known[key] = (relevance + np.float32(self._shift), *others)
            self._rows.put(key, known[key])
        return [known[key] for key in keys]


def _named(line: ReadingLine, asked: set[str]) -> int:
    """Returns how many of the question's words stand in what was inserted into a line."""
    inserted = [text for text, word in zip(line.texts, line.words, strict=True) if word == INSERTED]
    return len(asked & {stem for text in inserted for stem in stems(text)})


def _reading(words: int, judged: Sequence[Outputs], read: Sequence[Read]) -> PageReading:
    """Returns what windows of a page say together. words: of the page. judged: the outputs of those that `score` reads.

    read: windows with their outputs, and where they start in their rows.
    """
    if not read:
        return PageReading(NOTHING, NOTHING)
    relevance = [float(outputs[0]) for _, outputs, _ in read]
    best = max(relevance)
    evidence = np.zeros(words)
    spans: dict[tuple[int, int], float] = {}
    passages: list[Passage] = []
    for (window, outputs, start), logit in sorted(
        zip(read, relevance, strict=True), key=lambda pair: -pair[1]
    ):
        share = float(np.exp(logit - best))  # of the page's best window
        own, at, stretch = window.spots()
        if not len(own):
            continue
        begins, ends, inside = _by_word(window, outputs, start, at)
        evidence[own] = np.maximum(evidence[own], share * inside)
        for first, end, probability in _best_spans(own, stretch, begins, ends):
            spans[first, end] = max(spans.get((first, end), 0.0), share * probability)
        passages += [Passage(first, end, logit) for first, end in _stretches(own, stretch)]
    return PageReading(
        max(float(outputs[0]) for outputs in judged),
        max(float(outputs[1]) for outputs in judged),
        tuple(passages),
        tuple(float(value) for value in evidence),
        tuple((*span, spans[span]) for span in sorted(spans, key=lambda s: (-spans[s], s))[:SPANS]),
    )


def _by_word(
    window: LineWindow, outputs: Outputs, start: int, at: NDArray[np.int64]
) -> tuple[Scores, Scores, Scores]:
    """Returns for each word of a window the probability that the answer begins there, ends there, and of evidence.

    start: of the window in its row. at: the first piece of each word. Pieces that are not the page's do not count.
    """
    pieces = slice(start, start + len(window.pieces))
    own = np.array(window.words) != INSERTED
    begins, ends = (
        np.add.reduceat(np.where(own, _softmax(np.where(own, logits[pieces], OUTSIDE)), 0.0), at)
        for logits in outputs[2:4]
    )
    if len(outputs) > 4:
        chances = 1 / (1 + np.exp(-outputs[4][pieces].astype(np.float64)))
        inside = np.maximum.reduceat(np.where(own, chances, 0.0), at)
    else:  # a reader without this output: the probability that the answer covers the word
        inside = np.cumsum(begins) * np.cumsum(ends[::-1])[::-1]
    return begins, ends, inside


def _best_spans(
    words: NDArray[np.int64], stretch: NDArray[np.int64], begins: Scores, ends: Scores
) -> list[tuple[int, int, float]]:
    """Returns the likeliest spans of words that stand together: words [first, end) of the page, and the probability."""
    joint = np.triu(begins[:, None] * ends[None, :])
    joint = joint - np.triu(joint, LONGEST)
    joint = np.where(stretch[:, None] == stretch[None, :], joint, 0.0)
    order = np.argsort(-joint, axis=None, kind="stable")[:SPANS]
    pairs = [
        (int(i // len(ends)), int(i % len(ends)), float(joint.flat[i])) for i in order if joint.flat[i] > 0
    ]
    return [(int(words[a]), int(words[b]) + 1, probability) for a, b, probability in pairs]


def _stretches(words: NDArray[np.int64], stretch: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Returns the runs [first, end) of words that stand together."""
    parts = np.split(words, np.flatnonzero(np.diff(stretch)) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts]


def _softmax(logits: NDArray[np.float32]) -> Scores:
    powers = np.exp(logits.astype(np.float64) - logits.max())
    shares: Scores = powers / powers.sum()
    return shares
