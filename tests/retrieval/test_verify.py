"""Each kind of damage that `verify` looks for is done to an index through LanceDB, and the report names it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrieval.encoders.hashing import HashingEncoder
from retrieval.store.store import Store
from retrieval.store.verify import AGAIN, Problem, bytes_on_disk, table_facts, verify
from tests.build import add_document


@pytest.fixture
def sound(store: Store, encoder: HashingEncoder) -> Store:
    """Two documents: a.pdf with three pages, b.pdf with two of three, as its second page could not be rendered."""
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha beta", "gamma", ""])
        add_document(store, encoder, "b.pdf", ["delta", "", "epsilon"], meta={"failed_pages": "2"})
        for name in ("pages", "images"):
            getattr(store.tables, name).delete("page_id = 'b#2'")
        store.optimize()
    return store


def problems(store: Store) -> list[tuple[str, int, str]]:
    return [(p.document, p.page, p.message) for p in verify(store).problems]


def change(store: Store, table: str, page_id: str, **values: Any) -> None:
    """Replace values in a stored row."""
    lance = getattr(store.tables, table)
    row = lance.search().where(f"page_id = '{page_id}'").to_arrow()
    for name, value in values.items():
        kind = row.schema.field(name)
        row = row.set_column(row.schema.get_field_index(name), kind, pa.array([value], kind.type))
    lance.delete(f"page_id = '{page_id}'")
    lance.add(row)
    store.optimize()


def copy(store: Store, table: str, page_id: str) -> None:
    """Add a second copy of a stored row."""
    lance = getattr(store.tables, table)
    lance.add(lance.search().where(f"page_id = '{page_id}'").to_arrow())
    store.optimize()


def test_a_sound_index_has_no_problem(sound: Store) -> None:
    progress: list[tuple[int, int]] = []
    report = verify(sound, lambda done, of: progress.append((done, of)))
    assert report.problems == ()
    assert (report.documents, report.pages, report.images) == (2, 5, 5)
    assert progress[-1] == (10, 10)


def test_an_empty_index_has_no_problem(store: Store) -> None:
    assert verify(store).problems == ()


def test_missing_pages_are_named(sound: Store) -> None:
    for table in ("pages", "images"):
        getattr(sound.tables, table).delete("page_id IN ('a#1', 'a#3', 'b#3')")
    assert problems(sound) == [
        ("a.pdf", 0, f"pages 1, 3 are missing, of 3: {AGAIN}"),
        ("b.pdf", 3, f"page 3 is missing, of 2: {AGAIN}"),
    ]


def test_many_missing_pages_are_one_problem(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", [f"word{n}" for n in range(30)])
    for table in ("pages", "images"):
        getattr(store.tables, table).delete("page_id NOT IN ('a#1', 'a#2')")
    store.optimize()
    (problem,) = verify(store).problems
    assert problem.message.startswith(
        "pages 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 18 more are missing, of 30: "
    )


def test_a_page_beyond_the_document_is_named(sound: Store) -> None:
    sound.tables.documents.update(where="doc_id = 'a'", values={"pages": 2})
    assert problems(sound) == [("a.pdf", 3, f"page 3 is in the index, but the document has 2 pages: {AGAIN}")]


def test_a_page_that_the_document_lists_as_failed_should_have_no_row(sound: Store) -> None:
    sound.tables.documents.update(where="doc_id = 'a'", values={"meta": '{"failed_pages": "1, 3"}'})
    (problem,) = verify(sound).problems
    assert (problem.page, problem.message) == (
        0,
        f"pages 1, 3 are in the index, but the document has 3 pages without 1, 3: {AGAIN}",
    )


def test_a_page_with_two_rows_is_named(sound: Store) -> None:
    copy(sound, "pages", "a#2")
    assert problems(sound) == [("a.pdf", 2, f"page 2 is in the index more than once: {AGAIN}")]


def test_a_page_with_two_images_is_named(sound: Store) -> None:
    copy(sound, "images", "a#2")
    assert problems(sound) == [("a.pdf", 2, f"page 2 has more than one image: {AGAIN}")]


def test_a_row_whose_key_and_number_differ_is_named(sound: Store) -> None:
    change(sound, "pages", "a#2", number=1)
    assert problems(sound)[0] == ("a.pdf", 1, f"this row is page 1 of a, its key a#2: {AGAIN}")
    assert [message.split(":")[0] for _, _, message in problems(sound)[1:]] == [
        "page 2 is missing, of 3",
        "page 1 is in the index more than once",
        "page 2 has an image, but no row among the pages",
    ]


def test_pages_that_belong_to_no_listed_document_are_counted(sound: Store) -> None:
    sound.tables.documents.delete("doc_id = 'b'")
    sound.tables.images.delete("page_id = 'b#1'")
    message = (
        "2 pages and 1 images belong to no listed document, as after an interrupted ingest: "
        "the next ingest deletes them"
    )
    assert problems(sound) == [("", 0, message)]
    with sound.writing():
        pass
    assert problems(sound) == []


def test_a_page_without_its_image_is_named(sound: Store) -> None:
    sound.tables.images.delete("page_id = 'a#2'")
    assert problems(sound) == [("a.pdf", 2, f"page 2 has no image: {AGAIN}")]


def test_an_image_without_its_page_is_named(sound: Store) -> None:
    sound.tables.pages.delete("page_id = 'a#2'")
    sound.optimize()
    assert problems(sound) == [
        ("a.pdf", 2, f"page 2 is missing, of 3: {AGAIN}"),
        ("a.pdf", 2, f"page 2 has an image, but no row among the pages: {AGAIN}"),
    ]


def scaled(factor: float) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    return lambda vectors: vectors * factor


def nan_first(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    vectors[0, 0] = np.nan
    return vectors


def infinite(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    vectors[:, 1] = np.inf
    return vectors


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (nan_first, "1 of its 2 vectors have values that are not numbers"),
        (infinite, "2 of its 2 vectors have values that are not numbers"),
        (scaled(0.5), "2 of its 2 vectors do not have length 1 (one has 0.500)"),
        (scaled(0), "2 of its 2 vectors do not have length 1 (one has 0.000)"),
        (scaled(1.01), "2 of its 2 vectors do not have length 1 (one has 1.010)"),
    ],
)
def test_vectors_that_cannot_be_compared_are_named(
    sound: Store, damage: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], message: str
) -> None:
    (embedding,) = sound.embeddings([sound.page("a.pdf", 1)])
    damaged = damage(embedding.vectors.copy()).astype(np.float16)
    change(sound, "pages", "a#1", vectors=list(damaged))
    assert problems(sound) == [("a.pdf", 1, f"{message}: {AGAIN}")]


def test_rounding_to_float16_is_not_a_problem(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", [" ".join(f"word{n}" for n in range(300))] * 3)
    store.optimize()
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(500, 64)) * generator.choice([1, 1e-4], size=(500, 64))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    change(store, "pages", "a#2", vectors=list(vectors.astype(np.float16)), regions=[0.0] * 2000)
    assert problems(store) == []


def test_a_wrong_number_of_regions_is_named(sound: Store) -> None:
    change(sound, "pages", "a#1", regions=[0.0] * 4)
    change(sound, "pages", "b#1", regions=None)
    assert sorted(problems(sound)) == [
        ("a.pdf", 1, f"its 2 vectors have 1 regions: {AGAIN}"),
        ("b.pdf", 1, f"its 1 vectors have 0 regions: {AGAIN}"),
    ]


@pytest.mark.parametrize(
    ("data", "reason"), [(b"RIFF", "4 bytes"), (b"", "it is empty"), (None, "it is empty")]
)
def test_an_image_that_cannot_be_decoded_is_named(sound: Store, data: bytes | None, reason: str) -> None:
    change(sound, "images", "b#3", image=data)
    (problem,) = verify(sound).problems
    assert (problem.document, problem.page) == ("b.pdf", 3)
    assert problem.message.startswith(f"its image cannot be decoded ({reason}")


def test_an_image_that_ends_early_cannot_be_decoded(sound: Store) -> None:
    change(sound, "images", "a#1", image=sound.image("a#1")[:-8])
    (problem,) = verify(sound).problems
    assert problem.message.startswith("its image cannot be decoded (")


def test_the_same_200_of_many_images_are_decoded_each_time(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", ["alpha"] * 250)
    store.optimize()
    assert verify(store).images == 200
    store.tables.images.update(where="true", values={"image": b"broken"})
    first = verify(store).problems
    assert len(first) == 200
    assert set(verify(store).problems) == set(first)


def test_more_than_a_thousand_problems_are_cut_off(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", ["alpha"] * 1100)
    pages = store.tables.pages
    rows = pages.to_arrow()
    at = rows.schema.get_field_index("regions")
    pages.delete("true")
    pages.add(rows.set_column(at, rows.schema.field(at), pa.array([[]] * 1100, pa.list_(pa.float32()))))
    report = verify(store)
    assert len(report.problems) == 1001
    assert report.problems[-1].message.startswith("there are more than 1,000 problems")
    assert report.problems[0] == Problem("a.pdf", 1, f"its 1 vectors have 0 regions: {AGAIN}")


def test_pages_missing_from_the_text_index_are_counted(sound: Store, encoder: HashingEncoder) -> None:
    add_document(sound, encoder, "c.pdf", ["zeta", "eta"])
    assert problems(sound) == [
        (
            "",
            0,
            "the text index lacks 2 pages, which every search has to read: optimizing the index adds them",
        )
    ]
    sound.optimize()
    assert problems(sound) == []


def test_a_missing_text_index_is_a_problem(sound: Store) -> None:
    sound.tables.pages.drop_index("search_text_idx")
    ((_, _, message),) = problems(sound)
    assert message.startswith("the text index is missing")
    assert dict(table_facts(sound))["pages"]["unindexed rows"] == 5
    sound.optimize()
    assert problems(sound) == []
    assert sound.has_positions()


@pytest.mark.parametrize("table", ["documents", "pages", "images"])
def test_a_table_without_its_files_is_a_problem_and_not_a_crash(sound: Store, table: str) -> None:
    for file in (Path(sound.uri) / f"{table}.lance" / "data").iterdir():
        file.unlink()
    (problem,) = verify(Store.open(sound.uri)).problems
    assert problem.message.startswith("the index cannot be read completely (")


def test_a_change_during_the_check_is_reported(sound: Store, encoder: HashingEncoder) -> None:
    def write(done: int, of: int) -> None:
        if done == of:
            add_document(sound, encoder, "c.pdf", ["zeta"])
            sound.optimize()

    (problem,) = verify(sound, write).problems
    assert problem.message == "the index was changed during the check: check again after the writing"


def test_disk_and_state_describe_each_table(sound: Store, encoder: HashingEncoder) -> None:
    sizes = bytes_on_disk(sound.uri)
    assert list(sizes) == ["documents", "pages", "images", "ledger"]
    folder = Path(sound.uri) / "pages.lance"
    assert sizes["pages"] == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    facts = dict(table_facts(sound))
    assert {name: table["rows"] for name, table in facts.items()} == {
        "documents": 2,
        "pages": 5,
        "images": 5,
        "ledger": 0,
    }
    assert {name: table["bytes"] for name, table in facts.items()} == sizes
    assert facts["pages"]["unindexed rows"] == 0
    assert facts["ledger"] == {
        "rows": 0,
        "fragments": 0,
        "versions": facts["ledger"]["versions"],
        "bytes": sizes["ledger"],
    }
    add_document(sound, encoder, "c.pdf", ["zeta", "eta"])
    pages = dict(table_facts(sound))["pages"]
    assert pages["fragments"] == facts["pages"]["fragments"] + 1
    assert pages["versions"] == facts["pages"]["versions"] + 1
    assert (pages["rows"], pages["unindexed rows"]) == (7, 2)


def test_a_remote_index_has_no_bytes_on_this_disk() -> None:
    assert bytes_on_disk("s3://bucket/index") == dict.fromkeys(["documents", "pages", "images", "ledger"], 0)
