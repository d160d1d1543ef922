"""Measures exported readers on the held-out part, row by row as the product runs them: before and after a training.

python -m benchmarks.gpu_train judge MODEL ... --data build/gpu-train --measured 0.1 --out FILE
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_train import held
from benchmarks.gpu_train.reading import held_of, score_held
from benchmarks.gpu_train.resident import Resident
from rerankers.train.reader import OUTSIDE
from retrieval.models.onnx import ModelFolder, RowRunner
from retrieval.train.packed import Role

FILE = "reader.onnx"
MOST = 32_768
"""Pieces of a batch: only how many rows are made at once."""


class ExportedReader:
    """A reader.onnx with the inputs and outputs of a `Reader`; each row runs alone."""

    def __init__(self, folder: ModelFolder) -> None:
        session = folder.session(FILE)
        self.names = [output.name for output in session.get_outputs()]
        self._runner = RowRunner(session, None)

    def __call__(self, ids: Tensor, mask: Tensor, segments: Tensor) -> tuple[Tensor, ...]:
        rows = [row[:count].tolist() for row, count in zip(ids, mask.sum(1).tolist(), strict=True)]
        questions = (mask.sum(1) - segments.sum(1)).tolist()
        found = self._runner.run_outputs(rows, questions)
        outputs = []
        for number in range(len(self.names)):
            values = [torch.as_tensor(row[number]) for row in found]
            per_piece = values[0].ndim > 0
            outputs.append(
                nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=OUTSIDE)
                if per_piece
                else torch.stack(values)
            )
        return tuple(outputs)


def judge(models: Sequence[Path], data: Resident, part: float) -> dict[str, Any]:
    """Returns the figures of each model, by the path of its folder. part: of the held-out questions, for the ranking.

    Spans and evidence are measured on all held-out windows that have them, contrasts on all.
    """
    some, some_groups = held_of(data, part)
    every, every_groups = held_of(data)
    window = data.window[every_groups]
    known = (data.first[every_groups] >= 0) | (data.evidence_row[every_groups] >= 0)
    positive = (data.role[every_groups] == int(Role.POSITIVE)) & known
    window = window.masked_fill(~positive, -1)
    figures: dict[str, Any] = {}
    for path in models:
        model = ExportedReader(ModelFolder(str(path)))
        tables = {
            k: v.numpy() for k, v in score_held(model, data, some_groups, most=MOST, headings=False).items()
        }
        found = held.measured(some, tables["relevance"])
        found["unanswerable AUC"] = held.unanswerable_auc(some, tables["answerable"])
        tables = {
            k: v.numpy()
            for k, v in score_held(
                model, data, every_groups, most=MOST, headings=False, window=window
            ).items()
        }
        best = (tables["best_first"], tables["best_last"])
        found["spans"] = held.spans(every, *best)
        found["contrast spans"] = held.spans(every, *best, "held contrast")
        if "evidence" in model.names:
            found["evidence"] = held.evidence(every, tables["evidence"])
        figures[str(path)] = found
    return figures
