"""The process that binds an export PDF, run as the export runs it."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pymupdf

from retrieval.types import Page, Word
from tests.build import webp
from ui.api.bind import MAX_CHARACTERS, ExportPage, Job


def test_characters_past_the_capacity_of_the_invisible_font_do_not_garble_the_others(tmp_path: Path) -> None:
    (tmp_path / "page.webp").write_bytes(webp())
    characters = "".join(map(chr, [*range(0x21, 0x590), *range(0x3000, 0xD800), *range(0x12000, 0x18000)]))
    assert len(characters) > MAX_CHARACTERS  # all of them left-to-right
    word = Word(characters, (0.1, 0.1, 0.9, 0.2))
    page = Page("doc", 1, "a.pdf", 595, 842)
    leaf = ExportPage(page, "a.pdf, page 1", None, tmp_path / "page.webp", (word,), scanned=True)
    job = Job([leaf], tmp_path / "bound.pdf", "Export", 60.0, 2_000, frozenset())
    subprocess.run(
        [sys.executable, "-c", "from ui.api.bind import main; main()"],
        input=pickle.dumps(job),
        check=True,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
    )
    with pymupdf.open(tmp_path / "bound.pdf") as document:
        content = document[0].read_contents()
    [codes] = re.findall(rb"<([0-9a-f]+)> Tj", content)
    assert len(codes) == 4 * len(characters + " ")
    assert codes.endswith(
        b"0000" + b"0001"
    )  # the last character is past the capacity; the space has the first code
