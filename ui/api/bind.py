"""Binds pages of many documents into one new PDF, in a process of its own.

An original may be hostile: it may crash the process, hang or use up memory, and may carry scripts, files and forms. So
the process has limits, and the copied pages are stripped to the entries that draw them. If a page cannot be copied
from its original, its stored image stands for it, with the page's words as invisible text on top.
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

from ingest.ocr.result import Rotation, rotated_image
from ingest.rasterize.mupdf import MupdfDocument, out_of_memory
from ingest.read.titles import printable
from ingest.sources import content_id, state_of
from ingest.workers.limits import die_with, limit_memory, time_limit
from retrieval.errors import IndexDamaged, MissingExtra, UnreadableDocument, first_line
from retrieval.types import Page, Word

try:
    import pymupdf
    from pymupdf import mupdf
except ImportError as error:
    raise MissingExtra("PyMuPDF is not installed: pip install pymupdf") from error

ROTATIONS: tuple[Rotation, ...] = (0, 90, 180, 270)
INVISIBLE_FONT = "FolioscopeLetters"
MAX_CHARACTERS = 65_535
"""Characters that the invisible font can hold: its codes have two bytes, and 0 stands for a missing character."""

# Keys of PDF dictionaries (ISO 32000-1) that a copied page keeps

PAGE = {"Type", "Parent", "MediaBox", "CropBox", "Rotate", "UserUnit", "Resources", "Contents"}
RESOURCES = {"Font", "XObject", "ExtGState", "ColorSpace", "Pattern", "Shading"}
NAMES = {"CharProcs", "Colorants"}
"""Dictionaries whose keys are chosen by the file, like the keys of each kind of RESOURCES."""
NUMBERS = {"Widths", "W", "W2", "Differences"}
"""Long lists of plain values, which are not searched."""
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
DRAWING = {*NAMES, *NUMBERS, *f"{STREAMS} {FUNCTIONS} {GRAPHICS} {FONTS}".split()}
"""All keys that a drawing's dictionaries need (ISO 32000-1, 7 to 9 and 11). None of them runs, opens or embeds
anything."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """A clean copy of a page."""

    pdf: Any  # an open PDF with the copies of the pages of one document
    index: int  # the page's index in it, from 0
    lacks_words: bool  # it is a scan without a text layer: the words that OCR read must be written on it


@dataclass(frozen=True, slots=True)
class ExportPage:
    """One page of the new PDF."""

    page: Page
    heading: str  # the text of its outline entry
    original: Path | None  # the file from which it was ingested
    image: Path  # the stored image, upright
    words: tuple[Word, ...]  # in reading order; boxes refer to the image
    scanned: bool  # whether the words were read by OCR


@dataclass(frozen=True, slots=True)
class Job:
    """The work that `main` reads, pickled, from its parent process."""

    pages: Sequence[ExportPage]  # the pages, in the order of the new PDF
    target: Path
    title: str
    seconds: float  # per page
    memory_mb: int
    excluded: frozenset[str]  # doc_ids whose originals must not be opened


def main() -> None:
    """Read a job from stdin and write its PDF.

    Reports on stdout, one JSON object per line: `reading`, the doc_id of the document whose original is being read, ""
    for none; `replaced`, by doc_id, why stored images stand for pages; `damaged`, that a stored image is unreadable.
    """
    pymupdf.set_messages(fd=2)
    job: Job = pickle.load(sys.stdin.buffer)  # trusted: it comes from our own parent process
    threading.Thread(target=die_with, args=(os.getppid(),), daemon=True).start()
    limit_memory(job.memory_mb)
    try:
        _bind(job)
    except IndexDamaged as error:
        _report(damaged=str(error))


def _report(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def _bind(job: Job) -> None:
    copies = _copy_pages(job)
    distinct = {c for item in job.pages for word in item.words for c in f"{word.text} "}
    characters = sorted(distinct)[:MAX_CHARACTERS]
    codes = {character: code for code, character in enumerate(characters, start=1)}
    target = pymupdf.open()
    font = _add_invisible_font(target, characters)
    for item in job.pages:
        copy = copies.get(item.page.page_id)
        _report(reading=item.page.doc_id if copy else "")
        with time_limit(job.seconds):
            if copy:
                target.insert_pdf(
                    copy.pdf,
                    from_page=copy.index,
                    to_page=copy.index,
                    links=False,
                    annots=False,
                    widgets=False,
                    final=0,
                )
            else:
                _add_image(target, item)
            if item.words and (copy is None or copy.lacks_words):
                _write_words(target[-1], item.words, codes, font)
    _report(reading="")
    with time_limit(job.seconds * len(job.pages)):
        headings = [
            item.heading if item.page.page_id in copies else f"{item.heading} (image)" for item in job.pages
        ]
        target.set_toc([[1, heading, number] for number, heading in enumerate(headings, start=1)])
        target.set_metadata({"title": job.title, "producer": "Folioscope"})
        target.save(str(job.target), garbage=2, deflate=True, no_new_id=True)


def _copy_pages(job: Job) -> dict[str, _Copy]:
    """Return copies by page_id of all pages that can be copied from their originals; reports the others."""
    distinct = {item.page.page_id: item for item in job.pages if item.page.doc_id not in job.excluded}
    in_order = sorted(distinct.values(), key=lambda item: (item.page.doc_id, item.page.number))
    copies: dict[str, _Copy] = {}
    for doc_id, pages in groupby(in_order, key=lambda item: item.page.doc_id):
        _report(reading=doc_id)
        try:
            copies |= _copy_document(doc_id, list(pages), job.seconds)
        except Exception as error:
            if out_of_memory(error):
                _report(replaced={doc_id: f"it needs more than {job.memory_mb:,} MiB"})
                sys.exit(1)  # the state of this process can no longer be trusted
            _report(replaced={doc_id: printable(first_line(error))[:300]})
    return copies


def _copy_document(doc_id: str, pages: Sequence[ExportPage], seconds: float) -> dict[str, _Copy]:
    """Copy these pages of one document into a PDF of their own, and strip it; returns the copies by page_id."""
    with time_limit(seconds):
        source = _open_original(doc_id, pages[0].original)
    copies: dict[str, _Copy] = {}
    if source is None:
        return copies
    pdf = pymupdf.open()
    for item in pages:
        with time_limit(seconds):
            try:
                page = _page_without_layers(source, item.page.number)
            except UnreadableDocument as error:
                _report(replaced={doc_id: str(error)})
                continue
            rotation = _rotation(source, item) if item.scanned else 0
            _flatten(page)
            pdf.insert_pdf(
                page.parent, from_page=page.number, to_page=page.number, links=False, widgets=False, final=0
            )
            copy = pdf[-1]
            copy.set_rotation((copy.rotation + rotation) % 360)
            lacks_words = item.scanned and not copy.get_text("words")
            copies[item.page.page_id] = _Copy(pdf, copy.number, lacks_words)
    with time_limit(seconds * len(pages)):
        pdf.bake()
        _strip(pdf)
    source.close()
    return copies


def _open_original(doc_id: str, path: Path | None) -> MupdfDocument | None:
    """Open the original; returns None if it is an image.

    Raises UnreadableDocument if it is gone, changed, encrypted or damaged, with a message that completes a sentence
    about the document.
    """
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


def _page_without_layers(source: MupdfDocument, number: int) -> Any:
    """Return PyMuPDF's page. Raises UnreadableDocument if it has hidden layers: a copy of it would show them."""
    page = source.page(number)
    if not all(layer["on"] for layer in page.parent.get_ocgs().values()):
        raise UnreadableDocument("unsupported", "it has hidden layers, which a copy would show")
    return page


