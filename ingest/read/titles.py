"""Chooses a document's title: from its metadata, else from a file name made of words; and cleans foreign text."""

import re
from pathlib import Path

_JUNK = re.compile(
    r"^(untitled.*|title|document\d*|doc\d*|slide \d+|powerpoint presentation|presentation\d*|"
    r"(microsoft )?(word|powerpoint|excel) - .*|scan(ned)?[\W\d]*(document)?|no title|\(anonymous\)|"
    r"unknown|default|layout \d+|page \d+|print|"
    r".*\.(docx?|pptx?|xlsx?|indd|qxd|pdf|tex|dvi|ps|rtf|pub|cdr|ai|fm))$",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_VOWEL = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøùúûüýœ]", re.IGNORECASE)


def printable(text: str) -> str:
    """Return the text without characters that tables and terminals reject: NUL, and lone surrogates (now U+FFFD).

    They come from file names that are not UTF-8 (PEP 383) and from broken fonts and metadata.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").replace("\0", "")


def title_of(metadata: str, path: Path) -> str:
    """Return the metadata's title if a person may have written it, else the words of the file's name, else ""."""
    title = " ".join(re.sub(r"[\x00-\x1f\ufffd]", " ", printable(metadata)).split())
    if 3 <= len(title) <= 300 and _WORD.search(title) and not _JUNK.match(title) and not _opaque(title):
        return title
    stem = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", re.sub(r"[_\-.+%]+", " ", printable(path.stem)))
    stem = " ".join(stem.split())
    if _JUNK.match(stem) or _opaque(stem):
        return ""
    return stem


def _opaque(name: str) -> bool:
    """Return whether the name has no words, like hex digests, serial numbers, paths and `IMG 2041`."""
    if re.search(r"[\\/]\S+[\\/]|^[A-Za-z]:\\|^https?:", name):
        return True
    words = [
        word for word in _WORD.findall(name) if not word.isascii() or (len(word) > 2 and _VOWEL.search(word))
    ]
    letters = sum(map(len, words))
    hex_like = re.fullmatch(r"[0-9a-fA-F ]{8,}", name) and re.search(r"\d", name)
    return not words or bool(hex_like) or letters < 0.4 * len(name.replace(" ", ""))
