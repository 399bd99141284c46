"""A headless browser for the tests of the HTML report. It records errors, console messages and requests."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from harness.report.html import HtmlReport
from harness.result import Report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HEADLESS_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The installed Chromium; skips the test if there is none."""
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no Chromium here to show the report in; install one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(HEADLESS_FLAGS))
        yield browser
        browser.close()


def written(report: Report, folder: Path) -> str:
    """Write the report's page into ``folder`` and return its address."""
    path = folder / "report.html"
    path.write_bytes(HtmlReport().render(report).encode("utf-8", "backslashreplace"))
    return path.as_uri()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """Open ``address`` in a new window; fail on an error, a console message or a request to another address."""
    context = browser.new_context(**({"viewport": DESKTOP} | options))
    context.set_default_timeout(5_000)
    context.set_default_navigation_timeout(60_000)  # the largest pages, on a machine that does other work too
    page = context.new_page()
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("console", lambda message: troubles.append(f"console: {message.type}: {message.text}"))
    page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: _note(troubles, request.url, address))
    page.goto(address)
    yield page
    context.close()
    assert not troubles, troubles


def shows(page: Page, checks: int) -> None:
    """Assert that the matrix shows this number of checks, which must not be 0."""
    assert checks
    expect(page.locator(".shown")).to_have_text(re.compile(rf": {checks:,} checks? of [\d,]+ cases?\.$"))


def _note(troubles: list[str], url: str, address: str) -> None:
    if not url.startswith((address.partition("#")[0], "data:", "blob:")):
        troubles.append(f"request: {url}")
