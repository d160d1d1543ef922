"""The page in a real browser: screens, keys, links, phone, dark mode, hostile names; no requests to other hosts."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pymupdf
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.ui.browser import MARKS, SETTLED, Server, served, tab, violations
from ui.service.users import set_password

HOSTILE = "tide ${document.title='owned'} & {{tables}}.pdf"
WIDTH, HEIGHT = 595, 842  # points, A4
AWAY = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE", "503",
        "network error", "Failed to fetch", "heartbeat")  # fmt: skip

pytestmark = MARKS


def pdf(path: Path, *texts: str) -> Path:
    with pymupdf.open() as document:
        for text in texts:
            document.new_page(width=WIDTH, height=HEIGHT).insert_text((72, 144), text, fontsize=20)
        document.save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files to upload: PDFs, one with a hostile name and text; an empty file, one that is no PDF, one too large."""
    folder = tmp_path_factory.mktemp("web")
    pdf(
        folder / "harbour.pdf",
        "Contents",
        "Lamps and oil",
        "Fees of the marmalade quay\nare due each year in spring\nfrom every boat",
    )
    pdf(folder / "ebb.pdf", "Marmalade for the ebb", "Nothing else", "Marmalade again")
    with pymupdf.open() as document:
        page = document.new_page(width=WIDTH, height=HEIGHT)
        page.insert_text((72, 144), "Seals ${document.title='owned'} <b>rest</b> on the quay", fontsize=14)
        document.save(folder / HOSTILE)
    (folder / "empty.pdf").touch()
    (folder / "page.pdf").write_text("<html><script>document.title='owned'</script></html>")
    (folder / "large.pdf").write_bytes(b"%PDF-" + b"0" * (2**20 + 1))
    (folder / "archive").mkdir()
    pdf(folder / "archive" / "lighthouse.pdf", "The lighthouse keeper")
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("index")
    profile = place / "small.yaml"
    profile.write_text(
        "encoder: {kind: hashing}\nreranker: {kind: overlap}\ningest: {max_file_mb: 1}\nserve: {undo_s: 3}\n"
    )
    options = ("--profile", str(profile), "--folder", str(folder / "archive"))
    with served(place / "library.lance", *options) as server:
        yield server


@pytest.fixture
def filled(page: Page, folder: Path) -> Page:
    """The library with three documents. The first test that uses it adds them as a reader would."""
    go_to(page, "/?s=library")
    if page.get_by_test_id("document").count() == 0:
        page.get_by_test_id("files").set_input_files(
            [folder / name for name in ("harbour.pdf", "ebb.pdf", HOSTILE, "empty.pdf", "page.pdf")]
        )
        expect(page.get_by_test_id("job")).to_have_count(5)
        expect(page.locator("[data-testid=job][data-state=uploading]")).to_have_count(0)
        page.reload()  # the work continues, and the list is still there
        expect(page.locator("[data-testid=job][data-state=done]")).to_have_count(3, timeout=60_000)
        expect(page.get_by_test_id("document")).to_have_count(3)
    return page


def go_to(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.get_by_test_id("stock")).to_have_attribute("data-state", "ready")
    if "s=library" in address:
        expect(page.get_by_test_id("library")).to_have_attribute("data-state", "ready")


def search_screen(page: Page) -> None:
    page.get_by_role("tab", name="Search").click()


def ask(page: Page, question: str) -> None:
    search_screen(page)
    box = page.locator("#question")
    box.fill(question)
    box.press("Enter")
    answered(page, question)
    expect(page.get_by_test_id("viewer")).to_have_attribute("data-state", "ready")


def answered(page: Page, question: str) -> None:
    results = page.get_by_test_id("results")
    expect(results).to_have_attribute("data-query", question)
    expect(results).to_have_attribute("data-state", "ready")


