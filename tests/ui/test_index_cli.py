"""`folioscope index` as people use it, and the server's keeper, on a small index whose scans are never quick enough."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.recall.ivf import upkeep
from retrieval.store.store import Store
from tests.build import add_document
from ui.service.index_upkeep import IndexUpkeep, in_words

PAGES = [f"alpha{number} beta gamma delta epsilon zeta{number % 7}" for number in range(40)]


@pytest.fixture
def filled(store: Store, encoder: HashingEncoder) -> Store:
    with store.writing():
        for number in range(5):
            add_document(store, encoder, f"d{number}.pdf", PAGES)
        store.optimize()
    return store


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.cli", *arguments], capture_output=True, text=True, check=False
    )


def test_lists_are_built_looked_at_verified_and_dropped(filled: Store, tmp_path: Path) -> None:
    profile = tmp_path / "hashing.yaml"
    profile.write_text("encoder: {kind: hashing}\nreranker: {kind: none}\nsearch: {recall_ms: 0}\n")
    place = ("--index", filled.uri)
    built = run("index", "build", *place)
    assert built.returncode == 0, built.stderr
    assert "pages in the lists         200" in built.stdout
    stats = json.loads(run("index", "stats", *place, "--json").stdout)
    assert stats["pages in the lists"] == 200
    assert stats["pages scanned beside them"] == 0
    assert stats["bytes a page"] > 100
    verified = run("index", "verify", *place, "--profile", str(profile), "--questions", "20")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "0 problems; 200 pages of 5 documents, 200 images decoded" in verified.stdout
    assert "the lists against exact search, 20 questions, 200 pages: recall@10 " in verified.stdout
    assert "nothing to do" in run("index", "refresh", *place).stdout
    searched = json.loads(run("search", "alpha7", *place, "--profile", str(profile), "--json").stdout)
    assert "inverted lists of 200 pages" in searched["stages"][1]["note"]
    assert "documents and pages are as they were" in run("index", "drop", *place).stdout
    assert run("index", "stats", *place).stdout.splitlines()[1].split()[-1] == "200"


def test_a_problem_is_told_with_exit_code_1(filled: Store, tmp_path: Path) -> None:
    filled._tables["images"].delete("page_id = 'd2#7'")
    verified = run("index", "verify", "--index", filled.uri)
    assert verified.returncode == 1
    assert "d2.pdf: page 7 has no image" in verified.stdout


def test_the_server_keeps_the_lists_as_the_index_is(filled: Store, encoder: HashingEncoder) -> None:
    heard: list[int] = []
    keeper = IndexUpkeep(
        filled, configs.Search(recall_ms=0), lambda: heard.append(upkeep.stats(filled).pages), every_s=0.05
    )
    assert in_words(upkeep.stats(filled)) == "no inverted index: all pages are scanned"
    keeper.start()
    try:
        until(lambda: upkeep.stats(filled).pages == 200)
        with filled.writing():
            add_document(filled, encoder, "new.pdf", ["omega"])
            filled.remove(["d0", "d1"])
        until(lambda: upkeep.stats(filled).pages == 121 and upkeep.stats(filled).removed == 0)
    finally:
        keeper.close()
    assert "121 pages in" in in_words(upkeep.stats(filled))
    assert heard[0] == 200
    assert heard[-1] == 121


def test_a_keeper_that_is_closed_gives_up_and_leaves_nothing(filled: Store, encoder: HashingEncoder) -> None:
    keeper = IndexUpkeep(filled, configs.Search(recall_ms=0), every_s=3600)
    keeper.start()
    began = time.perf_counter()
    keeper.close()
    assert time.perf_counter() - began < 5
    assert upkeep.load_inverted_index(filled) is None


def until(true: object, seconds: float = 30) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
