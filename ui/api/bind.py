"""Pages of many documents bound into one new PDF, in a process of its own.

An original is hostile until its pages are copied: it may crash, hang or eat memory, and may carry scripts,
files and forms. So the process has limits, what is copied is stripped to what draws, and a page that cannot be
had from its original is its stored image with its words, invisible, over it.
"""

import io
import json
import os
import pickle
import re
import struct
import sys
import threading
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ingest.ocr.result import Rotation, turned_image
from ingest.rasterize.mupdf import MupdfDocument, out_of_memory
from ingest.read.titles import clean
from ingest.sources import content_id, state_of
from ingest.workers.limits import die_with, limit_memory, time_limit
from retrieval.errors import IndexDamaged, MissingExtra, UnreadableDocument, first_line
from retrieval.types import Page, Word

try:
    import pymupdf
    from pymupdf import mupdf
except ImportError as error:
    raise MissingExtra("PyMuPDF is not installed: pip install pymupdf") from error

TURNS: tuple[Rotation, ...] = (0, 90, 180, 270)
LETTERS = "FolioscopeLetters"

PAGE = {"Type", "Parent", "MediaBox", "CropBox", "Rotate", "UserUnit", "Resources", "Contents"}
RESOURCES = {"Font", "XObject", "ExtGState", "ColorSpace", "Pattern", "Shading"}
NAMES = {"CharProcs", "Colorants"}
"""Dictionaries whose keys are names of the file's own making, as those of the RESOURCES are."""
NUMBERS = {"Widths", "W", "W2", "Differences"}
"""Long lists of plain values: not looked into."""
STREAMS = """Length Filter DecodeParms Predictor Colors Columns Rows BitsPerComponent EarlyChange K EndOfLine
EndOfBlock EncodedByteAlign BlackIs1 DamagedRowsBeforeError JBIG2Globals ColorTransform"""
FUNCTIONS = """FunctionType Domain Range Size BitsPerSample Order Encode Decode C0 C1 N Functions Bounds"""
GRAPHICS = """Type Subtype LW LC LJ ML D RI OP op OPM Font BG BG2 UCR UCR2 TR TR2 FL SM SA BM SMask CA ca AIS TK
WhitePoint BlackPoint Gamma Matrix Alternate Process Components PatternType PaintType TilingType BBox XStep YStep
Resources Shading ExtGState ShadingType ColorSpace Background AntiAlias Coords Extend Function BitsPerCoordinate
BitsPerFlag VerticesPerRow Width Height Intent ImageMask Mask Interpolate SMaskInData Matte FormType Group S CS I G
BC"""
FONTS = """Name BaseFont FirstChar LastChar FontDescriptor Encoding BaseEncoding ToUnicode FontBBox FontMatrix
DescendantFonts CIDSystemInfo Registry Ordering Supplement DW DW2 CIDToGIDMap CMapName WMode UseCMap FontName
FontFamily FontStretch FontWeight Flags ItalicAngle Ascent Descent Leading CapHeight XHeight StemV StemH AvgWidth
MaxWidth MissingWidth FontFile FontFile2 FontFile3 CharSet Length1 Length2 Length3 Style Lang FD CIDSet"""
DRAWS = {*NAMES, *NUMBERS, *f"{STREAMS} {FUNCTIONS} {GRAPHICS} {FONTS}".split()}
"""All keys that a drawing's dictionaries need (ISO 32000-1, 7 to 9 and 11): none runs, opens or holds anything."""

Copies = dict[str, tuple[Any, int, bool]]
"""By page_id: a PDF with clean copies of its document's pages, the page's place there (from 0), and whether the
words that were read from it are still to be written on it."""


@dataclass(frozen=True, slots=True)
class ExportPage:
    """One page of the new PDF."""

    page: Page
    heading: str  # its line of the outline
    original: Path | None  # the file that it was ingested from
    image: Path  # the stored image, upright
    words: tuple[Word, ...]  # in reading order; boxes refer to the image
    scanned: bool  # they were read by OCR


@dataclass(frozen=True, slots=True)
class Job:
    """What `main` reads, pickled, from its parent."""

    leaves: Sequence[ExportPage]
    target: Path
    title: str
    seconds: float
    memory_mb: int
    left_out: frozenset[str]  # doc_ids whose originals are not opened


