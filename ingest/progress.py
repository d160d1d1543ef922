"""What ingest tells while it works: one value for everything that happens, drawn by the caller."""

from dataclasses import dataclass
from typing import Literal

Event = Literal["found", "page", "done", "skipped", "failed", "removed", "finished"]


@dataclass(frozen=True, slots=True)
class Progress:
    """`found`: all files are known. `page`: `name` is open, or more of its pages are read or embedded, or it is
    still at work. `done`, `skipped`, `failed`: a file has come to its end, `reason` in a word or two, `message` in
    a sentence. `removed`: a document whose file is gone (sync). `finished`: the run is over, the index is in order.
    """

    event: Event
    uri: str = ""
    name: str = ""
    doc_id: str = ""
    page: int = 0  # pages of this document embedded so far
    pages: int = 0  # pages of this document
    read: int = 0  # pages of this document rasterized and read so far, never fewer than `page`
    reason: str = ""
    message: str = ""
    files: int = 0  # of the whole run
    files_ended: int = 0
    pages_done: int = 0  # of the whole run
    seconds: float = 0.0  # since the run began
