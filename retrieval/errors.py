"""Every error that Folioscope raises on purpose. Only the command line and the web page catch `FolioscopeError`.

A message says what was wrong, both values where two disagree, and what to do. `exit_code` is what the
command line ends with: 1 some files failed, 2 wrong use, 3 the environment lacks something.
"""


class FolioscopeError(Exception):
    """`message` is for every reader. `remedy` names commands and paths, for whoever has the command line: str(error)
    has both, a web or REST client is sent the message alone.
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
    """A path given to ingest does not exist or matches nothing."""


class BadDataset(FolioscopeError):
    """A line of a labelled data set cannot be used. The message names the file, the line and what it should be."""


class IndexMissing(FolioscopeError):
    """No index at this place yet."""


class IndexDamaged(FolioscopeError):
    """The index cannot be read as it stands."""


class SchemaMismatch(FolioscopeError):
    """The index was written by a version of Folioscope with another table layout."""


class EncoderMismatch(FolioscopeError):
    """The index holds vectors of another encoder than the one asked for."""


class NotFound(FolioscopeError):
    """No such document, page or query."""


class MissingExtra(FolioscopeError):
    """A Python package or a system program that this choice needs is not installed."""

    exit_code = 3


def first_line(error: BaseException) -> str:
    """What a foreign error says, in one line: many of them go on for pages, some say nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def missing_extra(error: ImportError) -> MissingExtra:
    """What to say where the libraries of the GPU models are absent or too old."""
    what = f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
    return MissingExtra(
        f"{what}, and this profile's models need it: run 'make gpu', or install folioscope[gpu]"
    )


class ModelBroken(FolioscopeError):
    """A model's files are missing, or are not the files that the checksum names."""

    exit_code = 3


class ModelMissing(FolioscopeError):
    """A model of the profile is not on this machine, and cannot be fetched now."""

    exit_code = 3


class DeviceMissing(FolioscopeError):
    """The profile asks for a device that is not here."""

    exit_code = 3


class RerankerFailed(FolioscopeError):
    """A reranker in another process or room did not answer: the first stage's order stands, and this says why."""

    exit_code = 3


class UnreadableDocument(FolioscopeError):
    """One document cannot be ingested. `reason` is a word for tables; the message is for people.

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
