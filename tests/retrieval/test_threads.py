"""Models and stores shared by several threads give each of them the results of a single thread."""

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from ir_measures import AP, R, nDCG

import configs.settings as configs
from rerankers.reader import TextReader
from retrieval import text
from retrieval.encoders.hashing import HashingEncoder
from retrieval.encoders.words import WordsEncoder
from retrieval.evaluation.evaluate import measure_runs
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import Highlight, Hit, Page
from tests.build import add_document

THREADS = 6
A = TypeVar("A")
B = TypeVar("B")

PARTS = ["pump", "valve", "bearing", "compressor", "gearbox", "turbine"]
DEEDS = ["overheating", "corroded", "vibrations", "inspections", "replacement", "leaking"]
PLACES = ["harbour", "foundry", "refinery", "workshops", "stations", "warehouse"]


@pytest.fixture(autouse=True)
def _frequent_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(work: Callable[[A], B], given: Sequence[A]) -> list[list[B]]:
    """For each thread, the results in the order given. All begin together, each at another place of the list."""
    start = threading.Barrier(THREADS)

    def one(thread: int) -> list[B]:
        start.wait()
        first = thread * len(given) // THREADS
        order = [*range(first, len(given)), *range(first)]
        found = {at: work(given[at]) for at in order}
        return [found[at] for at in range(len(given))]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


@pytest.fixture(scope="module")
def models() -> tuple[WordsEncoder, TextReader]:
    return WordsEncoder(configs.Words()), TextReader(configs.Text())


def rare(draw: random.Random) -> str:
    """A word that no cache knows yet, and that has a stem."""
    syllables = (draw.choice("bdfgklmnprstvz") + draw.choice("aeiou") for _ in range(4))
    return "".join(syllables) + draw.choice(["ations", "ingly", "iveness", "ements", "ized"])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, models: tuple[WordsEncoder, TextReader]) -> str:
    encoder, _ = models
    store = Store.create(str(tmp_path_factory.mktemp("threads") / "index.lance"), encoder.fingerprint)
    draw = random.Random(1)
    with store.writing():
        for part in PARTS:
            pages = [
                f"Report on the {part} of the {place}:\nthe {part} was {deed} in {draw.randint(1980, 2024)}\n"
                + "\n".join(" ".join(rare(draw) for _ in range(8)) for _ in range(12))
                for place, deed in zip(PLACES, draw.sample(DEEDS, 6), strict=True)
            ]
            add_document(store, encoder, f"{part}.pdf", pages)
    return store.uri


def test_concurrent_searches_return_the_hits_scores_and_highlights_of_single_ones(
    library: str, models: tuple[WordsEncoder, TextReader]
) -> None:
    draw = random.Random(2)
    questions = [
        f"When was the {part} {draw.choice(DEEDS)} at the {draw.choice(PLACES)}{' station' * (n % 2)}?"
        for n, part in enumerate(PARTS * 2)
    ]

    def searcher() -> Searcher:  # with nothing in its caches
        text._cached_stem.cache_clear()
        text._cached_stems.cache_clear()
        return Searcher(Store.open(library), *models, configs.Search(depth=12, rerank=4, budget_ms=600_000))

    def search(with_: Searcher, question: str) -> tuple[tuple[Hit, ...], list[Highlight]]:
        hits = with_.search(question, top=5).hits
        return hits, with_.highlight(question, [hit.page for hit in hits])

    alone = searcher()
    expected = [search(alone, question) for question in questions]
    assert len({hits[0].page.name for hits, _ in expected}) > 5
    assert all(any(lit.regions for lit in lights) for _, lights in expected)
    shared = searcher()
    for found in at_once(lambda question: search(shared, question), questions):
        assert found == expected


def test_concurrent_reads_while_documents_change_return_whole_pages_or_none(
    tmp_path: Path, encoder: HashingEncoder
) -> None:
    store = Store.create(str(tmp_path / "index.lance"), encoder.fingerprint)
    texts = {name: [f"{name} page {n}" for n in range(1, 4)] for name in ("stays", "goes")}
    with store.writing():
        for name, pages in texts.items():
            add_document(store, encoder, f"{name}.pdf", pages)
    wanted = [Page(name, n, f"{name}.pdf") for name in texts for n in (1, 2, 3)]
    over = threading.Event()

    def write() -> None:
        try:
            with store.writing():
                for _ in range(6):
                    store.remove(["goes"])
                    add_document(store, encoder, "goes.pdf", texts["goes"])
        finally:
            over.set()

    def read(_: int) -> int:
        count = 0
        while not over.is_set():
            contents, embeddings = store.present_contents(wanted), store.present_embeddings(wanted)
            for page in wanted[:3]:
                assert contents[page.page_id].text == f"stays page {page.number}"
                assert len(embeddings[page.page_id].vectors)
            for page in wanted[3:]:
                if page.page_id in contents:
                    assert contents[page.page_id].text == f"goes page {page.number}"
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        writing, reading = pool.submit(write), [pool.submit(read, n) for n in range(3)]
        writing.result()
        assert all(one.result() for one in reading)
    assert {document.doc_id for document in store.documents()} == {"stays", "goes"}


def test_measures_computed_concurrently_equal_those_of_one_thread() -> None:
    def case(seed: int) -> dict[str, tuple[float, ...]]:
        draw = random.Random(seed)
        qrels = {f"q{i}": {f"d{j}": draw.randint(0, 2) for j in range(20)} for i in range(20)}
        run = {query: {name: draw.random() for name in grades} for query, grades in qrels.items()}
        return measure_runs([[nDCG @ 5], [R @ 10, AP], [nDCG @ 10, R @ 5]][seed % 3], qrels, run)

    seeds = list(range(12))
    expected = [case(seed) for seed in seeds]
    assert at_once(case, seeds) == [expected] * THREADS


def test_tokenizers_and_sessions_return_the_same_vectors_in_every_thread(
    models: tuple[WordsEncoder, TextReader],
) -> None:
    encoder, _ = models
    questions = [f"{part} {deed}" for part in PARTS for deed in DEEDS[:3]]
    expected = [encoder.encode_queries([question])[0] for question in questions]
    for found in at_once(lambda question: encoder.encode_queries([question])[0], questions):
        for one, other in zip(found, expected, strict=True):
            assert one.tokens == other.tokens
            np.testing.assert_array_equal(one.vectors, other.vectors)
