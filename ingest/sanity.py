"""Whether a text layer is language, or what a broken font table made of it."""

import re
import unicodedata
from collections.abc import Sequence

BAD_SHARE = 0.1
"""Share of characters that no text has, from which the layer is garbled."""
ENOUGH = 100
"""Latin letters that it takes to judge by the vowels among them."""
VOWELS = frozenset("aeiouy")
VOWEL_SHARE = (0.2, 0.7)
"""Vowels among the Latin letters of any language lie inside this: English 0.40, Polish 0.41, Czech 0.42."""


def garbled(words: Sequence[str]) -> bool:
    """True if the words are not worth keeping: no characters, cid codes, or letters put in for others."""
    text = "".join(words)
    if not text:
        return False
    cids = sum(map(len, re.findall(r"\(cid:\d+\)", text)))
    bad = sum(unicodedata.category(c) in {"Co", "Cn", "Cc", "Cs"} or c == "\ufffd" for c in text)
    if (bad + cids) / len(text) > BAD_SHARE:
        return True
    # NFD parts a letter from its accent, so that é counts as the vowel e.
    letters = [c for c in unicodedata.normalize("NFD", text).lower() if "a" <= c <= "z"]
    if len(letters) < ENOUGH or len(letters) < 0.3 * len(text):
        return False
    share = sum(c in VOWELS for c in letters) / len(letters)
    return not VOWEL_SHARE[0] <= share <= VOWEL_SHARE[1]