def main() -> None:
    """Read a job from stdin, write its PDF, and say on stdout what is being read and what was replaced."""
    pymupdf.set_messages(fd=2)
    job: Job = pickle.load(sys.stdin.buffer)  # from our own parent
    threading.Thread(target=die_with, args=(os.getppid(),), daemon=True).start()
    limit_memory(job.memory_mb)
    try:
        _bind(job)
    except IndexDamaged as error:
        _tell(damaged=str(error))


def _tell(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _bind(job: Job) -> None:
    copied = _copied(job)
    letters = {letter: n for n, letter in enumerate(sorted({c for leaf in job.leaves for w in leaf.words
                                                            for c in f"{w.text} "}), start=1)}  # fmt: skip
    made = pymupdf.open()
    font = _letters(made, list(letters)[:65_535])
    for leaf in job.leaves:
        part, at, bare = copied.get(leaf.page.page_id, (None, 0, True))
        _tell(reading=leaf.page.doc_id if part else "")
        with time_limit(job.seconds):
            if part:
                made.insert_pdf(
                    part, from_page=at, to_page=at, links=False, annots=False, widgets=False, final=0
                )
            else:
                _add_image(made, leaf)
            if bare and leaf.words:
                _write(made[-1], leaf.words, letters, font)
    _tell(reading="")
    with time_limit(job.seconds * len(job.leaves)):
        made.set_toc(
            [
                [1, leaf.heading if leaf.page.page_id in copied else f"{leaf.heading} (image)", number]
                for number, leaf in enumerate(job.leaves, start=1)
            ]
        )
        made.set_metadata({"title": job.title, "producer": "Folioscope"})
        made.save(str(job.target), garbage=2, deflate=True, no_new_id=True)


def _copied(job: Job) -> Copies:
    wanted = {leaf.page.page_id: leaf for leaf in job.leaves if leaf.page.doc_id not in job.left_out}
    in_order = sorted(wanted.values(), key=lambda leaf: (leaf.page.doc_id, leaf.page.number))
    copied: Copies = {}
    for doc_id, leaves in groupby(in_order, key=lambda leaf: leaf.page.doc_id):
        _tell(reading=doc_id)
        try:
            copied |= _copies(doc_id, list(leaves), job.seconds)
        except Exception as error:
            if out_of_memory(error):
                _tell(replaced={doc_id: f"it needs more than {job.memory_mb:,} MiB"})
                sys.exit(1)  # what is left of this process is not worth trusting
            _tell(replaced={doc_id: clean(first_line(error))[:300]})
    return copied


def _copies(doc_id: str, leaves: Sequence[ExportPage], seconds: float) -> Copies:
    with time_limit(seconds):
        source = _opened(doc_id, leaves[0].original)
    copied: Copies = {}
    if source is None:
        return copied
    part = pymupdf.open()
    for leaf in leaves:
        with time_limit(seconds):
            try:
                page = _page(source, leaf.page.number)
            except UnreadableDocument as error:
                _tell(replaced={doc_id: str(error)})
                continue
            turn = _turn(source, leaf) if leaf.scanned else 0
            _flatten(page)
            part.insert_pdf(
                page.parent, from_page=page.number, to_page=page.number, links=False, widgets=False, final=0
            )
            copy = part[-1]
            copy.set_rotation((copy.rotation + turn) % 360)
            bare = leaf.scanned and not copy.get_text("words")
            copied[leaf.page.page_id] = part, copy.number, bare
    with time_limit(seconds * len(leaves)):
        part.bake()
        _strip(part)
    source.close()
    return copied


def _opened(doc_id: str, path: Path | None) -> MupdfDocument | None:
    """The original; None where it is an image. Raises UnreadableDocument, in words that complete a sentence."""
    if path is None or state_of(path) != "file":
        raise UnreadableDocument("unreadable", "its file is no longer where it was")
    with path.open("rb") as file:
        if b"%PDF-" not in file.read(1024):
            return None
    if content_id(path) != doc_id:
        raise UnreadableDocument("unreadable", "its file has changed since it was ingested")
    try:
        return MupdfDocument(path)
    except UnreadableDocument as error:
        if error.reason == "encrypted":
            raise UnreadableDocument("encrypted", "it is encrypted") from error
        raise


def _page(source: MupdfDocument, number: int) -> Any:
    page = source.page(number)
    if not all(layer["on"] for layer in page.parent.get_ocgs().values()):
        raise UnreadableDocument("unsupported", "it has hidden layers, which a copy would show")
    return page


def _turn(source: MupdfDocument, leaf: ExportPage) -> Rotation:
    """Degrees clockwise by which ingest turned the page, a scan that lay on its side."""
    upright = _small(_image(leaf))
    shown = source.render(leaf.page.number, 20, 250_000)
    return min(TURNS, key=lambda turn: float(np.abs(_small(turned_image(shown, turn)) - upright).mean()))


def _small(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX), np.float32)