def test_an_empty_library_says_how_to_begin(page: Page) -> None:
    go_to(page, "/")
    home = page.locator("#results [data-part=home]")
    expect(home).to_contain_text("Your library is empty")
    expect(home.get_by_role("button", name=re.compile("Try the 12 sample documents"))).to_be_visible()
    expect(page.get_by_test_id("viewer")).to_have_attribute("data-state", "empty")
    home.get_by_role("button", name="Add documents").click()
    expect(page.get_by_test_id("library")).to_be_visible()
    expect(page).to_have_url(re.compile(r"\?s=library$"))


def test_each_upload_ends_in_its_own_state_with_its_message(filled: Page) -> None:
    failed = filled.locator("[data-testid=job][data-state=failed]")
    expect(failed.filter(has_text="empty.pdf")).to_contain_text("empty.pdf is empty (0 bytes)")
    expect(failed.filter(has_text="page.pdf")).to_be_visible()
    done = filled.locator("[data-testid=job][data-state=done]", has_text="harbour.pdf")
    expect(done).to_contain_text("3 pages")
    expect(filled.get_by_test_id("document").filter(has_text="harbour.pdf")).to_contain_text("3 pages")


def test_a_file_above_the_size_limit_is_rejected_by_name(
    filled: Page, folder: Path, browser: Browser, server: Server
) -> None:
    with tab(browser, server.url, "413") as opened:
        go_to(opened.page, "/?s=library")
        opened.page.get_by_test_id("files").set_input_files([folder / "large.pdf"])
        job = opened.page.get_by_test_id("job").filter(has_text="large.pdf")
        expect(job).to_contain_text("more than 1 MiB")


def test_a_question_opens_the_best_page_and_highlights_the_word_in_its_place(filled: Page) -> None:
    ask(filled, "marmalade fees whales")
    card = filled.get_by_test_id("result-card").first
    expect(card).to_contain_text("harbour.pdf")
    expect(card).to_contain_text("page 3 of 3")
    expect(card.locator("mark").first).to_be_visible()
    expect(card.get_by_test_id("moved")).to_be_visible()
    expect(filled.locator("#results [data-part=decision]")).to_contain_text("Reranked the first")
    expect(filled.get_by_test_id("viewer")).to_have_attribute("data-page", "3")

    light = filled.locator("#viewer rect[data-term=marmalade]")
    expect(light).to_have_count(1)
    box, paper = light.bounding_box(), filled.locator("#viewer [data-part=image]").bounding_box()
    assert box
    assert paper
    # "Fees of the " is 107 points wide in Helvetica 20, "marmalade" 98; both are on the line at 144 points.
    font = pymupdf.Font("helv")
    left, width = 72 + font.text_length("Fees of the ", 20), font.text_length("marmalade", 20)
    assert (box["x"] - paper["x"]) / paper["width"] == pytest.approx(left / WIDTH, abs=0.01)
    assert box["width"] / paper["width"] == pytest.approx(width / WIDTH, abs=0.015)
    assert paper["y"] + paper["height"] * 115 / HEIGHT < box["y"]
    assert box["y"] + box["height"] < paper["y"] + paper["height"] * 155 / HEIGHT

    # The selectable text lies over the image.
    word = filled.get_by_test_id("page-text").get_by_text("marmalade", exact=True).bounding_box()
    assert word
    assert word["x"] == pytest.approx(box["x"], abs=4)
    assert word["width"] == pytest.approx(box["width"], abs=6)

    absent = filled.get_by_test_id("word").filter(has_text="whales")
    expect(absent).to_contain_text("not here")
    filled.get_by_test_id("word").filter(has_text="marmalade").click()
    expect(light).to_have_count(0)
    filled.get_by_test_id("all-words").click()
    expect(light).to_have_count(1)
    filled.get_by_test_id("word").filter(has_text="fees").dblclick()
    expect(light).to_have_count(0)
    expect(filled.locator("#viewer rect[data-term=fees]")).to_have_count(1)
    filled.get_by_role("button", name="Boxes").click()
    expect(filled.locator("#viewer rect")).to_have_count(0)


def test_the_heat_map_glows_where_the_word_is_and_nowhere_on_a_page_without_it(filled: Page) -> None:
    ask(filled, "marmalade")
    card = filled.get_by_test_id("result-card").filter(has_text="harbour.pdf").filter(has_text="page 3 of 3")
    card.click()
    heat = filled.get_by_role("button", name="Heat")
    heat.click()
    expect(heat).to_have_attribute("aria-pressed", "true")
    canvas = filled.get_by_test_id("heat")
    expect(canvas).to_be_visible()
    warmest = """canvas => {
      const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let best = 0;
      for (let i = 0; i < width * height; i++) if (data[i * 4 + 3] > data[best * 4 + 3]) best = i;
      return [(best % width) / width, Math.floor(best / width) / height];
    }"""
    x, y = canvas.evaluate(warmest)
    left = (72 + pymupdf.Font("helv").text_length("Fees of the ", 20)) / WIDTH
    right = left + pymupdf.Font("helv").text_length("marmalade", 20) / WIDTH
    assert left - 0.02 < x < right + 0.02
    assert 115 / HEIGHT < y < 155 / HEIGHT
    filled.get_by_role("button", name="Previous page").click()
    expect(filled.get_by_test_id("viewer")).to_have_attribute("data-page", "2")
    expect(canvas).not_to_be_visible()
    expect(filled.get_by_test_id("viewer-note")).to_have_text(
        "No place on this page stands out for this question."
    )


def test_filters_can_be_set_shown_linked_and_cleared(filled: Page) -> None:
    ask(filled, "marmalade")
    cards = filled.get_by_test_id("result-card")
    assert len({card.get_attribute("data-doc") for card in cards.all()}) >= 2
    filled.get_by_test_id("filters").get_by_text("Documents", exact=True).click()
    filled.get_by_label("Find a document by name").fill("ebb")
    filled.get_by_role("checkbox", name=re.compile("ebb.pdf")).check()
    expect(filled.get_by_test_id("filter-chip")).to_contain_text("ebb.pdf")
    expect(cards).to_have_count(3)
    expect(cards.first).to_contain_text("ebb.pdf")
    filled.reload()
    answered(filled, "marmalade")
    expect(filled.get_by_test_id("filter-chip")).to_contain_text("ebb.pdf")
    expect(cards).to_have_count(3)
    filled.get_by_label("Scanned or digital pages").select_option("true")
    expect(filled.locator("#results")).to_contain_text("No page passes the filters")
    filled.get_by_role("button", name="Search without filters").click()
    expect(filled.get_by_test_id("filter-chip")).to_have_count(0)
    expect(cards.filter(has_text="harbour.pdf").first).to_be_visible()
    filled.go_back()
    expect(filled.get_by_test_id("filter-chip").first).to_be_visible()


def test_without_reranking_no_page_moves(filled: Page) -> None:
    ask(filled, "marmalade")
    filled.get_by_label("Rerank").uncheck()
    expect(filled.locator("#results [data-part=decision]")).to_contain_text("Not reranked")
    expect(filled.get_by_test_id("moved")).to_have_count(0)
    expect(filled).to_have_url(re.compile("rerank=no"))


