"""Finds the places that a question names: "on page 14", "slides 3 to 5", "Figure 2", "Tabelle 4", "§ 3.2".

Vectors blur numbers, and BM25 counts "page" and "14" separately, wherever they are in the text. A reader who names a
place means it, so pages at that place, or with that caption, get a bonus in the first stage
(`search.reference_weight`).

A page number may be the page's position in the file, as viewers count, or the number printed in its margin. A figure,
table or section is found by a caption or heading at the start of a line and, with less weight, by a mention in the
text.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from retrieval.text import fold
from retrieval.types import PageContent, Word

AT_PLACE = 1.0
"""The weight of the page itself, by its position in the file or by its printed number."""
CAPTION = 0.6
MENTION = 0.2
MARGIN = 0.09  # of the page's height, at its top and bottom: where page numbers are printed
MOST_PAGES = 200  # of one range: a longer one names no place

_FAMILIES = {
    "figure": "figure figures fig figs abbildung abbildungen abb exhibit",
    "table": "table tables tab tabelle tabellen tableau tableaux",
    "section": "section sections sec abschnitt abschnitte kapitel chapter chapters chapitre chapitres clause clauses "
    "ziffer article articles artikel paragraph §",
    "appendix": "appendix appendices annex annexes annexe anhang schedule schedules anlage",
    "note": "note notes",
    "chart": "chart charts diagram schaubild graphique graph",
    "box": "box boxes kasten encadre",
}
_FAMILY = {alias: family for family, aliases in _FAMILIES.items() for alias in aliases.split()}
_PAGE = r"(?:pages?|pp?\.|slides?|seiten?|folien?|diapositives?|diapos?)"
_TO = r"\s*(?:-|–|—|to|through|until|and|&|,|bis|und|a|et)\s*"
_PAGES = re.compile(
    rf"\b{_PAGE}\s*(?:no\.?|nr\.?|n°|#)?\s*(\d{{1,5}})(?:({_TO})(?:{_PAGE}\s*)?(\d{{1,5}}))?(?![\d.]*\d)(?!\s*%)"
)
_ORDINALS = {
    "first": 1, "cover": 1, "title": 1, "front": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6,
    "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "last": -1, "final": -1, "back": -1,
    "erste": 1, "ersten": 1, "zweite": 2, "zweiten": 2, "dritte": 3, "dritten": 3, "letzte": -1, "letzten": -1,
    "premiere": 1, "deuxieme": 2, "troisieme": 3, "derniere": -1,
}  # fmt: skip
_NTH = re.compile(
    rf"\b(?:({'|'.join(_ORDINALS)})|(\d{{1,4}})(?:st|nd|rd|th))\s+(?:page|slide|seite|folie|diapositive)\b"
)
_LABEL = r"(?:[a-z]?\d+(?:[.\-–]\d+)*[a-z]?|[ivx]+|[a-z])"
_LABELLED = re.compile(
    rf"(?:\b({'|'.join(a for a in _FAMILY if a != '§')})(?![a-z])\.?|(§))\s*({_LABEL})\b(?:{_TO}(\d+)\b)?"
)
_LETTERED = frozenset({"appendix", "chart", "box", "section"})  # families whose labels may be letters alone
_DIGITS = re.compile(r"\d")
_SIGN = re.compile(
    rf"\(?(?:§|\d+\.\d|{'|'.join(sorted({alias[:3] for alias in _FAMILY} - {'§'}))})", re.IGNORECASE
)
"""Matches the beginning of every word that may name a place."""


@dataclass(frozen=True, slots=True)
class Locators:
    """Page numbers, -1 for the last page; (family, label) of figures, tables and the like: ("figure", "2")."""

    pages: frozenset[int] = frozenset()
    labels: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.pages or self.labels)

    def __str__(self) -> str:
        numbers = ", ".join("the last" if n < 0 else str(n) for n in sorted(self.pages)[:6])
        named = [f"page {numbers}"] if self.pages else []
        return ", ".join([*named, *(f"{family} {label}" for family, label in sorted(self.labels))])


def parse_locators(question: str) -> Locators:
    """Returns the places that `question` names, which may be none."""
    text = fold(question)
    pages: set[int] = set()
    for first, to, last in _PAGES.findall(text):
        pages.update(_range(first, to, last))
    for word, digits in _NTH.findall(text):
        pages.add(_ORDINALS[word] if word else int(digits))
    labels = {
        (family, label)
        for alias, sign, first, last in _LABELLED.findall(text)
        for family in [_FAMILY[alias or sign]]
        for label in _labels(first, last)
        if _DIGITS.search(label) or (family in _LETTERED and not _is_word(family, label))
    }
    return Locators(frozenset(pages - {0}), frozenset(labels))


def match_locators(places: Locators, pages: Sequence[PageContent], counts: Sequence[int]) -> list[float]:
    """Returns, for each page, the sum of AT_PLACE, CAPTION or MENTION over the places that it has; 0 if it has none.

    counts: the number of pages of each page's document, which determines "the last page".
    """
    return [_match(places, page, count) for page, count in zip(pages, counts, strict=True)]


def _match(places: Locators, content: PageContent, count: int) -> float:
    total = 0.0
    if places.pages:
        number = content.page.number
        is_named = number in places.pages or (number == count and -1 in places.pages)
        total += AT_PLACE if is_named or places.pages & _printed(content.words) else 0.0
    if places.labels:
        weights: dict[tuple[str, str], float] = {}
        for label, weight in _labelled(content.words):
            if label in places.labels:
                weights[label] = max(weights.get(label, 0.0), weight)
        total += sum(weights.values())
    return total


def _printed(words: Sequence[Word]) -> set[int]:
    """Returns the numbers in the page's upper and lower margins, without the 12 of "3 of 12"."""
    numbers = set()
    for before, word in zip([None, *words], words, strict=False):
        middle = (word.box[1] + word.box[3]) / 2
        text = word.text.strip("-–—|·.[]()")
        total = before is not None and before.text.casefold() in {"of", "/", "von", "sur", "de"}
        if text.isdecimal() and len(text) <= 5 and not MARGIN < middle < 1 - MARGIN and not total:
            numbers.add(int(text))
    return numbers


