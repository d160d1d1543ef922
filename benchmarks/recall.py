"""Compares the first stage with exact MaxSim and with other engines, all on the same vectors, in one run.

    python -m benchmarks.recall --work FOLDER --sizes 2000x256 10000x256 50000x256 2000x1024 \
        [--words INDEX DATASET] [--peers PYTHON]

The corpora are those of `benchmarks.clustered` in the given sizes (pages x vectors) and, with --words, the stored
vectors of an index of the `words` encoder with a data set's questions. Every engine returns the best 100 pages of each
question; the truth is exact MaxSim in float32 over the stored float16 vectors. Peers run in the Python that --peers
names (it needs lancedb, fast-plaid, colsearch, colbandit, maxsim-cpu, qdrant-client, psutil, torch and nothing of
Folioscope), one process each, see `benchmarks.peers`.

Ours is `Recall.candidates`, without words, so without BM25, over a real index: once with the vectors of all pages in
memory, once with none of them (each page is fetched for each question), once as an exact scan in memory.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import configs.settings as configs
from benchmarks import clustered
from benchmarks.peers import measured
from retrieval import fuse
from retrieval.evaluation import evaluate
from retrieval.recall.ivf import upkeep
from retrieval.recall.maxsim import maxsim_ragged, unweighted_query
from retrieval.recall.recall import Recall
from retrieval.store.schema import PageRecord, now, ragged_stored
from retrieval.store.store import Store
from retrieval.types import (
    Document,
    Filter,
    Fingerprint,
    Page,
    PageEmbedding,
    Precision,
    QueryEmbedding,
    Stored,
    Vectors,
)

RESULTS = Path(__file__).parent / "results"
DEPTH = 100
PRECISIONS: dict[str, Precision] = {"": "float16", "-int8": "int8"}
QUESTIONS = 50
MOST_SCANNED_MB = 2_000  # of float16: twice as much in memory
PER_FILE = 120  # pages of a document in the index


def fill(uri: Path, vectors: NDArray[np.float16], precision: Precision = "float16") -> Store:
    """Returns an index of these pages, (pages, n, d), without words or images; builds it if it is not there."""
    store = Store.create(
        str(uri), Fingerprint("benchmark", "clustered", "", vectors.shape[2], "", 0), precision
    )
    if store.documents():
        return store
    regions = np.zeros((vectors.shape[1], 4), np.float32)
    with store.writing():
        for first in range(0, len(vectors), PER_FILE):
            add(store, f"{first:016x}", vectors[first : first + PER_FILE], regions)
        store.optimize()
    return store


def add(store: Store, doc_id: str, vectors: NDArray[np.float16], regions: Vectors) -> None:
    pending = store.begin_document(doc_id)
    pages = [Page(doc_id, number, f"{doc_id}.pdf", 612, 792) for number in range(1, len(vectors) + 1)]
    pending.add(
        [
            PageRecord(
                page, (), "text layer", "", PageEmbedding(embedding.astype(np.float32), regions), b"", b""
            )
            for page, embedding in zip(pages, vectors, strict=True)
        ]
    )
    pending.commit(Document(doc_id, f"{doc_id}.pdf", f"made://{doc_id}", len(pages), now()))


def exact(
    questions: Sequence[QueryEmbedding], vectors: Stored, offsets: NDArray[np.int64]
) -> list[list[int]]:
    """Returns the best 100 pages of each question by MaxSim; widens each block of pages once for all questions."""
    scores = np.empty((len(questions), len(offsets) - 1), np.float32)
    for first in range(0, len(offsets) - 1, 2_000):
        ends = offsets[first : first + 2_001]
        block = vectors[ends[0] : ends[-1]].astype(np.float32)
        for row, question in zip(scores, questions, strict=True):
            row[first : first + 2_000] = maxsim_ragged(question, block, ends - ends[0])
    return [fuse.best(row.astype(np.float64), DEPTH).tolist() for row in scores]


def judged(answers: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]) -> dict[str, float]:
    """Returns recall@10 and recall@100, means over the questions."""

    def share(depth: int) -> float:
        pairs = zip(answers, truth, strict=True)
        return round(float(np.mean([len({*a[:depth]} & {*t[:depth]}) / len(t[:depth]) for a, t in pairs])), 4)

    return {"recall@10": share(10), "recall@100": share(DEPTH)}


def timed(
    ask: Callable[[QueryEmbedding], list[int]], questions: Sequence[QueryEmbedding], rounds: int
) -> Any:
    """Returns (answers, milliseconds: p50 and p95 of wall time, median of CPU time), after a warm-up."""
    for question in questions[:5]:
        ask(question)
    wall, cpu, answers = [], [], []
    for turn in range(rounds):
        for question in questions:
            began, cpu_began = time.perf_counter(), time.process_time()
            answer = ask(question)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - cpu_began)
            if not turn:
                answers.append(answer)
    facts = {"p50 ms": np.median(wall), "p95 ms": np.percentile(wall, 95), "cpu ms": np.median(cpu)}
    return answers, {name: round(1000 * float(value), 1) for name, value in facts.items()}


def ours(
    store: Store, places: dict[str, int], **settings: Any
) -> tuple[Callable[[QueryEmbedding], list[int]], Recall]:
    recall = Recall(store, configs.Search(reference_weight=0, device="cpu").model_copy(update=settings))

    def ask(question: QueryEmbedding) -> list[int]:
        hits = recall.candidates("", question, DEPTH, Filter()).hits
        return [places[hit.page.page_id] for hit in hits]

    return ask, recall


def our_rows(
    store: Store,
    places: dict[str, int],
    questions: Sequence[QueryEmbedding],
    truth: Sequence[Sequence[int]],
    vectors_mb: int,
) -> Iterator[dict[str, Any]]:
    upkeep.drop(store)
    with measured() as build:
        upkeep.build(store)
    stats = upkeep.stats(store)
    yield {
        "engine": "ours: build",
        **{name: round(value, 1) for name, value in build.items()},
        "cpu ms a page": round(1000 * build["cpu seconds"] / len(places), 2),
        "bytes a page": round(stats.bytes_per_page),
        "centroids": stats.centroids,
    }
    ways: dict[str, dict[str, Any]] = {
        "ours: lists, vectors in memory": {"recall_ms": 0, "exact_mb": 2 * vectors_mb},
        "ours: lists, vectors fetched": {"recall_ms": 0, "exact_mb": 0},
        "ours: exact scan in memory": {"recall_ms": 1e9, "exact_mb": 3 * vectors_mb},
    }
    for name, settings in ways.items():
        if "scan" in name and vectors_mb > MOST_SCANNED_MB:
            continue
        ask, recall = ours(store, places, **settings)
        with measured() as load:
            recall.warm()
        answers, facts = timed(ask, questions, 1 if "scan" in name else 2)
        yield {"engine": name, **judged(answers, truth), **facts, "loaded in s": round(load["seconds"], 1)}


def peer_rows(
    folder: Path, truth: Sequence[Sequence[int]], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yields the rows of each peer; an engine without an answer in its time is not tried on the next corpus."""
    for name in list(options.engines):
        command = [options.peers, str(Path(__file__).parent / "peers.py"), name, str(folder)]
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        ) as peer:
            try:
                output, errors = peer.communicate(timeout=options.limit)
            except subprocess.TimeoutExpired:
                peer.kill()
                output, _ = peer.communicate()
                errors = f"ended after {options.limit:g} s"
        rows = [json.loads(line) for line in output.splitlines() if line.startswith('{"engine"')]
        for row in rows:
            answers = row.pop("found", None)
            yield row | (judged(answers, truth[: len(answers)]) if answers else {})
        if not rows:
            options.engines.remove(name)
        if peer.returncode:
            yield {"engine": name, "failed": (errors.strip().splitlines() or ["no message"])[-1][:200]}


