"""The HTML report in a real browser: filters, search, links, and use by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from harness.result import Result
from tests.browser import opened, shows, written
from tests.report_samples import FAILED, report
from tests.report_synthetic import TARGETS, synthetic

MADE = synthetic(1600, wrong=0.02)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(MADE, tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as shown:
        yield shown


def having(status: str, target: str = "") -> list[Result]:
    return [one for one in MADE.results if one.status == status and target in {"", one.target}]


# --- filters --------------------------------------------------------------------------------------------------------


def test_all_checks_are_counted_and_collapsed_by_layer_at_first(page: Page) -> None:
    shows(page, len(MADE.results))
    assert page.locator(".matrix .group").count() == len({one.case.rpartition("/")[0] for one in MADE.results})
    assert page.locator(".matrix .case").count() == 0
    totals = page.locator(".matrix .group td .tally .failed").all_inner_texts()
    assert sum(int(text.split()[0]) for text in totals) == len(having("failed"))


def test_each_status_can_be_chosen_alone_and_together_with_others(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^failed")).click()
    shows(page, len(having("failed")))
    page.get_by_role("button", name=re.compile("^error")).click()
    shows(page, len(having("failed") + having("error")))
    expect(page.get_by_role("button", name=re.compile("^error"))).to_have_attribute("aria-pressed", "true")
    cells = page.locator(".matrix .cell:not(.other)")
    assert cells.count() == len(having("failed") + having("error"))
    page.get_by_role("button", name=re.compile("^failed")).click()
    shows(page, len(having("error")))
    page.get_by_role("button", name="Show all").click()
    shows(page, len(MADE.results))
    expect(page.get_by_role("button", name="Show all")).to_be_hidden()


def test_the_filters_count_what_they_would_show(page: Page) -> None:
    counts = page.locator(".toggle[data-status=failed] .count, .toggle[data-status=passed] .count")
    assert counts.all_inner_texts() == [f"{len(having(status)):,}" for status in ("passed", "failed")]
    page.get_by_label("Target", exact=True).select_option(TARGETS[3])
    page.get_by_role("button", name=re.compile("^failed")).click()
    assert counts.all_inner_texts() == [f"{len(having(status, TARGETS[3])):,}" for status in ("passed", "failed")]
    page.get_by_role("searchbox").fill("no such thing")
    assert counts.all_inner_texts() == ["0", "0"]


def test_columns_keep_their_width_whatever_is_chosen(page: Page) -> None:
    def widths() -> list[float]:
        heads = page.locator(".matrix thead th").all()
        return [box["width"] for head in heads if (box := head.bounding_box())]

    first = widths()
    page.get_by_role("searchbox").fill("linear")
    assert widths() == first
    page.get_by_label("Target", exact=True).select_option(TARGETS[0])
    assert widths() == first[:2]


def test_a_target_and_whom_to_blame_can_be_chosen(page: Page) -> None:
    page.get_by_label("Target", exact=True).select_option(TARGETS[3])
    shows(page, sum(one.target == TARGETS[3] for one in MADE.results))
    assert page.locator(".matrix thead th").count() == 2
    page.get_by_label("Blame").select_option("exporter")
    blamed = [one for one in MADE.results if one.target == TARGETS[3] and one.blame == "exporter"]
    shows(page, len(blamed))


def test_every_word_of_a_search_must_occur_in_a_check(page: Page) -> None:
    page.get_by_role("searchbox", name="Search").fill("MAXPOOL2D dtypes @23+fixes")
    matching = [one for one in MADE.results if "maxpool2d/dtypes" in one.case and "@23+fixes" in one.target]
    shows(page, len(matching))
    page.get_by_role("searchbox").fill("segmentation fault")
    shows(page, sum("Segmentation fault" in (one.message or "") for one in MADE.results))
    page.get_by_role("searchbox").fill("no such thing")
    expect(page.locator(".shown")).to_have_text("No check matches. Remove a word or a filter.")
    page.get_by_role("searchbox").fill("")
    shows(page, len(MADE.results))


def test_a_choice_is_kept_in_the_address_and_taken_from_it(page: Page, browser: Browser, address: str) -> None:
    page.get_by_role("button", name=re.compile("^known")).click()
    page.get_by_role("searchbox").fill("avg & pool+2d")
    page.wait_for_url(re.compile("q=avg.*status=known"))
    with opened(browser, page.url) as again:
        expect(again.get_by_role("searchbox")).to_have_value("avg & pool+2d")
        expect(again.get_by_role("button", name=re.compile("^known"))).to_have_attribute("aria-pressed", "true")
    with opened(browser, f"{address}#status=nonsense&target=nowhere&check=no&on=none") as odd:
        shows(odd, len(MADE.results))


# --- links ----------------------------------------------------------------------------------------------------------


def test_a_count_in_the_head_shows_its_checks(page: Page) -> None:
    target = having("failed")[0].target
    page.locator(".counts tbody tr", has_text=target).locator("a.failed").click()
    shows(page, len(having("failed", target)))
    expect(page.get_by_label("Target", exact=True)).to_have_value(target)


def test_the_numbers_of_a_cell_are_one_click_away_and_back_closes_them(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^failed")).click()
    page.locator(".matrix .cell.failed").first.click()
    drawer = page.get_by_role("dialog")
    drawer.get_by_text("Details", exact=True).click()
    expect(drawer.get_by_role("heading", name="Numbers")).to_be_visible()
    expect(drawer.get_by_role("row", name=re.compile("max ulp"))).to_contain_text("2,796,203")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.go_back()
    expect(drawer).to_be_hidden()
    shows(page, len(having("failed")))


def test_the_address_of_a_check_opens_it(browser: Browser, address: str, page: Page) -> None:
    page.locator("#wrong .card summary").first.click()
    page.locator("#wrong a[href^='#check']").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.wait_for_url(re.compile("check="))
    with opened(browser, page.url) as again:
        text = again.get_by_role("dialog").inner_text()
        wrong = next(one for one in MADE.results if one.status in {"failed", "error", "fixed"})
        assert wrong.target in text
        again.get_by_role("button", name="Close").click()
        assert again.url == address


def test_next_and_previous_go_through_what_is_chosen(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^failed")).click()
    page.locator(".matrix .cell.failed").first.click()
    drawer = page.get_by_role("dialog")
    seen = [drawer.get_by_role("heading").first.inner_text() + drawer.locator(".sheet > p").first.inner_text()]
    while (following := drawer.get_by_role("button", name="Next")).count():
        following.click()
        seen.append(drawer.get_by_role("heading").first.inner_text() + drawer.locator(".sheet > p").first.inner_text())
    assert len(set(seen)) == len(having("failed")) == len(seen)
    drawer.get_by_role("button", name="Previous").click()
    expect(drawer.locator(".place")).to_have_text(f"{len(seen) - 1} of {len(seen)}")


def test_every_link_within_the_page_leads_somewhere(page: Page) -> None:
    lost = page.evaluate("""() => [...document.querySelectorAll('a[href^="#"]')]
        .map((link) => link.getAttribute('href').slice(1))
        .filter((name) => !name.includes('=') && !document.getElementById(name))""")
    assert lost == []
    visible = page.locator("nav a:visible").all()
    assert len(visible) == 10
    for link in visible:
        link.click()
        expect(page.locator((link.get_attribute("href") or "").replace("#", "section#"))).to_be_in_viewport()


# --- by keyboard ----------------------------------------------------------------------------------------------------


def focused(page: Page) -> str:
    text: str = page.evaluate("document.activeElement.innerText || document.activeElement.id")
    return text


def test_all_of_it_can_be_done_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the checks"
    page.keyboard.press("/")
    assert focused(page) == "search"
    page.keyboard.type("linear/notes trace/")
    row = page.locator(".matrix .case").first
    page.locator(".matrix .head").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.closest('tr').className") == "case"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    expect(row.locator("a").last).to_be_focused()
    page.keyboard.press("Home")
    expect(row.locator("a").first).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(row.locator("a").first).to_be_focused()
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.className") == "head"


def test_groups_open_and_close_by_key_and_keep_the_focus(page: Page) -> None:
    head = page.locator(".matrix .group .head").first
    head.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "true")
    expect(head).to_be_focused()
    family = page.locator(".matrix .family .head").first
    family.press("Space")
    assert page.locator(".matrix .case.deep").count() > 1
    head.press("Enter")
    assert page.locator(".matrix .case").count() == 0


def test_the_cells_of_a_picture_are_read_by_arrow_keys(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    picture = {
        "output": 0, "title": "[:, :] of [2, 2]", "shape": [2, 2], "worst": [1, 0],
        "expected": [[1.25, 2], [3, "nan"]], "actual": [[1.25, 2.5], ["-inf", "nan"]], "error": [[0, 0.5], ["inf", 0]],
    }  # fmt: skip
    made = written(report(replace(FAILED, pictures=(picture,))), tmp_path_factory.mktemp("picture"))
    with opened(browser, made) as page:
        page.locator("#wrong summary").click()
        expect(page.locator("#wrong .scale").last).to_contain_text("colour: log scale")
        panes = page.locator("#wrong .panes")
        assert panes.locator("h4").all_inner_texts() == ["expected", "actual", "absolute error"]
        assert "2 of 4 cells differ, 1 of them because only one side is finite" in (
            panes.get_attribute("aria-label") or ""
        )
        panes.focus()
        readout = page.locator("#wrong .readout")
        expect(readout).to_have_text("[1, 0] actual -inf, expected 3, error inf")
        page.keyboard.press("ArrowUp")
        expect(readout).to_have_text("[0, 0] actual 1.25, expected 1.25, error 0")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        expect(readout).to_have_text("[0, 1] actual 2.5, expected 2, error 0.5")
        panes.locator("svg.cells").first.hover(position={"x": 60, "y": 60})
        expect(readout).to_have_text("[1, 1] actual nan, expected nan, error 0")
