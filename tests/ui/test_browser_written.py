"""The answer panel in a real browser: text with chips, lit quotes, marks for what is not on the page, and a reload."""

import re
from collections.abc import Iterator

import pymupdf
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.chat_server import Answer, ChatServer, chat_server, claims
from tests.ui.browser import MARKS, WCAG, Server, served, tab, violations
from tests.ui.test_browser import ask
from tests.ui.test_browser_answers import Json, answer, rewrite
from ui import open_index

QUESTION = "Who pays the quay fees?"
REPLY = claims(
    ("Every boat pays 40 euros a year.", 1, "a fee of 40 euros is due from every boat"),
    ("Seals pay 7 euros.", 1, "seals pay seven euros"),
    ("The fee is 45 euros.", 1, "a fee of 40 euros"),
)

pytestmark = MARKS


@pytest.fixture(scope="module")
def chat() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chat: ChatServer) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("answers")
    profile = place / "small.yaml"
    profile.write_text(
        "encoder: {kind: hashing}\nreranker: {kind: overlap}\ningest: {workers: 1}\n"
        f"answer: {{url: '{chat.url}', model: harbour-seer, retries: 0}}\n"
    )
    with pymupdf.open() as document:
        fees = ["Quay fees", *[f"line {n}" for n in range(24)], "In spring a fee of 40 euros is due"]
        for lines in (["Lamps and oil"], [*fees, "from every boat at the quay"]):
            page = document.new_page(width=595, height=842)
            page.insert_text((72, 100), lines, fontsize=18)
        document.save(place / "harbour.pdf")
    index = open_index(place / "library.lance", str(profile), create=True)
    assert [event.event for event in index.ingest([place / "harbour.pdf"])][-1] == "finished"
    with served(place / "library.lance", "--profile", str(profile)) as server:
        yield server


def test_an_answer_is_written_with_chips_that_light_their_quotes_and_a_reload_keeps_it(
    page: Page, chat: ChatServer
) -> None:
    chat.will_say(Answer(REPLY, delay_s=0.02))
    page.goto("/")
    panel = page.get_by_test_id("written")
    expect(panel).to_be_hidden()
    ask(page, QUESTION)
    expect(panel).to_have_attribute("data-state", "idle")
    expect(panel).to_contain_text("harbour-seer reads the best pages")
    panel.get_by_role("button", name="Answer", exact=True).click()
    expect(panel).to_have_attribute("data-state", "writing")
    expect(panel).to_have_attribute("data-state", "done")

    expect(page.get_by_test_id("claim")).to_have_text(
        ["Every boat pays 40 euros a year.", "Seals pay 7 euros.", "The fee is 45 euros."]
    )
    expect(page.locator(".claim.doubtful")).to_have_count(2)
    expect(page.get_by_test_id("doubt")).to_have_text(
        ["not found on the page", "a number is not in its quote"]
    )
    expect(panel).to_contain_text("2 sentences are not supported by a quote")
    chips = page.get_by_test_id("cite")
    expect(chips).to_have_count(2)  # the invented quote has none
    expect(page.get_by_test_id("result-card").first).to_be_in_viewport()  # below the panel, not beside it

    page.goto("/?s=library")  # leave, come back, and the answer is still there
    page.go_back()
    page.reload()
    expect(panel).to_have_attribute("data-state", "done")
    expect(page.get_by_test_id("claim")).to_have_count(3)
    assert chat.calls == 1

    chips.first.click()
    viewer = page.get_by_test_id("viewer")
    expect(viewer).to_have_attribute("data-page", "2")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(chips.first).to_have_attribute("aria-pressed", "true")
    rects = page.locator("[data-testid=quote] rect")
    expect(rects).to_have_count(2)  # one for each line of the quote
    word = page.get_by_test_id("page-text").get_by_text("40", exact=True)
    expect(word).to_have_count(1)
    boxes = [rects.nth(i).bounding_box() for i in range(2)]
    place = word.bounding_box()
    assert place
    assert any(
        box
        and box["x"] <= place["x"]
        and box["y"] <= place["y"] + place["height"] / 2 <= box["y"] + box["height"]
        for box in boxes
    )
    page.get_by_role("button", name="Next page").or_(
        page.get_by_role("button", name="Previous page")
    ).first.click()
    expect(rects).to_have_count(0)  # another page has no light


