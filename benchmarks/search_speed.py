"""Measures a search over many pages, the first stage alone and with reranking, side by side with a plain scan.

The index has --pages pages, each a mixture of two pages of the samples with perturbed vectors, so that lengths,
vocabulary and near ties are real. The plain scan is numpy without blocks or threads over the same vectors in memory.

    python -m benchmarks.search_speed --pages 10000 --work FOLDER
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import configs.settings as configs
import rerankers
import retrieval.encoders
from ingest.pipeline import ingest
from retrieval.evaluation import evaluate
from retrieval.search import Searcher
from retrieval.store.schema import PageRecord, now, ragged_vectors
from retrieval.store.store import Store
from retrieval.types import Document, Encoder, Page, PageContent, PageEmbedding, Vectors

RESULTS = Path(__file__).parent / "results"
SAMPLES = Path(__file__).parents[1] / "samples"
PER_DOCUMENT = 100


def grow(
    store: Store, contents: Sequence[PageContent], embeddings: Sequence[PageEmbedding], pages: int
) -> None:
    rng = np.random.default_rng(0)
    with store.writing():
        for first in range(0, pages, PER_DOCUMENT):
            doc_id = f"{first:016x}"
            name = f"grown-{first // PER_DOCUMENT:04}.pdf"
            records = [
                grown(rng, Page(doc_id, n, name, 612, 792), contents, embeddings)
                for n in range(1, PER_DOCUMENT + 1)
            ]
            pending = store.begin_document(doc_id)
            pending.add(records)
            pending.commit(Document(doc_id, name, f"grown://{name}", PER_DOCUMENT, now()))
        store.optimize()


def grown(
    rng: np.random.Generator, page: Page, contents: Sequence[PageContent], embeddings: Sequence[PageEmbedding]
) -> PageRecord:
    first, second = rng.integers(0, len(contents), 2)
    words = (
        contents[first].words[: len(contents[first].words) // 2]
        + contents[second].words[len(contents[second].words) // 2 :]
    )
    vectors = embeddings[first].vectors
    vectors = vectors + rng.standard_normal(vectors.shape).astype(np.float32) * 0.5 / vectors.shape[1] ** 0.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return PageRecord(
        page, words, "text layer", "", PageEmbedding(vectors, embeddings[first].regions), b"", b""
    )


def sample_pages(
    work: Path, settings: configs.Settings, encoder: Encoder
) -> tuple[list[PageContent], list[PageEmbedding]]:
    store = Store.create(str(work / "samples.lance"), encoder.fingerprint)
    for _ in ingest([SAMPLES / "pdfs"], store, encoder, settings.ingest):
        pass
    pages = [Page(d.doc_id, n, d.name) for d in store.documents() for n in range(1, d.pages + 1)]
    return store.contents(pages), store.embeddings(pages)


def plain_scan(vectors: Vectors, offsets: Any, query: Vectors, weights: Vectors) -> Vectors:
    return np.asarray(np.maximum.reduceat(vectors @ query.T, offsets[:-1], axis=0) @ weights)


def timed(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args(arguments)
    settings = configs.load_profile("cpu")
    encoder = retrieval.encoders.load_encoder(settings.encoder)
    contents, embeddings = sample_pages(options.work, settings, encoder)
    uri = options.work / f"grown-{options.pages}.lance"
    fresh = not uri.exists()
    store = Store.create(str(uri), encoder.fingerprint)
    if fresh:
        grow(store, contents, embeddings, options.pages)
    searcher = Searcher(store, encoder, rerankers.load_reranker(settings.reranker), settings.search)
    questions = [q.text for q in evaluate.read_dataset(SAMPLES).questions]
    load = timed(lambda: searcher.search("warm up", rerank=False))
    batches = store.stream_pages([d.doc_id for d in store.documents()], ["vectors"])
    parts = [ragged_vectors(pa.Table.from_batches([batch])["vectors"]) for batch in batches]
    vectors = np.concatenate([v for v, _ in parts])
    offsets = np.cumsum([0, *np.concatenate([np.diff(o) for _, o in parts])])
    times: dict[str, list[float]] = {
        "first stage": [],
        "of it: MaxSim scan and BM25": [],
        "whole": [],
        "plain scan": [],
    }
    for question in questions:
        result = searcher.search(question)
        by_stage = {stage.name: stage.seconds for stage in result.stages}
        times["first stage"].append(by_stage["encode query"] + by_stage["recall"])
        times["of it: MaxSim scan and BM25"].append(by_stage["recall"])
        times["whole"].append(sum(by_stage.values()))
        query = encoder.encode_queries([question])[0]
        assert query.weights is not None
        times["plain scan"].append(timed(lambda q=query: plain_scan(vectors, offsets, q.vectors, q.weights)))  # type: ignore[misc]
    written = {
        "pages": options.pages,
        "vectors per page": round(len(vectors) / options.pages, 1),
        "questions": len(questions),
        "first search, loading the vectors, s": round(load, 2),
        "ms": {
            name: {
                "p50": round(1000 * float(np.median(t)), 1),
                "p95": round(1000 * float(np.percentile(t, 95)), 1),
            }
            for name, t in times.items()
        },
    }
    print(json.dumps(written, indent=1))
    (RESULTS / "search_speed.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
