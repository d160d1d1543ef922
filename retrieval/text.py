"""Words as matching sees them: folded, split, stemmed. Used by BM25's column, highlights and window choice."""

import re
import unicodedata
from functools import lru_cache

import snowballstemmer

_GROUPED = re.compile(r"(?<=\d)[.,'’\u00a0\u202f](?=\d{3}(?!\d))")
_POSSESSIVE = re.compile(r"['’]s\b")
_WORD = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*", re.UNICODE)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")

_COMMON = """
    a about after all also am an and any because become became ever get go got long made make many much must need
    said say take took c d e j l m n s t are as at be been before being between but by can could did
    do does doing each find for from give had has have he her here his how i if in into is it its
    just like may me more most my of on one or our out over page per please she should show so some
    such tell than that the their them then there these they this those to under up us was we were
    what when where which while who whom whose why will with would you your aber als am an auch auf
    aus bei bis da das dass dem den der des die dies diese dieser doch durch ein eine einem einen
    einer eines er es fuer hat ich ihr im in ist ja kann man mit nach noch nur oder sich sie
    sind so ueber um und unter vom von vor war was welche welcher welches wenn wer werden wie wird
    wo zu zum zur au aux avec ce ces cette combien comme dans de des du elle en est et il ils je la
    le les leur lui mais ne nous on ou par pour qu que quel quelle quelles quels qui sa sans se
    ses son sont sur un une vous
"""
STOP_WORDS = frozenset(_COMMON.split())
"""Words too common to light up. Negations are kept: in a contract they are the point."""

_english = snowballstemmer.stemmer("english")


def one_line(query: str) -> str:
    """A question as it is known everywhere: without line breaks and doubled spaces."""
    return " ".join(query.split())


def ungrouped(text: str) -> str:
    """Without the marks that group digits: '1,234' becomes '1234'."""
    return _GROUPED.sub("", text)


def fold(text: str) -> str:
    """Lower case, without accents, possessive endings and the marks that group digits: '1,234' becomes '1234'."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _POSSESSIVE.sub("", ungrouped(plain))


def words(text: str) -> list[str]:
    """The folded words of `text`: letters and digits, joined by inner hyphens, dots and slashes."""
    return _WORD.findall(fold(text))


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Snowball's English stem of a folded word; words with a digit stay as they are."""
    return word if any(c.isdigit() for c in word) else str(_english.stemWord(word))


def stems(text: str) -> list[str]:
    return [stem(word) for word in words(text)]


def has_unspaced_script(text: str) -> bool:
    """Whether `text` holds letters of a script written without spaces between words (Chinese, Thai, ...)."""
    return bool(_UNSPACED.search(text))
