"""Makes the pictures in docs: every screen over the samples, in light, in dark and on a phone, and one marked page.

python docs/screens.py --work FOLDER

Run it on an idle machine: the pictures show how long each stage took. Reranking has time for all its pages.
"""

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote_plus

import httpx
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import configs.settings as configs  # noqa: E402
from ingest.pipeline import ingest  # noqa: E402
from retrieval.store.store import Store  # noqa: E402
from tests.ui.browser import CHROMIUM, FLAGS, served, tab  # noqa: E402
from ui import factory  # noqa: E402

SAMPLES = ROOT / "samples" / "pdfs"
DOCS = ROOT / "docs"
SCREENS = DOCS / "screens"
BUDGET_MS = 60_000
# All three are in samples/queries.jsonl. The first page found answers each; reranking lifts the second one's from 3.
QUESTION = "What share of burst water mains is cast iron from before 1950?"
COMPARED = "What does the motor do when both inputs of an FX-2207 bridge are high?"
MARKED = "Who claimed for crushed stoneware plates, and how much?", "quillon-claim-forms.tiff", 1
LOOKS = {
    "light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 412, "height": 860}, "color_scheme": "light", "device_scale_factor": 2},
}
DATES = {
    "ashmoor-bridge-inspection-scan.pdf": "2022-11-16",
    "auenrode-energiebericht-2023.pdf": "2024-05-06",
    "brackwater-annual-report-2023.pdf": "2024-03-07",
    "fx-2207-datasheet.pdf": "2024-02-04",
    "montclair-manuel-securite.pdf": "2024-01-01",
    "orrin-valley-water-q3-review.pdf": "2024-10-17",
    "pellworth-arden-storage-agreement.pdf": "2024-04-01",
    "quillon-claim-forms.tiff": "2024-03-19",
    "resting-sand-filters-paper.pdf": "",
    "sandrey-harbour-minutes.pdf": "2024-09-12",
    "tarnbrook-stock-count-2024.pdf": "2024-06-29",
    "tessaly-annual-report-2023.pdf": "2024-03-21",
}
"""The date that stands in each document. The files' own metadata say 2000-01-01, so that they are always built to the
same bytes, or nothing, and then a document has the date at which its file was written to this disk."""


def open_ready(page: Page, address: str) -> None:
    """Open the address and wait until the library, and the results if it asks for any, have been drawn."""
    page.goto(address)
    page.wait_for_selector("[data-testid=stock][data-state=ready]", state="attached")
    if "q=" in address:
        page.wait_for_selector("[data-testid=results][data-state=ready]", state="attached")
    page.wait_for_timeout(1500)


def shoot(page: Page, name: str) -> None:
    """Save what the tab shows as docs/screens/NAME.webp, at most 1440 x 1800 pixels."""
    image = Image.open(io.BytesIO(page.screenshot()))
    image.thumbnail((1440, 1800))
    quality = 82 if image.width > image.height else 72  # a phone's pixels are half as large
    image.convert("RGB").save(SCREENS / f"{name}.webp", quality=quality)


def tour(page: Page, look: str) -> None:
    """Take the pictures of every screen in one look."""
    open_ready(page, "/")
    shoot(page, f"start-{look}")
    open_ready(page, f"/?q={quote_plus(QUESTION)}")
    if look == "phone":
        shoot(page, f"results-{look}")
        page.get_by_test_id("result-card").first.click()
        page.wait_for_timeout(1200)
    shoot(page, f"search-{look}")
    open_ready(page, f"/?q={quote_plus(COMPARED)}&s=compare")
    shoot(page, f"compare-{look}")
    open_ready(page, "/?s=library")
    shoot(page, f"library-{look}")


def save_marked_page(url: str, store: Store) -> None:
    """Save docs/highlighted-page.webp: a page with its highlights, as REST draws it."""
    question, name, number = MARKED
    address = f"{url}/api/v1/documents/{store.document(name).doc_id}/pages/{number}/image"
    answer = httpx.get(address, params={"q": question, "format": "png"}, timeout=60).raise_for_status()
    image = Image.open(io.BytesIO(answer.content)).convert("RGB")
    image.thumbnail((900, 1300))
    image.save(DOCS / "highlighted-page.webp", quality=75)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="A folder for the index.")
    work: Path = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    SCREENS.mkdir(exist_ok=True)
    settings = configs.load_profile("cpu")
    index = work / "screens.lance"
    store, encoder = factory.create_store(str(index), settings)
    for _ in ingest([SAMPLES], store, encoder, settings.ingest, collection="samples"):
        pass
    with store.writing():
        for name, date in DATES.items():
            store.update(replace(store.document(name), date=date))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with served(work / "empty.lance") as server, tab(browser, server.url, **LOOKS["light"]) as opened:
            open_ready(opened.page, "/")
            shoot(opened.page, "first-run-light")
        profile = work / "screens.yaml"
        search = settings.search.model_copy(update={"budget_ms": BUDGET_MS})
        profile.write_text(settings.model_copy(update={"search": search}).model_dump_json())
        with served(index, "--profile", str(profile)) as server:
            for look, options in LOOKS.items():
                with tab(browser, server.url, **options) as opened:
                    tour(opened.page, look)
            save_marked_page(server.url, store)
        browser.close()


if __name__ == "__main__":
    main()
