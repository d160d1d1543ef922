"""Runs one other engine on the vectors that `benchmarks.recall` has written: python peers.py ENGINE FOLDER

It runs in a Python of its own, which needs numpy, psutil and the engine, and nothing of Folioscope. It prints a JSON
line for each way of searching: the pages found for each question, milliseconds, and the cost of building.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

DEPTH = 100
SECONDS = 20  # after which a way of searching gets no more questions; it gets at least one
MOST_MB = 14_000  # an engine that would need more is not tried


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Measures wall and CPU seconds, and the most MB by which memory grew, including mapped files."""
    facts: dict[str, float] = {}
    process, ended = psutil.Process(), threading.Event()
    base = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.02):
            peak = max(peak, process.memory_info().rss)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    began, cpu = time.perf_counter(), time.process_time()
    yield facts
    facts |= {"seconds": time.perf_counter() - began, "cpu seconds": time.process_time() - cpu}
    ended.set()
    watching.join()
    facts["peak MB"] = (max(peak, process.memory_info().rss) - base) / 1e6


def tell(engine, ask, questions, **facts):
    """ask(question, count) -> positions of pages, best first."""
    ask(questions[0], DEPTH)
    found, wall, cpu, began = [], [], [], time.perf_counter()
    for question in questions:
        started, cpu_started = time.perf_counter(), time.process_time()
        found.append([int(page) for page in ask(question, DEPTH)])
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - cpu_started)
        if time.perf_counter() - began > SECONDS:
            break
    times = {"p50 ms": np.median(wall), "p95 ms": np.percentile(wall, 95), "cpu ms": np.median(cpu)}
    row = {name: round(1000 * float(value), 1) for name, value in times.items()}
    print(json.dumps({"engine": engine, "asked": len(found), **row, **facts, "found": found}), flush=True)


def bytes_in(folder):
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


class Corpus:
    def __init__(self, folder):
        self.folder = folder
        self.vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self.offsets = np.load(folder / "offsets.npy")
        with np.load(folder / "questions.npz") as stored:
            self.questions = [stored[name] for name in stored.files]
        self.count = len(self.offsets) - 1

    def page(self, at):
        return self.vectors[self.offsets[at] : self.offsets[at + 1]]

    def pages(self):
        return [np.ascontiguousarray(self.page(at), np.float32) for at in range(self.count)]

    def fits(self, bytes_a_value):
        return self.vectors.size * bytes_a_value < MOST_MB * 1e6

    def place(self, name):
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        return path


def lancedb(corpus):
    """Its own multi-vector index, whose ranking is approximate, plain and with its own exact refinement."""
    import lancedb
    import pyarrow as pa
    from lancedb.index import IvfRq

    dim = corpus.vectors.shape[1]

    def batch(first, last):
        rows = np.ascontiguousarray(corpus.vectors[corpus.offsets[first] : corpus.offsets[last]])
        inner = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dim)
        ends = pa.array((corpus.offsets[first : last + 1] - corpus.offsets[first]).astype(np.int32))
        return pa.table({"page": np.arange(first, last), "vector": pa.ListArray.from_arrays(ends, inner)})

    def build(path):
        table = lancedb.connect(str(path)).create_table("pages", batch(0, min(500, corpus.count)))
        for first in range(500, corpus.count, 500):
            table.add(batch(first, min(first + 500, corpus.count)))
        raw = bytes_in(path)
        lists = int(2 ** round(np.log2(np.sqrt(len(corpus.vectors)))))
        with measured() as built:
            table.create_index("vector", config=IvfRq(distance_type="cosine", num_partitions=lists))
        facts = {f"build {name}": round(value, 1) for name, value in built.items()}
        return facts | {"bytes a page": round((bytes_in(path) - raw) / corpus.count)}

    # Building takes minutes: an index that was built to its end is used again.
    known = corpus.folder / "lancedb.json"
    if not known.exists():
        known.write_text(json.dumps(build(corpus.place("lancedb"))))
    facts = json.loads(known.read_text())
    table = lancedb.connect(str(corpus.folder / "lancedb")).open_table("pages")

    def ask(refine):
        def asked(question, count):
            search = table.search(question, vector_column_name="vector").distance_type("cosine")
            search = search.refine_factor(refine) if refine else search
            return search.select(["page"]).limit(count).to_arrow()["page"].to_pylist()

        return asked

    questions = [
        q / np.linalg.norm(q, axis=1, keepdims=True) for q in corpus.questions
    ]  # it knows cosines alone
    for refine in (0, 3, 10):
        tell(
            f"lancedb IVF_RQ, {f'refine {refine}' if refine else 'no refinement'}",
            ask(refine),
            questions,
            **facts,
        )


