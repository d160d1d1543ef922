"""The nouns of the list of jobs."""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

State = Literal["queued", "reading", "done", "skipped", "failed", "cancelled", "removing"]
STATES: tuple[State, ...] = get_args(State)
ENDED: tuple[State, ...] = ("done", "skipped", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Job:
    """One file on its way into the index, or (`removing`) one document on its way out."""

    id: int
    uri: str
    name: str
    state: State
    page: int  # pages embedded so far
    read: int  # pages read so far
    pages: int  # of the document; 0 until it is known
    size: int  # bytes
    reason: str  # why it ended so, in a word or two
    message: str  # the same in a sentence
    seconds: float  # from its start to its end, or until now
    since: float  # its start, in seconds since 1970; 0 before it
    due: float  # when the document is removed, in seconds since 1970; of no meaning for others
    doc_id: str  # of the document to remove, when the file has been read if it is waiting for that; else ""
    again: bool  # read even if its content is known


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one run of the pipeline can read."""

    sizes: dict[str, int]  # bytes by uri, in the order they were asked for
    again: bool
    collection: str
    tags: tuple[str, ...]


class Removal(NamedTuple):
    job: int
    uri: str
    doc_id: str


class File(NamedTuple):
    """What is asked of one file; `tags` as JSON."""

    uri: str
    name: str
    size: int
    again: bool
    collection: str
    tags: str
