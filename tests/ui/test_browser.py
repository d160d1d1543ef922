"""The page in a real browser: upload, progress, search, the lit page, links, keys; nothing from elsewhere."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pymupdf
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = os.environ.get("FOLIOSCOPE_CHROMIUM", "/usr/bin/chromium")
ASKED_FOR = bool(
    os.environ.get("CI") or os.environ.get("FOLIOSCOPE_CHROMIUM")
)  # then no browser is a failure
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
ROOT = Path(__file__).parents[2]
SERVE = "import sys; from configs import settings; from ui.app import serve; serve(sys.argv[1], settings.load('smoke'), port=int(sys.argv[2]))"  # noqa: E501
HOSTILE = "tide ${document.title='owned'} & {{tables}}.pdf"
WIDTH, HEIGHT = 595, 842  # points, A4

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (ASKED_FOR or Path(CHROMIUM).exists()), reason=f"no {CHROMIUM}: set FOLIOSCOPE_CHROMIUM"
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files to upload: two PDFs, and one that is empty."""
    folder = tmp_path_factory.mktemp("web")
    with pymupdf.open() as pdf:
        for text in ("Contents", "Lamps and oil", "Fees of the marmalade quay"):
            page = pdf.new_page(width=WIDTH, height=HEIGHT)
            page.insert_text((72, 144), text, fontsize=20)
        pdf.save(folder / "harbour.pdf")
    with pymupdf.open() as pdf:
        page = pdf.new_page(width=WIDTH, height=HEIGHT)
        page.insert_text((72, 144), "Seals ${document.title='owned'} <b>rest</b> on the quay", fontsize=14)
        pdf.save(folder / HOSTILE)
    (folder / "empty.pdf").touch()
    return folder


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    index = tmp_path_factory.mktemp("index") / "library.lance"
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(index), "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        said = re.fullmatch(
            r"Folioscope is at (http://127\.0\.0\.1:[1-9]\d*) \(Ctrl-C ends it\)\n", server.stdout.readline()
        )
        assert said
        url = said[1]
        for _ in range(400):
            assert server.poll() is None, "the server ended"
            try:
                if httpx.get(f"{url}/readyz", timeout=1).status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        if server.stdout:
            server.stdout.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """A new tab; whatever it complains about, or asks of another server, fails the test."""
    expect.set_options(timeout=20_000)
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=url)
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else wrong.append(r.url))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def filled(page: Page, folder: Path) -> Page:
    """The library with the three files added: by the first test that asks, as a reader would."""
    page.goto("/")
    expect(page.get_by_test_id("results")).to_be_visible()
    page.get_by_role("tab", name="Documents").click()
    expect(page.get_by_test_id("documents")).to_have_attribute("data-state", "ready")
    if page.get_by_test_id("document").count() == 0:
        names = ["harbour.pdf", HOSTILE, "empty.pdf"]
        page.get_by_test_id("files").set_input_files([folder / name for name in names])
        expect(page.get_by_test_id("job")).to_have_count(3)
        page.reload()  # the work goes on, and the list is still there
        page.get_by_role("tab", name="Documents").click()
        expect(page.locator("[data-testid=job][data-state=done]")).to_have_count(2, timeout=60_000)
        expect(page.get_by_test_id("document")).to_have_count(2)
    return page


def ask(page: Page, question: str) -> None:
    box = page.locator("#question input")
    box.fill(question)
    box.press("Enter")
    expect(page.get_by_test_id("results")).to_have_attribute("data-state", "ready")
    page.wait_for_function("(asked) => window.folioscope.query === asked", arg=question)
    expect(page.get_by_test_id("viewer")).to_have_attribute("data-state", "ready")


def test_an_empty_library_says_how_to_begin(page: Page) -> None:
    page.goto("/")
    home = page.locator("#results [data-part=home]")
    expect(home).to_contain_text("Your library is empty")
    expect(page.get_by_test_id("viewer")).to_have_attribute("data-state", "empty")
    home.get_by_role("button", name="Add documents").click()
    expect(page.get_by_test_id("documents")).to_be_visible()