def _rotation(source: MupdfDocument, item: ExportPage) -> Rotation:
    """Return the rotation by which the ingest made this scan upright, found by comparison with the stored image."""
    upright = _small(_image(item))
    page = source.render(item.page.number, 20, 250_000)
    return min(
        ROTATIONS,
        key=lambda rotation: float(np.abs(_small(rotated_image(page, rotation)) - upright).mean()),
    )


def _small(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX), np.float32)


def _flatten(page: Any) -> None:
    """Reduce the page's annotations and form fields to their appearance, so that they can be baked into the copy."""
    loaded = mupdf.pdf_page_from_fz_page(page.this)
    mupdf.pdf_update_page(loaded)  # gives an appearance to the fields that have none
    notes = loaded.obj().pdf_dict_gets("Annots")
    for at in reversed(range(notes.pdf_array_len())):
        note = notes.pdf_array_get(at)
        kind = note.pdf_dict_gets("Subtype").pdf_to_name()
        reply = note.pdf_dict_gets("IRT").pdf_is_dict()
        if kind in {"Link", "Popup"} or reply or not note.pdf_dict_gets("AP").pdf_is_dict():
            notes.pdf_array_delete(at)
            continue
        for key in _keys(note) - {
            "Rect",
            "AP",
            "AS",
            "F",
        }:  # Parent would bring all pages of the file into the copy
            note.pdf_dict_dels(key)
        for key in _keys(note.pdf_dict_gets("AP")) - {"N"}:
            note.pdf_dict_gets("AP").pdf_dict_dels(key)
        note.pdf_dict_puts("Type", mupdf.pdf_new_name("Annot"))
        note.pdf_dict_puts("Subtype", mupdf.pdf_new_name("Stamp"))


