"""The rules for a document's name, title, collection, tags and date.

The command line, REST and ingest all call `checked_labels`, so that no index has a label that one of them rejects.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any

from retrieval.errors import FolioscopeError
from retrieval.types import is_date

LONGEST_NAME = 120  # characters
LONGEST_TITLE = 300
LONGEST_COLLECTION = 60
LONGEST_TAG = 40
MOST_TAGS = 20
INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's general categories
JOINERS = "\u200c\u200d"  # invisible, but Persian, the scripts of India and emoji need them


class BadLabel(FolioscopeError):
    """A name, title, collection, tag or date that a document cannot have."""


def checked_labels(
    *,
    name: str | None = None,
    title: str | None = None,
    collection: str | None = None,
    tags: Sequence[str] | None = None,
    date: str | None = None,
) -> dict[str, Any]:
    """Return the labels that are not None, without white space around them and without repeated or empty tags.

    Lengths are limited in characters. Raises BadLabel for the first label that breaks a rule.
    """
    labels: dict[str, Any] = {}
    if name is not None:
        labels["name"] = _line("name", name, LONGEST_NAME)
        if not labels["name"]:
            raise BadLabel("a name cannot be empty: write one")
        if "/" in name or "\\" in name:
            raise BadLabel(f"the name {name!r} has a slash or a backslash: leave it out")
    if title is not None:
        labels["title"] = _line("title", title, LONGEST_TITLE)
    if collection is not None:
        labels["collection"] = _line("collection", collection, LONGEST_COLLECTION)
        if not labels["collection"]:
            raise BadLabel("a collection cannot be empty: documents without another one are in 'default'")
    if tags is not None:
        labels["tags"] = _tags(tags)
    if date is not None:
        labels["date"] = _date(date.strip())
    return labels


def _line(what: str, given: str, longest: int) -> str:
    text = given.strip()
    if len(text) > longest:
        raise BadLabel(f"the {what} {text[:20]!r}… has {len(text)} characters: {longest} are allowed")
    invisible = [c for c in text if unicodedata.category(c) in INVISIBLE and c not in JOINERS]
    if invisible:
        raise BadLabel(
            f"the {what} {text!r} has the character {invisible[0]!r}, which cannot be shown: leave it out"
        )
    return text


def _tags(given: Sequence[str]) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for each in given if (tag := _line("tag", each, LONGEST_TAG))))
    if len(tags) > MOST_TAGS:
        raise BadLabel(f"{len(tags)} tags: a document may have at most {MOST_TAGS}")
    for tag in tags:
        if "," in tag:
            raise BadLabel(f"the tag {tag!r} has a comma: split it into two tags, or leave the comma out")
    return tags


def _date(given: str) -> str:
    if given and not is_date(given):
        raise BadLabel(f"{given[:40]!r} is not a date: write 2024, 2024-01 or 2024-01-31, or leave it empty")
    return given
