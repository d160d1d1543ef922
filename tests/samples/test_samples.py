"""The sample documents, questions and judgments are consistent and as difficult as samples/README.md says."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from PIL import Image, ImageSequence

SAMPLES = Path(__file__).parents[2] / "samples"
PDFS = SAMPLES / "pdfs"
MEBIBYTE = 2**20


def pages_of(path: Path) -> int:
    if path.suffix == ".tiff":
        with Image.open(path) as image:
            return sum(1 for _ in ImageSequence.Iterator(image))
    with pymupdf.open(path) as document:
        return len(document)


def judgments() -> Iterator[tuple[str, str, int]]:
    """Yield question id, page name and grade of each line."""
    for line in (SAMPLES / "qrels.txt").read_text(encoding="utf-8").splitlines():
        query_id, zero, page, grade = line.split()
        assert zero == "0", line
        yield query_id, page, int(grade)


@pytest.fixture(scope="module")
def pages() -> dict[str, int]:
    return {path.name: pages_of(path) for path in sorted(PDFS.iterdir())}


@pytest.fixture(scope="module")
def queries() -> list[dict[str, Any]]:
    lines = (SAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_there_are_enough_documents_pages_and_questions(
    pages: dict[str, int], queries: list[dict[str, Any]]
) -> None:
    assert len(pages) >= 10
    assert 85 <= sum(pages.values()) <= 110
    assert len(queries) >= 90


def test_all_samples_together_are_small() -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 9 * MEBIBYTE


def test_every_question_has_its_own_id_and_its_own_words(queries: list[dict[str, Any]]) -> None:
    assert len({query["query_id"] for query in queries}) == len(queries)
    assert len({query["text"].lower() for query in queries}) == len(queries)


def test_every_question_has_its_sources_and_its_kind(queries: list[dict[str, Any]]) -> None:
    for query in queries:
        assert set(query) == {"query_id", "text", "document", "sources", "kind"}
        assert all(query[key] for key in ("text", "sources", "kind")), query


def test_every_question_is_answered_in_full_by_some_page(queries: list[dict[str, Any]]) -> None:
    answered = {query_id for query_id, _, grade in judgments() if grade == 2}
    assert answered == {query["query_id"] for query in queries}


def test_no_page_is_judged_twice_for_a_question() -> None:
    judged = Counter((query_id, page) for query_id, page, _ in judgments())
    assert [pair for pair, times in judged.items() if times > 1] == []


def test_every_grade_is_one_or_two() -> None:
    assert {grade for _, _, grade in judgments()} == {1, 2}


def test_every_judged_page_exists(pages: dict[str, int]) -> None:
    for _, page, _ in judgments():
        name, number = page.split("#page=")
        assert 1 <= int(number) <= pages[name], page


def test_every_document_answers_at_least_five_questions(pages: dict[str, int]) -> None:
    answered: dict[str, set[str]] = {name: set() for name in pages}
    for query_id, page, grade in judgments():
        if grade == 2:
            answered[page.split("#")[0]].add(query_id)
    assert {name: len(ids) for name, ids in answered.items() if len(ids) < 5} == {}


def test_a_question_names_its_document_if_one_document_has_all_its_answers(
    queries: list[dict[str, Any]],
) -> None:
    documents_of: dict[str, set[str]] = {}
    for query_id, page, _ in judgments():
        documents_of.setdefault(query_id, set()).add(page.split("#")[0])
    for query in queries:
        documents = documents_of[query["query_id"]]
        assert query["document"] == (documents.pop() if len(documents) == 1 else None), query["query_id"]


def test_the_demo_has_ten_of_the_questions(queries: list[dict[str, Any]]) -> None:
    demo = (SAMPLES / "demo.txt").read_text(encoding="utf-8").split()
    assert len(demo) == len(set(demo)) == 10
    assert set(demo) <= {query["query_id"] for query in queries}


def test_the_scanned_report_has_pictures_and_no_text() -> None:
    with pymupdf.open(PDFS / "ashmoor-bridge-inspection-scan.pdf") as document:
        assert [page.number for page in document if page.get_text().strip()] == []
        assert [page.number for page in document if len(page.get_images()) != 1] == []


def test_the_scanned_letter_within_the_minutes_is_the_only_page_without_text() -> None:
    with pymupdf.open(PDFS / "sandrey-harbour-minutes.pdf") as document:
        assert [page.number + 1 for page in document if not page.get_text().strip()] == [4]


def test_the_annex_of_the_minutes_is_rotated_by_its_rotate_entry() -> None:
    with pymupdf.open(PDFS / "sandrey-harbour-minutes.pdf") as document:
        assert [page.rotation for page in document] == [0, 0, 0, 0, 90, 0]
        annex = document[4]
        assert annex.rect.width > annex.rect.height


def test_the_forms_are_black_and_white_at_200_dots_per_inch() -> None:
    with Image.open(PDFS / "quillon-claim-forms.tiff") as image:
        for page in ImageSequence.Iterator(image):
            assert page.mode == "1"
            assert page.info["dpi"] == (200, 200)


@pytest.mark.parametrize(
    ("name", "page", "number"),
    [
        ("orrin-valley-water-q3-review.pdf", 5, "47"),
        ("orrin-valley-water-q3-review.pdf", 4, "412"),
        ("brackwater-annual-report-2023.pdf", 7, "32.1"),
        ("fx-2207-datasheet.pdf", 5, "1.5 A"),
        ("auenrode-energiebericht-2023.pdf", 4, "96"),
    ],
)
def test_the_numbers_of_a_raster_chart_are_not_in_the_text_layer(name: str, page: int, number: str) -> None:
    with pymupdf.open(PDFS / name) as document:
        assert number not in document[page - 1].get_text()
