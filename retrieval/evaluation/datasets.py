"""Opens labelled data sets in three layouts: our own, BEIR's, and ViDoRe's parquet files, local or from the hub.

Our layout (`pdfs/`, `queries.jsonl`, `qrels.txt`) is read in place. The others are converted to documents in a work
folder, once: a text of BEIR becomes a PDF, judged as a whole document; a page image of ViDoRe becomes an image file,
judged as a page.

BEIR: Thakur et al., 2021 (arXiv 2104.08663). ViDoRe: Faysse et al., 2024 (arXiv 2407.01449); version 1 has a row for
each question and page, versions 2 and 3 have the parts `corpus`, `queries` and `qrels`.
"""

import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pymupdf

from retrieval.errors import FolioscopeError, MissingExtra, NotFound
from retrieval.evaluation import evaluate
from retrieval.evaluation.evaluate import Dataset, Question

A4 = pymupdf.paper_rect("a4")
MARGIN = 54  # points
DONE = ".complete"  # written last, so that an interrupted conversion starts again
NAMES = ".files.json"  # {page id: file name}, also written last
ATTRIBUTES = ("language", "query_types", "query_type", "query_format", "content_type", "source_type")
IMAGE_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}


def open_dataset(place: str, work: Path) -> Dataset:
    """Open a folder in one of the layouts, or a data set on the hub by its id (owner/name).

    work: the folder for converted documents. Raises NotFound if `place` is neither, MissingExtra or FolioscopeError if
    the hub cannot be reached.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        if re.fullmatch(r"[\w.-]+/[\w.-]+", place) and not folder.exists():
            folder = _from_hub(place)
        else:
            raise NotFound(f"{place} is not a data set: it is neither a folder nor an id such as owner/name")
    if (folder / "pdfs").is_dir():
        return evaluate.read_dataset(folder)
    if (folder / "corpus.jsonl").is_file():
        return _beir(folder, work)
    if next(folder.rglob("*.parquet"), None):
        return _vidore(folder, work)
    raise NotFound(
        f"{folder} is not a data set: it has neither pdfs/ with queries.jsonl and qrels.txt, nor BEIR's corpus.jsonl, "
        "nor ViDoRe's parquet files"
    )


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtra(
            f"{name} is on the hub, and huggingface_hub, which fetches it, is not installed: run 'make gpu'"
        ) from error
    try:
        return Path(snapshot_download(name, repo_type="dataset"))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FolioscopeError(
            f"the data set {name} cannot be fetched ({str(error).splitlines()[0]}): if this machine has no network, "
            f"download it on another one ('hf download {name} --repo-type dataset --local-dir FOLDER'), copy the "
            "folder here, and name the folder instead"
        ) from error


# BEIR


def _beir(folder: Path, work: Path) -> Dataset:
    documents = work / "documents"
    names: dict[str, str] = {}
    is_new = not (work / DONE).exists()
    documents.mkdir(parents=True, exist_ok=True)
    for line in evaluate.read_jsonl(folder / "corpus.jsonl"):
        name = names[line.text("_id")] = f"{_file_name(line.text('_id'))}.pdf"
        if is_new:
            _as_pdf(documents / name, str(line.row.get("title") or ""), str(line.row.get("text") or ""))
    (work / DONE).touch()
    splits = sorted((folder / "qrels").glob("*.tsv"))
    judged = next((path for path in splits if path.stem == "test"), splits[0] if splits else None)
    if judged is None:
        raise NotFound(
            f"{folder} has no qrels/test.tsv, the file that says which documents answer which question"
        )
    qrels: dict[str, dict[str, int]] = {}
    for number, row in evaluate.read_lines(judged):
        columns = row.split("\t")
        graded = len(columns) == 3 and re.fullmatch(r"[+-]?[0-9]{1,9}", columns[2])
        if not graded and number > 1:  # the first line may name the columns
            raise evaluate.bad_line(
                judged,
                number,
                f"the line is {evaluate.shortened(row)}",
                "query-id, corpus-id and a whole number, separated by tabs",
            )
        if graded and columns[1] in names:  # part of a corpus may come with the judgements of all of it
            qrels.setdefault(columns[0], {})[names[columns[1]]] = int(columns[2])
    queries = folder / "queries.jsonl"
    if not queries.is_file():
        raise NotFound(f"{folder} is not complete: it has no queries.jsonl")
    questions = [Question(line.text("_id"), line.text("text")) for line in evaluate.read_jsonl(queries)]
    return evaluate.judged(folder, documents, questions, qrels, unit="document")


def _as_pdf(path: Path, title: str, text: str) -> None:
    """Write a text, in any script, as a PDF of A4 pages."""
    paragraphs = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n") if part.strip())
    story = pymupdf.Story(f"<h2>{html.escape(title)}</h2>{paragraphs or '<p>&nbsp;</p>'}")
    part = path.with_suffix(".part")
    writer = pymupdf.DocumentWriter(str(part))
    inside, more = pymupdf.Rect(MARGIN, MARGIN, A4.x1 - MARGIN, A4.y1 - MARGIN), True
    while more:
        page = writer.begin_page(A4)
        more, _ = story.place(inside)
        story.draw(page)
        writer.end_page()
    writer.close()
    with pymupdf.open(str(part), filetype="pdf") as pdf:
        pdf.set_metadata({"title": title})
        pdf.save(str(path), no_new_id=True)
    part.unlink()


# ViDoRe


def _vidore(folder: Path, work: Path) -> Dataset:
    parts = {name: _parquet(folder, name) for name in ("corpus", "queries", "qrels")}
    documents = work / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    images = _Images(documents, work / NAMES)
    if all(parts.values()):
        dataset = _in_parts(folder, parts, images)
    else:
        dataset = _in_rows(folder, sorted(folder.rglob("*.parquet")), images)
    images.done()
    return dataset


class _Images:
    """The image files of pages, by the pages' ids. `names` is written last; without it every file is written again."""

    def __init__(self, folder: Path, names: Path) -> None:
        self.folder = folder
        self._path = names
        self.complete = names.exists()
        self._names: dict[str, str] = json.loads(names.read_text(encoding="utf-8")) if self.complete else {}

    def keep(self, page: str, image: Mapping[str, Any] | None) -> str:
        """Return the name of the page's file, and write the file if it does not exist."""
        if page in self._names:
            return self._names[page]
        data = (image or {}).get("bytes")
        if not data:
            raise FolioscopeError(
                f"page {page!r} has no image: check that this is a complete ViDoRe data set. If it has grown since it "
                f"was first read, delete {self._path}"
            )
        kind = next((kind for head, kind in IMAGE_KINDS.items() if data.startswith(head)), "png")
        name = f"{_file_name(page)}.{kind}"
        (self.folder / name).write_bytes(data)
        self._names[page] = name
        return name

    def done(self) -> None:
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._names), encoding="utf-8")
        part.replace(self._path)


