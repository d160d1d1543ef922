"""What the web page stands on: one open index, its searcher, its jobs, and the samples to try it with."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.settings import Settings
from ingest.pipeline import ingest
from ingest.progress import Progress
from ingest.read.titles import clean
from ingest.reembed import reembed
from ingest.sources import SUFFIXES
from retrieval.errors import FolioscopeError, NotFound
from retrieval.evaluation import evaluate
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.store.swap import neighbours, put_in_place
from retrieval.types import Page
from ui import factory
from ui.service.index_upkeep import IndexUpkeep
from ui.service.jobs.queue import Jobs
from ui.service.judgements import Judgements

SAMPLES = Path(__file__).parents[2] / "samples"


@dataclass(frozen=True, slots=True)
class Library:
    uri: str
    store: Store
    searcher: Searcher
    jobs: Jobs
    judgements: Judgements
    keeper: IndexUpkeep
    samples: Path
    """A folder with `pdfs/`, `queries.jsonl` and `demo.txt`; it need not exist."""

    @property
    def reranks(self) -> bool:
        return self.searcher.reranker is not None

    def close(self) -> None:
        self.keeper.close()
        self.jobs.close()
        self.judgements.close()

    def sample_files(self) -> list[Path]:
        folder = self.samples / "pdfs"
        return sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []

    def questions(self) -> list[str]:
        """Examples to start from: those that `demo.txt` lists, if the samples are in the index."""
        return [question for question, _ in self.examples()]

    def examples(self) -> list[tuple[str, list[Page]]]:
        """Those questions, each with the pages that answer it; without those whose documents are not in the index."""
        names = {document.name: document for document in self.store.documents()}
        if not any(path.name in names for path in self.sample_files()):
            return []
        found = []
        for question, pages in _examples(self.samples):
            there = [(name, int(number)) for name, number in pages if name in names]
            if there:
                found.append((question, [Page(names[name].doc_id, number, name) for name, number in there]))
        return found


def open_library(
    uri: str,
    settings: Settings,
    samples: Path = SAMPLES,
    has_escaped: Callable[[Path], bool] = lambda _: False,
) -> Library:
    """The index at `uri`, made if need be. Raises what loading a model and opening a store raise.

    has_escaped: whether a file that waited to be read has become a link out of the folders that may be read.
    """
    store, encoder = factory.create_store(uri, settings)

    def run(
        paths: Sequence[Path], *, stop: threading.Event, again: bool, collection: str, tags: Sequence[str]
    ) -> Iterator[Progress]:
        inside = []
        for path in paths:  # looked at when it was listed, and again now that it is read, perhaps hours later
            if has_escaped(path):
                why = "This is a link to a file outside of the folders that may be read."
                yield Progress(
                    "failed", path.absolute().as_uri(), clean(path.name), reason="unreadable", message=why
                )
            else:
                inside.append(path)
        if not inside:
            return
        yield from ingest(
            inside, store, encoder, settings.ingest, stop=stop, again=again, collection=collection, tags=tags
        )

    searcher = factory.build_searcher(store, encoder, settings)
    folder = uploads_folder(uri)
    jobs = Jobs(folder, store, run)
    judgements, keeper = (
        Judgements(folder / ".judgements.sqlite"),
        IndexUpkeep(store, settings.search, searcher.warm),
    )
    return Library(uri, store, searcher, jobs, judgements, keeper, samples)


def reembed_library(uri: str, settings: Settings) -> Iterator[tuple[int, int]]:
    """Put an index of the profile's encoder in the place of another encoder's, from its pages: (done, total) pages.

    The old one is kept beside it, as `NAME.before`. What an interrupted run did is taken up again. Raises
    FolioscopeError for an index in an object store.
    """
    if "://" in uri:
        raise FolioscopeError(
            f"{uri} is in an object store: use 'folioscope index reembed NEW --index {uri}'"
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
    with (
        source.writing()
    ):  # from here on nobody changes the old one: what came, went or changed meanwhile is caught up
        for _ in reembed(source, target, encoder):
            pass
        _catch_up(source, target)
        put_in_place(place)


def _catch_up(source: Store, target: Store) -> None:
    """What is removed from the source is removed; what is said of its documents is said of the target's."""
    now = {document.doc_id: document for document in source.documents()}
    with target.writing():
        target.remove([document.doc_id for document in target.documents() if document.doc_id not in now])
        for document in target.documents():
            if document != now[document.doc_id]:
                target.update(now[document.doc_id])


def uploads_folder(uri: str) -> Path:
    """Beside the index; for an index in an object store, in the current folder."""
    place = Path(uri) if "://" not in uri else Path(uri.rstrip("/").rpartition("/")[2])
    return (place.parent / f"{place.name.removesuffix('.lance')}-uploads").absolute()


def _examples(samples: Path) -> list[tuple[str, list[tuple[str, int]]]]:
    """The questions that `demo.txt` lists by id, in its order, each with (document, page) of its answers."""
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
