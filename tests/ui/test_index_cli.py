"""`folioscope index` in real processes, and the server's index upkeep, on a small index that is never scanned."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import configs.settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.recall.ivf import upkeep
from retrieval.store.store import Store
from tests.build import add_document
from ui.service.index_upkeep import IndexUpkeep, describe_stats

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


def test_the_inverted_index_is_built_shown_verified_and_dropped(filled: Store, tmp_path: Path) -> None:
    profile = tmp_path / "hashing.yaml"
    profile.write_text("encoder: {kind: hashing}\nreranker: {kind: none}\nsearch: {recall_ms: 0}\n")
    place = ("--index", filled.uri)
    built = run("index", "build", *place)
    assert built.returncode == 0, built.stderr
    assert "inverted index pages  200" in built.stdout
    stats = json.loads(run("index", "stats", *place, "--json").stdout)
    assert stats["inverted_index_pages"] == 200
    assert stats["unindexed_pages"] == 0
    assert stats["bytes_per_page"] > 100
    verified = run("index", "verify", *place, "--profile", str(profile), "--questions", "20")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "0 problems; 200 pages of 5 documents, 200 images decoded" in verified.stdout
    assert "The inverted index against exact search, 20 questions, 200 pages: recall@10 " in verified.stdout
    assert "There was nothing to do" in run("index", "refresh", *place).stdout
    searched = json.loads(run("search", "alpha7", *place, "--profile", str(profile), "--json").stdout)
    assert "inverted lists of 200 pages" in searched["stages"][1]["note"]
    assert "Documents and pages are unchanged" in run("index", "drop", *place).stdout
    assert run("index", "stats", *place).stdout.splitlines()[1].split()[-1] == "200"


def test_verify_prints_a_problem_and_exits_with_1(filled: Store, tmp_path: Path) -> None:
    filled.tables.images.delete("page_id = 'd2#7'")
    verified = run("index", "verify", "--index", filled.uri)
    assert verified.returncode == 1
    assert "d2.pdf: page 7 has no image" in verified.stdout


def test_the_server_keeps_the_inverted_index_up_to_date(filled: Store, encoder: HashingEncoder) -> None:
    pages_after: list[int] = []  # pages in the inverted index after each refresh
    index_upkeep = IndexUpkeep(
        filled,
        configs.Search(recall_ms=0),
        lambda: pages_after.append(upkeep.stats(filled).pages),
        every_s=0.05,
    )
    assert describe_stats(upkeep.stats(filled)) == "no inverted index: all pages are scanned"
    index_upkeep.start()
    try:
        until(lambda: upkeep.stats(filled).pages == 200)
        with filled.writing():
            add_document(filled, encoder, "new.pdf", ["omega"])
            filled.remove(["d0", "d1"])
        until(lambda: upkeep.stats(filled).pages == 121 and upkeep.stats(filled).removed == 0)
    finally:
        index_upkeep.close()
    assert "121 pages in" in describe_stats(upkeep.stats(filled))
    assert pages_after[0] == 200
    assert pages_after[-1] == 121


def test_an_upkeep_that_is_closed_stops_and_leaves_no_inverted_index(
    filled: Store, encoder: HashingEncoder
) -> None:
    index_upkeep = IndexUpkeep(filled, configs.Search(recall_ms=0), every_s=3600)
    index_upkeep.start()
    began = time.perf_counter()
    index_upkeep.close()
    assert time.perf_counter() - began < 5
    assert upkeep.load_inverted_index(filled) is None


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition did not hold within {seconds} s"
        time.sleep(0.05)
