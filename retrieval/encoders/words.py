"""Encodes a page's words in context: the default encoder, which needs neither page images nor a GPU.

An encoder of MiniLM's size (`CARD.md` beside the model) reads the page's text in windows of 254 word pieces. A page has
one vector per window, the mean of its pieces, for what the passage is about, and one per run of about eight pieces, for
what those words say; each vector has the box of its words. A question has one vector for the whole and one per word,
with learned weights.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

import configs.settings as configs
from retrieval.fuse import LogOdds
from retrieval.models.onnx import ModelFolder, RowRunner
from retrieval.text import STOP_WORDS, fold
from retrieval.types import Box, Fingerprint, PageContent, PageEmbedding, QueryEmbedding, Vectors, Word

CLS, SEP, UNKNOWN = 101, 102, 100
WINDOW = 254  # pieces without [CLS] and [SEP]: the number of positions that MiniLM was tuned on
OVERLAP = 16  # pieces that two windows share; runs take the outer half of them from the other window
RUN = 8  # approximate number of pieces in a run
TITLE_PIECES = 16
WORD_PIECES = 16  # of one word: longer words are garbage or drawn lines, and would fill a window
QUESTION_PIECES = 120
PAGES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A page in word pieces: their `ids`, and for each piece the index of its word on the page."""

    ids: list[int]
    words: list[int]


@dataclass(frozen=True, slots=True)
class _Run:
    """Pieces [start, end) of a page, which are the words with the indices first to last."""

    start: int
    end: int
    first: int
    last: int


