"""The third stage: rules of the house, applied in order to what reranking left.

Each is a small step from hits to hits, and says in a `Stage` what it did; nothing disappears without a word. Pages that
a rule holds back go behind the others, pages that are folded stand with the page that they repeat.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import assert_never

import configs.settings as configs
from retrieval.text import words
from retrieval.types import Document, Hit, Page, PageContent

SHINGLE = 4  # words
LEAST_WORDS = 12
"""A page with fewer words has too little to be told from another by."""

Read = Callable[[Sequence[Page]], Mapping[str, PageContent]]
"""Contents by page_id; of a page that was removed meanwhile there are none, and nothing is folded into it."""


def apply_rules(
    rules: Sequence[configs.Rule], hits: Sequence[Hit], documents: Mapping[str, Document], read: Read
) -> tuple[list[Hit], list[str]]:
    """The hits in their new order, ranks from 1, and what each rule did, in words.

    documents: by doc_id. read: the contents of those pages that are still there.
    """
    ordered, notes = list(hits), []
    for rule in rules:
        match rule:
            case configs.Fold():
                ordered, note = _fold(rule, ordered, read)
            case configs.PerDocument():
                ordered, note = _per_document(rule, ordered)
            case configs.NewerFirst():
                ordered, note = _newer_first(rule, ordered, documents)
            case _:
                assert_never(rule)
        notes.append(note)
    return [replace(hit, rank=rank) for rank, hit in enumerate(ordered, start=1)], notes


def _fold(rule: configs.Fold, hits: list[Hit], read: Read) -> tuple[list[Hit], str]:
    """Of the first `among` pages, those that repeat a better one: Broder's resemblance of word shingles (1997)."""
    head, rest = hits[: rule.among], hits[rule.among :]
    contents = read([hit.page for hit in head])
    shingles = [_shingles(contents.get(hit.page.page_id)) for hit in head]
    kept: list[int] = []
    same: dict[int, list[str]] = {}
    for at, mine in enumerate(shingles):
        twin = next((other for other in kept if _resemblance(mine, shingles[other]) >= rule.likeness), None)
        if twin is None:
            kept.append(at)
        else:
            same.setdefault(twin, []).append(head[at].page.name)
    folded = [replace(head[at], same=(*head[at].same, *same.get(at, ()))) for at in kept]
    return [*folded, *rest], f"{_pages(len(head) - len(kept))} folded into the page repeated"


def _shingles(content: PageContent | None) -> frozenset[tuple[str, ...]]:
    found = words(content.text) if content else []
    if len(found) < LEAST_WORDS:
        return frozenset()
    return frozenset(tuple(found[at : at + SHINGLE]) for at in range(len(found) - SHINGLE + 1))


def _resemblance(one: frozenset[tuple[str, ...]], other: frozenset[tuple[str, ...]]) -> float:
    return len(one & other) / len(one | other) if one and other else 0.0


def _per_document(rule: configs.PerDocument, hits: list[Hit]) -> tuple[list[Hit], str]:
    seen: Counter[str] = Counter()
    front: list[Hit] = []
    back: list[Hit] = []
    for hit in hits:
        seen[hit.page.doc_id] += 1
        (front if seen[hit.page.doc_id] <= rule.most else back).append(hit)
    return [
        *front,
        *back,
    ], f"{_pages(len(back))} of documents with more than {rule.most} put behind the others"


def _newer_first(
    rule: configs.NewerFirst, hits: list[Hit], documents: Mapping[str, Document]
) -> tuple[list[Hit], str]:
    """A page passes those before it whose score is at most `within` higher and whose document is older."""
    ordered: list[Hit] = []
    moved = 0
    for hit in hits:
        at = len(ordered)
        while at and _passes(hit, ordered[at - 1], rule.within, documents):
            at -= 1
        moved += at < len(ordered)
        ordered.insert(at, hit)
    return ordered, f"{_pages(moved)} put before older ones of nearly the same score"


def _passes(hit: Hit, before: Hit, within: float, documents: Mapping[str, Document]) -> bool:
    mine, theirs = (
        documents[one.page.doc_id].date if one.page.doc_id in documents else "" for one in (hit, before)
    )
    return hit.reranked == before.reranked and before.score - hit.score <= within and mine > theirs > ""


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"
