"""Finds a model's quotes on a page, and compares the numbers and negations of a sentence with its quotes.

A page is a sequence of atoms: runs of letters, and whole numbers in one notation. A quote matches exactly if its
letters and digits are on the page, from the beginning of an atom to the end of one. Otherwise it may match with
differences that cannot change its meaning: filler words, and letters that OCR confuses. A number, a negation or any
other word that differs is no match: "employee" is not "employer". A quote with an ellipsis matches part by part.
"""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from retrieval.text import STOP_WORDS, fold
from retrieval.types import Box, PageContent

_UNSPACED = (
    "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff"  # scripts without spaces: an atom is a character
)
_ATOM = re.compile(
    rf"(?:(?<![\w.,)%])[-−–](?=[$€£¥]?\d))?[$€£¥]?\d+(?:[.,]\d+)*|[{_UNSPACED}]|[^\W\d_{_UNSPACED}]+"
)
_SUPERSCRIPTS = re.compile(r"[\u00b2\u00b3\u00b9\u2070-\u209c]")  # mostly the marks of footnotes
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.{3}|…)\s*\]|\.{3,}|…)\s*")
_CONTRACTION = re.compile(r"\b(ca|wo|[a-z]+)n['’]t\b|\b(can)not\b", re.IGNORECASE)
_SPACED_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:[ \u00a0\u202f\u2009']\d{3})+(?![\d])")
_SENTENCE_END = re.compile(r"[.!?;:]$")

_NEGATIONS = """
    not no never neither nor none nobody nothing without cannot nicht nie kein keine keinen keiner keines ohne ne pas
    jamais aucun aucune sans 不 没 沒 無 无 未
"""
NEGATIONS = frozenset(_NEGATIONS.split())
OPPOSITES = re.compile(
    r"(?:un|in|im|ir|il|non|dis|mis)\w{4,}|\w+less|prohibit\w*|forbid\w*|forbad\w*|exclu\w+|except\w*|lack\w*|"
    r"den(?:y|ied|ies)|refus\w+|fail\w*|absen\w+|zero|reject\w*|unless|only|prevent\w*|avoid\w*|declin\w+|hardly|barely"
)
"""Words that deny without a negation: next to them, a negation that differs proves nothing."""
LONG = {"ca": "can", "wo": "will"}  # before n't
CONFUSED = str.maketrans({"1": "l", "i": "l", "j": "l", "0": "o", "c": "e", "5": "s", "8": "b", "q": "g"})
"""Letters that OCR confuses, each class as one letter."""
CURRENCIES = frozenset("$€£¥")
UNITS = CURRENCIES | frozenset("%‰°")
SKIPPED = 3
"""Filler words of the page that a match may skip in a row."""
BEFORE = 2
"""Words before a quote in which a negation belongs to it, as in "not | permitted"."""
ANCHORS = 20
"""The most places of a quote's rarest word at which a fuzzy match is tried."""
_TELLING = """
    must may can could should would will all any each more most before after under over between only from up if or need
"""
FILLERS = STOP_WORDS - NEGATIONS - frozenset(_TELLING.split())
"""Words whose absence does not change what a sentence says."""


@dataclass(frozen=True, slots=True)
class FoundQuote:
    """Where a quote is on a page."""

    text: str  # as on the page
    boxes: tuple[Box, ...]  # one for each line
    exact: bool
    behind_negation: bool  # the page negates the words, and the quote leaves that out


@dataclass(frozen=True, slots=True)
class _Atom:
    text: str  # folded letters, or a number as `normal_number` writes it
    word: int  # the page's word that it is a part of


class QuotablePage:
    """A page's words, prepared for finding quotes on it."""

    def __init__(self, content: PageContent) -> None:
        words = content.words
        in_rows = sorted(range(len(words)), key=_by_row([word.box for word in words]))
        self._content = content
        # Tables may be stored by column, so a row that a model reads is not always a run of words.
        orders = [list(range(len(words))), in_rows]
        self._orders = [_Order(content, order) for order in (orders if orders[0] != in_rows else orders[:1])]

    def find(self, quote: str) -> FoundQuote | None:
        """Return where the quote is, None if it is not on the page. An exact match is preferred."""
        parts = [part for part in _ELLIPSIS.split(quote) if _atoms_of(part)]
        if not parts:
            return None
        for exactly in (True, False):
            for order in self._orders:
                runs = order.find_parts(parts, exactly)
                if runs:
                    return self._found(order, runs, exactly)
        return None

    def _found(self, order: "_Order", runs: Sequence[tuple[int, int]], exact: bool) -> FoundQuote:
        indexes = [order.words_of(first, last) for first, last in runs]
        words = self._content.words
        text = " … ".join(" ".join(words[i].text for i in run) for run in indexes)
        boxes = line_boxes([words[i].box for run in indexes for i in run])
        return FoundQuote(text, boxes, exact, order.is_denied(runs[0][0], runs[-1][1]))


class _Order:
    """The atoms of a page in one order of its words."""

    def __init__(self, content: PageContent, order: Sequence[int]) -> None:
        self._content = content
        self._order = order
        self._place = {i: place for place, i in enumerate(order)}
        self.atoms = [_Atom(text, i) for i in order for text in _atoms_of(content.words[i].text)]
        self._text = "".join(atom.text for atom in self.atoms)
        self._starts = [0, *accumulate(len(atom.text) for atom in self.atoms)]
        self._counts = Counter(_skeleton(atom.text) for atom in self.atoms)

    def find_parts(self, parts: Sequence[str], exactly: bool) -> list[tuple[int, int]]:
        """Return the first and last atom of each part, one after the other on the page; [] if one is not there."""
        after, runs = 0, []
        for part in parts:
            quote = _atoms_of(part)
            run = next(
                (run for run in (self._exact(quote) if exactly else self._fuzzy(quote)) if run[0] >= after),
                None,
            )
            if run is None:
                return []
            runs.append(run)
            after = run[1] + 1
        return runs

    def _is_negated(self, first: int) -> bool:
        """Return whether one of the words before atom `first` in its sentence is a negation."""
        for at in range(first - 1, max(-1, first - 1 - BEFORE), -1):
            if _SENTENCE_END.search(self._content.words[self.atoms[at].word].text):
                return False
            if self.atoms[at].text in NEGATIONS:
                return True
        return False

    def words_of(self, first: int, last: int) -> Sequence[int]:
        """Return the indexes of the words with atoms `first` to `last`, and of units that stand apart: "5 %", "€ 5"."""
        begin, end = self._place[self.atoms[first].word], self._place[self.atoms[last].word] + 1
        words = self._content.words
        if self.atoms[last].text[-1].isdecimal() and end < len(self._order):
            end += words[self._order[end]].text in UNITS
        if self.atoms[first].text[-1].isdecimal() and begin > 0:
            begin -= words[self._order[begin - 1]].text in CURRENCIES
        return self._order[begin:end]

    def is_denied(self, first: int, last: int) -> bool:
        """Return whether a negation right before or after atoms `first` to `last` belongs to them."""
        ends = _SENTENCE_END.search(self._content.words[self.atoms[last].word].text)
        follows = last + 1 < len(self.atoms) and not ends and self.atoms[last + 1].text in NEGATIONS
        return follows or self._is_negated(first)

    def _exact(self, quote: Sequence[str]) -> Iterator[tuple[int, int]]:
        squeezed, numbers = "".join(quote), _numbers(quote)
        at = self._text.find(squeezed)
        while at >= 0:
            first, last = self._atom_at(at), self._atom_at(at + len(squeezed) - 1)
            whole = self._starts[first] == at and self._starts[last + 1] == at + len(squeezed)
            if whole and _numbers([atom.text for atom in self.atoms[first : last + 1]]) == numbers:
                yield first, last
            at = self._text.find(squeezed, at + 1)

    def _atom_at(self, character: int) -> int:
        return bisect_right(self._starts, character) - 1

    def _fuzzy(self, quote: Sequence[str]) -> Iterator[tuple[int, int]]:
        required = [_skeleton(text) for text in quote if text not in FILLERS]
        if len(required) < 2 or not all(self._counts[text] for text in required if text[-1].isdecimal()):
            return
        rarest = min(required, key=lambda text: (self._counts[text] or 10**6, -len(text)))
        before = max(i for i, text in enumerate(quote) if _skeleton(text) == rarest)
        anchors = [i for i, atom in enumerate(self.atoms) if _skeleton(atom.text) == rarest][:ANCHORS]
        for anchor in anchors:
            start = max(0, anchor - 2 * before - 4)
            run = _align(
                quote, [atom.text for atom in self.atoms[start : anchor + 2 * (len(quote) - before) + 6]]
            )
            if run and not self.is_denied(start + run[0], start + run[1]):
                yield start + run[0], start + run[1]


def _align(quote: Sequence[str], page: Sequence[str]) -> tuple[int, int] | None:
    """Return the first and last atom of `page` that say what `quote` says, None if none do.

    All atoms of the quote that are no filler must be on the page in this order, and nothing but fillers may be between
    them. A word may be cut in two on either side.
    """
    # starts[i][j]: the first page atom of the best match of quote[:i] that ends before page[j]; None if there is none.
    reached: list[dict[int, tuple[int, int]]] = [
        {} for _ in range(len(quote) + 1)
    ]  # j -> (first atom, atoms skipped)
    for j in range(len(page)):
        reached[0][j] = (j, 0)

    def reach(i: int, j: int, state: tuple[int, int]) -> None:
        if j not in reached[i] or state[1] < reached[i][j][1]:
            reached[i][j] = state

    for i, text in enumerate(quote):
        for j in sorted(reached[i]):
            first, skipped = reached[i][j]
            if text in FILLERS:
                reach(i + 1, j, (first, skipped + 1))
            for ahead in range(min(SKIPPED, len(page) - 1 - j) + 1 if i else 1):
                at = j + ahead
                if ahead and page[at - 1] not in FILLERS:
                    break
                if at >= len(page):
                    break
                cost = skipped + ahead
                if _same(text, page[at]):
                    reach(i + 1, at + 1, (first, cost))
                if at + 1 < len(page) and _joined(text, page[at], page[at + 1]):
                    reach(i + 1, at + 2, (first, cost))
                if i + 1 < len(quote) and _joined(page[at], text, quote[i + 1]):
                    reach(i + 2, at + 1, (first, cost))
    ends = reached[len(quote)]
    best = min(ends, key=lambda j: (ends[j][1], j - ends[j][0]), default=None)
    if best is None or ends[best][1] > max(2, len(quote) // 3) or best <= ends[best][0]:
        return None
    return ends[best][0], best - 1


def _same(a: str, b: str) -> bool:
    if a == b:
        return True
    if a[-1].isdecimal() or b[-1].isdecimal() or a in NEGATIONS or b in NEGATIONS:
        return False
    return len(a) > 2 and _skeleton(a) == _skeleton(b)


def _joined(whole: str, left: str, right: str) -> bool:
    return whole.isalpha() and left.isalpha() and right.isalpha() and whole == left + right


def _skeleton(text: str) -> str:
    """Return the text with letters that OCR confuses as one; numbers stay as they are."""
    if text[-1].isdecimal():
        return text
    return text.translate(CONFUSED).replace("rn", "m").replace("vv", "w")


def _atoms_of(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", _SUPERSCRIPTS.sub("", text))
    spelled = _CONTRACTION.sub(lambda m: f"{LONG.get((m[1] or m[2]).lower(), m[1] or m[2])} not", plain)
    # Numbers are read before the text is folded, because folding removes the marks that group digits.
    return [normal_number(atom) if atom[-1].isdecimal() else letters for atom in _ATOM.findall(spelled)
            if (letters := _letters(atom))]  # fmt: skip


def _letters(atom: str) -> str:
    return "".join(c for c in fold(atom) if c.isalnum())


def normal_number(text: str) -> str:
    """Return a number in one notation: '1,234.50' and '1.234,50' are '1234.5', '-12 %' is '-12'. Currency is dropped.

    A single mark before exactly three digits groups digits, unless the number begins with 0. Numbers of sections and
    dates, such as 1.5.2, keep their marks.
    """
    digits = text.strip().lstrip("-−–$€£¥")
    sign = "-" if text.strip()[:1] in "-−–" else ""
    parts, marks = re.split(r"[.,]", digits), re.sub(r"[^.,]", "", digits)
    if len(marks) > 1 and len(set(marks[:-1])) > 1:
        return sign + digits
    grouped = all(len(part) == 3 for part in parts[1:])
    if len(marks) > 1 and len(set(marks)) == 1 and not grouped:
        return sign + digits
    has_decimals = len(set(marks)) == 2 or (len(marks) == 1 and (not grouped or digits[0] == "0"))
    whole = "".join(parts[:-1] if has_decimals else parts).lstrip("0") or "0"
    decimals = parts[-1].rstrip("0") if has_decimals else ""
    return f"{sign}{whole}.{decimals}" if decimals else sign + whole


def _numbers(atoms: Sequence[str]) -> list[str]:
    """Return the numbers in their order; digits that spaces group are one number."""
    numbers: list[str] = []
    for before, atom in zip(["", *atoms], atoms, strict=False):
        if not atom[-1].isdecimal():
            continue
        if (
            numbers
            and re.fullmatch(r"\d{3}", atom)
            and re.fullmatch(r"-?\d{1,3}|-?\d{1,3}(?:\d{3})+", before)
        ):
            numbers[-1] += atom
        else:
            numbers.append(atom)
    return numbers


_NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve"""
NUMBER_WORDS = {word: str(n) for n, word in enumerate(_NUMBER_WORDS.split())}


def missing_numbers(sentence: str, quotes: Sequence[str]) -> list[str]:
    """Return the numbers of a sentence that are in none of its quotes, whatever their signs, grouping and currency.

    A number may be spelled out in the quote. Marks like [1] in the sentence are no numbers.
    """
    joined = _SPACED_GROUPS.sub(lambda m: re.sub(r"\D", "", m[0]), re.sub(r"\[\d+\]", " ", sentence))
    present: set[str] = set()
    for quote in quotes:
        atoms = _atoms_of(quote)
        present |= {number.lstrip("-") for number in (*_numbers(atoms), *filter(_is_number, atoms))}
        present |= {NUMBER_WORDS[atom] for atom in atoms if atom in NUMBER_WORDS}
    asked = [atom.lstrip("-") for atom in _atoms_of(joined) if atom[-1].isdecimal()]
    return [number for number in dict.fromkeys(asked) if number not in present]


def _is_number(atom: str) -> bool:
    return atom[-1].isdecimal()


def negation_differs(sentence: str, quotes: Sequence[str]) -> bool:
    """Return whether a sentence denies and its quotes do not, or the reverse.

    Words that deny by their meaning ("prohibited", "unlimited") on either side leave that open: then it is False.
    """
    said, quoted = _atoms_of(sentence), [atom for quote in quotes for atom in _atoms_of(quote)]
    if not quoted or any(OPPOSITES.fullmatch(atom) for atom in (*said, *quoted)):
        return False
    return any(atom in NEGATIONS for atom in said) != any(atom in NEGATIONS for atom in quoted)


def denies(text: str) -> bool:
    """Return whether a sentence has a negation, or a word that denies by its meaning."""
    return any(atom in NEGATIONS or OPPOSITES.fullmatch(atom) for atom in _atoms_of(text))


def line_boxes(boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Return one box around the words of each line. Boxes belong to one line if their heights overlap by half."""
    lines: list[list[Box]] = []
    for box in boxes:
        last = lines[-1][-1] if lines else None
        if last and _overlap(last, box) >= 0.5 and -0.02 <= box[0] - last[2] <= 0.25:
            lines[-1].append(box)
        else:
            lines.append([box])
    return tuple(
        (min(b[0] for b in line), min(b[1] for b in line), max(b[2] for b in line), max(b[3] for b in line))
        for line in lines
    )


def _overlap(a: Box, b: Box) -> float:
    """Return the share of the lower box's height that the other one covers."""
    least = min(a[3] - a[1], b[3] - b[1])
    return (min(a[3], b[3]) - max(a[1], b[1])) / least if least > 0 else 0.0


def _by_row(boxes: Sequence[Box]) -> Callable[[int], tuple[int, float]]:
    """Return a sort key for the words' indexes: rows from top to bottom, in each from left to right."""
    rows: dict[int, tuple[int, float]] = {}
    row, last = -1, None
    for i in sorted(range(len(boxes)), key=lambda i: (boxes[i][1] + boxes[i][3], boxes[i][0])):
        if last is None or _overlap(last, boxes[i]) < 0.5:
            row, last = row + 1, boxes[i]
        rows[i] = (row, boxes[i][0])
    return rows.__getitem__
