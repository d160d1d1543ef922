"""The training set as tensors on the device: rows of pieces are gathered there, so that no step waits for the CPU."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from retrieval.train.minilm import CLS, SEP
from retrieval.train.packed import SETS, Ints, Packed, Role
from retrieval.train.words_model import PASSAGE_MARKER, QUESTION_MARKER

LONGEST = 144
"""Pieces: no window is longer."""
WIDE = 160
"""Pieces of the passages that the encoder is trained on: a window with what stands around it."""
MINED = 12
"""Negatives of a question that are added on the device."""
WEIGHTS = {Role.NEGATIVE: 1.0, Role.NEAR_MISS: 4.0, Role.OTHER_DOCUMENT: -0.5}
"""Log weights with which negatives are drawn."""
NEVER = float("-inf")
MULTIPLE = 16
"""Rows are padded to a multiple of this many pieces: the fused attention needs multiples of 8."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of pieces for a model: ids, mask, segments (n, length), and where the window's pieces begin and end (n,)."""

    ids: Tensor
    mask: Tensor
    segments: Tensor
    start: Tensor
    end: Tensor

    @property
    def body(self) -> Tensor:
        """Which pieces (n, length) are the window's."""
        place = torch.arange(self.ids.shape[1], device=self.ids.device)
        return (place >= self.start[:, None]) & (place < self.end[:, None])


@dataclass(frozen=True, slots=True)
class Draw:
    """What a step trains on: g groups with k windows, positives first. All (g, k) but `group`."""

    group: Tensor  # (g,)
    column: Tensor
    window: Tensor
    real: Tensor  # False: there are fewer
    first: Tensor
    last: Tensor
    evidence: Tensor  # rows of Resident.evidence, -1 where it is unknown