def _strip(pdf: Any) -> None:
    """Delete all entries of the pages that are not needed to draw them."""
    to_visit = []
    seen: set[int] = set()
    for page in pdf:
        entry = mupdf.pdf_page_from_fz_page(page.this).obj()
        for key in _keys(entry):
            if key not in PAGE:
                entry.pdf_dict_dels(key)
            elif key == "Resources":
                to_visit += _resources(entry.pdf_dict_gets(key))
            elif key != "Parent":
                to_visit.append(entry.pdf_dict_gets(key))
    while to_visit:
        node = to_visit.pop()
        if node.pdf_is_indirect():
            if node.pdf_to_num() in seen:
                continue
            seen.add(node.pdf_to_num())
        if node.pdf_is_array():
            to_visit += [node.pdf_array_get(n) for n in range(node.pdf_array_len())]
        for key in _keys(node):
            value = node.pdf_dict_gets(key)
            if key not in DRAWING:
                node.pdf_dict_dels(key)
            elif key == "Resources":
                to_visit += _resources(value)
            elif key in NAMES:
                to_visit += [value.pdf_dict_gets(name) for name in _keys(value)]
            elif key not in NUMBERS:
                to_visit.append(value)


def _resources(resources: Any) -> list[Any]:
    """Delete the kinds of resources that do not draw; returns the entries of the others."""
    entries = []
    for key in _keys(resources):
        if key in RESOURCES:
            kind = resources.pdf_dict_gets(key)
            entries += [kind.pdf_dict_gets(name) for name in _keys(kind)]
        else:
            resources.pdf_dict_dels(key)
    return entries


def _keys(node: Any) -> set[str]:
    """Return the keys of a dictionary or a stream, and no keys for any other object."""
    return {node.pdf_dict_get_key(n).pdf_to_name() for n in range(node.pdf_dict_len())}


def _add_image(target: Any, item: ExportPage) -> None:
    """Append a page of the original's size with the stored image, as JPEG because PDF does not support WebP."""
    file = io.BytesIO()
    _image(item).save(file, "JPEG", quality=85)
    page = target.new_page(width=max(item.page.width, 1.0), height=max(item.page.height, 1.0))
    page.insert_image(page.rect, stream=file.getvalue(), keep_proportion=False)


def _image(item: ExportPage) -> Image.Image:
    try:
        return Image.open(item.image).convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise IndexDamaged(
            f"the stored image of {item.page.name} cannot be read ({first_line(error)}): remove the document "
            "and ingest it again"
        ) from error


