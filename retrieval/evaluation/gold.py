"""Gold answers of a data set: which words of which page answer each question, and questions that no page answers.

A file of gold answers has a line for each question: {"query_id", "form", "answers": [{"page", "text", "also", "boxes",
"passage", "item"}]}, as samples/README.md describes.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from retrieval.errors import BadDataset
from retrieval.evaluation.evaluate import Dataset, JsonLine, Question, read_jsonl, shortened
from retrieval.types import Box

Form = Literal["span", "list", "passage", "yes_no", "chart"]


@dataclass(frozen=True, slots=True)
class GoldAnswer:
    """Words of a page that answer, with other wordings that stand there as well (`also`)."""

    page: str  # name, as in report.pdf#page=12
    text: str
    also: tuple[str, ...]
    boxes: tuple[Box, ...]
    passage: tuple[Box, ...]  # the sentence, row or picture that holds the words
    item: int | None = None  # from 1: the part of a list; None for an answer that is complete


@dataclass(frozen=True, slots=True)
class Gold:
    form: Form
    answers: tuple[GoldAnswer, ...]

    def on(self, page: str) -> tuple[GoldAnswer, ...]:
        return tuple(answer for answer in self.answers if answer.page == page)


def read_gold(path: Path, dataset: Dataset) -> dict[str, Gold]:
    """Return the gold answers by query_id. Raises BadDataset if a line cannot be used or a question has none."""
    gold: dict[str, Gold] = {}
    for line in read_jsonl(path):
        form = line.text("form")
        if form not in get_args(Form):
            raise line.bad(f"form is {form!r}", f"one of {', '.join(get_args(Form))}")
        given = line.row.get("answers")
        if not isinstance(given, list) or not given:
            raise line.bad(f"answers is {shortened(given)}", "answers: a list with at least one answer")
        query_id = line.text("query_id")
        if query_id in gold:
            raise line.bad(f"{query_id!r} is also on an earlier line", "one line for each question")
        answers = tuple(_gold_answer(line, each) for each in given)
        gold[query_id] = Gold(cast(Form, form), answers)
    missing = [q.query_id for q in dataset.questions if q.query_id not in gold]
    if missing:
        raise BadDataset(
            f"{path} has no answers for {len(missing)} of the {len(dataset.questions)} questions of {dataset.name}, "
            f"{missing[0]!r} among them: add a line for each"
        )
    return gold


def _gold_answer(line: JsonLine, given: Any) -> GoldAnswer:
    try:
        return GoldAnswer(
            page=_text(given["page"]),
            text=_text(given["text"]),
            also=tuple(map(_text, given.get("also", ()))),
            boxes=_boxes(given["boxes"]),
            passage=_boxes(given["passage"]),
            item=None if given.get("item") is None else int(given["item"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        expected = "page, text, boxes and passage, whose boxes are [x0, y0, x1, y1] in [0, 1]"
        raise line.bad(f"the answer {shortened(given)} cannot be used", expected) from error


def _text(given: Any) -> str:
    if not isinstance(given, str) or not given.strip():
        raise ValueError(f"{given!r} is not a text")
    return given


def _boxes(given: Any) -> tuple[Box, ...]:
    boxes: list[Box] = [(float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in given]
    if not boxes or not all(0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1 for x0, y0, x1, y1 in boxes):
        raise ValueError(f"{given!r} are not boxes")
    return tuple(boxes)


def read_unanswered(path: Path) -> tuple[Question, ...]:
    """Read questions that no page answers: {"query_id", "text"}, and "document" if they are about one file.

    Raises BadDataset if a line cannot be used.
    """
    questions = tuple(
        Question(
            line.text("query_id"),
            line.text("text"),
            line.text("document") if line.row.get("document") else "",
        )
        for line in read_jsonl(path)
    )
    if not questions:
        raise BadDataset(f'{path} is empty: it needs lines like {{"query_id": "u1", "text": "..."}}')
    return questions