class WordsEncoder:
    """Implements Encoder with the ONNX model `words.onnx`, on the CPU. Raises ModelBroken."""

    needs: frozenset[Literal["images", "words"]] = frozenset({"words"})
    batch_pages = 8
    notes: tuple[str, ...] = ()

    def __init__(self, settings: configs.Words) -> None:
        folder = ModelFolder(settings.model)
        self._tokenizer = folder.tokenizer()
        self._runner = RowRunner(folder.session("words.onnx"), settings.threads)
        self._whole_weight = float(folder.facts["whole"])
        self._dim = int(folder.facts["dim"])
        self.fusions = {kind: LogOdds(**fitted) for kind, fitted in folder.facts.get("fusions", {}).items()}
        self._question_head = [CLS, *_marker(folder.facts.get("question_marker"))]
        self._passage_head = [CLS, *_marker(folder.facts.get("passage_marker"))]
        revision = folder.revision("words.onnx", "table.bin", "tokenizer.json")
        pooling = f"windows {WINDOW}/{OVERLAP}, runs {RUN}"
        self.fingerprint = Fingerprint("words", folder.name, revision, self._dim, pooling)

    def expect(self, pages: Sequence[PageContent]) -> None:
        """Does nothing: this encoder prepares nothing ahead."""

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        encoded: list[PageEmbedding] = []
        for start in range(0, len(pages), PAGES_AT_ONCE):
            encoded.extend(self._encode_some(pages[start : start + PAGES_AT_ONCE]))
        return encoded

    def _encode_some(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        titles = [e.ids[:TITLE_PIECES] for e in self._encodings([page.title for page in pages])]
        contents = [self._pieces(page.words) for page in pages]
        rows: list[list[int]] = []
        spans: list[list[tuple[int, int, int]]] = []  # per page: (start, end, row)
        for title, content in zip(titles, contents, strict=True):
            head = [*self._passage_head, *title, SEP] if title else self._passage_head
            spans.append([])
            for start, end in windows(len(content.ids), WINDOW - len(head) + 1):
                spans[-1].append((start, end, len(rows)))
                rows.append([*head, *content.ids[start:end], SEP])
        outputs = self._runner.run_rows(rows)
        return [self._assemble(*page, outputs) for page in zip(pages, contents, spans, strict=True)]

    def _assemble(
        self,
        page: PageContent,
        content: _Pieces,
        spans: Sequence[tuple[int, int, int]],
        outputs: Sequence[NDArray[np.float32]],
    ) -> PageEmbedding:
        if not spans:
            return PageEmbedding(np.zeros((0, self._dim), np.float32), np.zeros((0, 4), np.float32))
        pieces = np.zeros((len(content.ids), self._dim), np.float32)
        vectors: list[NDArray[np.float32]] = []
        regions: list[Box] = []
        for start, end, row in spans:
            output = outputs[row][:, : self._dim]
            vectors.append(output.mean(axis=0))
            regions.append(
                union(page.words[i].box for i in range(content.words[start], content.words[end - 1] + 1))
            )
            inner_start = start if start == 0 else start + OVERLAP // 2
            pieces[inner_start:end] = output[-1 - (end - inner_start) : -1]
        for run in piece_runs(content, page.words):
            vectors.append(pieces[run.start : run.end].mean(axis=0))
            regions.append(union(word.box for word in page.words[run.first : run.last + 1]))
        return PageEmbedding(_unit(np.stack(vectors)), np.array(regions, np.float32))

    def encode_queries(self, queries: Sequence[str]) -> list[QueryEmbedding]:
        encodings = self._encodings(queries)
        outputs = self._runner.run_rows(
            [[*self._question_head, *e.ids[:QUESTION_PIECES], SEP] for e in encodings]
        )
        return [self._query(q, e, o) for q, e, o in zip(queries, encodings, outputs, strict=True)]

    def _query(self, query: str, encoding: Encoding, output: NDArray[np.float32]) -> QueryEmbedding:
        ids, spans, word_of = encoding.ids[:QUESTION_PIECES], encoding.offsets, encoding.word_ids
        known = [i for i in range(len(ids)) if ids[i] != UNKNOWN]
        if not known:
            empty = np.zeros((0, self._dim), np.float32)
            return QueryEmbedding(empty, (), (), np.zeros(0, np.float32))
        members: dict[int, list[int]] = {}
        for i in known:
            members.setdefault(word_of[i] or 0, []).append(i)
        tokens = [query[spans[m[0]][0] : spans[m[-1]][1]] for m in members.values()]
        before = len(self._question_head)
        means = np.stack([output[[i + before for i in m]].mean(axis=0) for m in members.values()])
        odds = np.exp(means[:, -1] - means[:, -1].max())
        vectors = np.concatenate([output[:, : self._dim].mean(axis=0)[None], means[:, : self._dim]])
        weights = np.concatenate([[self._whole_weight], (1 - self._whole_weight) * odds / odds.sum()]).astype(
            np.float32
        )
        content = tuple(fold(token) not in STOP_WORDS and any(map(str.isalnum, token)) for token in tokens)
        return QueryEmbedding(_unit(vectors), ("[question]", *tokens), (False, *content), weights)

    def _encodings(self, texts: Sequence[str]) -> list[Encoding]:
        return list(self._tokenizer.encode_batch(list(texts), add_special_tokens=False))

    def _pieces(self, words: Sequence[Word]) -> _Pieces:
        ids: list[int] = []
        owners: list[int] = []
        for i, encoding in enumerate(self._encodings([word.text for word in words])):
            for piece in encoding.ids[:WORD_PIECES]:
                ids.append(piece)
                owners.append(i)
        return _Pieces(ids, owners)


def _marker(piece: object) -> list[int]:
    """Returns the piece that the model expects before questions or passages; none for models without markers."""
    return [piece] if isinstance(piece, int) else []


def windows(pieces: int, length: int) -> Iterator[tuple[int, int]]:
    """Yields [start, end) of windows of at most `length` over `pieces`; neighbours share OVERLAP pieces."""
    start = 0
    while start < pieces:
        end = min(pieces, start + length)
        yield start, end
        if end == pieces:
            return
        start = end - OVERLAP


def piece_runs(content: _Pieces, words: Sequence[Word]) -> Iterator[_Run]:
    """Yields runs of whole words: a run ends at RUN pieces, or at a line's end if it has half of that."""
    start = 0
    for i in range(len(content.ids)):
        word = content.words[i]
        following = content.words[i + 1] if i + 1 < len(content.ids) else None
        if following == word:
            continue
        size = i + 1 - start
        if following is None or size >= RUN or (size >= RUN // 2 and _breaks(words[word], words[following])):
            yield _Run(start, i + 1, content.words[start], word)
            start = i + 1


def _breaks(word: Word, following: Word) -> bool:
    """Whether the next word is on another line, or in another column or cell of this line."""
    (_, top, right, bottom), (left, next_top, _, next_bottom) = word.box, following.box
    overlap = min(bottom, next_bottom) - max(top, next_top)
    height = max(bottom - top, 1e-6)
    return overlap < 0.5 * height or left - right > 2 * height or left < word.box[0]


def union(boxes: Iterator[Box]) -> Box:
    """Returns the smallest box around all of `boxes`."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _unit(vectors: NDArray[np.float32]) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
