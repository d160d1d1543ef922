"""The nouns of the job table."""

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
    pages: int  # pages of the document; 0 until it is known
    size: int  # bytes
    reason: str  # why the job ended in this state, in a word or two
    message: str  # the same as a sentence
    seconds: float  # from the start of the job to its end, or until now
    since: float  # its start, in seconds since 1970; 0 before it
    due: float  # when the document is to be removed, in seconds since 1970; 0 without a removal
    doc_id: str  # the document to remove, at once or after its file has been read; "" without a removal
    again: bool  # read the file even if its content is already in the index


@dataclass(frozen=True, slots=True)
class Batch:
    """Files that one run of the pipeline can read."""

    sizes: dict[str, int]  # bytes by uri, in the order in which the files were added
    again: bool
    collection: str
    tags: tuple[str, ...]


class Removal(NamedTuple):
    """A document to remove. `job`: the id of its row."""

    job: int
    uri: str
    doc_id: str


class File(NamedTuple):
    """A file to queue. `size` is in bytes, `tags` is a JSON list."""

    uri: str
    name: str
    size: int
    again: bool
    collection: str
    tags: str