def _write_words(page: Any, words: Sequence[Word], codes: Mapping[str, int], font: int) -> None:
    """Write the words in their boxes as invisible text (text rendering mode 3), for search and selection.

    `codes` and `font` (an xref) describe the invisible font.
    """
    pdf_page = mupdf.pdf_page_from_fz_page(page.this)
    box, to_display = mupdf.FzRect(), mupdf.FzMatrix()
    mupdf.pdf_page_transform(pdf_page, box, to_display)
    from_display = ~pymupdf.Matrix(to_display)
    width, height = page.rect.width, page.rect.height
    lines = [f"q {' '.join(f'{n:.5f}' for n in from_display)} cm BT /{INVISIBLE_FONT} 1 Tf 3 Tr"]
    for word in words:
        x0, y0, x1, y1 = word.box
        text = "".join(f"{codes.get(character, 0):04x}" for character in _left_to_right(word.text))
        stretch = (x1 - x0) * width / (0.5 * max(1, len(word.text)))
        size = (y1 - y0) * height
        lines.append(f"{stretch:.3f} 0 0 {-size:.3f} {x0 * width:.2f} {y1 * height:.2f} Tm <{text}> Tj")
    lines.append("ET Q")
    _append_content(page, "\n".join(lines).encode())
    resources = pdf_page.obj().pdf_dict_gets("Resources")
    if not resources.pdf_dict_gets("Font").pdf_is_dict():
        resources.pdf_dict_puts("Font", mupdf.pdf_new_dict(pdf_page.doc(), 1))
    reference = mupdf.pdf_new_indirect(pdf_page.doc(), font, 0)
    resources.pdf_dict_gets("Font").pdf_dict_puts(INVISIBLE_FONT, reference)


def _append_content(page: Any, operators: bytes) -> None:
    """Append a content stream to the page."""
    document = page.parent
    page.wrap_contents()
    stream = document.get_new_xref()
    document.update_object(stream, "<<>>")
    document.update_stream(stream, operators)
    contents = [*page.get_contents(), stream]
    document.xref_set_key(page.xref, "Contents", f"[{' '.join(f'{xref} 0 R' for xref in contents)}]")


def _left_to_right(text: str) -> str:
    """Return the word's characters in visual order, which readers of a PDF expect.

    A word in a left-to-right script is followed by a space, because another word may follow it.
    """
    if not any(unicodedata.bidirectional(letter) in {"R", "AL"} for letter in text):
        return f"{text} "
    return re.sub(r"\d+", lambda digits: digits[0][::-1], text[::-1])


def _add_invisible_font(target: Any, characters: Sequence[str]) -> int:
    """Add a font with empty shapes for these characters; returns its xref.

    The nth character, from 1, has the code n, and is half as wide as high. The font serves any script and takes a few
    hundred bytes.
    """

    def add(entries: str, stream: bytes | None = None) -> int:
        xref: int = target.get_new_xref()
        target.update_object(xref, f"<<{entries}>>")
        if stream is not None:
            target.update_stream(xref, stream)
        return xref

    file = add("", _empty_truetype())
    descriptor = add(
        f"/Type/FontDescriptor/FontName/{INVISIBLE_FONT}/Flags 4/FontBBox[0 0 500 1000]/ItalicAngle 0/Ascent 1000"
        f"/Descent 0/CapHeight 1000/StemV 80/FontFile2 {file} 0 R"
    )
    shapes = add("", bytes(2 * (len(characters) + 1)))
    descendant = add(
        f"/Type/Font/Subtype/CIDFontType2/BaseFont/{INVISIBLE_FONT}/DW 500/FontDescriptor {descriptor} 0 R"
        f"/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>/CIDToGIDMap {shapes} 0 R"
    )
    return add(
        f"/Type/Font/Subtype/Type0/BaseFont/{INVISIBLE_FONT}/Encoding/Identity-H/DescendantFonts[{descendant} 0 R]"
        f"/ToUnicode {add('', _character_map(characters))} 0 R"
    )


def _character_map(characters: Sequence[str]) -> bytes:
    """Return the ToUnicode CMap of the invisible font, from its codes to the characters."""
    mapping = [
        f"<{code:04x}> <{character.encode('utf-16-be', 'replace').hex()}>"
        for code, character in enumerate(characters, start=1)
    ]
    blocks = [mapping[start : start + 100] for start in range(0, len(mapping), 100)]
    lines = [
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap",
        "/CIDSystemInfo <</Registry (Adobe) /Ordering (UCS) /Supplement 0>> def",
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def",
        "1 begincodespacerange <0000> <ffff> endcodespacerange",
        *[f"{len(block)} beginbfchar\n{chr(10).join(block)}\nendbfchar" for block in blocks],
        "endcmap CMapName currentdict /CMap defineresource pop end end",
    ]
    return "\n".join(lines).encode()


def _empty_truetype() -> bytes:
    """Return a TrueType font whose only glyph is empty."""
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
