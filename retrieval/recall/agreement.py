"""Compares the inverted index with exact search: both answer the same questions, over the whole index."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

import configs.settings as configs
from retrieval import fuse
from retrieval.recall.memory_part import MemoryPart
from retrieval.recall.part import COLUMNS
from retrieval.recall.recall import Recall
from retrieval.store.store import Store
from retrieval.types import Encoder, Filter, Page, QueryEmbedding

DEEP = 100
SPAN = (4, 12)  # words of a page that make a question


@dataclass(frozen=True, slots=True)
class Agreement:
    """How much of exact search's result the inverted index finds.

    recall_10, recall_100: shares of the exact best 10 and 100 pages, means over the questions.
    """

    questions: int
    pages: int
    recall_10: float
    recall_100: float
    worst_100: float  # of the worst question


def sample_queries(store: Store, encoder: Encoder, count: int) -> list[QueryEmbedding]:
    """Returns encoded questions, each made of a few consecutive words of a page chosen at random."""
    documents = store.documents()
    rng = random.Random(0)
    pages = [Page(d.doc_id, number, d.name) for d in documents for number in range(1, d.pages + 1)]
    texts = []
    for content in store.present_contents(rng.sample(pages, min(2 * count, len(pages)))).values():
        words = content.text.split()
        if len(words) >= SPAN[0]:
            length = min(rng.randint(*SPAN), len(words))
            first = rng.randrange(len(words) - length + 1)
            texts.append(" ".join(words[first : first + length]))
    return [query for query in encoder.encode_queries(texts[:count]) if len(query.vectors)]


def measure_agreement(
    store: Store,
    questions: Sequence[QueryEmbedding],
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Agreement:
    """Compares the inverted index with exact search, which reads all vectors once for all questions.

    on_progress: called with the number of pages read, and of all pages.
    """
    documents = {d.doc_id: d for d in store.documents()}
    best: list[dict[str, float]] = [{} for _ in questions]
    done, total = 0, sum(d.pages for d in documents.values())
    for batch in store.stream_pages(list(documents), COLUMNS):
        part = MemoryPart.read(batch)
        keep = part.pages.of(documents)
        for at, query in enumerate(questions):
            scores = part.scores(query, keep).astype(np.float64)
            for position in fuse.best(scores, DEEP):
                best[at][part.pages.page(int(position), documents).page_id] = float(scores[position])
            best[at] = dict(sorted(best[at].items(), key=lambda item: -item[1])[:DEEP])
        done += len(part.pages)
        on_progress(done, total)
    recall = Recall(store, configs.Search(recall_ms=0, reference_weight=0, device="cpu"))
    shares = []
    for query, exact in zip(questions, best, strict=True):
        hits = recall.candidates("", query, DEEP, Filter()).rankings["vectors"]
        ranking = [page.page_id for page in hits]
        truth = list(exact)
        shares.append([len({*ranking[:k]} & {*truth[:k]}) / max(1, len(truth[:k])) for k in (10, DEEP)])
    mean = np.array(shares).reshape(-1, 2).mean(axis=0) if shares else np.ones(2)
    worst = min((share[1] for share in shares), default=1.0)
    return Agreement(len(questions), total, float(mean[0]), float(mean[1]), worst)
