"""The HTML report as it is used, in a real browser: chosen from, searched, followed, and worked by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, expect

from harness.report.html import HtmlReport
from harness.result import Report, Result
from tests.browser import chromium, opened, written
from tests.report_samples import FAILED, KNOWN, PASSED, SKIPPED, report
from tests.report_synthetic import FAMILIES, TARGETS, synthetic

MADE = synthetic(1600, wrong=0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(MADE, tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, address) as shown:
        yield shown


def having(status: str, target: str = "") -> list[Result]:
    return [one for one in MADE.results if one.status == status and target in {"", one.target}]


def shows(page: Page, checks: int) -> None:
    """The matrix says that it shows so many checks, which must be some."""
    assert checks
    expect(page.locator(".shown")).to_have_text(re.compile(rf": {checks:,} checks? of [\d,]+ cases?\.$"))


# --- choosing -------------------------------------------------------------------------------------------------------


def test_all_checks_are_counted_and_collapsed_by_layer_at_first(page: Page) -> None:
    shows(page, len(MADE.results))
    assert page.locator(".matrix .group").count() == len({one.case.rpartition("/")[0] for one in MADE.results})
    assert page.locator(".matrix .case").count() == 0
    totals = page.locator(".matrix .group .tally .failed").all_inner_texts()
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


def test_a_target_and_whom_to_blame_can_be_chosen(page: Page) -> None:
    page.get_by_label("Target", exact=True).select_option(TARGETS[3])
    shows(page, sum(one.target == TARGETS[3] for one in MADE.results))
    assert page.locator(".matrix thead th").count() == 2
    page.get_by_label("Blame").select_option("exporter")
    blamed = [one for one in MADE.results if one.target == TARGETS[3] and one.blame == "exporter"]
    shows(page, len(blamed))


def test_every_word_of_a_search_must_be_found_somewhere_in_a_check(page: Page) -> None:
    page.get_by_role("searchbox", name="Search").fill("MAXPOOL2D dtypes @23+fixes")
    meant = [one for one in MADE.results if "maxpool2d/dtypes" in one.case and "@23+fixes" in one.target]
    shows(page, len(meant))
    page.get_by_role("searchbox").fill("segmentation fault")
    shows(page, sum("Segmentation fault" in (one.message or "") for one in MADE.results))
    page.get_by_role("searchbox").fill("no such thing")
    expect(page.locator(".shown")).to_have_text("Nothing matches. Take a word or a filter away.")
    page.get_by_role("searchbox").fill("")
    shows(page, len(MADE.results))


def test_a_choice_is_kept_in_the_address_and_taken_from_it(page: Page, browser: Browser, address: str) -> None:
    page.get_by_role("button", name=re.compile("^known")).click()
    page.get_by_role("searchbox").fill("avg & pool+2d")
    with opened(browser, page.url) as again:
        expect(again.get_by_role("searchbox")).to_have_value("avg & pool+2d")
        expect(again.get_by_role("button", name=re.compile("^known"))).to_have_attribute("aria-pressed", "true")
    with opened(browser, f"{address}#status=nonsense&target=nowhere&check=no&on=none") as odd:
        shows(odd, len(MADE.results))


# --- following ------------------------------------------------------------------------------------------------------


def test_a_count_in_the_head_shows_its_checks(page: Page) -> None:
    target = having("failed")[0].target
    page.locator(".counts tbody tr", has_text=target).locator("a.failed").click()
    shows(page, len(having("failed", target)))
    expect(page.get_by_label("Target", exact=True)).to_have_value(target)


def test_the_numbers_of_a_cell_are_one_click_away_and_back_closes_them(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^failed")).click()
    page.locator(".matrix .cell.failed").first.click()
    drawer = page.get_by_role("dialog")
    expect(drawer.get_by_role("heading", name="Numbers")).to_be_visible()
    expect(drawer.get_by_role("row", name=re.compile("max ulp"))).to_contain_text("2,796,203")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.go_back()
    expect(drawer).to_be_hidden()
    shows(page, len(having("failed")))


def test_the_address_of_a_check_opens_it(browser: Browser, address: str, page: Page) -> None:
    page.locator("#wrong details a", has_text="Link to this check").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    with opened(browser, page.url) as again:
        said = again.get_by_role("dialog").inner_text()
        wrong = next(one for one in MADE.results if one.status in {"failed", "error", "fixed"})
        assert wrong.target in said
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
    said: str = page.evaluate("document.activeElement.innerText || document.activeElement.id")
    return said


def test_all_of_it_can_be_done_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "To the checks"
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
        panes = page.locator("#wrong .panes")
        assert panes.locator("h5").all_inner_texts() == ["expected", "actual", "error, in decades"]
        assert "2 of 4 cells differ, 1 of them where only one side" in (panes.get_attribute("aria-label") or "")
        panes.focus()
        readout = page.locator("#wrong .readout")
        expect(readout).to_have_text("[1, 0] expected 3, got -inf, error inf")
        page.keyboard.press("ArrowUp")
        expect(readout).to_have_text("[0, 0] expected 1.25, got 1.25, error 0")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowRight")
        expect(readout).to_have_text("[0, 1] expected 2, got 2.5, error 0.5")
        panes.locator("svg.cells").first.hover(position={"x": 60, "y": 60})
        expect(readout).to_have_text("[1, 1] expected nan, got nan, error 0")


# --- much, hostile, or nothing --------------------------------------------------------------------------------------


def test_ten_thousand_checks_are_searched_with_few_of_them_in_the_page(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = synthetic(10_000, wrong=0.05)
    with opened(browser, written(made, tmp_path_factory.mktemp("large"))) as page:
        shows(page, 10_000)
        size = "document.querySelectorAll('*').length"
        assert page.evaluate(size) < 20_000
        page.get_by_role("searchbox").fill("sigmoid kernel_size=20 onnx")
        meant = [one for one in made.results if "sigmoid" in one.case and "kernel_size=20" in one.case]
        shows(page, sum("onnx" in one.target for one in meant))
        page.get_by_role("searchbox").fill("")
        for head in page.locator(".matrix .group .head").all():
            head.click()
        assert page.locator(".matrix .family").count() == page.locator(".matrix .group").count() * (len(FAMILIES) - 1)
        assert page.evaluate(size) < 20_000


def test_a_family_of_many_points_is_opened_piece_by_piece(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    many = [replace(PASSED, case=f"pool/max/windows[n={number}]") for number in range(250)]
    with opened(browser, written(report(*many), tmp_path_factory.mktemp("family"))) as page:
        page.locator(".matrix .group .head").click()
        page.locator(".matrix .family .head").click()
        assert page.locator(".matrix .case.deep").count() == 200
        page.get_by_role("button", name="Show more; 50 cases left").click()
        assert page.locator(".matrix .case.deep").count() == 250


HOSTILE = "</script><img src=x onerror=alert(1)><b>bold</b> ${1+1} `code`"


def test_hostile_text_is_shown_as_it_stands(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    made = replace(
        FAILED, case=f"a/{HOSTILE}", target=HOSTILE, message=HOSTILE, evidence=(HOSTILE,),
        notes=(HOSTILE,), log=(HOSTILE,), checker=HOSTILE,
        issue="javascript:alert(1)", reason=HOSTILE, where=HOSTILE, reproduction=HOSTILE,
    )  # fmt: skip
    known = replace(made, status="known", case="a/known")
    with opened(browser, written(Report({}, (made, known), {}), tmp_path_factory.mktemp("hostile"))) as page:
        for fold in page.locator("details").all():
            fold.evaluate("fold => fold.open = true")
        page.locator(".reason a").first.click()
        expect(page.get_by_role("dialog")).to_contain_text("onerror=alert(1)")
        assert page.locator("img, b, a[href^='javascript']").count() == 0
        expect(page.locator("#wrong .script")).to_have_text(HOSTILE)


@pytest.mark.parametrize("made", [(), (PASSED,), (SKIPPED,), (KNOWN,)], ids=["none", "passed", "skipped", "known"])
def test_a_report_with_little_in_it_is_whole(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, made: tuple[Result, ...]
) -> None:
    with opened(browser, written(report(*made), tmp_path_factory.mktemp("little"))) as page:
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.locator("#wrong")).to_be_hidden()
        assert page.locator("nav a[href='#wrong']").is_hidden()


def test_without_scripts_the_verdict_is_there_and_says_where_the_rest_is(browser: Browser, address: str) -> None:
    with opened(browser, address, java_script_enabled=False) as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text("Not as expected")
        expect(page.locator("p.noscript")).to_contain_text("report.md")
        assert page.locator(".counts tbody tr").count() == len(TARGETS)


def test_a_script_that_gets_into_the_page_all_the_same_does_not_run(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = HtmlReport().render(report(FAILED))
    broken = text.replace("<main>", "<main><script>document.title = 'taken over'</script>")
    path = tmp_path_factory.mktemp("injected") / "report.html"
    path.write_text(broken, "utf-8")
    with pytest.raises(AssertionError, match="Content Security Policy"), opened(browser, path.as_uri()) as page:
        assert "taken over" not in page.title()
