"""What the web page stands on: one open index, its searcher, its jobs, and the samples to try it with."""

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.settings import Settings
from ingest.pipeline import ingest
from ingest.progress import Progress
from ingest.sources import SUFFIXES
from retrieval.search import Searcher
from retrieval.store import Store
from ui import assemble
from ui.jobs import Jobs

SAMPLES = Path(__file__).parent.parent / "samples"


@dataclass(frozen=True, slots=True)
class Library:
    store: Store
    searcher: Searcher
    jobs: Jobs
    samples: Path
    """A folder with `pdfs/`, `queries.jsonl` and `demo.txt`; it need not exist."""

    @property
    def reranks(self) -> bool:
        return self.searcher.reranker is not None

    def sample_files(self) -> list[Path]:
        folder = self.samples / "pdfs"
        return sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []

    def questions(self) -> list[str]:
        """Examples to start from: those of the samples, if they are in the index."""
        names = {path.name for path in self.sample_files()}
        if not any(document.name in names for document in self.store.documents()):
            return []
        return _questions(self.samples)


def open_library(uri: str, settings: Settings, samples: Path = SAMPLES) -> Library:
    """The index at `uri`, made if need be. Raises what loading a model and opening a store raise."""
    store, encoder = assemble.store_to_write(uri, settings)

    def run(paths: Sequence[Path], *, stop: threading.Event) -> Iterator[Progress]:
        return ingest(paths, store, encoder, settings.ingest, stop=stop)

    searcher = assemble.searcher_of(store, encoder, settings)
    return Library(store, searcher, Jobs(uploads_folder(uri), store, run), samples)


def uploads_folder(uri: str) -> Path:
    """Beside the index; for an index in an object store, in the current folder."""
    place = Path(uri) if "://" not in uri else Path(uri.rstrip("/").rpartition("/")[2])
    return (place.parent / f"{place.name.removesuffix('.lance')}-uploads").absolute()


def _questions(samples: Path) -> list[str]:
    """The questions that `demo.txt` lists by id, in its order."""
    try:
        lines = (samples / "queries.jsonl").read_text(encoding="utf-8").splitlines()
        listed = (samples / "demo.txt").read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return []
    texts = {row["query_id"]: row["text"] for row in map(json.loads, filter(None, lines))}
    return [texts[query_id] for query_id in listed if query_id in texts]