def _flatten(page: Any) -> None:
    """Leave of the page's notes and form fields only what they look like, in the open file, to be baked in."""
    loaded = mupdf.pdf_page_from_fz_page(page.this)
    mupdf.pdf_update_page(loaded)  # draws the fields that have no appearance of their own
    notes = loaded.obj().pdf_dict_gets("Annots")
    for at in reversed(range(notes.pdf_array_len())):
        note = notes.pdf_array_get(at)
        kind = note.pdf_dict_gets("Subtype").pdf_to_name()
        reply = note.pdf_dict_gets("IRT").pdf_is_dict()
        if kind in {"Link", "Popup"} or reply or not note.pdf_dict_gets("AP").pdf_is_dict():
            notes.pdf_array_delete(at)
            continue
        for key in _keys(note) - {"Rect", "AP", "AS", "F"}:  # Parent would lead to all pages of the file
            note.pdf_dict_dels(key)
        for key in _keys(note.pdf_dict_gets("AP")) - {"N"}:
            note.pdf_dict_gets("AP").pdf_dict_dels(key)
        note.pdf_dict_puts("Type", mupdf.pdf_new_name("Annot"))
        note.pdf_dict_puts("Subtype", mupdf.pdf_new_name("Stamp"))


def _strip(part: Any) -> None:
    """Take everything from the pages but what draws them."""
    waiting = []
    seen: set[int] = set()
    for page in part:
        entry = mupdf.pdf_page_from_fz_page(page.this).obj()
        for key in _keys(entry):
            if key not in PAGE:
                entry.pdf_dict_dels(key)
            elif key == "Resources":
                waiting += _resources(entry.pdf_dict_gets(key))
            elif key != "Parent":
                waiting.append(entry.pdf_dict_gets(key))
    while waiting:
        thing = waiting.pop()
        if thing.pdf_is_indirect():
            if thing.pdf_to_num() in seen:
                continue
            seen.add(thing.pdf_to_num())
        if thing.pdf_is_array():
            waiting += [thing.pdf_array_get(n) for n in range(thing.pdf_array_len())]
        for key in _keys(thing):
            value = thing.pdf_dict_gets(key)
            if key not in DRAWS:
                thing.pdf_dict_dels(key)
            elif key == "Resources":
                waiting += _resources(value)
            elif key in NAMES:
                waiting += [value.pdf_dict_gets(name) for name in _keys(value)]
            elif key not in NUMBERS:
                waiting.append(value)


def _resources(resources: Any) -> list[Any]:
    found = []
    for key in _keys(resources):
        if key in RESOURCES:
            kind = resources.pdf_dict_gets(key)
            found += [kind.pdf_dict_gets(name) for name in _keys(kind)]
        else:
            resources.pdf_dict_dels(key)
    return found


def _keys(thing: Any) -> set[str]:
    """Of a dictionary or a stream; none of anything else."""
    return {thing.pdf_dict_get_key(n).pdf_to_name() for n in range(thing.pdf_dict_len())}


def _add_image(made: Any, leaf: ExportPage) -> None:
    """A page of the size of the original one with the stored image, as JPEG: PDF knows no WebP."""
    file = io.BytesIO()
    _image(leaf).save(file, "JPEG", quality=85)
    page = made.new_page(width=max(leaf.page.width, 1.0), height=max(leaf.page.height, 1.0))
    page.insert_image(page.rect, stream=file.getvalue(), keep_proportion=False)


def _image(leaf: ExportPage) -> Image.Image:
    try:
        return Image.open(leaf.image).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise IndexDamaged(
            f"the stored image of {leaf.page.name} cannot be read ({first_line(error)}): remove the document "
            "and ingest it again"
        ) from error


