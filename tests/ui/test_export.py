"""Exports: tables without formulas, and PDFs that show what the index shows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image, ImageDraw

import configs.settings as configs
from ingest.rasterize.document import open_document
from ingest.sources import content_id
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import FolioscopeError, IndexDamaged
from retrieval.search import Searcher
from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.types import (
    Answer,
    Decision,
    Document,
    Hit,
    Note,
    Page,
    PageContent,
    SearchResult,
    Stage,
    TextSource,
    Word,
)
from tests.build import ADDED, add_document, words_of
from tests.pdfs import make_pdf
from ui.api import schemas
from ui.api.export import _harmless, as_csv, as_pdf
from ui.api.responses import passage_pieces, search_response

WORDS = words_of("Grüße жук 中文字 عقد 𝔘")
LEFT_TO_RIGHT = [*WORDS[:3], *WORDS[4:]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.pdf"


def result(*hits: Hit) -> SearchResult:
    return SearchResult(
        "what?", hits, hits, (Stage("recall", 0.5, 9, "exact"),), Decision("reranked", "by x")
    )


def put(
    store: Store,
    encoder: HashingEncoder,
    path: Path,
    *,
    words: Sequence[Word] = WORDS,
    source: TextSource = "text layer",
    password: str = "",
    turn: int = 0,
    image: bytes | None = None,
    like: Path | None = None,
) -> list[Page]:
    """List the file's pages as ingest does, each with the same words; `turn` as OCR turns a scan, clockwise.

    `like` is what is looked at in its place, where looking at the file itself would do harm.
    """
    opened = open_document(like or path, password=password)
    doc_id = content_id(path)
    contents = []
    for number in range(1, opened.pages + 1):
        file = io.BytesIO()
        opened.render(number, 72, 10**6).rotate(-turn, expand=True).save(file, "WEBP", quality=90)
        width, height = opened.size(number)[:: -1 if turn in {90, 270} else 1]
        page = Page(doc_id, number, path.name, width, height)
        data = image if image is not None else file.getvalue()
        contents.append(PageContent(page, tuple(words), source, lambda data=data: data))  # type: ignore[misc]
    opened.close()
    pending = store.begin_document(doc_id)
    pending.add(
        [
            PageRecord(c.page, c.words, c.source, "", e, c.read_image(), b"")
            for c, e in zip(contents, encoder.encode_pages(contents), strict=True)
        ]
    )
    pending.commit(Document(doc_id, path.name, path.as_uri(), len(contents), ADDED))
    return [content.page for content in contents]


def pixels(page: pymupdf.Page) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    shown = page.get_pixmap(dpi=72, colorspace=pymupdf.csGRAY)
    return np.frombuffer(shown.samples, np.uint8).reshape(shown.height, shown.width).astype(np.int16)


def words(page: pymupdf.Page) -> list[str]:
    return [word[4] for word in page.get_text("words")]


def resources(page: pymupdf.Page) -> int:
    """Their xref."""
    return int(page.parent.xref_get_key(page.xref, "Resources")[1].split()[0])


def shown(found: SearchResult, store: Store, encoder: HashingEncoder) -> schemas.SearchOut:
    return search_response(Searcher(store, encoder, None, configs.Search()), store, found)


def test_a_table_has_a_row_for_each_hit_with_all_its_scores(store: Store, encoder: HashingEncoder) -> None:
    add_document(
        store,
        encoder,
        "a.pdf",
        ["alpha", "what beta"],
        title='Say "a, b"',
        date="2024-05-06",
        tags=("x", "y"),
    )
    add_document(store, encoder, "s.pdf", ["gamma"], source="ocr", collection="scans")
    found = result(
        Hit(store.page("a.pdf", 2), 1.5, 1, 2, {"text": 3.25, "rerank": -0.5}, True, 0.75, ("b.pdf#page=1",)),
        Hit(store.page("s.pdf", 1), -0.25, 2, 1, {"vectors": 0.75}),
    )
    text = as_csv(shown(found, store, encoder))
    assert list(csv.reader(io.StringIO(text, newline=""))) == [
        ["rank", "document", "page", "page_name", "answer", "confidence", "score", "first_rank", "reranked", "scanned",
         "title", "date", "collection", "tags", "pages", "doc_id", "same", "snippet",
         "scores.rerank", "scores.text", "scores.vectors"],
        ["1", "a.pdf", "2", "a.pdf#page=2", "", "0.75", "1.5", "2", "True", "False", 'Say "a, b"',
         "2024-05-06", "default", "x; y", "2", "a", "b.pdf#page=1", "what beta", "-0.5", "3.25", ""],
        ["2", "s.pdf", "1", "s.pdf#page=1", "", "", "-0.25", "1", "False", "True", "",
         "", "scans", "", "1", "s", "", "gamma", "", "", "0.75"],
    ]  # fmt: skip
    assert text.count("\r\n") == 3


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_a_cell_that_a_spreadsheet_would_run_is_made_harmless(
    store: Store, encoder: HashingEncoder, title: str
) -> None:
    add_document(store, encoder, "=a.pdf", ["=1+alpha"], doc_id="a", title=title, tags=("x", "=1"))
    found = shown(result(Hit(store.page("=a.pdf", 1), -2.0, 1, 1)), store, encoder)
    (row,) = csv.DictReader(io.StringIO(as_csv(found), newline=""))
    assert (row["document"], row["page_name"]) == ("'=a.pdf", "'=a.pdf#page=1")
    assert (row["title"], row["snippet"], row["tags"]) == (_harmless(title), "'=1+alpha", "x; =1")
    assert row["title"].startswith("'")
    assert row["score"] == "-2.0"


def test_no_hits_make_a_table_without_rows(store: Store, encoder: HashingEncoder) -> None:
    assert as_csv(shown(result(), store, encoder)) == (
        "rank,document,page,page_name,answer,confidence,score,first_rank,reranked,scanned,title,date,collection,tags,"
        "pages,doc_id,same,snippet\r\n"
    )


def test_the_json_of_a_result_tells_how_the_hits_came_about(store: Store, encoder: HashingEncoder) -> None:
    add_document(store, encoder, "a.pdf", ["what beta"], title="Títle", tags=("x",), collection="law")
    found = result(Hit(store.page("a.pdf", 1), 0.5, 1, 3, {"text": 0.5}, True))
    asked = replace(found, query="beta?", notes=(Note("no_match", "No page matches."),))
    assert shown(asked, store, encoder).model_dump(mode="json") == {
        "query": "beta?",
        "found": 1,
        "searched": 9,
        "provisional": False,
        "reranked": True,
        "decision": {"kind": "reranked", "text": "By x", "read": 0, "shortlist": 0},
        "stages": [{"name": "recall", "ms": 500, "pages": 9, "note": "exact"}],
        "notes": [{"kind": "no_match", "text": "No page matches."}],
        "candidates": [],
        "answers": [],
        "hits": [
            {"rank": 1, "first_rank": 3, "moved": 2, "document": "a.pdf", "page": 1, "pages": 1,
             "page_name": "a.pdf#page=1", "doc_id": "a", "score": 0.5, "scores": {"text": 0.5},
             "reranked": True, "confidence": None, "answer": "", "same": [], "scanned": False,
             "title": "Títle", "date": "", "collection": "law", "tags": ["x"], "width": 612, "height": 792,
             "note": "", "regions": [], "snippet": [["what ", False], ["beta", True]],
             "thumb": "", "image": "", "link": "", "judged": None}
        ],
    }  # fmt: skip


BOX = (0.1, 0.2, 0.3, 0.22)


def test_the_answers_of_a_result_come_first_likeliest_first(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["beta is 12 of 120"])
        add_document(store, encoder, "gone.pdf", ["beta is 13"])
        page, gone = store.page("a.pdf", 1), store.page("gone.pdf", 1)
        store.remove(["gone"])
    answers = (
        Answer(gone, "13", (BOX,), 0.9, "beta is 13", (BOX,), 8),
        Answer(page, "12", (BOX,), 0.63219, "beta is 120, of which 12", (BOX, BOX), 22),
    )
    found = shown(replace(result(Hit(page, 0.5, 1, 1)), answers=answers), store, encoder)
    assert [answer.model_dump(mode="json") for answer in found.answers] == [
        {"doc_id": "a", "document": "a.pdf", "page": 1, "page_name": "a.pdf#page=1", "text": "12",
         "probability": 0.6322, "passage": [["beta is 120, of which ", False], ["12", True]],
         "boxes": [list(BOX)], "passage_boxes": [list(BOX), list(BOX)], "link": ""}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "passage", "pieces"),
    [
        ("12", "120, of which 12 left", [("120, of which ", False), ("12", True), (" left", False)]),
        ("(a) or b", "either (a) or b.", [("either ", False), ("(a) or b", True), (".", False)]),
        ("12", "the row of 2012", [("the row of 20", False), ("12", True)]),
        ("12", "nothing of the kind", [("nothing of the kind", False)]),
        ("12", "", []),
    ],
)
def test_the_passage_shows_which_of_its_words_answer(
    text: str, passage: str, pieces: list[tuple[str, bool]]
) -> None:
    answer = Answer(Page("a", 1, "a.pdf"), text, (), 1.0, passage, (), start=passage.rfind(text))
    assert passage_pieces(answer) == pieces


def test_a_hit_whose_document_was_removed_is_left_out(store: Store, encoder: HashingEncoder) -> None:
    with store.writing():
        add_document(store, encoder, "a.pdf", ["alpha"])
        add_document(store, encoder, "b.pdf", ["beta"])
        found = result(Hit(store.page("a.pdf", 1), 0.5, 1, 1), Hit(store.page("b.pdf", 1), 0.4, 2, 2))
        store.remove(["a"])
    assert [hit.page_name for hit in shown(found, store, encoder).hits] == ["b.pdf#page=1"]


def test_pages_come_in_order_with_their_own_text_size_and_place_in_the_outline(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    a = put(store, encoder, make_pdf(tmp_path / "a.pdf", ["first of a", "second of a", "third of a"]))
    document = pymupdf.open()
    document.new_page(width=300, height=200).insert_text((50, 50), "only of b")
    document.save(tmp_path / "b.pdf")
    (b,) = put(store, encoder, tmp_path / "b.pdf")
    assert as_pdf([a[2], b, a[0], a[2]], store, out, title="who? 谁") == ()
    made = pymupdf.open(out)
    texts = ["third of a", "only of b", "first of a", "third of a"]
    assert [page.get_text().strip() for page in made] == texts
    assert [tuple(page.rect.br) for page in made] == [(595, 842), (300, 200), (595, 842), (595, 842)]
    assert [tuple(entry) for entry in made.get_toc()] == [
        (1, "1. a.pdf, page 3", 1),
        (1, "2. b.pdf, page 1", 2),
        (1, "3. a.pdf, page 1", 3),
        (1, "4. a.pdf, page 3", 4),
    ]
    assert (made.metadata["title"], made.metadata["producer"]) == ("who? 谁", "Folioscope")
    assert not any(page.get_images() for page in made)
    assert len(made[0].get_fonts()) == 1


def test_the_same_export_twice_has_the_same_bytes(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    pages = put(store, encoder, make_pdf(tmp_path / "a.pdf", ["one", "two"]))
    gone = put(store, encoder, make_pdf(tmp_path / "b.pdf", ["three"]))
    (tmp_path / "b.pdf").unlink()
    as_pdf([*pages, *gone], store, out, title="q")
    first = out.read_bytes()
    as_pdf([*pages, *gone], store, out, title="q")
    assert out.read_bytes() == first


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_and_cropped_page_looks_as_it_did(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path, rotation: int
) -> None:
    document = pymupdf.open()
    page = document.new_page(width=400, height=300)
    page.insert_text((120, 120), "upright")
    page.set_cropbox(pymupdf.Rect(100, 50, 360, 250))
    page.set_rotation(rotation)
    document.save(tmp_path / "a.pdf")
    (listed,) = put(store, encoder, tmp_path / "a.pdf")
    as_pdf([listed], store, out, title="q")
    made = pymupdf.open(out)
    assert made[0].rect == page.rect
    np.testing.assert_array_equal(pixels(made[0]), pixels(page))


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("harm", "why"),
    [(Path.unlink, "its file is no longer where it was"), (change, "its file has changed")],
)
def test_without_its_original_a_page_is_exported_as_its_image_with_its_words(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path, harm: object, why: str
) -> None:
    path = make_pdf(tmp_path / "a.pdf", ["original text"])
    (gone,) = put(store, encoder, path)
    (kept,) = put(store, encoder, make_pdf(tmp_path / "b.pdf", ["other text"]))
    before = pixels(pymupdf.open(path)[0])
    harm(path)  # type: ignore[operator]
    (note,) = as_pdf([gone, kept], store, out, title="q")
    assert note.startswith(f"pages of a.pdf are images: {why}")
    image, copy = pymupdf.open(out)
    assert image.rect == (0, 0, 595, 842)
    assert words(image) == [word.text for word in WORDS]
    assert np.abs(pixels(image) - before).mean() < 2
    assert copy.get_text().strip() == "other text"


def test_the_words_over_an_image_stand_where_they_were_read(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    path = make_pdf(tmp_path / "a.pdf", ["x"])
    (page,) = put(store, encoder, path)
    path.unlink()
    as_pdf([page], store, out, title="q")
    (made,) = pymupdf.open(out)
    for word in LEFT_TO_RIGHT:
        x0, y0, x1, y1 = word.box
        (found,) = made.search_for(word.text)
        assert tuple(found) == pytest.approx((x0 * 595, y0 * 842, x1 * 595, y1 * 842), abs=0.1)
    assert {span["type"] for span in made.get_texttrace()} == {3}  # invisible


def test_an_encrypted_original_is_exported_as_images(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    path = make_pdf(
        tmp_path / "a.pdf", ["secret"], encryption=pymupdf.PDF_ENCRYPT_AES_256, user_pw="u", owner_pw="o"
    )
    (page,) = put(store, encoder, path, password="u")
    assert as_pdf([page], store, out, title="q") == ("pages of a.pdf are images: it is encrypted",)
    (made,) = pymupdf.open(out)
    assert words(made) == [word.text for word in WORDS]


def test_an_image_document_is_a_page_with_its_words(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    Image.new("RGB", (600, 300), (90, 90, 90)).save(tmp_path / "chart.png", dpi=(150, 150))
    (page,) = put(store, encoder, tmp_path / "chart.png", source="ocr")
    assert as_pdf([page], store, out, title="q") == ()
    (made,) = pymupdf.open(out)
    assert tuple(made.rect.br) == pytest.approx((288, 144), abs=0.1)
    assert words(made) == [word.text for word in WORDS]
    assert abs(pixels(made) - 90).max() <= 3


def scan(path: Path, turn: int) -> Path:
    """A page without text, whose picture of a black bar at the top lies `turn` degrees clockwise."""
    picture = Image.new("L", (300, 400), "white")
    ImageDraw.Draw(picture).rectangle((30, 20, 270, 60), "black")
    turned = picture.rotate(-turn, expand=True)
    turned.save(path.with_suffix(".png"))
    document = pymupdf.open()
    page = document.new_page(width=turned.width, height=turned.height)
    page.insert_image(page.rect, filename=path.with_suffix(".png"))
    document.save(path)
    return path


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_scan_is_copied_as_it_was_turned_with_the_words_that_were_read(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path, turn: int
) -> None:
    path = scan(tmp_path / "s.pdf", (360 - turn) % 360)
    (page,) = put(store, encoder, path, source="ocr", turn=turn)
    assert as_pdf([page], store, out, title="q") == ()
    (made,) = pymupdf.open(out)
    assert tuple(made.rect.br) == (300, 400)
    assert pixels(made)[40].mean() < 80 < 250 < pixels(made)[360].mean()
    for word in LEFT_TO_RIGHT:
        (found,) = made.search_for(word.text)
        shown = (found * made.rotation_matrix).tl
        assert tuple(shown) == pytest.approx((word.box[0] * 300, word.box[1] * 400), abs=0.1)
    assert made.get_images()[0][8] == "FlateDecode"  # the scan itself, not the stored image


HOSTILE = ("JavaScript", "OpenAction", "EmbeddedFile", "Filespec", "AcroForm", "Launch", "/AA", "/AF", "/Annots",
           "/Names", "/XFA", "/Metadata", "app.alert", "payload", "evil.example")  # fmt: skip


def hostile(path: Path) -> Path:
    """Scripts, files, links and fields in every place that a reader looks at, and in some that it does not."""
    document = pymupdf.open()
    page = document.new_page(width=300, height=200)
    page.insert_text((20, 50), "harmless text")
    field = pymupdf.Widget()
    field.field_type, field.field_name = pymupdf.PDF_WIDGET_TYPE_TEXT, "name"
    field.field_value, field.rect = "filled", pymupdf.Rect(20, 60, 150, 80)
    field.script_calc = "app.alert(1)"
    page.add_widget(field)
    page.add_freetext_annot(pymupdf.Rect(20, 100, 120, 120), "remark")
    page.add_freetext_annot(pymupdf.Rect(20, 140, 120, 160), "unseen").set_flags(pymupdf.PDF_ANNOT_IS_HIDDEN)
    page.add_file_annot((200, 100), b"payload", "x.txt")
    page.insert_link(
        {"kind": pymupdf.LINK_URI, "from": pymupdf.Rect(0, 0, 9, 9), "uri": "http://evil.example"}
    )
    document.embfile_add("y.exe", b"payload", filename="y.exe")
    script = "<</S/JavaScript/JS(app.alert\\(2\\))>>"
    catalog = document.pdf_catalog()
    document.xref_set_key(catalog, "OpenAction", script)
    document.xref_set_key(catalog, "AA", f"<</WC {script}>>")
    document.xref_set_key(page.xref, "AA", f"<</O {script}>>")
    document.xref_set_key(page.xref, "AF", f"[<</Type/Filespec/F(payload)>> {script}]")
    document.xref_set_key(resources(page), "Properties", f"<</P <</AF[{script}]>>>>")
    document.xref_set_key(resources(page), "Kept", script)
    font = page.get_fonts()[0][0]
    document.xref_set_key(font, "Launch", "<</S/Launch/F(payload)>>")
    (contents, *_) = page.get_contents()
    document.xref_set_key(contents, "Metadata", script)
    document.xref_set_key(contents, "DecodeParms", f"[<</Columns 1/AA {script}>>]")
    document.save(path)
    return path


def test_active_content_of_a_hostile_original_is_not_exported(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    path = hostile(tmp_path / "a.pdf")
    (page,) = put(store, encoder, path)
    assert as_pdf([page], store, out, title="q") == ()
    made = pymupdf.open(out)
    everything = made.tobytes(expand=255).decode("latin-1")
    before = pymupdf.open(path).tobytes(expand=255).decode("latin-1")
    assert [token for token in HOSTILE if token in before] == [t for t in HOSTILE if t not in {"/XFA"}]
    assert [token for token in HOSTILE if token in everything] == []
    assert (made.embfile_count(), made.is_form_pdf, made[0].get_links()) == (0, False, [])


def test_filled_fields_and_annotations_stay_visible_and_searchable(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    path = hostile(tmp_path / "a.pdf")
    (page,) = put(store, encoder, path)
    as_pdf([page], store, out, title="q")
    (made,) = pymupdf.open(out)
    assert words(made) == ["harmless", "text", "filled", "remark"]
    assert np.abs(pixels(made) - pixels(pymupdf.open(path)[0])).mean() < 0.1


def test_a_page_of_a_long_form_does_not_bring_the_others(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    document = pymupdf.open()
    for number in range(1, 41):
        page = document.new_page()
        page.insert_text((72, 72), f"sheet number {number} " * 4)
        field = pymupdf.Widget()
        field.field_type, field.field_name = pymupdf.PDF_WIDGET_TYPE_TEXT, f"f{number}"
        field.field_value, field.rect = f"value{number}", pymupdf.Rect(72, 100, 200, 120)
        page.add_widget(field)
    document.save(tmp_path / "a.pdf")
    pages = put(store, encoder, tmp_path / "a.pdf")
    as_pdf([pages[6]], store, out, title="q")
    everything = pymupdf.open(out).tobytes(expand=255)
    assert b"value7" in everything
    assert b"value8" not in everything
    assert pymupdf.open(out).xref_length() < 20


def test_a_page_with_hidden_layers_is_exported_as_it_was_seen(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), "seen")
    page.insert_text((72, 100), "unseen", oc=document.add_ocg("draft", on=False))
    document.save(tmp_path / "a.pdf")
    (listed,) = put(store, encoder, tmp_path / "a.pdf", words=words_of("seen"))
    (note,) = as_pdf([listed], store, out, title="q")
    assert "hidden layers" in note
    (made,) = pymupdf.open(out)
    assert words(made) == ["seen"]


def test_a_truncated_page_affects_only_that_page(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    whole = make_pdf(tmp_path / "whole.pdf", ["alpha beta"] * 3)
    (last,) = pymupdf.open(whole)[2].get_contents()
    data = whole.read_bytes().replace(b"\n%d 0 obj" % last, b"\n%d 0 obj" % (last + 90))
    cut = tmp_path / "cut.pdf"
    cut.write_bytes(data[: data.index(b"startxref")])
    pages = put(store, encoder, cut, like=whole)
    (note,) = as_pdf(pages, store, out, title="q")
    assert "page 3: its content is missing" in note
    assert [bool(page.get_images()) for page in pymupdf.open(out)] == [False, False, True]


def bomb(path: Path) -> Path:
    """A page that is drawn 10**12 times: nothing that looks at it comes to an end."""
    document = pymupdf.open()
    page = document.new_page()
    page.insert_text((72, 72), f"unending {path.stem}")
    inner = ""
    for level in range(12):
        form = document.get_new_xref()
        document.update_object(
            form, f"<</Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<<{inner}>>>>>>"
        )
        document.update_stream(form, b"/F Do " * 10 if level else b"0 0 9 9 re f ")
        inner = f"/F {form} 0 R"
    document.xref_set_key(resources(page), "XObject", f"<<{inner}>>")
    (contents, *_) = page.get_contents()
    document.update_stream(contents, document.xref_stream(contents) + b"\n/F Do")
    document.save(path)
    return path


def test_an_original_that_hangs_is_stopped_and_affects_no_other(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    like = make_pdf(tmp_path / "like.pdf", ["an image"])
    kept = put(store, encoder, make_pdf(tmp_path / "b.pdf", ["kept"]))
    hung = put(store, encoder, bomb(tmp_path / "a.pdf"), source="ocr", like=like)
    notes = as_pdf([*hung, *kept], store, out, title="q", seconds=1.5)
    assert notes == ("pages of a.pdf are images: a page took longer than 1.5 s",)
    image, copy = pymupdf.open(out)
    assert words(image) == [word.text for word in WORDS]
    assert words(copy) == ["kept"]


def test_after_three_that_hang_no_further_original_is_opened(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    like = make_pdf(tmp_path / "like.pdf", ["an image"])
    files = [bomb(tmp_path / f"{n}.pdf") for n in range(5)]
    pages = [page for file in files for page in put(store, encoder, file, source="ocr", like=like)]
    notes = as_pdf(pages, store, out, title="q", seconds=1.0)
    assert len(notes) == 5
    assert [bool(page.get_images()) for page in pymupdf.open(out)] == [True] * 5


def test_an_original_that_needs_too_much_memory_is_exported_as_its_image(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    like = make_pdf(tmp_path / "like.pdf", ["many numbers"])
    data, document = like.read_bytes(), pymupdf.open(like)
    font = document[0].get_fonts()[0][0]
    widths = b"<</Widths[%s]" % (b"7 " * 8_000_000)
    xref = len(data) + len(update := b"%d 0 obj %s/Type/Font>> endobj\n" % (font, widths))
    before = data.rpartition(b"startxref")[2].split()[0]
    (tmp_path / "a.pdf").write_bytes(
        data + update + b"xref\n%d 1\n%010d 00000 n \n" % (font, len(data))
        + b"trailer<</Size %d/Root %d 0 R/Prev %s>>\n" % (document.xref_length(), document.pdf_catalog(), before)
        + b"startxref\n%d\n%%%%EOF\n" % xref
    )  # fmt: skip
    greedy = put(store, encoder, tmp_path / "a.pdf", like=like)
    kept = put(store, encoder, make_pdf(tmp_path / "b.pdf", ["kept"]))
    notes = as_pdf([*greedy, *kept], store, out, title="q", memory_mb=150)
    assert notes == ("pages of a.pdf are images: it needs more than 150 MiB",)
    image, copy = pymupdf.open(out)
    assert words(image) == [word.text for word in WORDS]
    assert words(copy) == ["kept"]
    assert as_pdf(greedy, store, out, title="q", memory_mb=4000) == ()


def test_a_stored_image_that_is_needed_and_broken_is_named(
    store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path
) -> None:
    path = make_pdf(tmp_path / "a.pdf", ["alpha"])
    (page,) = put(store, encoder, path, image=b"no image")
    assert as_pdf([page], store, out, title="q") == ()  # not needed
    path.unlink()
    out.unlink()
    with pytest.raises(IndexDamaged, match=r"stored image of a\.pdf#page=1 cannot be read"):
        as_pdf([page], store, out, title="q")
    assert not out.exists()


def test_too_many_pages_and_none_are_refused(store: Store, encoder: HashingEncoder, out: Path) -> None:
    add_document(store, encoder, "a.pdf", ["alpha"])
    with pytest.raises(FolioscopeError, match="201 pages are too many for one PDF, which may have 200"):
        as_pdf([store.page("a.pdf", 1)] * 201, store, out, title="q")
    with pytest.raises(FolioscopeError, match="no pages to export"):
        as_pdf([], store, out, title="q")
    assert not out.exists()


def test_two_hundred_pages_fit(store: Store, encoder: HashingEncoder, tmp_path: Path, out: Path) -> None:
    pages = put(store, encoder, make_pdf(tmp_path / "a.pdf", [f"sheet {n}" for n in range(200)]))
    assert as_pdf(pages[::-1], store, out, title="q") == ()
    assert [page.get_text().strip() for page in pymupdf.open(out)] == [
        f"sheet {n}" for n in range(199, -1, -1)
    ]


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("=cmd", "'=cmd"),
        ("Report;=cmd|' /C calc'!A0", "Report;'=cmd|' /C calc'!A0"),
        ("＝1", "'＝1"),
        ("a - b; c = d", "a - b; c = d"),
        ("plain", "plain"),
    ],
)
def test_a_formula_is_harmless_behind_any_separator(cell: str, written: str) -> None:
    assert _harmless(cell) == written
