"""Changes a window that answers a question just so much that it does not answer any more.

A small reader matches words. It learns to read what a condition says from windows that differ in that condition alone
(contrast sets, Gardner et al., 2020; counterfactual data, Kaushik et al., 2020). The changes are mechanical: another
number, name or term where question and window agree, the opposite of a word that both have, or no answer.
"""

import random
import re
from collections.abc import Sequence

from retrieval.text import STOP_WORDS, fold

MOST = 3
LONGEST_REMOVED = 8
"""Words of an answer that is taken out: without a longer one, the window would be another text."""
LEAST_LETTERS = 5
# As `fold` writes them.
OPPOSITES = (
    ("minimum", "maximum"), ("least", "most"), ("before", "after"), ("first", "last"), ("more", "less"),
    ("higher", "lower"), ("increase", "decrease"), ("increased", "decreased"), ("rose", "fell"),
    ("highest", "lowest"), ("largest", "smallest"), ("above", "below"), ("must", "may"), ("required", "optional"),
    ("allowed", "forbidden"), ("permitted", "prohibited"), ("included", "excluded"), ("with", "without"),
    ("internal", "external"), ("public", "private"), ("opened", "closed"), ("accepted", "rejected"),
    ("approved", "refused"), ("planned", "finished"), ("annual", "monthly"), ("daily", "weekly"),
    ("year", "month"), ("day", "week"), ("hours", "minutes"), ("days", "weeks"), ("years", "months"),
    ("million", "billion"), ("revenue", "expenses"), ("income", "costs"), ("assets", "liabilities"),
    ("buyer", "seller"), ("tenant", "landlord"), ("employee", "employer"), ("user", "administrator"),
    ("client", "server"), ("input", "output"), ("north", "south"), ("east", "west"), ("left", "right"),
    ("start", "end"), ("always", "never"), ("all", "some"), ("not", ""), ("nicht", ""), ("no", "ne"),
    ("mindestens", "hochstens"), ("vor", "nach"), ("mehr", "weniger"), ("mit", "ohne"), ("muss", "darf"),
    ("erste", "letzte"), ("jahr", "monat"), ("antes", "despues"), ("mas", "menos"), ("minimo", "maximo"),
)  # fmt: skip


def variants(
    question: str,
    title: str,
    words: Sequence[str],
    answer: tuple[int, int] | None,
    others: Sequence[str],
    rng: random.Random,
) -> list[list[str]]:
    """Returns at most MOST variants of the words of a window, none of which answers the question.

    answer: its first and last word, None if unknown. others: words of the same document, to replace with.
    """
    asked = set(_tokens(question))
    shared = {token for token in map(_token, words) if token in asked and token not in STOP_WORDS}
    shared -= set(_tokens(title))
    numbers = sorted(token for token in shared if token.isdigit())
    names = {_token(word) for word in question.split()[1:] if word[:1].isupper()}
    terms = sorted(token for token in shared & names if token.isalpha() and len(token) >= LEAST_LETTERS)
    made: list[list[str]] = []
    opposite = {token: other for pair in OPPOSITES for token, other in (pair, pair[::-1]) if token}
    turned = {token: opposite[token] for token in asked & opposite.keys() if token in set(map(_token, words))}
    if turned:
        token = rng.choice(sorted(turned))
        made.append(_replaced(words, {token: turned[token]}))
    if numbers:
        number = rng.choice(numbers)
        made.append(_replaced(words, {number: _other_number(number, rng)}))
    if terms:
        # The name that the window has least often says most; of equal ones, any.
        counts = {term: sum(_token(word) == term for word in words) for term in terms}
        term = min(terms, key=lambda t: (counts[t], rng.random()))
        candidates = [word for word in others if _is_like(word, term, words) and _token(word) not in asked]
        if candidates:
            made.append(_replaced(words, {term: _token(rng.choice(candidates))}))
    if answer and answer[1] - answer[0] < LONGEST_REMOVED:
        made.append([*words[: answer[0]], *words[answer[1] + 1 :]])
    made = [variant for variant in made if variant and variant != list(words)]
    return rng.sample(made, min(MOST, len(made)))


def _replaced(words: Sequence[str], by: dict[str, str]) -> list[str]:
    """Returns the words with all that are these tokens replaced; punctuation at their ends stays."""
    result = []
    for word in words:
        new = by.get(_token(word))
        if new is None:
            result.append(word)
        elif new:
            ends = re.fullmatch(r"(\W*)(.*?)(\W*)", word, re.DOTALL)
            assert ends is not None
            result.append(ends[1] + new + ends[3])
    return result


def _other_number(number: str, rng: random.Random) -> str:
    """Returns another number of as many digits: a year nearby, else one with another digit."""
    if len(number) == 4 and number[:2] in ("19", "20"):
        return str(int(number) + rng.choice((-3, -2, -1, 1, 2, 3)))
    at = rng.randrange(len(number))
    digits = [d for d in "123456789" if d != number[at]]
    return number[:at] + rng.choice(digits) + number[at + 1 :]


def _is_like(word: str, term: str, words: Sequence[str]) -> bool:
    """Returns whether a word can take a term's place: letters, long enough, and not in the window."""
    token = _token(word)
    return token.isalpha() and len(token) >= LEAST_LETTERS and token not in STOP_WORDS and word not in words


def _tokens(text: str) -> list[str]:
    return [token for token in map(_token, text.split()) if token]


def _token(word: str) -> str:
    return re.sub(r"^\W+|\W+$", "", fold(word))
