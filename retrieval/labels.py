"""The rules for a document's name, title, collection, tags and date.

The command line, REST and ingest all call `checked`, so that a label which one of them rejects is in no index.
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
UNSHOWN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's general categories
JOINERS = "\u200c\u200d"  # invisible, but Persian, the scripts of India and emoji are written with them


class BadChange(FolioscopeError):
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

    Lengths are limited in characters. Raises BadChange for the first label that breaks a rule.
    """
    said: dict[str, Any] = {}
    if name is not None:
        said["name"] = _line("name", name, LONGEST_NAME)
        if not said["name"]:
            raise BadChange("a name cannot be empty: a document needs one")
        if "/" in name or "\\" in name:
            raise BadChange(f"the name {name!r} has a slash or a backslash: leave it out")
    if title is not None:
        said["title"] = _line("title", title, LONGEST_TITLE)
    if collection is not None:
        said["collection"] = _line("collection", collection, LONGEST_COLLECTION)
        if not said["collection"]:
            raise BadChange("a collection cannot be empty: 'default' is the one of documents without another")
    if tags is not None:
        said["tags"] = _tags(tags)
    if date is not None:
        said["date"] = _date(date.strip())
    return said


def _line(what: str, given: str, longest: int) -> str:
    text = given.strip()
    if len(text) > longest:
        raise BadChange(f"the {what} {text[:20]!r}… has {len(text)} characters: {longest} are allowed")
    unshown = [c for c in text if unicodedata.category(c) in UNSHOWN and c not in JOINERS]
    if unshown:
        raise BadChange(
            f"the {what} {text!r} has the character {unshown[0]!r}, which cannot be shown: leave it out"
        )
    return text


def _tags(given: Sequence[str]) -> tuple[str, ...]:
    tags = tuple(dict.fromkeys(tag for each in given if (tag := _line("tag", each, LONGEST_TAG))))
    if len(tags) > MOST_TAGS:
        raise BadChange(f"{len(tags)} tags: a document may have {MOST_TAGS}")
    for tag in tags:
        if "," in tag:
            raise BadChange(f"the tag {tag!r} has a comma: make two of it, or leave it out")
    return tags


def _date(given: str) -> str:
    if given and not is_date(given):
        raise BadChange(
            f"the date {given[:40]!r} is none: write 2024, 2024-01 or 2024-01-31, or leave it empty"
        )
    return given