def _labelled(words: Sequence[Word]) -> Iterator[tuple[tuple[str, str], float]]:
    """Yields each (family, label) on a page with its weight as a caption or heading, or as a mention."""
    for i, word in enumerate(words):
        if not _SIGN.match(word.text):  # most words: folding each would take most of the time
            continue
        text = fold(word.text)
        starts = i == 0 or _new_line(words[i - 1], word)
        family = _FAMILY.get(text.rstrip(".:"))
        if family and i + 1 < len(words):
            label = fold(words[i + 1].text).strip("().:,;")
            yield (family, label), CAPTION if starts else MENTION
        elif joined := _LABELLED.fullmatch(text.strip("().:,;")):  # "Table1-1", "§4"
            yield (_FAMILY[joined[1] or joined[2]], joined[3]), CAPTION if starts else MENTION
        elif starts and re.fullmatch(r"\d+(?:\.\d+)+\.?", text):  # a heading: "3.2 Results"
            yield ("section", text.rstrip(".")), CAPTION


def _new_line(before: Word, word: Word) -> bool:
    overlap = min(before.box[3], word.box[3]) - max(before.box[1], word.box[1])
    height = max(word.box[3] - word.box[1], 1e-6)
    return overlap < 0.5 * height or word.box[0] < before.box[0] or word.box[0] - before.box[2] > 2 * height


def _range(first: str, to: str, last: str) -> set[int]:
    if not last:
        return {int(first)}
    if to.strip() in {"and", "&", ",", "und", "et"}:
        return {int(first), int(last)}
    low, high = int(first), int(last)
    return set(range(low, high + 1)) if low <= high < low + MOST_PAGES else {low, high}


def _labels(first: str, last: str) -> set[str]:
    """Returns the labels that "1", "1 to 4" or "1-4" name; the last may be a range or one label."""
    start, _, end = first.replace("–", "-").partition("-")
    low, high = (start, end) if end else (first, last)
    if low.isdecimal() and high.isdecimal() and int(low) < int(high) < int(low) + MOST_PAGES:
        return {first, *(str(n) for n in range(int(low), int(high) + 1))}
    return {first, *([last] if last else [])}


def _is_word(family: str, label: str) -> bool:
    """Whether a letter is an English word and not a label: "the chart a reader sees", "appendix i need"."""
    return label == "i" or (label == "a" and family != "appendix")
