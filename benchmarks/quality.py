"""Measures the ranking of every stage, and of the baselines that it must beat, on one data set in one run.

The baselines are BM25 over the text layers alone (no OCR), MiniLM as published over windows of 254 word pieces (mean
pooled; a page's score is that of its best window), and both fused (0.4 BM25, 0.6 windows, z-scores).

    python -m benchmarks.quality DATA_SET MINILM_FOLDER --work FOLDER

DATA_SET has pdfs/, queries.jsonl, qrels.txt. MINILM_FOLDER has config.json, model.safetensors, tokenizer.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import configs.settings as configs
import rerankers
import retrieval.encoders
from ingest.pipeline import ingest
from retrieval import fuse
from retrieval.encoders.words import windows
from retrieval.evaluation import evaluate
from retrieval.evaluation.evaluate import Dataset, Question
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.train.minilm import CLS, SEP, load_bert, load_tokenizer
from retrieval.types import Encoder, Vectors
from ui import factory

RESULTS = Path(__file__).parent / "results"
MEASURE = "nDCG@10"


class PublishedMiniLM:
    """all-MiniLM-L6-v2 as published: a window's vector is the mean of its word vectors."""

    def __init__(self, folder: Path) -> None:
        self._bert = load_bert(folder).eval()
        self._tokenizer = load_tokenizer(folder)

    def windows(self, text: str) -> Vectors:
        """Return (windows, 384) vectors of unit length."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        rows = [[CLS, *ids[a:b], SEP] for a, b in windows(len(ids), 254)]
        return np.array([self._mean(row) for row in rows], np.float32).reshape(-1, 384)

    def _mean(self, row: list[int]) -> Vectors:
        with torch.inference_mode():
            ids = torch.tensor([row])
            mean = self._bert(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].mean(0)
        return np.asarray(mean / mean.norm(), np.float32)


class Baselines:
    """The rankings of the baselines. store: the index with OCR, for the windows. text_only: the index without OCR."""

    def __init__(self, store: Store, text_only: Store, minilm: PublishedMiniLM, cache: Path) -> None:
        self._text_only = text_only
        self._minilm = minilm
        self._names = {
            f"{d.doc_id}#{n}": f"{d.name}#page={n}" for d in store.documents() for n in range(1, d.pages + 1)
        }
        self._documents = {d.name: d for d in store.documents()}
        if not cache.exists():
            vectors: dict[str, Any] = {}
            for document in store.documents():
                for batch in store.stream_pages([document.doc_id], ["page_id", "words"]):
                    for row in batch.to_pylist():
                        vectors[row["page_id"]] = minilm.windows(" ".join(row["words"]))
                print(f"  MiniLM as published: {document.name}", flush=True)
            np.savez(cache, **vectors)
        self._windows = dict(np.load(cache))

    def runs(self, question: Question, within: bool) -> dict[str, dict[str, float]]:
        chosen = (
            [self._documents[question.document]]
            if within and question.document
            else [*self._documents.values()]
        )
        ids = [d.doc_id for d in chosen]
        bm25 = dict(self._text_only.search_text(question.text, 100, ids if within else None))
        query = self._minilm.windows(question.text)[0]
        pages = [
            f"{d.doc_id}#{n}"
            for d in chosen
            for n in range(1, d.pages + 1)
            if f"{d.doc_id}#{n}" in self._windows
        ]
        dense = np.array([max((self._windows[p] @ query).tolist(), default=-1.0) for p in pages])
        fused = fuse.fuse_weighted(dense, np.array([bm25.get(p, 0.0) for p in pages]), 0.4)
        named = [self._names[p] for p in pages]
        return {
            "BM25, text layer": {self._names[p]: s for p, s in bm25.items() if p in self._names},
            "MiniLM windows": dict(zip(named, dense.tolist(), strict=True)),
            "both fused": dict(zip(named, fused.tolist(), strict=True)),
        }


def values(
    dataset: Dataset, searcher: Searcher, store: Store, baselines: Baselines, within: bool
) -> Mapping[str, Any]:
    """Return the values by system and measure, one for each question."""
    evaluation = evaluate.evaluate(dataset, searcher, store, within=within, budget_ms=600_000)
    runs: dict[str, dict[str, dict[str, float]]] = {}
    for question in dataset.questions:
        for name, run in baselines.runs(question, within).items():
            runs.setdefault(name, {})[question.query_id] = run
    by_system: dict[str, Any] = {name: evaluate.judge(dataset, run) for name, run in runs.items()}
    by_system.update({f"ours: {stage}": values for stage, values in evaluation.values.items()})
    return by_system


def table(dataset: Dataset, by_system: Mapping[str, Any], scanned: set[str]) -> dict[str, dict[str, float]]:
    """Return nDCG@10 and other measures in hundredths: over all questions, then by the source of the answer."""

    def on_scan(question: Question) -> bool:
        return any(page in scanned for page, grade in dataset.qrels[question.query_id].items() if grade > 0)

    slices: dict[str, Callable[[Question], bool]] = {"all": lambda _: True}
    for source in ("Chart", "Table", "Figure", "Pure-text"):
        slices[source] = lambda q, s=source: any(s in name for name in q.attributes.get("sources", ()))  # type: ignore[misc]
    slices["scanned"] = on_scan
    slices["digital"] = lambda q: not on_scan(q)
    rows: dict[str, dict[str, float]] = {}
    for system, measured in by_system.items():
        row = {
            name: 100 * float(np.mean(measured[name]))
            for name in ("nDCG@5", MEASURE, "RR@10", "R@10", "R@100")
        }
        for name, keep in slices.items():
            chosen = [v for q, v in zip(dataset.questions, measured[MEASURE], strict=True) if keep(q)]
            row[f"{name} ({len(chosen)})"] = 100 * float(np.mean(chosen)) if chosen else float("nan")
        rows[system] = {name: round(value, 1) for name, value in row.items()}
    return rows


def show(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print the table."""
    names = list(next(iter(rows.values())))
    print(" " * 20 + "".join(f"{name:>16}" for name in names))
    for system, row in rows.items():
        print(f"{system:20}" + "".join(f"{row[name]:16.1f}" for name in names))


