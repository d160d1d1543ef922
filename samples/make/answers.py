"""Looks up the hand-written answers of `answers.yaml` on the pages, and writes them with boxes to `answers.jsonl`:

    folioscope ingest samples/pdfs --index samples.lance
    python -m samples.make.answers samples.lance

The words and their places are those that the index holds: of the text layer, and of OCR for scans and pictures.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import pymupdf
import yaml

from retrieval.store.store import Store
from retrieval.types import Box, Word

SAMPLES = Path(__file__).parent.parent
DASHES = str.maketrans({"–": "-", "—": "-", "−": "-", "’": "'", "‘": "'", "“": '"', "”": '"'})
GAP = (
    2.0  # heights of a line: words further apart than this have boxes of their own, such as cells of a table
)


@dataclass(frozen=True, slots=True)
class Letters:
    """The letters of words without the blanks between them, because OCR leaves blanks out and adds some."""

    text: str
    boxes: tuple[Box, ...]  # of each letter, as if all letters of a word were equally wide
    words: tuple[int, ...]  # the place of each letter's word


def plain(text: str) -> str:
    """Return the text without case, blanks and kinds of quotes and dashes."""
    return "".join(unicodedata.normalize("NFKC", text).translate(DASHES).casefold().split())


def letters_of(words: Sequence[Word]) -> Letters:
    text, boxes, places = "", [], []
    for place, word in enumerate(words):
        letters = plain(word.text)
        x0, y0, x1, y1 = word.box
        width = (x1 - x0) / max(len(letters), 1)
        text += letters
        boxes += [(x0 + width * i, y0, x0 + width * (i + 1), y1) for i in range(len(letters))]
        places += [place] * len(letters)
    return Letters(text, tuple(boxes), tuple(places))


def occurrences(text: str, quote: str) -> list[tuple[int, int]]:
    """Return [first, end) of each occurrence of the quote, in which " … " stands for anything."""
    first, *rest = map(plain, quote.split(" … "))
    found, at = [], text.find(first)
    while at >= 0:
        end = at + len(first)
        for part in rest:
            place = text.find(part, end)
            end = place + len(part) if place >= 0 else -1
            if end < 0:
                break
        if end >= 0:
            found.append((at, end))
        at = text.find(first, at + 1)
    return found


def locate(letters: Letters, quote: str, which: int | None, place: str) -> tuple[int, int]:
    """Return the letters [first, end) of the quote's occurrence `which`, from 1, or -1 for the last.

    Raises SystemExit if there is no such occurrence, or if there are several and `which` is None.
    """
    found = occurrences(letters.text, quote)
    # "4" does not occur in "14" if a word "4" is there as well.
    whole = [(a, b) for a, b in found if _is_word(letters, a, b)]
    found = whole or found
    if not found or (which is None and len(found) > 1) or (which or 1) > len(found):
        raise SystemExit(
            f"{place}: {quote!r} occurs {len(found)} times; occurrence wanted: {which or 'the only one'}"
        )
    return found[which - 1 if which and which > 0 else which or 0]


def _is_word(letters: Letters, first: int, end: int) -> bool:
    places = letters.words
    starts = first == 0 or places[first - 1] != places[first]
    return starts and (end == len(places) or places[end - 1] != places[end])


def lines(boxes: Iterable[Box], gap: float = GAP) -> list[Box]:
    """Join the boxes of letters that follow each other on one line, at most `gap` heights of the line apart."""
    joined: list[Box] = []
    for box in boxes:
        last = joined[-1] if joined else None
        if last and _same_line(last, box) and -_height(box) < box[0] - last[2] < gap * _height(box):
            joined[-1] = (
                min(last[0], box[0]),
                min(last[1], box[1]),
                max(last[2], box[2]),
                max(last[3], box[3]),
            )
        else:
            joined.append(box)
    return [_rounded(box) for box in joined]


def _same_line(a: Box, b: Box) -> bool:
    return min(a[3], b[3]) - max(a[1], b[1]) > 0.5 * min(_height(a), _height(b))


def _height(box: Box) -> float:
    return box[3] - box[1]


def _rounded(box: Box) -> Box:
    x0, y0, x1, y1 = (round(min(max(v, 0.0), 1.0), 4) for v in box)
    return x0, y0, x1, y1


def picture(name: str, number: int, which: int) -> Box:
    """Return the box of the page's picture `which`, from 1, in the order of the page from top to bottom."""
    with pymupdf.open(SAMPLES / "pdfs" / name) as document:
        page = document[number - 1]
        boxes = sorted((image["bbox"] for image in page.get_image_info()), key=lambda box: (box[1], box[0]))
        x0, y0, x1, y1 = boxes[which - 1]
        return _rounded(
            (x0 / page.rect.width, y0 / page.rect.height, x1 / page.rect.width, y1 / page.rect.height)
        )


def _misread(quote: str, read: dict[str, str]) -> str:
    for right, wrong in read.items():
        quote = quote.replace(right, wrong)
    return quote


def inside(words: Sequence[Word], box: Box) -> list[Word]:
    return [
        word for word in words
        if box[0] <= (word.box[0] + word.box[2]) / 2 <= box[2] and box[1] <= (word.box[1] + word.box[3]) / 2 <= box[3]
    ]  # fmt: skip


def answer(store: Store, query_id: str, document: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return one answer of `answers.yaml` with its boxes."""
    page = given["page"]
    name, number = (
        (document, page) if isinstance(page, int) else (page.split("#page=")[0], int(page.split("=")[1]))
    )
    place = f"{query_id}, {name}#page={number}"
    words = store.contents([store.page(name, number)])[0].words
    read = given.get("read", {})
    texts = given["text"] if isinstance(given["text"], list) else [given["text"]]
    passages = given.get("in", given["text"])
    passages = passages if isinstance(passages, list) else [passages]
    where, passage = Letters("", (), ()), []
    for quote in passages:
        if quote.startswith("image "):
            box = picture(name, number, int(quote.split()[1]))
            passage.append(box)
            scope = letters_of(inside(words, box))
        else:
            letters = letters_of(words)
            first, end = locate(letters, _misread(quote, read), given.get("nth"), place)
            scope = Letters(letters.text[first:end], letters.boxes[first:end], letters.words[first:end])
            passage += lines(scope.boxes, inf)
        if not where.text and all(occurrences(scope.text, _misread(text, read)) for text in texts):
            where = scope
    spans = [locate(where, _misread(text, read), given.get("at"), place) for text in texts]
    boxes = [box for first, end in spans for box in lines(where.boxes[first:end])]
    return {
        "page": f"{name}#page={number}",
        "text": " ".join(texts),
        "also": given.get("also", []),
        "boxes": boxes,
        "passage": passage,
        **({"item": given["item"]} if "item" in given else {}),
    }


def main(index: str) -> None:
    store = Store.open(index)
    lines_of_queries = (SAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    documents = {row["query_id"]: row["document"] for row in map(json.loads, lines_of_queries)}
    given = yaml.safe_load((SAMPLES / "make" / "answers.yaml").read_text(encoding="utf-8"))
    with (SAMPLES / "answers.jsonl").open("w", encoding="utf-8") as out:
        for query_id, document in documents.items():
            question = given[query_id]
            answers = [answer(store, query_id, document, one) for one in question["answers"]]
            row = {"query_id": query_id, "form": question["form"], "answers": answers}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
