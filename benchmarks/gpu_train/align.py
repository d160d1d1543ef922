"""Finds quoted words on a page, although the quote came from another extractor.

Its columns may interleave, ligatures and accents may be split, and words may be cut. An exact match is of letters and
digits alone. If there is none, the run of words that shares the most words with the quote is taken.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from retrieval.text import fold

LEAST_SHARED = 0.6
"""Of the quote's words, weighted by rarity: a run of words that shares less is not taken for the quote."""
NEAR = 12
"""Words between the evidence and an answer that still belongs to it."""


@dataclass(frozen=True, slots=True)
class Span:
    """Words first to last (from 0, both included), and whether all letters and digits matched."""

    first: int
    last: int
    exact: bool


class PageWords:
    """A page's words, prepared for finding quotes on it."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = [squeeze(word) for word in words]
        self._text = "".join(self.words)
        self._starts = [0, *accumulate(map(len, self.words))]
        self._counts = Counter(self.words)

    def find(self, quote: str) -> Span | None:
        """Returns the words that a quote covers, None if they are not on the page."""
        squeezed = squeeze(quote)
        if not squeezed:
            return None
        at = self._text.find(squeezed)
        if at >= 0:
            return Span(self._word_at(at), self._word_at(at + len(squeezed) - 1), True)
        return self._similar([word for word in map(squeeze, quote.split()) if word])

    def find_near(self, quote: str, place: Span) -> Span | None:
        """Returns the whole words that are the quote, at most NEAR words from a place, the nearest first."""
        squeezed = squeeze(quote)
        if not squeezed:
            return None
        found: list[tuple[int, Span]] = []
        at = self._text.find(squeezed)
        while at >= 0:
            first, last = self._word_at(at), self._word_at(at + len(squeezed) - 1)
            distance = max(place.first - last, first - place.last, 0)
            whole = self._starts[first] == at and self._starts[last + 1] == at + len(squeezed)
            if whole and distance <= NEAR:
                found.append((distance, Span(first, last, True)))
            at = self._text.find(squeezed, at + 1)
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def _word_at(self, character: int) -> int:
        """Returns the word that has this character; words without letters and digits have none."""
        return bisect_right(self._starts, character) - 1

    def _similar(self, quote: Sequence[str]) -> Span | None:
        weights = {word: 1 / self._counts[word] if word in self._counts else 1.0 for word in set(quote)}
        places = [i for i, word in enumerate(self.words) if word in weights]
        total, length = sum(weights.values()), len(quote) * 2 + 4
        best, best_range = 0.0, (0, 0)
        inside: Counter[str] = Counter()
        shared, left = 0.0, 0
        for right, place in enumerate(places):
            word = self.words[place]
            inside[word] += 1
            shared += weights[word] if inside[word] == 1 else 0.0
            while place - places[left] >= length:
                old = self.words[places[left]]
                inside[old] -= 1
                shared -= weights[old] if inside[old] == 0 else 0.0
                left += 1
            if shared > best + 1e-9:
                best, best_range = shared, (left, right)
        if not places or best < LEAST_SHARED * total:
            return None
        return Span(places[best_range[0]], places[best_range[1]], False)


def squeeze(text: str) -> str:
    """Returns the folded letters and digits of a text, without anything between them."""
    return "".join(c for c in fold(text) if c.isalnum())
