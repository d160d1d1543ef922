"""Exports of a result: a CSV table, and one PDF of the matching pages. The JSON export is `schemas.SearchOut`."""

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
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ingest.read.titles import printable
from retrieval.errors import FolioscopeError, IndexDamaged
from retrieval.store.store import Store
from retrieval.types import Page
from ui.api import bind, schemas
from ui.api.addresses import original
from ui.api.responses import snippet_text

MOST_PAGES = 200
"""The most pages of one PDF."""
MOST_FAILED_ORIGINALS = 3
"""After this many originals have ended the copying process, no further original is opened."""
FORMULA = re.compile(r"(^|[;\t\r\n|])(?=[=+\-@\t\r\n＝＋－＠])")
"""Where a spreadsheet would begin a formula: at the start of a cell, or after what some take for a separator."""
COLUMNS = (
    "rank", "document", "page", "page_name", "answer", "confidence", "score", "first_rank", "reranked", "scanned",
    "title", "date", "collection", "tags", "pages", "doc_id", "same", "snippet",
)  # fmt: skip
"""Fields of HitOut in the CSV table. The field `scores` has a column for each kind of evidence, as in scores.rerank."""


def as_csv(found: schemas.SearchOut) -> str:
    """Return a table with one row per hit, RFC 4180, whose columns are named like the fields of HitOut.

    A text that a spreadsheet would run as a formula gets an apostrophe before it. Lists are joined by "; ". Excel reads
    the table as UTF-8 only if it is written as `utf-8-sig`.
    """
    evidence = sorted({kind for hit in found.hits for kind in hit.scores})
    rows: list[list[object]] = [[*COLUMNS, *(f"scores.{kind}" for kind in evidence)]]
    for hit in found.hits:
        fields = hit.model_dump() | {
            "snippet": snippet_text(hit), "tags": "; ".join(hit.tags), "same": "; ".join(hit.same),
        }  # fmt: skip
        rows.append([*(fields[name] for name in COLUMNS), *(hit.scores.get(kind, "") for kind in evidence)])
    file = io.StringIO(newline="")
    csv.writer(file).writerows([_harmless(cell) for cell in row] for row in rows)
    return file.getvalue()


def as_pdf(
    pages: Sequence[Page],
    store: Store,
    target: Path,
    *,
    title: str,
    seconds: float = 30.0,
    memory_mb: int = 1500,
) -> tuple[str, ...]:
    """Write the pages, in the order given, as one PDF to `target`, which is not written if that fails.

    A page is copied from its original if that is a PDF that still has the bytes that were ingested and opens without a
    password. Otherwise the PDF gets the stored image with its words, invisible, over it, and the outline calls the page
    "(image)"; the returned sentences say for which documents and why. `seconds` limits the opening of an original and
    the copying of each of its pages, `memory_mb` the memory of the copying process, in MiB.

    Raises FolioscopeError for no pages or more than MOST_PAGES, NotFound for a page no longer in the index, and
    IndexDamaged for a stored image that is needed and cannot be read.
    """
    if not pages:
        raise FolioscopeError("there are no pages to export: search again with other words or fewer filters")
    if len(pages) > MOST_PAGES:
        raise FolioscopeError(
            f"{len(pages):,} pages are too many for one PDF, which may have {MOST_PAGES}: export fewer"
        )
    with TemporaryDirectory(prefix="folioscope-") as name:
        folder = Path(name)
        export_pages = []
        for rank, content in enumerate(store.contents(pages), start=1):
            page, image = content.page, folder / f"{rank}.webp"
            image.write_bytes(store.image(page.page_id))
            file = original(store.document(page.doc_id))
            heading = f"{rank}. {page.document}, page {page.number}"
            export_pages.append(
                bind.ExportPage(page, heading, file, image, content.words, content.source == "ocr")
            )
        replaced = _bind(export_pages, folder / "made.pdf", title, seconds, memory_mb)
        shutil.move(folder / "made.pdf", target)
    names = {page.doc_id: page.document for page in pages}
    return tuple(f"pages of {names[doc_id]} are images: {why}" for doc_id, why in replaced.items())


def _harmless(cell: object) -> object:
    return FORMULA.sub(r"\1'", cell) if isinstance(cell, str) else cell


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How one run of the copying process ended."""

    done: bool
    reading: str  # doc_id of the original that the process was reading when it ended; "" if none
    verdict: str  # why it ended
    replaced: dict[str, str]  # by doc_id: why stored images were used
    damaged: str  # what is wrong with the index itself; "" if nothing is


def _bind(
    export_pages: Sequence[bind.ExportPage], target: Path, title: str, seconds: float, memory_mb: int
) -> dict[str, str]:
    """Write the PDF, skipping originals that ended an attempt. Return by doc_id why stored images were used."""
    failed: dict[str, str] = {}
    while True:
        outcome = _run_job(
            bind.Job(export_pages, target, printable(title), seconds, memory_mb, frozenset(failed))
        )
        if outcome.damaged:
            raise IndexDamaged(outcome.damaged)
        if outcome.done:
            return {**outcome.replaced, **failed}
        others = {item.page.doc_id for item in export_pages if item.original} - failed.keys()
        if not others:
            raise FolioscopeError(
                f"{len(export_pages)} pages could not be bound into one PDF ({outcome.verdict}): export fewer"
            )
        blamed = (
            [outcome.reading] if outcome.reading and len(failed) < MOST_FAILED_ORIGINALS else sorted(others)
        )
        failed |= dict.fromkeys(blamed, outcome.verdict)


def _run_job(job: bind.Job) -> _Outcome:
    patience = job.seconds * 3 * (len(job.pages) + 1)  # the process itself enforces shorter limits
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
            report = json.loads(line)
            reading = report.get("reading", reading)
            replaced |= report.get("replaced", {})
            damaged = report.get("damaged", damaged)
    verdict = replaced.get(reading) or _verdict(code, complaint, job.seconds)
    return _Outcome(code == 0, reading, verdict, replaced, damaged)


def _verdict(code: int, complaint: bytes, seconds: float) -> str:
    if code == -signal.SIGALRM:
        return f"a page took longer than {seconds:g} s"
    if code < 0:
        return f"reading it ended in a crash ({signal.Signals(-code).name})"
    return printable((complaint.decode(errors="replace").splitlines() or [f"exit code {code}"])[-1])[:300]
