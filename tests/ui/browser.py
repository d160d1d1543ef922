"""A real server in its own process, and tabs of a real Chromium that fail on any error or foreign request."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

CHROMIUM = os.environ.get("FOLIOSCOPE_CHROMIUM", "/usr/bin/chromium")
# If this is True, a missing browser is a failure.
REQUIRED = bool(os.environ.get("CI") or os.environ.get("FOLIOSCOPE_CHROMIUM"))
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (REQUIRED or Path(CHROMIUM).exists()), reason=f"no {CHROMIUM}: set FOLIOSCOPE_CHROMIUM"
    ),
]
"""Of each module of tests that use the fixtures `browser` and `page`."""
ROOT = Path(__file__).parents[2]
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
GRADIO = "footer"  # Gradio's own link in the hidden footer has too little contrast
SETTLED = """
    Promise.allSettled(document.getAnimations()
      .filter((animation) => animation.effect.getComputedTiming().endTime !== Infinity)
      .map((animation) => animation.finished)).then(() => true)
"""
"""Evaluates to true when all transitions have ended: halfway, the contrast of a text is that of neither end."""
ADDRESS = re.compile(r"Folioscope is at (http://127\.0\.0\.1:([1-9]\d*)) \(Ctrl-C ends it\)\n")


@dataclass
class Server:
    """`folioscope serve` over `index`. `start` after `stop` uses the same port again."""

    index: Path
    options: tuple[str, ...] = ()
    port: int = 0
    url: str = ""
    process: "subprocess.Popen[str] | None" = None
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "ui.cli",
            "serve",
            "--index",
            str(self.index),
            "--port",
            str(self.port),
        ]
        self.process = subprocess.Popen(
            [*command, *self.options], cwd=ROOT, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **self.environment},
        )  # fmt: skip
        assert self.process.stdout
        address = ADDRESS.fullmatch(self.process.stdout.readline())
        assert address, "the server did not print its address"
        self.url, self.port = address[1], int(address[2])

    def wait(self) -> None:
        """Waits until the models are loaded."""
        for _ in range(400):
            assert self.process
            assert self.process.poll() is None, "the server ended"
            try:
                answer = httpx.get(f"{self.url}/ready", timeout=2)
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code in (200, 401):
                return
            time.sleep(0.1)
        raise AssertionError("the server was not ready in time")

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None


@contextmanager
def served(index: Path, *options: str) -> Iterator[Server]:
    server = Server(index, options)
    server.start()
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@dataclass
class Tab:
    page: Page
    context: BrowserContext
    wrong: list[str]


@contextmanager
def tab(browser: Browser, url: str, *allowed: str, **options: Any) -> Iterator[Tab]:
    """Yields a new tab. Errors and requests to other hosts fail the test, unless they contain one of `allowed`."""
    expect.set_options(timeout=20_000)
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, "base_url": url, **options})
    context.set_default_timeout(20_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else wrong.append(r.url))
    page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    yield Tab(page, context, wrong)
    page.unroute_all(behavior="ignoreErrors")  # a rewritten answer may still be under way
    context.close()
    assert [problem for problem in wrong if not any(part in problem for part in allowed)] == []


def violations(page: Page, within: str = "body", rules: Sequence[str] = WCAG) -> list[tuple[str, str]]:
    """Returns what axe finds wrong in a part of the page that has been drawn: the rule, and the element's HTML.

    within: a CSS selector. rules: tags of axe's rules.
    """
    page.evaluate(SETTLED)
    # axe-core evaluates its own scripts, which the page's policy allows.
    found = Axe().run(page, within, options={"runOnly": list(rules)})
    return [
        (violation["id"], node["html"][:160])
        for violation in found.response["violations"]
        for node in violation["nodes"]
        if GRADIO not in node["target"][0]
    ]