def _write(page: Any, words: Sequence[Word], letters: Mapping[str, int], font: int) -> None:
    """Write the words where they stand, invisibly (text rendering mode 3): for search and selection."""
    own = mupdf.pdf_page_from_fz_page(page.this)
    box, shown = mupdf.FzRect(), mupdf.FzMatrix()
    mupdf.pdf_page_transform(own, box, shown)
    to_own = ~pymupdf.Matrix(shown)
    width, height = page.rect.width, page.rect.height
    lines = [f"q {' '.join(f'{n:.5f}' for n in to_own)} cm BT /{LETTERS} 1 Tf 3 Tr"]
    for word in words:
        x0, y0, x1, y1 = word.box
        codes = "".join(f"{letters.get(letter, 0):04x}" for letter in _in_sight(word.text))
        stretch = (x1 - x0) * width / (0.5 * max(1, len(word.text)))
        size = (y1 - y0) * height
        lines.append(f"{stretch:.3f} 0 0 {-size:.3f} {x0 * width:.2f} {y1 * height:.2f} Tm <{codes}> Tj")
    lines.append("ET Q")
    document = page.parent
    page.wrap_contents()
    stream = document.get_new_xref()
    document.update_object(stream, "<<>>")
    document.update_stream(stream, "\n".join(lines).encode())
    contents = [*page.get_contents(), stream]
    document.xref_set_key(page.xref, "Contents", f"[{' '.join(f'{xref} 0 R' for xref in contents)}]")
    resources = own.obj().pdf_dict_gets("Resources")
    if not resources.pdf_dict_gets("Font").pdf_is_dict():
        resources.pdf_dict_puts("Font", mupdf.pdf_new_dict(own.doc(), 1))
    reference = mupdf.pdf_new_indirect(own.doc(), font, 0)
    resources.pdf_dict_gets("Font").pdf_dict_puts(LETTERS, reference)


def _in_sight(text: str) -> str:
    """The letters from left to right, as readers of a PDF expect them, and a space where another word may follow."""
    if not any(unicodedata.bidirectional(letter) in {"R", "AL"} for letter in text):
        return f"{text} "
    return re.sub(r"\d+", lambda digits: digits[0][::-1], text[::-1])


def _letters(made: Any, letters: Sequence[str]) -> int:
    """The xref of a font without shapes in which the nth letter, from 1, has the code n and is half as wide as high.

    Any script can be written with it, and it takes a few hundred bytes.
    """

    def add(entries: str, stream: bytes | None = None) -> int:
        xref: int = made.get_new_xref()
        made.update_object(xref, f"<<{entries}>>")
        if stream is not None:
            made.update_stream(xref, stream)
        return xref

    meanings = [
        f"<{n:04x}> <{c.encode('utf-16-be', 'replace').hex()}>" for n, c in enumerate(letters, start=1)
    ]
    blocks = [meanings[start : start + 100] for start in range(0, len(meanings), 100)]
    cmap = "\n".join([
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
        *[f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar" for block in blocks],
        "endcmap CMapName currentdict /CMap defineresource pop end end",
    ])  # fmt: skip
    file = add("", _shapeless())
    descriptor = add(
        f"/Type/FontDescriptor/FontName/{LETTERS}/Flags 4/FontBBox[0 0 500 1000]/ItalicAngle 0/Ascent 1000"
        f"/Descent 0/CapHeight 1000/StemV 80/FontFile2 {file} 0 R"
    )
    shapes = add("", bytes(2 * (len(letters) + 1)))
    descendant = add(
        f"/Type/Font/Subtype/CIDFontType2/BaseFont/{LETTERS}/DW 500/FontDescriptor {descriptor} 0 R"
        f"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>/CIDToGIDMap {shapes} 0 R"
    )
    return add(
        f"/Type/Font/Subtype/Type0/BaseFont/{LETTERS}/Encoding/Identity-H/DescendantFonts[{descendant} 0 R]"
        f"/ToUnicode {add('', cmap.encode())} 0 R"
    )


def _shapeless() -> bytes:
    """A TrueType font whose only glyph is empty."""
    tables = {
        b"glyf": bytes(4),
        b"head": struct.pack(
            ">4I2H2q4h2H3h", 0x10000, 0x10000, 0, 0x5F0F3CF5, 0, 1000, 0, 0, 0, 0, 500, 1000, 0, 8, 2, 0, 0
        ),
        b"hhea": struct.pack(">I3hH11hH", 0x10000, 1000, 0, 0, 500, 0, 0, 500, 1, *[0] * 7, 1),
        b"hmtx": struct.pack(">Hh", 500, 0),
        b"loca": bytes(4),
        b"maxp": struct.pack(">I14H", 0x10000, 1, *[0] * 13),
    }
    directory, body = struct.pack(">I4H", 0x10000, len(tables), 64, 2, 32), b""
    start = len(directory) + 16 * len(tables)
    for name, table in tables.items():
        directory += struct.pack(">4s3I", name, 0, start + len(body), len(table))
        body += table + bytes(-len(table) % 4)
    return directory + body
