"""Makes the pictures in docs/screens: each screen over the samples, in light, dark and on a phone.

python docs/screens.py --work FOLDER
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import configs.settings as configs  # noqa: E402
from ingest.pipeline import ingest  # noqa: E402
from tests.ui.browser import CHROMIUM, FLAGS, served, tab  # noqa: E402
from ui import factory  # noqa: E402

SAMPLES = ROOT / "samples" / "pdfs"
SCREENS = ROOT / "docs" / "screens"
QUESTION = "How much current does one bridge carry at 85 degrees?"
LOOKS = {
    "light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 412, "height": 860}, "color_scheme": "light", "device_scale_factor": 2},
}


def ready(page: Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("[data-testid=stock][data-state=ready]", state="attached")
    if "q=" in address:
        page.wait_for_selector("[data-testid=results][data-state=ready]", state="attached")
    page.wait_for_timeout(1500)


def shoot(page: Page, name: str) -> None:
    image = Image.open(io.BytesIO(page.screenshot()))
    image.thumbnail((1440, 1800))
    image.convert("RGB").save(SCREENS / f"{name}.webp", quality=82)


def tour(page: Page, look: str) -> None:
    query = QUESTION.replace(" ", "+")
    ready(page, "/")
    shoot(page, f"start-{look}")
    ready(page, f"/?q={query}")
    if look == "phone":
        shoot(page, f"results-{look}")
        page.get_by_test_id("result-card").first.click()
        page.wait_for_timeout(1200)
    else:
        page.keyboard.press("Escape")
        page.keyboard.press("h")
        page.wait_for_timeout(400)
    shoot(page, f"search-{look}")
    ready(page, f"/?q={query}&s=compare")
    shoot(page, f"compare-{look}")
    ready(page, "/?s=library")
    shoot(page, f"library-{look}")


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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        with served(work / "empty.lance") as server, tab(browser, server.url, **LOOKS["light"]) as opened:
            ready(opened.page, "/")
            shoot(opened.page, "first-run-light")
        with served(index) as server:
            for look, options in LOOKS.items():
                with tab(browser, server.url, **options) as opened:
                    tour(opened.page, look)
        browser.close()


if __name__ == "__main__":
    main()
