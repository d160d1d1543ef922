"""Parsing a question for BM25: its words, its phrases, and its prefixes.

    "net interest margin" 2023      a phrase in quotation marks of any language
    ISO 9001, § 4.2, AB-12/4        codes, amounts and clauses become phrases without quotation marks
    amorti*                         a prefix: any word that begins with it

A phrase adds its words' score a second time. So pages with the words in a row come first, and pages where an OCR error
or the end of a line separates them are still found.
"""

import re
from dataclasses import dataclass

from retrieval.text import STOP_WORDS, fold, ungrouped, words

_QUOTED = re.compile(r"[\"“”„«»]\s*([^\"“”„«»]{3,120}?)\s*[\"“”„«»]")
_PREFIX = re.compile(r"(?<![\w*])([^\W_]{3,30})\*")
_CODE = re.compile(r"(?<!\w)(?=[\w.:/-]*\d)[^\W_]+(?:[-./:][^\W_]+)+")
_NAMED = re.compile(r"(?:(?<!\w)[A-Z][A-Z0-9]{1,6}|§)[ \u00a0]?\d[\w.\-/]*")
MOST_PHRASES = 8
MOST_PREFIXES = 2  # each may scan all text, and every search waits for that


@dataclass(frozen=True, slots=True)
class TextQuery:
    words: str  # folded; a page need not have all of them; "" if there are none
    phrases: tuple[str, ...]  # folded; each has at least two words
    prefixes: tuple[str, ...]  # folded


def quoted_phrases(query: str) -> tuple[str, ...]:
    """Returns what stands in quotation marks, as it was written."""
    return tuple(dict.fromkeys(phrase.strip() for phrase in _QUOTED.findall(query)))


def parse_text_query(query: str) -> TextQuery:
    """Parse a question. Stop words are left out unless there are no other words."""
    all_words = words(query)
    content_words = [word for word in all_words if word not in STOP_WORDS] or all_words
    plain = ungrouped(query)
    matches = [match for pattern in (_QUOTED, _CODE, _NAMED) for match in pattern.findall(plain)]
    phrases = [fold(match).strip(" .,;:!?*§\u00a0") for match in matches]
    phrases = [phrase for phrase in phrases if len(re.findall(r"[^\W_]+", phrase)) > 1]
    prefixes = [fold(prefix) for prefix in _PREFIX.findall(query)]
    return TextQuery(
        words=" ".join(content_words),
        phrases=tuple(dict.fromkeys(phrases))[:MOST_PHRASES],
        prefixes=tuple(dict.fromkeys(prefixes))[:MOST_PREFIXES],
    )
