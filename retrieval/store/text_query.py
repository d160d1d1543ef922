"""How a question is put to BM25: its words, what must stand together, and words of which it gives the beginning.

    "net interest margin" 2023      a phrase in quotation marks of any language
    ISO 9001, § 4.2, AB-12/4        codes, amounts and clauses: found as phrases without being asked to
    amorti*                         words that begin so

A phrase adds to a page's score what its words add, a second time: pages that have them in a row come first, and pages
that an OCR error or a line's end has parted are still found.
"""

import re
from dataclasses import dataclass

from retrieval.text import STOP_WORDS, fold, ungrouped, words

_QUOTED = re.compile(r"[\"“”„«»]\s*([^\"“”„«»]{3,120}?)\s*[\"“”„«»]")
_PREFIX = re.compile(r"(?<![\w*])([^\W_]{3,30})\*")
_CODE = re.compile(r"(?<!\w)(?=[\w.:/-]*\d)[^\W_]+(?:[-./:][^\W_]+)+")
_NAMED = re.compile(r"(?:(?<!\w)[A-Z][A-Z0-9]{1,6}|§)[ \u00a0]?\d[\w.\-/]*")
MOST_PHRASES = 8
MOST_PREFIXES = 2  # each may cost a reading of all text, and all searches wait for that


@dataclass(frozen=True, slots=True)
class TextQuery:
    words: str  # folded, any of which may be found; "" where there is none
    phrases: tuple[str, ...]  # folded, two words at least
    prefixes: tuple[str, ...]  # folded


def parse_text_query(query: str) -> TextQuery:
    asked = words(query)
    kept = [word for word in asked if word not in STOP_WORDS] or asked
    plain = ungrouped(query)
    named = [match for pattern in (_QUOTED, _CODE, _NAMED) for match in pattern.findall(plain)]
    phrases = [fold(phrase).strip(" .,;:!?*§\u00a0") for phrase in named]
    several = [phrase for phrase in phrases if len(re.findall(r"[^\W_]+", phrase)) > 1]
    prefixes = [fold(prefix) for prefix in _PREFIX.findall(query)]
    return TextQuery(
        " ".join(kept),
        tuple(dict.fromkeys(several))[:MOST_PHRASES],
        tuple(dict.fromkeys(prefixes))[:MOST_PREFIXES],
    )
