"""The gold answers of the samples are whole: every question, boxes on the page, and the words that stand in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymupdf
import pytest
import yaml

SAMPLES = Path(__file__).parents[2] / "samples"
DASHES = str.maketrans("–’‘", "-''")
FORMS = {"span", "list", "passage", "chart", "yes_no"}


@pytest.fixture(scope="module")
def questions() -> list[dict[str, Any]]:
    lines = (SAMPLES / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def grades() -> dict[str, dict[str, int]]:
    by_question: dict[str, dict[str, int]] = {}
    for line in (SAMPLES / "qrels.txt").read_text(encoding="utf-8").splitlines():
        query_id, _, page, grade = line.split()
        by_question.setdefault(query_id, {})[page] = int(grade)
    return by_question


def answers_of(questions: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for question in questions:
        for answer in question["answers"]:
            yield question, answer


def test_every_question_has_a_form_and_answers_in_the_order_of_the_questions(
    questions: list[dict[str, Any]],
) -> None:
    lines = (SAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    assert [question["query_id"] for question in questions] == [
        json.loads(line)["query_id"] for line in lines
    ]
    assert {question["form"] for question in questions} == FORMS
    assert [question["query_id"] for question in questions if not question["answers"]] == []


def test_the_answers_are_those_that_were_written_by_hand(questions: list[dict[str, Any]]) -> None:
    given = yaml.safe_load((SAMPLES / "make" / "answers.yaml").read_text(encoding="utf-8"))
    assert set(given) == {question["query_id"] for question in questions}
    for question in questions:
        by_hand = given[question["query_id"]]
        assert question["form"] == by_hand["form"]
        for answer, written in zip(question["answers"], by_hand["answers"], strict=True):
            text = written["text"]
            assert answer["text"] == (text if isinstance(text, str) else " ".join(text))
            assert answer["also"] == written.get("also", [])


def test_every_page_that_answers_by_itself_has_an_answer_and_every_page_is_judged(
    questions: list[dict[str, Any]], grades: dict[str, dict[str, int]]
) -> None:
    for question in questions:
        judged = grades[question["query_id"]]
        pages = {answer["page"] for answer in question["answers"]}
        assert pages <= set(judged), question["query_id"]
        assert {page for page, grade in judged.items() if grade == 2} <= pages, question["query_id"]


def test_only_lists_and_charts_have_items_which_are_numbered_from_one(
    questions: list[dict[str, Any]],
) -> None:
    for question in questions:
        items = {answer["item"] for answer in question["answers"] if "item" in answer}
        assert items == set(range(1, len(items) + 1)), question["query_id"]
        assert not items or question["form"] in ("list", "chart"), question["query_id"]
        assert question["form"] != "list" or len(items) > 1, question["query_id"]


def test_every_box_lies_on_the_page_and_the_answer_within_its_passage(
    questions: list[dict[str, Any]],
) -> None:
    for question, answer in answers_of(questions):
        place = (question["query_id"], answer["text"])
        assert answer["text"] == answer["text"].strip() != "", place
        assert answer["boxes"], place
        for x0, y0, x1, y1 in [*answer["boxes"], *answer["passage"]]:
            assert 0 <= x0 < x1 <= 1, place
            assert 0 <= y0 < y1 <= 1, place
        for x0, y0, x1, y1 in answer["boxes"]:
            x, y = (x0 + x1) / 2, (y0 + y1) / 2
            assert any(a <= x <= c and b <= y <= d for a, b, c, d in answer["passage"]), place


def test_the_words_of_an_answer_stand_in_its_boxes(questions: list[dict[str, Any]]) -> None:
    checked, in_pictures = 0, 0
    by_page: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for question, answer in answers_of(questions):
        by_page.setdefault(answer["page"], []).append((question["query_id"], answer))
    for name, answers in by_page.items():
        file, number = name.split("#page=")
        if not file.endswith(".pdf"):
            continue  # a fax
        with pymupdf.open(SAMPLES / "pdfs" / file) as document:
            page = document[int(number) - 1]
            text = page.get_text("words")
            if not text:
                continue  # a scan
            for query_id, answer in answers:
                boxes = scaled(page, answer["boxes"])
                words = words_in(page, text, boxes)
                if not words and is_in_picture(page, boxes):
                    in_pictures += 1
                    continue
                assert letters(answer["text"]) in letters(words), (query_id, answer["text"], words)
                checked += 1
    assert checked > 150
    assert 15 <= in_pictures <= 25


def test_there_are_sixty_other_questions_that_no_page_answers() -> None:
    lines = (SAMPLES / "unanswered.jsonl").read_text(encoding="utf-8").splitlines()
    others = [json.loads(line) for line in lines]
    lines = (SAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    texts = {json.loads(line)["text"] for line in lines}
    assert [row["query_id"] for row in others] == [f"u{number:03d}" for number in range(1, 61)]
    assert len({row["text"] for row in others} - texts) == 60
    files = {path.name for path in (SAMPLES / "pdfs").iterdir()}
    assert {row["document"] for row in others} == files


def words_in(page: Any, words: list[Any], boxes: list[Any]) -> str:
    """Return the words of which a third lies in the boxes, and words in which a box lies: it has a part of the word."""
    found = []
    for *corners, word, _, _, _ in words:
        place = pymupdf.Rect(corners) * page.rotation_matrix
        covered = sum((pymupdf.Rect(place) & box).get_area() for box in boxes)
        if covered > place.get_area() / 3 or any(most_of(box, place) for box in boxes):
            found.append(word)
    return " ".join(found)


def is_in_picture(page: Any, boxes: list[Any]) -> bool:
    pictures = [pymupdf.Rect(image["bbox"]) for image in page.get_image_info()]
    return all(any(most_of(box, picture) for picture in pictures) for box in boxes)


def most_of(box: Any, place: Any) -> bool:
    """Return whether at least two thirds of `box` lie in `place`."""
    return bool((pymupdf.Rect(box) & place).get_area() >= box.get_area() * 2 / 3)


def scaled(page: Any, boxes: list[list[float]]) -> list[Any]:
    width, height = page.rect.width, page.rect.height
    return [pymupdf.Rect(x0 * width, y0 * height, x1 * width, y1 * height) for x0, y0, x1, y1 in boxes]


def letters(text: str) -> str:
    return "".join(text.translate(DASHES).casefold().split())
