"""Every error that Folioscope raises on purpose. Only the command line and the server catch `FolioscopeError`.

A message says what was wrong, both values if two disagree, and what to do. `exit_code` is the command line's exit
status: 1 some files failed, 2 wrong use, 3 the environment lacks something.
"""


class FolioscopeError(Exception):
    """An error with a `message` for every reader and a `remedy` that names commands and paths.

    The command line prints str(error), which has both; the server sends its clients the message only.
    """

    exit_code = 2

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy

    @property
    def message(self) -> str:
        return super().__str__()

    def __str__(self) -> str:
        return f"{self.message}: {self.remedy}" if self.remedy else self.message


class BadQuery(FolioscopeError):
    """The question cannot be searched for: empty, or longer than the limit."""


class BadSource(FolioscopeError):
    """A path given to ingest does not exist or matches no file."""


class BadDataset(FolioscopeError):
    """A line of a labelled data set cannot be used. The message names the file, the line and the expected form."""


class IndexMissing(FolioscopeError):
    """There is no index at this place yet."""


class IndexDamaged(FolioscopeError):
    """The index cannot be read."""


class SchemaMismatch(FolioscopeError):
    """The index was written by a version of Folioscope with another table layout."""


class EncoderMismatch(FolioscopeError):
    """The index has vectors of another encoder than the profile's."""


class NotFound(FolioscopeError):
    """There is no such document, page or query."""


class MissingExtra(FolioscopeError):
    """A Python package or a system program that the settings need is not installed."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or its type: some messages have pages, some are empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def missing_extra(error: ImportError) -> MissingExtra:
    """Return the error to raise if the libraries of the GPU models are missing or too old."""
    cause = f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    return MissingExtra(
        f"{cause}, and this profile's models need it", remedy="run 'make gpu', or install folioscope[gpu]"
    )


class ModelBroken(FolioscopeError):
    """A model's files are missing, do not have the expected checksum, or give impossible values."""

    exit_code = 3


class ModelMissing(FolioscopeError):
    """A model of the profile is not on this machine and cannot be downloaded now."""

    exit_code = 3


class DeviceMissing(FolioscopeError):
    """This machine lacks the device that the profile names."""

    exit_code = 3


class RerankerFailed(FolioscopeError):
    """A reranker did not answer: the result keeps the first stage's order, and its decision has this message."""

    exit_code = 3


class AnswerFailed(FolioscopeError):
    """The model that writes answers did not answer."""

    exit_code = 3


class BadReply(AnswerFailed):
    """The model that writes answers gave one that cannot be read, or asked for a tool."""


class UnreadableDocument(FolioscopeError):
    """A document cannot be ingested. `reason` is a short code for tables; the message is for people.

    `reason` is one of: encrypted, empty file, not a document, damaged, no pages, too many pages, page too
    large, too slow, too much memory, crashed, unreadable, unsupported, not embedded.
    """

    exit_code = 1

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["UnreadableDocument"], tuple[str, str]]:
        return UnreadableDocument, (self.reason, str(self))


class IndexBusy(FolioscopeError):
    """Another process is writing to the index."""
