"""A real browser without a window, for the tests of the HTML report: it notes what a page complains of or asks for."""

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
QUIETLY = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

DESK = {"width": 1280, "height": 900}
PHONE = {"width": 360, "height": 740}


@contextmanager
def chromium() -> Iterator[Browser]:
    """The machine's own Chromium; the test that asks for it is skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no Chromium here to show the report in; install one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIETLY))
        yield browser
        browser.close()


def written(report: Report, folder: Path) -> str:
    """The address of the report's page, written into ``folder``."""
    path = folder / "report.html"
    path.write_bytes(HtmlReport().render(report).encode("utf-8", "backslashreplace"))
    return path.as_uri()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """``address`` in a window of its own; fails where the page erred, complained, or asked for anything but itself."""
    context = browser.new_context(**({"viewport": DESK} | options))
    context.set_default_timeout(5_000)
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
    """The matrix says that it shows so many checks, which must be some."""
    assert checks
    expect(page.locator(".shown")).to_have_text(re.compile(rf": {checks:,} checks? of [\d,]+ cases?\.$"))


def _note(troubles: list[str], asked: str, address: str) -> None:
    if not asked.startswith((address.partition("#")[0], "data:", "blob:")):
        troubles.append(f"request: {asked}")