class Resident:
    """A packed set on a device. G groups are padded to C columns."""

    def __init__(self, packed: Packed, continues: Tensor, device: torch.device, seed: int = 0) -> None:
        """continues (pieces,): whether a piece continues the word of the piece before it."""
        self.packed, self.device = packed, device
        self.random = torch.Generator(device).manual_seed(seed)

        def put(array: object) -> Tensor:
            return torch.from_numpy(np.asarray(array).astype(np.int64)).to(device)

        self.continues = continues.to(device)
        self.tokens = put(packed.tokens)
        starts = put(packed.text_starts)
        self.text_start, self.text_length = starts[:-1], starts[1:] - starts[:-1]
        self.text_document = put(packed.text_document)
        self.window_text = put(packed.window_text)
        self.window_start = put(packed.window_start)
        self.window_length = put(packed.window_length)
        self.window_title = put(packed.window_title)
        self.window_heading = put(packed.window_heading)
        self.question_text = put(packed.question_text)
        self.answers = put(packed.question_answers)
        self.group_question, self.group_set = put(packed.group_question), put(packed.group_set)
        group_starts = packed.group_starts.astype(np.int64)
        counts = group_starts[1:] - group_starts[:-1]
        groups, columns = len(counts), int(counts.max(initial=1)) + MINED
        row = np.repeat(np.arange(groups), counts)
        column = np.arange(len(row)) - np.repeat(group_starts[:-1], counts)

        def table(values: Ints, empty: int) -> Tensor:
            array = np.full((groups, columns), empty, np.int64)
            array[row, column] = values
            return torch.from_numpy(array).to(device)

        self.window = table(packed.item_window, -1)
        self.role = table(packed.item_role, -1)
        self.first, self.last = table(packed.item_first, -1), table(packed.item_last, -1)
        with_evidence, evidence_row = np.unique(packed.evidence_item, return_inverse=True)
        rows = np.full(len(row), -1, np.int64)
        rows[with_evidence] = np.arange(len(with_evidence))
        self.evidence_row = table(rows, -1)
        place = np.arange(LONGEST)[None]
        inside = (place >= packed.evidence_first[:, None]) & (place <= packed.evidence_last[:, None])
        evidence = np.zeros((len(with_evidence), LONGEST), bool)
        np.logical_or.at(evidence, evidence_row, inside)
        self.evidence = torch.from_numpy(evidence).to(device)
        """Which pieces (r, LONGEST) of a window are evidence; `evidence_row` (G, C) says which row an item has."""
        self.count = put(counts)
        self.weight = torch.full((groups, columns), NEVER, device=device)
        for role, weight in WEIGHTS.items():
            self.weight[self.role == role] = weight

    def groups(self, *sets: str) -> Tensor:
        """Returns the numbers of the groups in these sets."""
        wanted = torch.tensor([SETS.index(name) for name in sets], device=self.device)
        return torch.isin(self.group_set, wanted).nonzero()[:, 0]

    def add_negatives(self, groups: Tensor, windows: Tensor) -> None:
        """Add windows (n, at most MINED) to groups (n,) as negatives, unless they are in the group; -1 for none."""
        for column in windows.unbind(1):
            known = (self.window[groups] == column[:, None]).any(1) | (column < 0)
            chosen, place = groups[~known], self.count[groups[~known]]
            self.window[chosen, place] = column[~known]
            self.role[chosen, place] = int(Role.NEGATIVE)
            self.weight[chosen, place] = WEIGHTS[Role.NEGATIVE]
            self.count[chosen] += 1

    def add_pairs(self, groups: Tensor, windows: Tensor) -> None:
        """Add the windows (n,) that are not in their groups (n,) as negatives, at most MINED of each group."""
        parts = zip(groups.split(8192), windows.split(8192), strict=True)
        absent = torch.cat([(self.window[g] != w[:, None]).all(1) for g, w in parts])
        order = groups[absent].argsort(stable=True)
        groups, windows = groups[absent][order], windows[absent][order]
        _, counts = groups.unique_consecutive(return_counts=True)
        rank = torch.arange(len(groups), device=self.device)
        rank -= (counts.cumsum(0) - counts).repeat_interleave(counts)
        for number in range(MINED):
            self.add_negatives(groups[rank == number], windows[rank == number][:, None])

    def draw(self, groups: Tensor, size: int) -> Draw:
        """Draws a positive and at most `size - 1` negatives of each group."""
        positive = (self.role[groups] == Role.POSITIVE).float()
        column = [torch.multinomial(positive, 1, generator=self.random)]
        weight = self.weight[groups]
        noise = torch.rand(weight.shape, device=self.device, generator=self.random)
        gumbel = -(-noise.clamp(1e-9, 1 - 1e-6).log()).log()
        best, at = (weight + gumbel).topk(min(size - 1, weight.shape[1]), dim=1)
        column.append(at)
        columns = torch.cat(column, 1)
        real = torch.cat([torch.ones_like(column[0], dtype=torch.bool), best.isfinite()], 1)
        where = groups[:, None]
        return Draw(
            groups,
            columns,
            self.window[where, columns].clamp(min=0),
            real,
            self.first[where, columns],
            self.last[where, columns],
            self.evidence_row[where, columns],
        )

    def coin(self, count: int, probability: float) -> Tensor:
        """Returns `count` random booleans."""
        return torch.rand(count, device=self.device, generator=self.random) < probability

    def pair_lengths(self, question: Tensor, window: Tensor, titles: Tensor, headings: Tensor) -> Tensor:
        """Returns the pieces (n,) of the rows that `pairs` makes."""
        return (
            3
            + self.text_length[self.question_text[question]]
            + self.window_length[window]
            + self._prefix(self.window_title[window], titles)[1]
            + self._prefix(self.window_heading[window], headings)[1]
        )

    def pairs(self, question: Tensor, window: Tensor, titles: Tensor, headings: Tensor, length: int) -> Rows:
        """Returns `[CLS] question [SEP] title heading window [SEP]`; titles and headings (n,): whether to add them."""
        text = self.question_text[question]
        title, title_length = self._prefix(self.window_title[window], titles)
        heading, heading_length = self._prefix(self.window_heading[window], headings)
        after_question = 1 + self.text_length[text]
        heading_at = after_question + 1 + title_length
        start = heading_at + heading_length
        end = start + self.window_length[window]
        body = self.text_start[self.window_text[window]] + self.window_start[window]
        place = torch.arange(length, device=self.device)[None]
        index = place + (body - start)[:, None]
        index = torch.where(place < start[:, None], place + (heading - heading_at)[:, None], index)
        index = torch.where(place < heading_at[:, None], place + (title - after_question - 1)[:, None], index)
        index = torch.where(
            place < after_question[:, None], place + (self.text_start[text] - 1)[:, None], index
        )
        ids = self.tokens[index.clamp(0, len(self.tokens) - 1)]
        ids = ids.masked_fill((place == after_question[:, None]) | (place == end[:, None]), SEP)
        ids = ids.masked_fill(place == 0, CLS)
        mask = place <= end[:, None]
        segments = (place > after_question[:, None]) & mask
        return Rows(ids * mask, mask.long(), segments.long(), start, end)

    def questions(self, question: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ids, mask and words of the encoder's rows of questions, as `BiEncoder.encode` takes them."""
        text = self.question_text[question]
        length = self.text_length[text]
        place = torch.arange(_padded(int(length.max()) + 3), device=self.device)[None]
        ids = self.tokens[(place - 2 + self.text_start[text][:, None]).clamp(0, len(self.tokens) - 1)]
        end = length[:, None] + 2
        inside = (place >= 2) & (place < end)
        begins = inside & (~self.continues[ids] | (place == 2))
        words = torch.where(inside, begins.long().cumsum(1) - 1, -1)
        ids = ids.masked_fill(place == end, SEP).masked_fill(place == 0, CLS)
        mask = (place <= end).long()
        return ids.masked_fill(place == 1, QUESTION_MARKER) * mask, mask, words

    def passages(
        self, window: Tensor, *, run: int, titles: Tensor, marker: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ids, mask and runs of `run` pieces of the encoder's rows of passages."""
        text = self.window_text[window]
        length = self.text_length[text].clamp(max=WIDE)
        start = self.window_start[window] - (length - self.window_length[window]).clamp(min=0) // 2
        start = torch.minimum(start.clamp(min=0), self.text_length[text] - length)
        title, title_length = self._prefix(self.window_title[window], titles)
        head = 2 if marker else 1
        body = head + title_length + (title_length > 0)
        end = body + length
        place = torch.arange(_padded(int(end.max()) + 1), device=self.device)[None]
        index = place + (self.text_start[text] + start - body)[:, None]
        index = torch.where(place < body[:, None], place + (title - head)[:, None], index)
        ids = self.tokens[index.clamp(0, len(self.tokens) - 1)]
        between = (place == body[:, None] - 1) & (title_length > 0)[:, None]
        ids = ids.masked_fill(between | (place == end[:, None]), SEP)
        if marker:
            ids = ids.masked_fill(place == 1, PASSAGE_MARKER)
        ids = ids.masked_fill(place == 0, CLS)
        mask = (place <= end[:, None]).long()
        inside = (place >= body[:, None]) & (place < end[:, None])
        runs = torch.where(inside, (place - body[:, None]) // run, -1)
        return ids * mask, mask, runs

    def _prefix(self, text: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where these texts start, and their length: 0 if they are not wanted, or none (-1)."""
        there = wanted & (text >= 0)
        return self.text_start[text.clamp(min=0)], self.text_length[text.clamp(min=0)] * there


def chunks(lengths: Tensor, most: int, parts: int = 1) -> Iterator[tuple[Tensor, int]]:
    """Yields (rows, padded length) of chunks of similar length, each of at most `most` pieces and a share of the rows.

    lengths (n,). parts: at least as many chunks, if there are as many rows.
    """
    order = lengths.argsort()
    ordered = lengths[order].tolist()
    start, rows = 0, -(-len(ordered) // parts)
    while start < len(ordered):
        end = start + 1
        while end < len(ordered) and end - start < rows and _padded(ordered[end]) * (end + 1 - start) <= most:
            end += 1
        yield order[start:end], _padded(ordered[end - 1])
        start = end


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE
