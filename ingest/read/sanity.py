"""Tells a text layer in a language from one that a broken font table has garbled."""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

BAD_SHARE = 0.1
"""A layer is garbled if more than this share of its characters occur in no text."""
ENOUGH = 100
"""The fewest Latin letters whose frequencies are judged."""
LETTERS = np.array(
    [10.3, 1.8, 2.6, 4.2, 11.1, 0.9, 1.7, 2.6, 8.1, 0.8, 2.7, 4.4, 2.9, 7.7, 5.6, 1.9, 0.2, 6.0, 6.4, 5.7, 3.4, 1.2,
     2.1, 0.1, 1.9, 1.3]
)  # fmt: skip
"""Frequencies of a to z in per cent: the mean of English, German, Spanish, Polish, Turkish and Finnish."""
LIKENESS = 0.75
"""A layer is garbled if the cosine of its letter frequencies with LETTERS is below this. Each of those languages has
0.93 or more; pages of tables, part numbers and source code have 0.88 or more; a text whose letters are shifted has
0.74 or less for nearly every shift."""


def is_garbled(words: Sequence[str]) -> bool:
    """Return whether the words are useless: unassigned characters, `(cid:N)` codes, or letters in place of others."""
    text = "".join(words)
    if not text:
        return False
    cids = sum(map(len, re.findall(r"\(cid:\d+\)", text)))
    unassigned = sum(unicodedata.category(c) in {"Co", "Cn", "Cc", "Cs"} or c == "\ufffd" for c in text)
    if (unassigned + cids) / len(text) > BAD_SHARE:
        return True
    # NFD separates a letter from its accent, so that e with an acute counts as e.
    letters = [ord(c) - ord("a") for c in unicodedata.normalize("NFD", text).lower() if "a" <= c <= "z"]
    if len(letters) < max(ENOUGH, 0.3 * len(text)):
        return False
    counts = np.bincount(letters, minlength=26).astype(np.float64)
    return bool(counts @ LETTERS / np.linalg.norm(counts) / np.linalg.norm(LETTERS) < LIKENESS)
