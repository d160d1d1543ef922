"""A result list to take away: as a table, as JSON, and as one PDF of the matching pages."""

import csv
import io
import json
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ingest.read.titles import clean
from retrieval.errors import FolioscopeError, IndexDamaged
from retrieval.store.store import Store
from retrieval.types import Page, SearchResult
from ui.api import bind
from ui.api.media import original

MOST_PAGES = 200
"""Pages of one PDF."""
LOST = 3
"""Originals that may end the process that copies; after that no further original is opened."""
FORMULA = re.compile(r"(^|[;\t\r\n|])(?=[=+\-@\t\r\n＝＋－＠])")
"""Where a spreadsheet would begin a formula: at a cell's start, or behind what some take for a separator."""


def as_csv(result: SearchResult, store: Store) -> str:
    """One row per hit, RFC 4180. A text that a spreadsheet would run as a formula has an apostrophe before it.

    Excel takes it for UTF-8 only if it is written as `utf-8-sig`. Raises NotFound for a page no longer there.
    """
    kinds = sorted({kind for hit in result.hits for kind in hit.scores})
    fixed = ["rank", "document", "page", "name", "score", "first_rank"]
    facts = ["scanned", "title", "date"]
    rows = [
        [
            *(hit[name] for name in fixed),
            *(hit["scores"].get(kind, "") for kind in kinds),
            *(hit[f] for f in facts),
        ]
        for hit in _hits(result, store)
    ]
    file = io.StringIO(newline="")
    table = [[*fixed, *(f"score_{kind}" for kind in kinds), *facts], *rows]
    csv.writer(file).writerows([_harmless(cell) for cell in row] for row in table)
    return file.getvalue()


def as_json(result: SearchResult, store: Store) -> dict[str, Any]:
    """Everything that is known of the hits, and how they came about. Raises NotFound as `as_csv` does."""
    return {
        "query": result.query,
        "decision": asdict(result.decision),
        "stages": [asdict(stage) for stage in result.stages],
        "notes": list(result.notes),
        "hits": _hits(result, store),
    }


def as_pdf(
    pages: Sequence[Page],
    store: Store,
    target: Path,
    *,
    title: str,
    seconds: float = 30.0,
    memory_mb: int = 1500,
) -> tuple[str, ...]:
    """Write the pages, in the order given, as one PDF to `target`; nothing is there if that fails.

    Each page is copied from its original where that is a PDF that still has the bytes that were ingested and opens
    without a password; else it is the stored image with its words, invisible, over it, and the outline calls it
    "(image)". The answer says in words of which documents that is so, and why. `seconds` limits the opening of an
    original and each of its pages, `memory_mb` the process that copies, in MiB.

    Raises FolioscopeError for no pages or more than MOST_PAGES, NotFound for one no longer there, IndexDamaged for
    a stored image that is needed and cannot be read.
    """
    if not pages:
        raise FolioscopeError("there are no pages to export: search for something that is found")
    if len(pages) > MOST_PAGES:
        raise FolioscopeError(
            f"{len(pages):,} pages are too many for one PDF, {MOST_PAGES} may be: export fewer"
        )
    with TemporaryDirectory(prefix="folioscope-") as name:
        folder = Path(name)
        leaves = []
        for rank, content in enumerate(store.contents(pages), start=1):
            page, image = content.page, folder / f"{rank}.webp"
            image.write_bytes(store.image(page.page_id))
            file = original(store.document(page.doc_id))
            heading = f"{rank}. {page.document}, page {page.number}"
            leaves.append(bind.ExportPage(page, heading, file, image, content.words, content.source == "ocr"))
        replaced = _bind(leaves, folder / "made.pdf", title, seconds, memory_mb)
        shutil.move(folder / "made.pdf", target)
    names = {page.doc_id: page.document for page in pages}
    return tuple(f"images stand for pages of {names[doc_id]}: {why}" for doc_id, why in replaced.items())


def _hits(result: SearchResult, store: Store) -> list[dict[str, Any]]:
    contents = store.contents([hit.page for hit in result.hits])
    hits = []
    for hit, content in zip(result.hits, contents, strict=True):
        document = store.document(hit.page.doc_id)
        hits.append({
            "rank": hit.rank, "first_rank": hit.first_rank, "document": document.name, "page": hit.page.number,
            "name": content.page.name, "doc_id": document.doc_id, "score": hit.score, "scores": dict(hit.scores),
            "reranked": hit.reranked, "scanned": content.source == "ocr", "title": document.title,
            "date": document.date, "collection": document.collection, "tags": list(document.tags),
            "width": hit.page.width, "height": hit.page.height,
        })  # fmt: skip
    return hits


def _harmless(cell: object) -> object:
    return FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell


@dataclass(frozen=True, slots=True)
class _Outcome:
    done: bool
    reading: str  # doc_id of the original that the process was busy with when it ended; "" if none
    verdict: str  # why it ended
    replaced: dict[str, str]  # by doc_id: why stored images were taken
    damaged: str  # what is wrong with the index itself; "" if nothing is


def _bind(
    leaves: Sequence[bind.ExportPage], target: Path, title: str, seconds: float, memory_mb: int
) -> dict[str, str]:
    """By doc_id, why images stand for pages. An original that ends the process is left out of the next attempt."""
    lost: dict[str, str] = {}
    while True:
        outcome = _run(bind.Job(leaves, target, clean(title), seconds, memory_mb, frozenset(lost)))
        if outcome.damaged:
            raise IndexDamaged(outcome.damaged)
        if outcome.done:
            return {**outcome.replaced, **lost}
        others = {leaf.page.doc_id for leaf in leaves if leaf.original} - lost.keys()
        if not others:
            raise FolioscopeError(
                f"{len(leaves)} pages could not be bound into one PDF ({outcome.verdict}): export fewer"
            )
        blamed = [outcome.reading] if outcome.reading and len(lost) < LOST else sorted(others)
        lost |= dict.fromkeys(blamed, outcome.verdict)


def _run(job: bind.Job) -> _Outcome:
    patience = job.seconds * 3 * (len(job.leaves) + 1)  # the process has shorter limits of its own
    command = [sys.executable, "-c", "from ui.api.bind import main; main()"]
    try:
        ended = subprocess.run(
            command, input=pickle.dumps(job), capture_output=True, timeout=patience, check=False,
            cwd=Path(__file__).parents[2], start_new_session=True,
        )  # fmt: skip
        code, out, complaint = ended.returncode, ended.stdout, ended.stderr
    except subprocess.TimeoutExpired as error:
        code, out, complaint = -signal.SIGALRM, error.stdout or b"", b""
    reading, replaced, damaged = "", dict[str, str](), ""
    for line in out.splitlines(keepends=True):
        if line.endswith(b"\n"):
            said = json.loads(line)
            reading = said.get("reading", reading)
            replaced |= said.get("replaced", {})
            damaged = said.get("damaged", damaged)
    verdict = replaced.get(reading) or _verdict(code, complaint, job.seconds)
    return _Outcome(code == 0, reading, verdict, replaced, damaged)


def _verdict(code: int, complaint: bytes, seconds: float) -> str:
    if code == -signal.SIGALRM:
        return f"a page took longer than {seconds:g} s"
    if code < 0:
        return f"reading it ended in a crash ({signal.Signals(-code).name})"
    return clean((complaint.decode(errors="replace").splitlines() or [f"exit code {code}"])[-1])[:300]