def ingest_dataset(uri: str, dataset: Dataset, settings: configs.Settings) -> tuple[Store, Encoder]:
    """Ingest the data set into the index at `uri`. Returns the index and its encoder."""
    encoder = retrieval.encoders.load_encoder(settings.encoder)
    store = Store.create(uri, encoder.fingerprint)
    for event in ingest([dataset.documents], store, encoder, settings.ingest):
        if event.event in ("done", "failed"):
            print(
                f"  [{event.files_ended}/{event.files}] {event.name}: {event.message} ({event.seconds:.0f} s)",
                flush=True,
            )
    factory.refresh_inverted_index(store, settings.search, lambda *_: None)
    return store, encoder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("minilm", type=Path)
    parser.add_argument("--work", type=Path, required=True, help="the folder of the two indexes")
    parser.add_argument("--name", default="quality", help="the name of the file in benchmarks/results")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    dataset = evaluate.read_dataset(options.dataset)
    settings = configs.load_profile("cpu")
    store, encoder = ingest_dataset(str(options.work / "full.lance"), dataset, settings)
    no_ocr = configs.load_profile("smoke").model_copy(update={"ingest": configs.Ingest(ocr="off")})
    text_only, _ = ingest_dataset(str(options.work / "text.lance"), dataset, no_ocr)
    baselines = Baselines(store, text_only, PublishedMiniLM(options.minilm), options.work / "windows.npz")
    searcher = Searcher(store, encoder, rerankers.load_reranker(settings.reranker), settings.search)
    names = {d.doc_id: d.name for d in store.documents()}
    scanned = {
        f"{names[row['doc_id']]}#page={row['number']}"
        for batch in store.stream_pages([d.doc_id for d in store.documents()], ["doc_id", "number", "source"])
        for row in batch.to_pylist()
        if row["source"] == "ocr"
    }
    written: dict[str, Any] = {"questions": len(dataset.questions), "encoder": str(encoder.fingerprint)}
    for within in (True, False):
        print(f"\n{'within the document' if within else 'over all documents'}:")
        by_system = values(dataset, searcher, store, baselines, within)
        rows = table(dataset, by_system, scanned)
        show(rows)
        reranked = by_system["ours: reranked"][MEASURE]
        p = {
            name: round(evaluate.paired_p(measured[MEASURE], reranked), 4)
            for name, measured in by_system.items()
            if name != "ours: reranked"
        }
        print("p of no difference from 'ours: reranked':", p)
        written["within" if within else "all"] = {"rows": rows, "p against ours: reranked": p}
    (RESULTS / f"{options.name}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
