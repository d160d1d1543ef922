"""The library behind the web page: one open index, its searcher, its jobs, and the samples to try it with."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.settings import Settings
from ingest.pipeline import ingest
from ingest.progress import Progress
from ingest.read.titles import printable
from ingest.reembed import reembed
from ingest.sources import SUFFIXES
from retrieval.answering.answerer import Answerer
from retrieval.errors import FolioscopeError, NotFound
from retrieval.evaluation import evaluate
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.store.swap import neighbours, put_in_place
from retrieval.types import Page
from ui import factory
from ui.service.answers import Answers
from ui.service.index_upkeep import IndexUpkeep
from ui.service.jobs.queue import Jobs
from ui.service.judgements import Judgements

SAMPLES = Path(__file__).parents[2] / "samples"


@dataclass(frozen=True, slots=True)
class Library:
    """An open index and everything that works on it."""

    uri: str
    store: Store
    searcher: Searcher
    jobs: Jobs
    judgements: Judgements
    answerer: Answerer
    answers: Answers
    index_upkeep: IndexUpkeep
    samples: Path
    """A folder with `pdfs/`, `queries.jsonl` and `demo.txt`; it may be missing."""

    @property
    def reranks(self) -> bool:
        return self.searcher.reranker is not None

    def close(self) -> None:
        self.index_upkeep.close()
        self.jobs.close()
        self.judgements.close()
        self.answers.close()

    def sample_files(self) -> list[Path]:
        folder = self.samples / "pdfs"
        return sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []

    def questions(self) -> list[str]:
        """Returns the questions of `demo.txt` as examples, if the samples are in the index."""
        return [question for question, _ in self.examples()]

    def examples(self) -> list[tuple[str, list[Page]]]:
        """Returns these questions with the pages that answer them, except where their documents are not indexed."""
        names = {document.name: document for document in self.store.documents()}
        if not any(path.name in names for path in self.sample_files()):
            return []
        examples = []
        for question, pages in _examples(self.samples):
            indexed = [(name, int(number)) for name, number in pages if name in names]
            if indexed:
                examples.append(
                    (question, [Page(names[name].doc_id, number, name) for name, number in indexed])
                )
        return examples


def open_library(
    uri: str,
    settings: Settings,
    samples: Path = SAMPLES,
    has_escaped: Callable[[Path], bool] = lambda _: False,
) -> Library:
    """Open the index at `uri`, or create it. Raises the errors of loading a model and of opening a store.

    has_escaped: whether a queued file has become a link to a place outside of the folders that may be read.
    """
    store, encoder = factory.create_store(uri, settings)

    def ingest_files(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        inside = []
        for path in paths:  # checked when it was listed, and again now, perhaps hours later
            if has_escaped(path):
                message = "This is a link to a file outside of the folders that may be read."
                yield Progress(
                    "failed",
                    path.absolute().as_uri(),
                    printable(path.name),
                    reason="unreadable",
                    message=message,
                )
            else:
                inside.append(path)
        if not inside:
            return
        yield from ingest(
            inside, store, encoder, settings.ingest, stop=stop, again=again, collection=collection, tags=tags
        )

    searcher = factory.build_searcher(store, encoder, settings)
    answerer = factory.build_answerer(settings)
    folder = uploads_folder(uri)
    jobs = Jobs(folder, store, ingest_files)
    judgements = Judgements(folder / ".judgements.sqlite")
    answers = Answers(folder / ".answers.sqlite")
    index_upkeep = IndexUpkeep(store, settings.search, searcher.warm)
    return Library(uri, store, searcher, jobs, judgements, answerer, answers, index_upkeep, samples)


def reembed_library(uri: str, settings: Settings) -> Iterator[tuple[int, int]]:
    """Replace another encoder's index by one of this profile's encoder, from its pages. Yields (done, total) pages.

    The old index stays next to the new one, as `NAME.before`. An interrupted run continues where it stopped. Raises
    FolioscopeError for an index in an object store.
    """
    if "://" in uri:
        raise FolioscopeError(
            "an index in an object store cannot be encoded again in its own place",
            remedy=f"encode it into another place with 'folioscope index reembed NEW --index {uri}'",
        )
    place = Path(uri)
    fresh, _ = neighbours(place)
    source = Store.open(uri)
    target, encoder = factory.create_store(str(fresh), settings)
    done = sum(document.pages for document in target.documents())
    yield done, max(done, sum(document.pages for document in source.documents()))
    for document in reembed(source, target, encoder):
        done += document.pages
        yield done, max(done, sum(d.pages for d in source.documents()))
    # From here on nobody else changes the old index: apply the changes that were made to it meanwhile.
    with source.writing():
        for _ in reembed(source, target, encoder):
            pass
        _catch_up(source, target)
        put_in_place(place)


def _catch_up(source: Store, target: Store) -> None:
    """Remove from the target what the source no longer has, and copy the edits of the source's documents."""
    current = {document.doc_id: document for document in source.documents()}
    with target.writing():
        target.remove([document.doc_id for document in target.documents() if document.doc_id not in current])
        for document in target.documents():
            if document != current[document.doc_id]:
                target.update(current[document.doc_id])


def uploads_folder(uri: str) -> Path:
    """Returns the uploads folder: next to the index; for an index in an object store, in the current folder."""
    place = Path(uri) if "://" not in uri else Path(uri.rstrip("/").rpartition("/")[2])
    return (place.parent / f"{place.name.removesuffix('.lance')}-uploads").absolute()


def _examples(samples: Path) -> list[tuple[str, list[tuple[str, int]]]]:
    """Returns the questions that `demo.txt` lists by id, in its order, with the (document, page) of their answers."""
    try:
        listed = (samples / "demo.txt").read_text(encoding="utf-8").split()
        dataset = evaluate.read_dataset(samples)
    except (FileNotFoundError, NotFound):
        return []
    texts = {question.query_id: question.text for question in dataset.questions}
    return [
        (
            texts[query_id],
            [evaluate.split_name(name) for name, grade in dataset.qrels[query_id].items() if grade > 0],
        )
        for query_id in listed
        if query_id in texts
    ]
