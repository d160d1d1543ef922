"""Data sets in other layouts become documents, questions and judgements, without the network."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pymupdf
import pytest
from PIL import Image

from retrieval.errors import BadDataset, FolioscopeError, NotFound
from retrieval.evaluation.datasets import open_dataset
from retrieval.evaluation.evaluate import Question


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 60), colour).save(buffer, "PNG")
    return buffer.getvalue()


def image(colour: str) -> dict[str, object]:
    return {"bytes": png(colour), "path": None}


def write(path: Path, *rows: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def beir(folder: Path) -> Path:
    folder.mkdir()
    corpus = [
        {"_id": "MED-1", "title": "Tides", "text": "The tide turns.\nÉbb und Flut 潮汐"},
        {"_id": "a/b?", "title": "", "text": "word " * 3000},
        {"_id": "empty", "title": "", "text": ""},
    ]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    queries = [{"_id": "q1", "text": "when does it turn?"}, {"_id": "q2", "text": "unanswered"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels").mkdir()
    (folder / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq2\tMED-1\t1\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tMED-1\t2\nq1\ta/b?\t0\n")
    return folder


def test_texts_of_beir_become_pdfs_that_are_judged_as_documents(tmp_path: Path) -> None:
    dataset = open_dataset(str(beir(tmp_path / "beir")), tmp_path / "work")
    assert dataset.unit == "document"
    assert dataset.questions == (Question("q1", "when does it turn?"),)
    names = sorted(path.name for path in dataset.documents.iterdir())
    assert (len(names), "MED-1.pdf" in names, "empty.pdf" in names) == (3, True, True)
    assert dataset.qrels["q1"]["MED-1.pdf"] == 2
    with pymupdf.open(dataset.documents / "MED-1.pdf") as pdf:
        text = " ".join(pdf[0].get_text().split())
        assert "Tides The tide turns. Ébb und Flut 潮汐" in text
        assert pdf.metadata["title"] == "Tides"
    long = next(path for path in dataset.documents.iterdir() if path.name.startswith("a_b_-"))
    with pymupdf.open(long) as pdf:
        assert len(pdf) > 3
        assert sum(page.get_text().count("word") for page in pdf) == 3000


def test_opening_a_data_set_again_does_not_convert_it_again(tmp_path: Path) -> None:
    folder = beir(tmp_path / "beir")
    first = open_dataset(str(folder), tmp_path / "work")
    times = {path: path.stat().st_mtime_ns for path in first.documents.iterdir()}
    again = open_dataset(str(folder), tmp_path / "work")
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in again.documents.iterdir()} == times


def test_the_parts_of_vidore_are_joined_with_their_attributes(tmp_path: Path) -> None:
    folder = tmp_path / "v2"
    write(
        folder / "corpus" / "test-00000-of-00001.parquet",
        {"corpus-id": 7, "image": image("red")},
        {"corpus-id": 8, "image": image("blue")},
    )
    write(
        folder / "queries" / "test-00000-of-00001.parquet",
        {"query-id": 1, "query": "red?", "language": "english", "query_types": ["numerical", "open"]},
        {"query-id": 2, "query": "nothing?", "language": "french", "query_types": []},
    )
    write(
        folder / "qrels" / "test-00000-of-00001.parquet",
        {"query-id": 1, "corpus-id": 7, "score": 2},
        {"query-id": 1, "corpus-id": 8, "score": 0},
    )
    for _ in range(2):
        dataset = open_dataset(str(folder), tmp_path / "work")
        (question,) = dataset.questions
        assert question.attributes == {"language": ("english",), "query_types": ("numerical", "open")}
        assert dataset.qrels == {"1": {"7.png#page=1": 2, "8.png#page=1": 0}}
        assert (dataset.documents / "7.png").read_bytes() == png("red")


def test_rows_of_vidores_first_version_become_questions_and_pages(tmp_path: Path) -> None:
    write(
        tmp_path / "v1" / "data" / "test-00000-of-00001.parquet",
        {"query": "red?", "image": image("red"), "image_filename": "dir/one.png"},
        {"query": "red again?", "image": image("red"), "image_filename": "dir/one.png"},
        {"query": None, "image": image("blue"), "image_filename": "two.png"},
    )
    dataset = open_dataset(str(tmp_path / "v1"), tmp_path / "work")
    assert [question.text for question in dataset.questions] == ["red?", "red again?"]
    pages = {page for grades in dataset.qrels.values() for page in grades}
    assert len(pages) == 1
    assert len(list(dataset.documents.iterdir())) == 2


def test_a_page_id_that_is_a_prefix_of_another_has_its_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "v2"
    pages = {"1.2": "red", "1": "blue", "1.2.3": "green"}
    write(
        folder / "corpus" / "test-0.parquet",
        *({"corpus-id": page, "image": image(colour)} for page, colour in pages.items()),
    )
    write(folder / "queries" / "test-0.parquet", *({"query-id": page, "query": page} for page in pages))
    write(folder / "qrels" / "test-0.parquet", *({"query-id": p, "corpus-id": p, "score": 1} for p in pages))
    for _ in range(2):
        dataset = open_dataset(str(folder), tmp_path / "work")
        assert dataset.qrels == {page: {f"{page}.png#page=1": 1} for page in pages}
        for page, colour in pages.items():
            assert (dataset.documents / f"{page}.png").read_bytes() == png(colour)
    rows = tmp_path / "v1" / "test-0.parquet"
    given = [
        {"query": page, "image": image(colour), "image_filename": page} for page, colour in pages.items()
    ]
    write(rows, *given)
    first = open_dataset(str(rows.parent), tmp_path / "rows")
    write(rows, *given, {"query": "new", "image": image("black"), "image_filename": "1.2.3.4"})
    again = open_dataset(str(rows.parent), tmp_path / "rows")
    assert {page for grades in first.qrels.values() for page in grades} == {
        f"{page}.png#page=1" for page in pages
    }
    assert {k: v for k, v in again.qrels.items() if k in first.qrels} == first.qrels
    assert (again.documents / "1.2.3.4.png").read_bytes() == png("black")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "corpus.jsonl",
            '{"_id": "a"}\n{"title": "b"}',
            r"corpus\.jsonl, line 2: '_id' is missing; the keys are title",
        ),
        ("corpus.jsonl", "nonsense", r"corpus\.jsonl, line 1: 'nonsense' is not JSON"),
        (
            "queries.jsonl",
            '{"_id": 5, "text": "x"}',
            r"queries\.jsonl, line 1: _id is 5; expected _id: a text",
        ),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\tMED-1\thigh",
            r"test\.tsv, line 2: .* a whole number",
        ),
        ("qrels/test.tsv", "q1\tMED-1\t1\nq1 MED-1 1", r"test\.tsv, line 2: the line is 'q1 MED-1 1'"),
    ],
)
def test_the_error_for_a_line_of_beir_that_cannot_be_used_names_it(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    folder = beir(tmp_path / "beir")
    (folder / file).write_text(text)
    with pytest.raises(BadDataset, match=message):
        open_dataset(str(folder), tmp_path / "work")


def test_the_error_for_something_else_than_a_data_set_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"neither pdfs/ with queries\.jsonl"):
        open_dataset(str(tmp_path), tmp_path / "work")
    with pytest.raises(NotFound, match="neither a folder nor an id such as owner/name"):
        open_dataset("no such folder", tmp_path / "work")
    write(
        tmp_path / "bare" / "corpus" / "test-0.parquet",
        {"corpus-id": 1, "image": {"bytes": b"", "path": "x"}},
    )
    write(tmp_path / "bare" / "queries" / "test-0.parquet", {"query-id": 1, "query": "x"})
    write(tmp_path / "bare" / "qrels" / "test-0.parquet", {"query-id": 1, "corpus-id": 1, "score": 1})
    with pytest.raises(FolioscopeError, match="page '1' has no image: check"):
        open_dataset(str(tmp_path / "bare"), tmp_path / "work")


def test_the_error_for_an_unreachable_hub_names_the_command_that_fetches_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FolioscopeError, match="hf download vidore/nothing --repo-type dataset"):
        open_dataset("vidore/nothing", tmp_path / "work")