def test_every_key_works_and_none_acts_while_the_reader_is_typing(filled: Page) -> None:
    filled.keyboard.press("g")
    filled.keyboard.press("s")
    expect(filled.get_by_test_id("results")).to_be_visible()
    filled.keyboard.press("/")
    expect(filled.locator("#question")).to_be_focused()
    filled.keyboard.type("marmalade ebb nh?")
    expect(filled.get_by_test_id("keys")).not_to_be_visible()
    filled.keyboard.press("Enter")
    answered(filled, "marmalade ebb nh?")
    viewer = filled.get_by_test_id("viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    filled.keyboard.press("Escape")
    filled.keyboard.press("Home")
    expect(viewer).to_have_attribute("data-page", "1")
    filled.keyboard.press("ArrowRight")
    filled.keyboard.press("ArrowRight")
    expect(viewer).to_have_attribute("data-page", "3")
    filled.keyboard.press("N")
    expect(viewer).to_have_attribute("data-page", re.compile("[12]"))
    filled.keyboard.press("w")
    expect(filled.locator("#viewer [data-part=zoom]")).to_have_text("Width")
    filled.keyboard.press("+")
    expect(filled.locator("#viewer [data-part=zoom]")).to_have_text("125%")
    filled.keyboard.press("0")
    expect(filled.locator("#viewer [data-part=zoom]")).to_have_text("Page")
    filled.keyboard.press("b")
    expect(filled.locator("#viewer rect")).to_have_count(0)
    filled.keyboard.press("b")
    current = filled.locator("[data-testid=result-card][aria-current]")
    filled.keyboard.press("j")
    expect(current).to_have_count(1)
    rank = int(current.get_attribute("data-rank") or 0)
    filled.keyboard.press("j")
    expect(current).to_have_attribute("data-rank", str(rank + 1))
    filled.keyboard.press("?")
    expect(filled.get_by_test_id("keys")).to_be_visible()
    filled.keyboard.press("Escape")
    expect(filled.get_by_test_id("keys")).not_to_be_visible()
    filled.keyboard.press("g")
    filled.keyboard.press("c")
    expect(filled.get_by_test_id("compare")).to_be_visible()


def test_fast_page_turns_end_on_the_intended_page(filled: Page) -> None:
    ask(filled, "marmalade")
    viewer = filled.get_by_test_id("viewer")
    filled.keyboard.press("Escape")
    for key in ("Home", "ArrowRight", "ArrowLeft", "ArrowRight", "ArrowRight", "ArrowLeft"):
        filled.keyboard.press(key)
    expect(viewer).to_have_attribute("data-page", "2")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(filled).to_have_url(re.compile("[?&]p=2$"))
    expect(filled.get_by_test_id("strip").locator("[aria-current]")).to_have_attribute("data-goto", "2")


def test_an_earlier_question_asked_again_opens_its_own_page(filled: Page) -> None:
    ask(filled, "marmalade")
    filled.get_by_test_id("result-card").nth(1).click()
    ask(filled, "seals rest")
    expect(filled.get_by_test_id("viewer-name")).to_have_text(HOSTILE)
    ask(filled, "marmalade")
    expect(filled.get_by_test_id("viewer-name")).not_to_have_text(HOSTILE)
    first = filled.get_by_test_id("result-card").first
    expect(first).to_have_attribute("aria-current", "true")


def test_a_page_that_arrives_late_does_not_open_under_the_next_question(filled: Page) -> None:
    ask(filled, "marmalade")
    late = "**/api/v1/documents/*/pages/1?q=marmalade"
    filled.route(late, lambda route: (filled.wait_for_timeout(600), route.continue_()))
    card = filled.get_by_test_id("result-card").filter(has_text="page 1 of 3").first
    card.click()
    ask(filled, "seals rest")
    filled.wait_for_timeout(900)
    filled.unroute(late)
    expect(filled.get_by_test_id("viewer-name")).to_have_text(HOSTILE)
    expect(filled).to_have_url(re.compile("q=seals"))


def test_an_invalid_date_is_reported_and_does_not_block_searching(filled: Page) -> None:
    search_screen(filled)
    filled.get_by_test_id("filters").get_by_text("Date", exact=True).click()
    filled.get_by_label("From").fill("May 2023")
    filled.get_by_label("From").press("Tab")
    expect(filled.get_by_role("alert").filter(has_text="Enter a year")).to_be_visible()
    filled.keyboard.press("Escape")
    ask(filled, "marmalade")
    filled.get_by_test_id("filters").get_by_text("Date", exact=True).click()
    filled.get_by_label("From").fill("2020")
    filled.get_by_label("From").press("Enter")
    expect(filled.get_by_test_id("filter-chip")).to_contain_text("from 2020")


def test_several_documents_can_be_tagged_and_keep_their_collections(filled: Page) -> None:
    go_to(filled, "/?s=library")
    rows = filled.get_by_test_id("document")
    for name in ("ebb.pdf", "harbour.pdf"):
        filled.get_by_role("checkbox", name=f"Select {name}").check()
    filled.get_by_role("button", name="Add tags…").click()
    dialog = filled.get_by_test_id("edit")
    dialog.get_by_label("Tags").fill("together")
    dialog.get_by_role("button", name="Save").click()
    expect(rows.filter(has_text="#together")).to_have_count(2)
    expect(filled.locator(".tag.collection")).to_have_count(0)


def test_links_survive_reload_back_and_forward(filled: Page) -> None:
    harbour = filled.get_by_test_id("document").filter(has_text="harbour.pdf").get_attribute("data-doc")
    go_to(filled, f"/?q=lamps&doc={harbour}&p=2")
    viewer = filled.get_by_test_id("viewer")
    expect(viewer).to_have_attribute("data-page", "2")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(filled.locator("#question")).to_have_value("lamps")
    expect(filled.locator("#viewer rect[data-term=lamps]")).to_have_count(1)
    ask(filled, "marmalade")
    filled.go_back()
    answered(filled, "lamps")
    expect(filled.locator("#question")).to_have_value("lamps")
    expect(viewer).to_have_attribute("data-page", "2")
    filled.go_forward()
    answered(filled, "marmalade")


def test_a_link_to_a_missing_document_says_so(browser: Browser, server: Server, filled: Page) -> None:
    with tab(browser, server.url, "404") as opened:
        opened.page.goto(f"/?doc={'0' * 16}&p=1")
        viewer = opened.page.get_by_test_id("viewer")
        expect(viewer).to_have_attribute("data-state", "error")
        expect(viewer).to_contain_text("no document")


def test_names_and_texts_that_look_like_code_stay_text(filled: Page) -> None:
    ask(filled, "seals rest")
    card = filled.get_by_test_id("result-card").first
    expect(card.locator(".name")).to_have_text(HOSTILE)
    expect(card.locator(".snippet")).to_contain_text("<b>rest</b>")
    expect(filled.get_by_test_id("viewer-name")).to_have_text(HOSTILE)
    expect(filled).to_have_title("seals rest – Folioscope")


def test_both_orders_can_be_compared_and_a_line_opens_its_page(filled: Page) -> None:
    ask(filled, "marmalade fees quay")
    filled.get_by_role("tab", name="Compare").click()
    compare = filled.get_by_test_id("compare")
    expect(compare).to_contain_text("Kendall")
    expect(filled.get_by_test_id("spread")).to_contain_text("Cross-encoder")
    lines = filled.get_by_test_id("slope").locator(".slope-line")
    assert lines.count() >= 5
    lines.first.press("Enter")
    expect(filled.get_by_test_id("viewer")).to_be_visible()
    filled.go_back()
    expect(compare).to_be_visible()


def test_a_judgement_is_stored_shown_and_counted(filled: Page) -> None:
    ask(filled, "marmalade fees")
    up = filled.get_by_role("button", name="This page answers the question")
    filled.keyboard.press("Escape")
    filled.keyboard.press("u")
    expect(up).to_have_attribute("aria-pressed", "true")
    expect(filled.get_by_test_id("result-card").first).to_contain_text("answers")
    filled.get_by_role("tab", name="Compare").click()
    lift = filled.get_by_test_id("lift")
    expect(lift).to_contain_text("nDCG@10")
    expect(lift).to_contain_text("1 judged question so far")
    filled.reload()
    search_screen(filled)
    expect(up).to_have_attribute("aria-pressed", "true")
    up.click()
    expect(up).to_have_attribute("aria-pressed", "false")


def test_results_can_be_exported(filled: Page) -> None:
    ask(filled, "marmalade fees")
    files = {}
    for kind, label in (("csv", "CSV"), ("json", "JSON"), ("pdf", "PDF of these pages")):
        with filled.expect_download() as download:
            filled.get_by_role("link", name=label, exact=True).click()
        files[kind] = Path(download.value.path()).read_bytes()
        assert download.value.suggested_filename == f"folioscope-marmalade-fees.{kind}"
    rows = list(csv.DictReader(io.StringIO(files["csv"].decode("utf-8-sig"))))
    assert rows[0]["document"] == "harbour.pdf"
    with pymupdf.open(stream=files["pdf"]) as document:
        assert len(document) == len(rows)
        assert "marmalade quay" in document[0].get_text()


def test_the_page_can_be_saved_and_its_file_opened_at_that_page(filled: Page) -> None:
    ask(filled, "marmalade fees")
    filled.get_by_label("More actions").click()
    with filled.expect_download() as download:
        filled.get_by_role("link", name="Save this page with highlights").click()
    assert download.value.suggested_filename == "harbour p3.png"
    filled.get_by_label("More actions").click()
    link = filled.get_by_role("link", name="Open the file at this page")
    expect(link).to_have_attribute("href", re.compile(r"^media/[0-9a-f]{16}/original#page=3$"))
    filled.get_by_role("button", name="Search in this document only").click()
    expect(filled.get_by_test_id("filter-chip")).to_contain_text("harbour.pdf")


def test_on_a_phone_the_page_opens_over_the_results_and_back_closes_it(filled: Page) -> None:
    filled.set_viewport_size({"width": 400, "height": 800})
    search_screen(filled)
    box = filled.locator("#question")
    box.fill("marmalade")
    box.press("Enter")
    answered(filled, "marmalade")
    viewer = filled.get_by_test_id("viewer")
    expect(viewer).not_to_be_visible()
    filled.get_by_test_id("result-card").first.click()
    expect(viewer).to_be_visible()
    for screen in ("Search", "Compare", "Library"):
        assert filled.evaluate("document.documentElement.scrollWidth") == 400, screen
        if screen == "Search":
            filled.go_back()
            expect(viewer).not_to_be_visible()
        filled.get_by_role("tab", name="Compare" if screen == "Search" else "Library").click()


def test_dark_mode_is_remembered_and_follows_the_system(
    browser: Browser, server: Server, filled: Page
) -> None:
    with tab(browser, server.url, color_scheme="dark") as opened:
        go_to(opened.page, "/")
        expect(opened.page.locator("body")).to_have_class(re.compile("dark"))
        opened.page.get_by_role("button", name="Switch between light and dark").click()
        expect(opened.page.locator("body")).not_to_have_class(re.compile("dark"))
        opened.page.reload()
        expect(opened.page.get_by_test_id("stock")).to_have_attribute("data-state", "ready")
        expect(opened.page.locator("body")).not_to_have_class(re.compile("dark"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["search", "compare", "library"])
def test_axe_finds_no_violations(
    browser: Browser, server: Server, filled: Page, screen: str, scheme: str
) -> None:
    with tab(browser, server.url, color_scheme=scheme) as opened:
        go_to(opened.page, f"/?q=marmalade+fees+whales&s={screen}")
        answered(opened.page, "marmalade fees whales")
        expect(opened.page.get_by_test_id({"search": "viewer"}.get(screen, screen))).to_be_visible()
        expect(opened.page.get_by_test_id("viewer")).to_have_attribute("data-state", "ready")
        expect(opened.page.locator("body")).to_have_class(re.compile("dark" if scheme == "dark" else "^$"))
        assert violations(opened.page) == []


def test_text_changes_its_colour_at_once_with_its_background(filled: Page) -> None:
    ask(filled, "marmalade fees whales")
    filled.evaluate(SETTLED)
    fading = filled.evaluate("""() => {
        document.querySelector('[data-act=theme]').click();
        return document.getAnimations().filter(({ transitionProperty }) => transitionProperty)
          .map(({ transitionProperty, effect }) => `${transitionProperty} of ${effect.target.className}`);
    }""")
    assert fading == []


def test_a_folder_on_the_server_can_be_added_from_the_page(filled: Page) -> None:
    filled.get_by_role("button", name="Add a folder from the server").click()
    filled.get_by_role("button", name="Add all documents in archive").click()
    row = filled.get_by_test_id("document").filter(has_text="lighthouse.pdf")
    expect(row).to_be_visible(timeout=30_000)
    ask(filled, "lighthouse keeper")
    expect(filled.get_by_test_id("result-card").first).to_contain_text("lighthouse.pdf")


def test_a_document_can_be_edited_and_found_by_its_tag(
    browser: Browser, server: Server, filled: Page
) -> None:
    with tab(browser, server.url, "422") as opened:  # the name is taken
        edit(opened.page)


def edit(page: Page) -> None:
    go_to(page, "/?s=library")
    row = page.get_by_test_id("document").filter(has_text="ebb.pdf")
    row.get_by_role("button", name="Edit ebb.pdf").click()
    dialog = page.get_by_test_id("edit")
    dialog.get_by_label("Name").fill("harbour.pdf")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("harbour.pdf")
    dialog.get_by_label("Name").fill("flow.pdf")
    dialog.get_by_label("Tags").fill("sea, low water")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).not_to_be_visible()
    page.get_by_role("searchbox", name="Find a document", exact=True).fill("low water")
    expect(page.get_by_test_id("document")).to_have_count(1)
    expect(page.get_by_test_id("document")).to_contain_text("flow.pdf")
    page.get_by_role("searchbox", name="Find a document", exact=True).fill("")


def test_the_index_can_be_inspected_and_verified(filled: Page) -> None:
    filled.get_by_test_id("index").get_by_text("Index").click()
    expect(filled.get_by_test_id("index")).to_contain_text("hashing")
    filled.get_by_role("button", name="Verify").click()
    expect(filled.get_by_test_id("toast").filter(has_text="documents checked")).to_be_visible()


def test_a_removed_document_comes_back_with_undo_and_disappears_without_it(filled: Page) -> None:
    rows = filled.get_by_test_id("document")
    before = rows.count()
    row = rows.filter(has_text="harbour.pdf")
    row.get_by_role("button", name="Remove harbour.pdf").click()
    expect(row).to_contain_text("removing…")
    filled.get_by_test_id("toast").get_by_role("button", name="Undo").click()
    expect(row).not_to_contain_text("removing…")
    row.get_by_role("button", name="Remove harbour.pdf").click()
    expect(rows).to_have_count(before - 1, timeout=15_000)
    search_screen(filled)
    box = filled.locator("#question")
    box.fill("marmalade fees")
    box.press("Enter")
    answered(filled, "marmalade fees")
    expect(filled.get_by_test_id("result-card").filter(has_text="harbour.pdf")).to_have_count(0)


def test_an_open_page_outlives_a_restart_of_the_server(
    browser: Browser, server: Server, filled: Page
) -> None:
    """This test runs last: while the server is down, requests fail, and are expected to."""
    with tab(browser, server.url, *AWAY) as opened:
        page = opened.page
        go_to(page, "/")
        ask(page, "seals rest")
        server.stop()
        box = page.locator("#question")
        box.fill("marmalade low")
        box.press("Enter")
        expect(page.locator("#results .working")).to_contain_text("is not responding")
        server.start()
        answered(page, "marmalade low")
        expect(page.get_by_test_id("result-card").first).to_contain_text("Marmalade")
        page.get_by_role("tab", name="Library").click()
        expect(page.get_by_test_id("job").filter(has_text="empty.pdf")).to_be_visible()


def test_behind_a_login_a_wrong_password_is_reported_and_the_right_one_opens_the_page(
    browser: Browser, tmp_path: Path
) -> None:
    users = tmp_path / "users.txt"
    set_password(users, "ada", "correct horse")
    with served(tmp_path / "index.lance", "--profile", "smoke", "--users", str(users)) as server, \
            tab(browser, server.url, "401") as opened:  # fmt: skip
        page = opened.page
        page.goto("/?q=tides&s=library")
        expect(page).to_have_url(re.compile("/login"))
        page.get_by_label("User").fill("ada")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("alert")).to_be_visible()
        page.get_by_label("User").fill("ada")
        page.get_by_label("Password").fill("correct horse")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_test_id("library")).to_be_visible()
        expect(page).to_have_url(re.compile(r"q=tides"))
        page.get_by_role("button", name="Log out ada").click()
        expect(page.get_by_role("button", name="Log in")).to_be_visible()
        page.goto("/")
        expect(page).to_have_url(re.compile("/login"))
