"""What a reader says, in a real browser: the answer on top and lit, honest confidence, a reranking that was cut.

The results are made by hand: they take the place of the server's on their way to the page.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.ui.browser import MARKS, Server, served, tab, violations
from tests.ui.test_browser import answered, go_to, pdf
from ui import open_index

QUESTION = "fees of the quay"
BOX = [0.3, 0.2, 0.5, 0.22]
HEAD = [0.3, 0.1, 0.5, 0.12]
LIKELY = (0.83, 0.42, 0.05)
NOTE = "No page answers this well. Nearest pages:"
Json = dict[str, Any]

pytestmark = MARKS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("answers")
    texts = ("Lamps and oil", "Fees of the marmalade quay\nare 733 thousand", "The quay has other fees")
    (folder / "in").mkdir()
    pdf(folder / "in" / "harbour.pdf", *texts)
    for event in open_index(folder / "i.lance", "smoke", create=True).ingest([folder / "in"]):
        assert event.event != "failed", event.message
    with served(folder / "i.lance", "--profile", "smoke") as server:
        yield server


def rewrite(page: Page, change: Callable[[Json, str], None]) -> None:
    """Let `change` edit the final result of each search before the page gets it; it also gets the search's address."""

    def answer(route: Route) -> None:
        response = route.fetch()
        values = [json.loads(line) for line in response.text().splitlines()]
        change(values[-1], route.request.url)
        route.fulfill(response=response, body="".join(json.dumps(value) + "\n" for value in values))

    page.route("**/api/v1/search?*", answer)


def answer(hit: Json, text: str = "733 thousand", probability: float = 0.83) -> Json:
    names = ("doc_id", "document", "page", "page_name")
    return {name: hit[name] for name in names} | {
        "text": text, "probability": probability, "boxes": [BOX], "passage_boxes": [BOX], "link": "",
        "passage": [["The fees are ", False], [text, True], [" a year", False]],
    }  # fmt: skip


def answering(page: Page) -> None:
    """Let the second hit answer best and the first one next, and light the answer on every page."""

    def change(value: Json, _: str) -> None:
        first, second = value["hits"][:2]
        value["answers"] = [answer(second), answer(first, "other <b>fees</b>", 0.31)]
        second["regions"] = [{"box": BOX, "strength": 1, "kind": "answer"}]
        for hit, confidence in zip(value["hits"], LIKELY, strict=True):
            hit["confidence"] = confidence

    def light(route: Route) -> None:
        response = route.fetch()
        value = response.json()
        value["answer"] = answer(value)
        value["regions"] = [
            {"box": BOX, "strength": 1, "kind": "answer"}, {"box": HEAD, "strength": 0.5, "kind": "head"},
        ]  # fmt: skip
        route.fulfill(response=response, json=value)

    rewrite(page, change)
    page.route("**/api/v1/documents/*/pages/*", light)


def ask(page: Page) -> None:
    go_to(page, f"/?q={QUESTION.replace(' ', '+')}")
    answered(page, QUESTION)
    expect(page.get_by_test_id("viewer")).to_have_attribute("data-state", "ready")


def test_the_answer_stands_above_the_pages_and_its_page_is_open_with_the_answer_lit(page: Page) -> None:
    answering(page)
    ask(page)
    best, other = page.get_by_test_id("answer").all()
    assert best.bounding_box()["y"] < page.get_by_test_id("result-card").first.bounding_box()["y"]
    second = page.get_by_test_id("result-card").nth(1)
    number = second.get_attribute("data-page")
    expect(best.locator("strong")).to_have_text("733 thousand")
    expect(best).to_contain_text(f"harbour.pdf, page {number} · 83% likely")
    expect(best.locator("mark")).to_have_text("733 thousand")
    expect(best).to_contain_text("The fees are 733 thousand a year")
    expect(other.locator("strong")).to_have_text("other <b>fees</b>")
    expect(page.locator("#results [data-part=live]")).to_have_text(
        f"Answer: 733 thousand. harbour.pdf, page {number}"
    )

    viewer = page.get_by_test_id("viewer")
    expect(viewer).to_have_attribute("data-page", str(number))
    expect(second).to_have_attribute("aria-current", "true")
    lit, paper = viewer.locator("rect.answer"), viewer.locator("[data-part=image]").bounding_box()
    expect(lit).to_have_count(1)
    box = lit.bounding_box()
    assert box
    assert paper
    assert (box["x"] - paper["x"]) / paper["width"] == pytest.approx(BOX[0], abs=0.01)
    assert (box["y"] - paper["y"]) / paper["height"] == pytest.approx(BOX[1], abs=0.01)
    assert lit.evaluate("node => getComputedStyle(node).fill") == "rgb(245, 184, 0)"
    assert viewer.locator("rect.head").first.evaluate("node => getComputedStyle(node).fill") == "none"
    expect(viewer.locator("rect.best.edge")).to_have_count(1)
    spot, thumb = second.locator("rect").bounding_box(), second.locator("img").bounding_box()
    assert spot
    assert thumb
    assert (spot["y"] - thumb["y"]) / thumb["height"] == pytest.approx(BOX[1], abs=0.03)


