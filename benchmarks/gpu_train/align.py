"""Finds quoted words on a page, although the quote came from another extractor.

Its columns may interleave, ligatures and accents may be split, and words may be cut. An exact match is of letters and
digits alone. If there is none, the run of words that shares the most words with the quote is taken.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from retrieval.text import STOP_WORDS, fold

LEAST_SHARED = 0.6
"""Of the quote's words, weighted by rarity: a run of words that shares less is not taken for the quote."""
NEAR = 12
"""Words between the evidence and an answer that still belongs to it."""
LONGEST_ANSWER = 12
"""Words of a span that stands for an answer that is not on the page word for word."""
LEAST_F1 = 0.65
"""Of such a span with the answer. Of 50 drawn at random, 43 held the answer or its main part."""
GAP = 2
"""Words between two words of a quote that count as part of it."""
STOP_WEIGHT = 0.25
"""Of a stop word in F1, beside a word's 1."""


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

    def find_similar(self, answer: str, place: Span) -> Span | None:
        """Returns the shortest words in or beside a place that share most with an answer (token F1), if enough.

        All numbers of the span must be the answer's, and all of the answer's must be in the span.
        """
        wanted = Counter(word for word in map(squeeze, answer.split()) if word)
        numbers = Counter(word for word in wanted.elements() if _has_digit(word))
        total = sum(_weight(word) * count for word, count in wanted.items())
        start, end = max(0, place.first - NEAR), min(len(self.words), place.last + NEAR + 1)
        best: tuple[float, int, int] | None = None
        for first in (i for i in range(start, end) if self.words[i] in wanted):
            found: Counter[str] = Counter()
            size = 0.0
            for last in range(first, min(first + LONGEST_ANSWER, end)):
                word = self.words[last]
                found[word] += 1
                size += _weight(word)
                if word not in wanted or Counter(w for w in found.elements() if _has_digit(w)) != numbers:
                    continue
                shared = sum(_weight(w) * count for w, count in (found & wanted).items())
                f1 = 2 * shared / (size + total)
                if best is None or (f1, first - last) > best[:2]:
                    best = (f1, first - last, first)
        if best is None or best[0] < LEAST_F1:
            return None
        return Span(best[2], best[2] - best[1], False)

    def runs(self, quote: str, place: Span) -> Iterator[tuple[int, int]]:
        """Yields the runs of a place's words (first, last) that are the quote's, with gaps of at most GAP words.

        Columns that interleave put other words between those of the quote.
        """
        if place.exact:
            yield place.first, place.last
            return
        wanted = {squeeze(word) for word in quote.split()}
        inside = [i for i in range(place.first, place.last + 1) if self.words[i] and self.words[i] in wanted]
        first = previous = inside[0]
        for word in inside[1:]:
            if word - previous > GAP + 1:
                yield first, previous
                first = word
            previous = word
        yield first, previous

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


def forms(answer: str) -> list[str]:
    """Returns an answer, and shorter ways to write it: without what is in brackets, or behind a semicolon or comma.

    What is behind a comma stays in lists, and if there are numbers on both sides of it, as in a date.
    """
    plain = re.sub(r"\s*\([^)]*\)", "", answer)
    head, _, rest = plain.partition(", ")
    is_list = "," in rest or len(head.split()) < 2
    shorter = [plain, plain.split(";")[0]]
    if not is_list and not (_has_digit(head) and _has_digit(rest)):
        shorter.append(head)
    return [form for form in dict.fromkeys(form.strip() for form in (answer, *shorter)) if form]


def _has_digit(word: str) -> bool:
    return any(c.isdigit() for c in word)


def _weight(word: str) -> float:
    return (STOP_WEIGHT if word in STOP_WORDS else 1.0) if word else 0.0