def test_each_upload_ends_in_its_own_state_with_its_message(filled: Page) -> None:
    failed = filled.locator("[data-testid=job][data-state=failed]")
    expect(failed).to_contain_text("empty.pdf is empty (0 bytes)")
    done = filled.locator("[data-testid=job][data-state=done]", has_text="harbour.pdf")
    expect(done).to_contain_text("3 pages")
    expect(filled.get_by_test_id("document").filter(has_text="harbour.pdf")).to_contain_text("3 pages")


def test_a_question_opens_the_best_page_with_the_word_lit_where_it_stands(filled: Page) -> None:
    filled.get_by_role("tab", name="Search").click()
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
    # "Fees of the " is 107 points wide in Helvetica 20, "marmalade" 98; both stand on the line at 144 points.
    font = pymupdf.Font("helv")
    left, width = 72 + font.text_length("Fees of the ", 20), font.text_length("marmalade", 20)
    assert (box["x"] - paper["x"]) / paper["width"] == pytest.approx(left / WIDTH, abs=0.01)
    assert box["width"] / paper["width"] == pytest.approx(width / WIDTH, abs=0.015)
    assert paper["y"] + paper["height"] * 115 / HEIGHT < box["y"]
    assert box["y"] + box["height"] < paper["y"] + paper["height"] * 155 / HEIGHT

    absent = filled.get_by_test_id("word").filter(has_text="whales")
    expect(absent).to_contain_text("not here")
    filled.get_by_test_id("word").filter(has_text="marmalade").click()
    expect(light).to_have_count(0)


def test_keys_turn_pages_exactly_and_go_back_to_the_question(filled: Page) -> None:
    filled.get_by_role("tab", name="Search").click()
    ask(filled, "marmalade")
    viewer = filled.get_by_test_id("viewer")
    filled.keyboard.press("Escape")
    filled.keyboard.press("ArrowLeft")
    filled.keyboard.press("ArrowLeft")
    expect(viewer).to_have_attribute("data-page", "1")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(filled.get_by_test_id("viewer-note")).to_have_text(
        "No place on this page stands out for this question."
    )
    expect(filled).to_have_url(re.compile("[?&]p=1$"))
    filled.keyboard.press("/")
    expect(filled.locator("#question input")).to_be_focused()


def test_a_link_opens_its_question_and_its_page(filled: Page, url: str) -> None:
    harbour = filled.get_by_test_id("document").filter(has_text="harbour.pdf").get_attribute("data-doc")
    filled.goto(f"/?q=lamps&doc={harbour}&p=2")
    viewer = filled.get_by_test_id("viewer")
    expect(viewer).to_have_attribute("data-page", "2")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(filled.locator("#question input")).to_have_value("lamps")
    expect(filled.locator("#viewer rect[data-term=lamps]")).to_have_count(1)
    filled.goto(f"/?doc={'0' * 16}&p=1")
    expect(viewer).to_have_attribute("data-state", "error")
    expect(viewer).to_contain_text("no document")


def test_names_and_texts_that_look_like_code_stay_text(filled: Page) -> None:
    filled.get_by_role("tab", name="Search").click()
    ask(filled, "seals rest")
    card = filled.get_by_test_id("result-card").first
    expect(card.locator(".name")).to_have_text(HOSTILE)
    expect(card.locator(".snippet")).to_contain_text("<b>rest</b>")
    expect(filled).to_have_title("seals rest – Folioscope")


def test_on_a_phone_the_page_opens_over_the_results_and_back_closes_it(filled: Page) -> None:
    filled.set_viewport_size({"width": 400, "height": 800})
    filled.get_by_role("tab", name="Search").click()
    ask(filled, "marmalade")
    viewer = filled.get_by_test_id("viewer")
    expect(viewer).not_to_be_visible()
    filled.get_by_test_id("result-card").first.click()
    expect(viewer).to_be_visible()
    assert filled.evaluate("document.documentElement.scrollWidth") == 400
    filled.go_back()
    expect(viewer).not_to_be_visible()


def test_a_document_is_removed_after_a_second_click(filled: Page) -> None:
    row = filled.get_by_test_id("document").filter(has_text="harbour.pdf")
    row.get_by_role("button", name="Remove harbour.pdf").click()
    row.get_by_role("button", name="Keep").click()
    row.get_by_role("button", name="Remove harbour.pdf").click()
    row.get_by_role("button", name="Remove", exact=True).click()
    expect(filled.get_by_test_id("document")).to_have_count(1)