def maxsim_cpu(corpus):
    """Exact, all in memory."""
    import maxsim_cpu

    if not corpus.fits(4):
        return
    pages = corpus.pages()

    def ask(question, count):
        scores = np.asarray(maxsim_cpu.maxsim_scores_variable(question, pages))
        return np.argsort(-scores, kind="stable")[:count]

    tell("maxsim-cpu, exact in memory", ask, corpus.questions)


def fast_plaid(corpus):
    import torch
    from fast_plaid import search

    if not corpus.fits(6):
        return
    for bits in (4,):
        path = corpus.place(f"fast-plaid-{bits}")
        path.mkdir()
        index = search.FastPlaid(index=str(path), device="cpu")
        pages = [torch.from_numpy(page) for page in corpus.pages()]
        with measured() as built:
            index.create(documents_embeddings=pages, nbits=bits, kmeans_niters=4)
        pages.clear()
        facts = {f"build {name}": round(value, 1) for name, value in built.items()}
        facts |= {"bytes a page": round(bytes_in(path) / corpus.count)}
        for probes, full in ((8, 1024), (8, 4096)):

            def ask(question, count, probes=probes, full=full, index=index):
                asked = torch.from_numpy(np.ascontiguousarray(question))[None]
                found = index.search(
                    asked, top_k=count, show_progress=False, n_ivf_probe=probes, n_full_scores=full
                )
                return [page for page, _ in found[0]]

            tell(
                f"fast-plaid {bits} bits, {probes} probes, {full} full scores", ask, corpus.questions, **facts
            )


def colsearch(corpus):
    import colsearch

    if not corpus.fits(6):
        return
    path = corpus.place("colsearch")
    index = colsearch.Index(str(path), dim=corpus.vectors.shape[1], engine="shard", device="cpu")

    with measured() as built:
        index.add(corpus.pages(), ids=list(range(corpus.count)))
        index.flush()
    facts = {f"build {name}": round(value, 1) for name, value in built.items()}
    facts |= {"bytes a page": round(bytes_in(path) / corpus.count)}

    def ask(question, count):
        return [getattr(hit, "doc_id", getattr(hit, "id", -1)) for hit in index.search(question, k=count)]

    tell("colsearch shard", ask, corpus.questions, **facts)


def colbandit(corpus):
    import colbandit

    if not corpus.fits(10):
        return
    index = colbandit.ColBandit(alpha_ef=0.2, M=20, n_threads=2)
    pages = corpus.pages()
    with measured() as built:
        index.index(pages)
    facts = {f"build {name}": round(value, 1) for name, value in built.items()}
    tell("colbandit, alpha 0.2", lambda question, count: list(index.search(question, k=count)[0]),
         corpus.questions, **facts)  # fmt: skip


def qdrant(corpus):
    """Local mode, which scans; the server's index needs a server."""
    from qdrant_client import QdrantClient, models

    if corpus.count > 2_000 or len(corpus.vectors) > 600_000:
        return
    client = QdrantClient(":memory:")
    comparator = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    params = models.VectorParams(
        size=corpus.vectors.shape[1], distance=models.Distance.DOT, multivector_config=comparator
    )
    client.create_collection("pages", vectors_config=params)
    for first in range(0, corpus.count, 50):
        some = range(first, min(first + 50, corpus.count))
        client.upsert("pages", [
            models.PointStruct(id=at, vector=corpus.page(at).astype(np.float32).tolist()) for at in some
        ])  # fmt: skip

    def ask(question, count):
        return [hit.id for hit in client.query_points("pages", query=question.tolist(), limit=count).points]

    tell("qdrant-client, local mode", ask, corpus.questions)


ENGINES = {"lancedb": lancedb, "maxsim-cpu": maxsim_cpu, "fast-plaid": fast_plaid, "colsearch": colsearch,
           "colbandit": colbandit, "qdrant": qdrant}  # fmt: skip

if __name__ == "__main__":
    ENGINES[sys.argv[1]](Corpus(Path(sys.argv[2])))