def share(
    folder: Path, vectors: Stored, offsets: NDArray[np.int64], questions: Sequence[QueryEmbedding]
) -> None:
    """Write the files that peers read. A question's weights are put into its vectors, which MaxSim allows."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "offsets.npy", offsets)
    if not (folder / "vectors.npy").exists():
        np.save(folder / "vectors.npy", vectors)
    weighted = [q.vectors if q.weights is None else q.vectors * q.weights[:, None] for q in questions]
    np.savez(folder / "questions.npz", *weighted)


def compared(
    title: str,
    store: Store,
    pages: Sequence[Page],
    vectors: Stored,
    offsets: NDArray[np.int64],
    questions: Sequence[QueryEmbedding],
    options: argparse.Namespace,
) -> dict[str, Any]:
    truth = exact(questions, vectors, offsets)
    places = {page.page_id: at for at, page in enumerate(pages)}
    rows = []
    folder = options.work / f"shared-{title}"
    for row in our_rows(store, places, questions, truth, vectors.nbytes // 2**20 + 1):
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.peers:
        share(folder, vectors, offsets, questions)
        for row in peer_rows(folder, truth, options):
            rows.append(row)
            print(json.dumps(row), flush=True)
    return {
        "corpus": title,
        "pages": len(pages),
        "vectors": len(vectors),
        "questions": len(questions),
        "rows": rows,
    }


def made(size: str, options: argparse.Namespace) -> dict[str, Any]:
    pages, per_page = map(int, size.split("x"))
    vectors, ids = clustered.write(options.work, pages, per_page)
    store = fill(options.work / f"made-{size}.lance", vectors)
    questions = [unweighted_query(question) for question in clustered.questions(vectors, ids, QUESTIONS)]
    in_order = [
        Page(f"{first:016x}", number + 1, "")
        for first in range(0, pages, PER_FILE)
        for number in range(min(PER_FILE, pages - first))
    ]
    flat = vectors.reshape(-1, clustered.DIM)
    offsets = np.arange(pages + 1) * per_page
    result = compared(size, store, in_order, flat, offsets, questions, options)
    result["rows"] += list(byte_rows(size, vectors, in_order, questions, options))
    result["rows"].append(while_written(store, vectors, in_order, questions))
    return result


def write_on(uri: str, vectors: NDArray[np.float16], added: int) -> None:
    """Add pages as fast as the index takes them, as another process."""
    store = Store.open(uri)
    with store.writing():
        for first in range(0, added, PER_FILE):
            add(
                store,
                f"new{first:013x}",
                vectors[first : first + PER_FILE],
                np.zeros((vectors.shape[1], 4), np.float32),
            )


def while_written(
    store: Store, vectors: NDArray[np.float16], pages: Sequence[Page], questions: Sequence[QueryEmbedding]
) -> dict[str, Any]:
    """Times searches while another process adds a tenth of the corpus again, and the inverted index is refreshed.

    Every added page equals one that is in the index. An answer is wrong if two twins have different scores, if a page
    is not in the index, or if the twin of a page that scores higher than the last one is missing, although it was
    committed before the question. An incomplete answer, which says so, may lack twins.
    """
    recall = Recall(store, configs.Search(reference_weight=0, recall_ms=0, exact_mb=4_000, device="cpu"))
    recall.warm()
    added = len(pages) // 10 // PER_FILE * PER_FILE
    writer = get_context("spawn").Process(target=write_on, args=(store.uri, np.array(vectors[:added]), added))
    before, ended = len(store.documents()), threading.Event()

    def follow() -> None:
        while not ended.wait(1):
            upkeep.refresh(store)

    following = threading.Thread(target=follow)
    following.start()
    wall: list[float] = []
    wrong = incomplete = 0
    writer.start()
    while writer.is_alive():
        committed = {d.doc_id for d in store.documents()}
        question = questions[len(wall) % len(questions)]
        began = time.perf_counter()
        result = recall.candidates("", question, DEPTH, Filter())
        wall.append(time.perf_counter() - began)
        hits = result.hits
        incomplete += not result.complete
        scores: dict[tuple[str, int], set[float]] = {}
        for hit in hits:
            scores.setdefault((hit.page.doc_id[-13:], hit.page.number), set()).add(hit.scores["vectors"])
        wrong += sum(max(twins) - min(twins) > 1e-4 for twins in scores.values())
        wrong += sum(hit.page.doc_id not in committed and not store.has(hit.page.doc_id) for hit in hits)
        page_ids = {hit.page.page_id for hit in hits}
        for hit in hits if result.complete else ():
            twin = f"new{hit.page.doc_id[-13:]}"
            leads = hit.scores["vectors"] > hits[-1].scores["vectors"] + 1e-4
            wrong += leads and twin in committed and f"{twin}#{hit.page.number}" not in page_ids
    writer.join()
    ended.set()
    following.join()
    new_documents = len(store.documents()) - before
    with store.writing():
        store.remove([d.doc_id for d in store.documents() if d.doc_id.startswith("new")])
    row = {
        "engine": "ours: lists, while another process writes",
        "asked": len(wall),
        "wrong": wrong,
        "incomplete": incomplete,
        "pages added": new_documents * PER_FILE,
        "p50 ms": round(1000 * float(np.median(wall)), 1),
        "p95 ms": round(1000 * float(np.percentile(wall, 95)), 1),
    }
    print(json.dumps(row), flush=True)
    return row


def byte_rows(
    size: str,
    vectors: NDArray[np.float16],
    pages: Sequence[Page],
    questions: Sequence[QueryEmbedding],
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """Yields the same measurements with int8 in the index, against the truth of float16."""
    stores = [
        fill(options.work / f"made-{size}{end}.lance", vectors, kind) for end, kind in PRECISIONS.items()
    ]
    tables = [store.tables.pages for store in stores]
    sizes = [table.stats()["total_bytes"] / len(pages) for table in tables]  # of this version
    flat, offsets = vectors.reshape(-1, vectors.shape[2]), np.arange(len(pages) + 1) * vectors.shape[1]
    truth, store = exact(questions, flat, offsets), stores[1]
    upkeep.build(store)
    places = {page.page_id: at for at, page in enumerate(pages)}
    for name, cache_mb in (("in memory", flat.nbytes // 2**20 + 1), ("fetched", 0)):
        ask, recall = ours(store, places, recall_ms=0, exact_mb=cache_mb)
        recall.warm()
        answers, facts = timed(ask, questions, 2)
        row = {"engine": f"ours: lists, int8 vectors {name}", **judged(answers, truth), **facts}
        row |= {"bytes a page, float16": round(sizes[0]), "bytes a page, int8": round(sizes[1])}
        print(json.dumps(row), flush=True)
        yield row


def real(options: argparse.Namespace) -> dict[str, Any]:
    import retrieval.encoders

    index, dataset = options.words
    encoder = retrieval.encoders.load_encoder(configs.load_profile("cpu").encoder)
    store = Store.open(index, encoder.fingerprint)
    pages, parts, ends = [], [], [0]
    names = {d.doc_id: d.name for d in store.documents()}
    for batch in store.stream_pages(list(names), ["doc_id", "number", "vectors"]):
        halves, offsets = ragged_stored(pa.Table.from_batches([batch])["vectors"])
        pages += [
            Page(row["doc_id"], row["number"], names[row["doc_id"]])
            for row in batch.select(["doc_id", "number"]).to_pylist()
        ]
        parts.append(halves.astype(np.float16, copy=False))
        ends += (offsets[1:] + ends[-1]).tolist()
    questions = encoder.encode_queries([q.text for q in evaluate.read_dataset(Path(dataset)).questions])
    return compared("words", store, pages, np.concatenate(parts), np.array(ends), questions, options)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", nargs="*", default=["2000x256", "10000x256", "50000x256", "2000x1024"])
    parser.add_argument("--words", nargs=2, metavar=("INDEX", "DATASET"))
    parser.add_argument("--peers", metavar="PYTHON", help="a Python that has the other engines")
    parser.add_argument(
        "--engines",
        nargs="*",
        default=["lancedb", "maxsim-cpu", "fast-plaid", "colsearch", "colbandit", "qdrant"],
    )
    parser.add_argument(
        "--limit", type=float, default=300, help="seconds that an engine is given for a corpus"
    )
    parser.add_argument("--name", default="recall")
    options = parser.parse_args(arguments)
    written = [made(size, options) for size in options.sizes]
    if options.words:
        written.append(real(options))
    (RESULTS / f"{options.name}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