def test_what_stands_on_a_page_comes_first_then_the_written_answer_then_the_pages(page: Page) -> None:
    def change(value: Json, _: str) -> None:
        value["answers"] = [answer(value["hits"][0])]
        value["notes"] = [{"kind": kind, "text": kind} for kind in ("missing_phrase", "weak_match")]

    rewrite(page, change)
    page.goto("/")
    ask(page, "the fees of a quay")
    parts = ("[data-note=missing_phrase]", ".answers", ".written", "[data-note=weak_match]", ".card")
    places = [page.locator(f"#results {part}").first for part in parts]
    for place in places:
        expect(place).to_be_visible()
    tops = [place.evaluate("node => node.getBoundingClientRect().top") for place in places]
    assert tops == sorted(tops)
    written = places[2].get_by_role("button", name="Answer", exact=True)
    page.get_by_test_id("answer").press("Tab")  # the keyboard follows the same order
    expect(written).to_be_focused()


def test_a_refusal_shows_the_closest_pages_and_another_question_clears_the_answer(
    page: Page, chat: ChatServer
) -> None:
    chat.will_say("NOT_FOUND")
    page.goto("/")
    ask(page, "lamps")
    panel = page.get_by_test_id("written")
    panel.get_by_role("button", name="Answer", exact=True).click()
    expect(panel).to_have_attribute("data-status", "refused")
    expect(panel).to_contain_text("The model found no answer on the pages that match best.")
    expect(page.get_by_test_id("written-page").first).to_contain_text("harbour.pdf#page=1")
    ask(page, "oil")
    expect(panel).to_have_attribute("data-state", "idle")
    expect(page.get_by_test_id("written-text")).to_be_empty()


def test_a_server_that_fails_is_named_and_asking_again_works(page: Page, chat: ChatServer) -> None:
    chat.will_say(Answer(status=500, body="out of memory"), claims(("Oil it is.", 1, "Lamps and oil")))
    page.goto("/")
    ask(page, "oil and lamps")
    panel = page.get_by_test_id("written")
    panel.get_by_role("button", name="Answer", exact=True).click()
    expect(panel).to_contain_text("answered 500 (out of memory)")
    panel.get_by_role("button", name="Answer again").click()
    expect(page.get_by_test_id("claim")).to_have_text(["Oil it is."])
    expect(panel).to_have_attribute("data-status", "grounded")


def test_hostile_text_of_a_model_stays_text_and_the_panel_is_accessible(page: Page, chat: ChatServer) -> None:
    hostile = "<img src=x onerror=\"document.title='owned'\"> ${document.title='owned'}"
    chat.will_say(claims((hostile, 1, "Lamps and oil"), ("And more.", 1, "none of it")))
    page.goto("/")
    ask(page, "lamps oil quay")
    panel = page.get_by_test_id("written")
    panel.get_by_role("button", name="Answer", exact=True).click()
    expect(panel).to_have_attribute("data-state", "done")
    expect(page.get_by_test_id("claim").first).to_contain_text("<img src=x onerror")
    assert page.title() != "owned"
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("body")).to_have_class(re.compile("dark" if scheme == "dark" else "^$"))
        assert violations(page, ".written", (*WCAG, "best-practice")) == []


def test_on_a_phone_a_chip_opens_the_page_over_the_results(
    browser: Browser, server: Server, chat: ChatServer
) -> None:
    chat.will_say(REPLY)
    with tab(browser, server.url, viewport={"width": 390, "height": 800}) as opened:
        page = opened.page
        page.goto("/")
        ask(page, "fees of the quay")
        page.get_by_test_id("written").get_by_role("button", name="Answer", exact=True).click()
        page.get_by_test_id("cite").first.click()
        expect(page.get_by_test_id("viewer")).to_have_class(re.compile("open"))
        expect(page.locator("[data-testid=quote] rect").first).to_be_in_viewport()
        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
        assert not wide