def _in_parts(folder: Path, parts: Mapping[str, list[Path]], images: _Images) -> Dataset:
    """Read versions 2 and 3, which have the parts corpus, queries and qrels."""
    names = {}
    for row in _rows(parts["corpus"], ["corpus-id", "corpus_id"] if images.complete else None):
        page = str(_first(row, "corpus-id", "corpus_id"))
        names[page] = images.keep(page, row.get("image"))
    questions = []
    for row in _rows(parts["queries"], None):
        query_id = _first(row, "query-id", "query_id")
        attributes = {
            name: tuple(map(str, values if isinstance(values, list) else [values]))
            for name in ATTRIBUTES
            if (values := row.get(name))
        }
        questions.append(Question(str(query_id), str(row["query"]), attributes=attributes))
    qrels: dict[str, dict[str, int]] = {}
    for row in _rows(parts["qrels"], None):
        page = str(_first(row, "corpus-id", "corpus_id"))
        if page in names:
            query = str(_first(row, "query-id", "query_id"))
            qrels.setdefault(query, {})[f"{names[page]}#page=1"] = int(row.get("score", 1))
    return evaluate.judged(folder, images.folder, questions, qrels)


def _in_rows(folder: Path, files: list[Path], images: _Images) -> Dataset:
    """Read version 1: each row has a question and the page that answers it, or a page without a question."""
    questions: dict[str, Question] = {}
    qrels: dict[str, dict[str, int]] = {}
    for row in _rows(files, None):
        image = row.get("image")
        if not image:
            continue
        page = str(row.get("image_filename") or blake2b(image["bytes"], digest_size=8).hexdigest())
        name = images.keep(page, image)
        text = row.get("query")
        if text:
            query_id = blake2b(str(text).encode(), digest_size=8).hexdigest()
            questions[query_id] = Question(query_id, str(text))
            qrels.setdefault(query_id, {})[f"{name}#page=1"] = 1
    return evaluate.judged(folder, images.folder, questions.values(), qrels)


def _parquet(folder: Path, part: str) -> list[Path]:
    """Return the files of one part: files in a folder of that name, or whose own name begins with it."""
    found = [
        path for path in folder.rglob("*.parquet") if part in (path.parent.name, path.stem.split("-")[0])
    ]
    tests = [path for path in found if path.stem.startswith("test")]
    return sorted(tests or found)


def _rows(files: Iterable[Path], columns: list[str] | None) -> Iterator[dict[str, Any]]:
    for path in files:
        file = pq.ParquetFile(path)
        present = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(32, columns=present):
            yield from batch.to_pylist()


def _first(row: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise FolioscopeError(
        f"a row of the data set has none of the columns {', '.join(names)}: it has {', '.join(row)}"
    )


def _file_name(given: str) -> str:
    """Return a file name that is safe on every system, and different for different ids."""
    safe = re.sub(r"[^\w.-]", "_", given)[:80].strip(".") or "page"
    return safe if safe == given else f"{safe}-{blake2b(given.encode(), digest_size=4).hexdigest()}"
