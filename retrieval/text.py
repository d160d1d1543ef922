"""Folds, splits and stems text for matching: for BM25's column, highlights and the choice of windows."""

import re
import threading
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
"""Words too common to highlight. Negations are not among them: in a contract they decide the answer."""

_NEGATIONS = """
    not no nor never none neither cannot without nicht kein keine keinen keiner keinem nie ohne weder ne pas non jamais
    aucun aucune sans ni rien
"""
NEGATIONS = frozenset(_NEGATIONS.split())
"""Folded words that turn an answer round. They are no stop words, but say nothing where they stand by themselves."""

LONGEST_CACHED = 64
"""The most characters of a text whose stems are cached: words repeat, whole pages and garbage do not."""


class _Stemmers(threading.local):
    """One stemmer for each thread: Snowball's stemmer holds the word that it works on, so threads must not share one.

    A stem takes 30 µs with a stemmer for each thread and with an uncontended lock, but the lock would be contended.
    """

    def __init__(self) -> None:
        self.english = snowballstemmer.stemmer("english")


_stemmers = _Stemmers()


def one_line(query: str) -> str:
    """Return a question without line breaks and repeated spaces, the form in which caches know it."""
    return " ".join(query.split())


def ungrouped(text: str) -> str:
    """Remove the marks that group digits: '1,234' becomes '1234'."""
    return _GROUPED.sub("", text)


def fold(text: str) -> str:
    """Return the text in lower case, without accents, possessive endings and the marks that group digits."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in decomposed if not unicodedata.combining(c))
    return _POSSESSIVE.sub("", ungrouped(plain))


def words(text: str) -> list[str]:
    """Return the folded words of `text`: letters and digits, joined by inner hyphens, dots and slashes."""
    return _WORD.findall(fold(text))


def stem(word: str) -> str:
    """Return Snowball's English stem of a folded word; words with a digit stay as they are."""
    return _cached_stem(word) if len(word) <= LONGEST_CACHED else _stem(word)


def stems(text: str) -> tuple[str, ...]:
    """Return the stems of the folded words of `text`, in their order. Short texts are cached."""
    return _cached_stems(text) if len(text) <= LONGEST_CACHED else _stems(text)


def _stem(word: str) -> str:
    return word if any(c.isdigit() for c in word) else str(_stemmers.english.stemWord(word))


def _stems(text: str) -> tuple[str, ...]:
    return tuple(stem(word) for word in words(text))


_cached_stem = lru_cache(maxsize=65_536)(_stem)
_cached_stems = lru_cache(maxsize=65_536)(_stems)


def has_unspaced_script(text: str) -> bool:
    """Return whether `text` has letters of a script without spaces between words (Chinese, Thai, ...)."""
    return bool(_UNSPACED.search(text))
