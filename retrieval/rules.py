"""The last stage of a search: the profile's rules, applied in order to the reranked hits.

Each rule turns hits into hits and says in a sentence what it did. No page disappears silently: pages that a rule holds
back go behind the others, and near-duplicates are listed with the page into which they are folded.
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
"""A page with fewer words is too short to compare with another."""

Read = Callable[[Sequence[Page]], Mapping[str, PageContent]]
"""Returns contents by page_id. A page that was removed meanwhile is missing, and nothing is folded into it."""


def apply_rules(
    rules: Sequence[configs.Rule], hits: Sequence[Hit], documents: Mapping[str, Document], read: Read
) -> tuple[list[Hit], list[str]]:
    """Return the hits in their new order, with ranks from 1, and a sentence about what each rule did.

    documents: by doc_id. read: returns the contents of those pages that are still in the index.
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
    """Fold each of the first `among` pages that is a near-duplicate of a better one into that page.

    The likeness of two pages is Broder's resemblance of word shingles (1997).
    """
    head, rest = hits[: rule.among], hits[rule.among :]
    contents = read([hit.page for hit in head])
    shingles = [_shingles(contents.get(hit.page.page_id)) for hit in head]
    unique: list[int] = []
    same: dict[int, list[str]] = {}
    for at, own in enumerate(shingles):
        twin = next((other for other in unique if _resemblance(own, shingles[other]) >= rule.likeness), None)
        if twin is None:
            unique.append(at)
        else:
            same.setdefault(twin, []).append(head[at].page.name)
    folded = [replace(head[at], same=(*head[at].same, *same.get(at, ()))) for at in unique]
    return [*folded, *rest], f"{_pages(len(head) - len(unique))} folded into near-duplicates"


def _shingles(content: PageContent | None) -> frozenset[tuple[str, ...]]:
    text = words(content.text) if content else []
    if len(text) < LEAST_WORDS:
        return frozenset()
    return frozenset(tuple(text[at : at + SHINGLE]) for at in range(len(text) - SHINGLE + 1))


def _resemblance(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b) if a and b else 0.0


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
    ], f"{_pages(len(back))} beyond the first {rule.most} of a document put behind the others"


def _newer_first(
    rule: configs.NewerFirst, hits: list[Hit], documents: Mapping[str, Document]
) -> tuple[list[Hit], str]:
    """Move a page before those whose score is at most `within` higher and whose document is older."""
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
    date, date_before = (
        documents[h.page.doc_id].date if h.page.doc_id in documents else "" for h in (hit, before)
    )
    return hit.reranked == before.reranked and before.score - hit.score <= within and date > date_before > ""


def _pages(count: int) -> str:
    return "1 page" if count == 1 else f"{count} pages"