def test_another_answer_opens_its_page_with_the_keyboard(page: Page) -> None:
    answering(page)
    ask(page)
    other = page.get_by_test_id("answer").nth(1)
    other.press("Enter")
    expect(page.get_by_test_id("viewer")).to_have_attribute(
        "data-page", other.get_attribute("data-page") or ""
    )
    expect(other).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.get_by_test_id("answer").first).to_have_attribute("aria-current", "true")


def test_the_lights_have_a_legend_and_the_answers_can_be_switched_off(page: Page) -> None:
    answering(page)
    ask(page)
    words = page.locator("#viewer [data-part=words]")
    expect(words).to_contain_text("words of your question")
    light = page.get_by_test_id("answer-light")
    expect(light).to_have_text("answer")
    light.press("Enter")
    expect(light).to_have_attribute("aria-pressed", "false")
    expect(light).to_be_focused()
    expect(page.locator("#viewer rect.answer, #viewer rect.head")).to_have_count(0)
    expect(page.locator("#viewer rect.word").first).to_be_visible()
    light.press("Enter")
    expect(page.locator("#viewer rect.answer")).to_have_count(1)


def test_a_bar_is_as_long_as_the_page_is_likely_to_answer(page: Page) -> None:
    answering(page)
    ask(page)
    bars = page.get_by_test_id("confidence")
    widths = [bar.evaluate("bar => bar.firstChild.offsetWidth / bar.offsetWidth") for bar in bars.all()]
    assert widths == pytest.approx(LIKELY, abs=0.02)
    expect(bars.first).to_have_attribute("title", re.compile("^83% likely to answer"))


def test_without_confidence_there_is_no_bar_and_without_answers_no_box(page: Page) -> None:
    ask(page)
    expect(page.get_by_test_id("result-card").first).to_be_visible()
    expect(page.get_by_test_id("confidence")).to_have_count(0)
    expect(page.get_by_test_id("answers")).not_to_be_visible()
    expect(page.get_by_test_id("rest")).to_have_count(0)


def test_a_result_without_a_good_answer_says_so_once_and_its_bars_are_grey(page: Page) -> None:
    def change(value: Json, _: str) -> None:
        value["notes"] = [{"kind": "unknown_words", "text": "Unknown."}, {"kind": "weak_match", "text": NOTE}]
        for hit in value["hits"]:
            hit["confidence"] = 0.1

    rewrite(page, change)
    ask(page)
    expect(page.get_by_role("heading", name=NOTE)).to_be_visible()
    expect(page.get_by_text(NOTE)).to_have_count(1)
    bar = page.get_by_test_id("confidence").first.locator("i")
    red, green, blue = map(
        int,
        re.findall(r"\d+", str(bar.evaluate("node => getComputedStyle(node).backgroundColor")))[:3],
    )
    assert max(red, green, blue) - min(red, green, blue) < 50


def test_the_rest_of_a_shortlist_is_read_when_asked_for_and_exported_so(page: Page) -> None:
    def change(value: Json, address: str) -> None:
        if "budget_ms=600000" not in address:
            value["decision"] |= {"kind": "reranked_in_part", "read": 1, "shortlist": 3}

    rewrite(page, change)
    ask(page)
    note = page.get_by_test_id("rest")
    expect(note).to_contain_text("Read 1 of 3 pages in time; the rest keep their first place.")
    page.get_by_role("button", name="Read the rest").press("Enter")
    expect(note).to_have_count(0)
    expect(page.get_by_test_id("result-card")).to_have_count(3)
    expect(page.locator("#results [data-part=status]")).to_be_focused()
    expect(page.locator("#results [data-part=decision]")).to_contain_text("Reranked the first 3 of 3")
    expect(page.locator("[data-export=csv]")).to_have_attribute("href", re.compile("budget_ms=600000"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [412, 1440])
def test_answers_pass_axe_and_fit_a_phone(browser: Browser, server: Server, scheme: str, width: int) -> None:
    with tab(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 900}) as opened:
        answering(opened.page)
        ask(opened.page)
        expect(opened.page.get_by_test_id("answer").first).to_be_visible()
        assert opened.page.evaluate("document.documentElement.scrollWidth") == width
        assert violations(opened.page) == []
