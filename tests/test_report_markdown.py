"""The Markdown report: its text for each check, and that no foreign text can break it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from harness.errors import one_line, printable
from harness.report.markdown import MarkdownReport
from harness.report.tables import code, fenced, groups, plain, table
from harness.report.wording import CaseName, format_pair, next_step, verdict
from harness.result import Report, Result, Status
from tests.report_samples import (
    AGREES,
    ALL,
    DIFFERENCE,
    ERROR,
    FAILED,
    FIXED,
    KNOWN,
    LATENCY,
    PASSED,
    SKIPPED,
    every_way_to_end_badly,
    report,
)

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def render(*results: Result) -> str:
    return MarkdownReport().render(report(*results))


# --- text -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ((PASSED,), "All as expected: 1 check (1 passed)."),
        ((PASSED, KNOWN, SKIPPED), "All as expected: 3 checks (1 passed, 1 known, 1 skipped)."),
        (ALL, "Not as expected: 3 of 6 checks (1 passed, 1 failed, 1 error, 1 known, 1 fixed, 1 skipped)."),
        ((SKIPPED,), "No verdict: nothing was compared, 1 check skipped."),
        ((), "No verdict: there was nothing to verify."),
    ],
)
def test_the_verdict_is_one_sentence_and_comes_first(made: tuple[Result, ...], says: str) -> None:
    assert verdict(report(*made)) == says
    assert [line for line in render(*made).splitlines() if line][1] == f"**{says}**"


def test_complaints_come_before_the_counts() -> None:
    run = {"complaints": ["known-failures.yaml:3:1: matches nothing; remove it"]}
    assert verdict(Report({}, (PASSED,), run)).startswith("No verdict: known-failures.yaml:3:1: matches nothing")


def test_a_divergence_is_shown_with_every_known_detail() -> None:
    text = render(FAILED)
    for part in (
        plain(f"y: {DIFFERENCE}"),
        "Blame: **exporter**",
        "the other exporter agrees with eager",
        "3 of 4",
        "0.333",
        "4,194,304",
        r"\[0, 0, 1, 1]",
        "1.333",
        "NaN where a number was expected",
        "expected 4/3, got 1",
        "eager is nearer",
        "AveragePool_0",
        "Field 'shape' of 'type' is required",
        "`specs/pool/avg.yaml:30:5`",
        "**Next**",
        "`harness explain pool/avg/divisor --target onnx-dynamo@18/ort-cpu`",
        "line 39",
        "25 earlier lines",
    ):
        assert part in text
    assert "line 3\n" not in text


def test_known_failures_are_listed_under_their_reason_with_their_numbers() -> None:
    text = render(PASSED, KNOWN, replace(KNOWN, case="pool/avg/other"))
    assert text.count("the exporter drops the divisor") == 1
    assert "<https://example.org/issues/1>" in text
    assert text.count(plain(DIFFERENCE)) == 2
    assert "Not as expected" not in text


def test_a_pass_with_a_remark_is_listed() -> None:
    inconclusive = replace(
        PASSED, outputs=(replace(AGREES, inconclusive="atol is larger than every value"),), checker="bad shape"
    )
    text = render(inconclusive, replace(inconclusive, case="pool/avg/other"))
    assert re.search(r"inconclusive: atol is larger than every value *\| 2 ", text)
    assert "onnx.checker: bad shape" in text
    assert "remark" not in render(PASSED)


def test_skipped_checks_say_what_to_install() -> None:
    assert re.search(r"ort-cuda` *\| 2 *\| ort-cuda: no CUDA device; install onnxruntime-gpu", render(SKIPPED, SKIPPED))


def test_the_environment_is_all_there() -> None:
    text = render(PASSED)
    assert re.search(r"torch version *\| 2\.13\.0", text)
    assert re.search(r"GPU 1 name *\| A ", text)
    assert "cuda" not in text


def test_latency_has_its_ratio_to_eager_and_low_confidence_is_marked() -> None:
    slow = replace(
        PASSED, case="pool/avg/slow", latency={**LATENCY, "median_us": 98.7, "ratio": 0.5, "low_confidence": True}
    )
    untimed = replace(PASSED, case="pool/avg/untimed", target="script/torch-cpu", latency=None)
    text = render(PASSED, slow, untimed)
    assert re.search(r"trace/torch-cpu` *\| 2 *\| 1 *\| 1x *\| 0\.5x *\| 2x *\| precision float32, threads 1", text)
    assert re.search(r"`slow` *\| 98\.7 \(0\.5x\) \? ", text)
    assert re.search(r"windows\[.*` *\| 12\.3 \(2x\) *\|", text)
    assert "untimed" not in text[text.index("## Latency") :]


def test_no_latency_table_where_nothing_was_timed() -> None:
    assert "Latency" not in render(replace(PASSED, latency=None))
    without_eager = render(replace(PASSED, latency={**LATENCY, "ratio": None, "eager_us": None}))
    assert re.search(r"` *\| 12\.3 *\|", without_eager)


def test_checks_with_one_cause_are_shown_once_with_a_row_for_each_case() -> None:
    alike = [replace(FAILED, case=f"a/case{number}", target=target) for number in range(3) for target in ("x/r", "y/r")]
    text = render(ERROR, *alike)
    assert text.index("### FAILED: a: values differ by more than the tolerance") < text.index("### ERROR")
    assert "6 checks, 3 cases, 2 targets, 2 exporters. The first is `a/case0` on `x/r`:" in text
    assert text.count("**Next**: The exported file is wrong") == 1
    assert re.search(r"\| `a/case2` *\| `x/r`, `y/r` *\| 3 of 4 values differ", text)
    assert re.search(r"\| FAILED \| a: values differ by more than the tolerance *\| 6 *\| 3 *\| `x/r`, `y/r`", text)


def test_beyond_a_hundred_causes_each_wrong_check_still_has_a_row() -> None:
    text = render(*(replace(FAILED, case=f"a{number:03}/case") for number in range(150)))
    assert text.count("### FAILED") == 100
    assert "And 50 more causes" in text
    assert "| `a149/case`" in text


def test_the_layers_of_many_checks_that_passed_are_cut_and_counted() -> None:
    passed = [replace(PASSED, case=f"a/c{number}", layers_show=f"step {number}") for number in range(101)]
    text = render(*passed)
    assert "Layers: step 99." in text
    assert "Layers: step 100." not in text
    assert "And 1 more check; `report.json` has the layers of each." in text


@pytest.mark.parametrize(
    ("actual", "expected", "texts"),
    [
        (-0.545862913, -0.727817237, ("-0.5459", "-0.7278")),
        (0.559727728, 0.559727788, ("0.5597277", "0.5597278")),
        (2.0, 2.0, ("2", "2")),
        (float("nan"), float("inf"), ("nan", "inf")),
        (None, None, ("-", "-")),
    ],
)
def test_values_have_four_digits_or_as_many_as_tell_them_apart(
    actual: float | None, expected: float | None, texts: tuple[str, str]
) -> None:
    assert format_pair(actual, expected) == texts


# --- the matrix -----------------------------------------------------------------------------------------------------


def family(*statuses: Status) -> list[Result]:
    points = product(("1", "[2, 3]"), ("true", "false"))
    return [
        replace(PASSED, case=f"pool/avg/windows[k={k},c={c}]", status=status)
        for status, (k, c) in zip(statuses, points, strict=False)
    ]


def labels(results: list[Result]) -> list[tuple[str, int]]:
    return [(row.label, row.cases) for group in groups(results) for row in group.rows]


def test_points_with_equal_results_are_one_row() -> None:
    assert labels(family("passed", "passed", "passed", "passed")) == [("windows[...]", 4)]


def test_a_failing_point_of_a_matrix_has_a_separate_row() -> None:
    rows = labels(family("passed", "failed", "passed", "failed"))
    assert rows == [
        ("windows[c=true,...]", 2),
        ("windows[k=1,c=false]", 1),
        ("windows[k=[2, 3],c=false]", 1),
    ]


def test_points_with_other_results_are_named_by_their_common_settings() -> None:
    rows = labels(family("passed", "passed", "known", "known"))
    assert rows == [("windows[k=1,...]", 2), ("windows[k=[2, 3],...]", 2)]


def test_every_case_is_counted_and_a_check_that_did_not_run_is_no_pass() -> None:
    lone = replace(PASSED, case="pool/max/plain", target="script/torch-cpu")
    made = [*family("passed", "known", "failed"), lone]
    assert sum(cases for _, cases in labels(made)) == 4
    (last,) = groups(made)[-1].rows
    assert last.cells == ("-", "pass")
    assert [group.spec for group in groups(made)] == ["pool/avg", "pool/max"]


def test_a_case_name_is_taken_apart_at_the_right_places() -> None:
    name = CaseName.parse("a/b/c[p=[1, 2],q={x: 1, y: 2},r=d/e]")
    assert name == CaseName("a/b", "c", ("p=[1, 2]", "q={x: 1, y: 2}", "r=d/e"))
    assert name.short == "c[p=[1, 2],q={x: 1, y: 2},r=d/e]"
    assert CaseName.parse("bare") == CaseName("", "bare")


# --- advice ---------------------------------------------------------------------------------------------------------


def test_there_is_advice_for_every_way_to_end_badly_and_none_where_all_is_well() -> None:
    assert all(next_step(result) for result in every_way_to_end_badly())
    assert next_step(PASSED) is None
    assert next_step(KNOWN) is None
    fixed = next_step(FIXED)
    assert fixed is not None
    assert "known-failures.yaml" in fixed.sentence


def test_advice_differs_by_blame_and_the_command_survives_a_shell() -> None:
    blamed = [
        replace(FAILED, blame=blame) for blame in ("exporter", "optimizer", "kernel", "rounding", "torch", "spec")
    ]
    steps = [next_step(result) for result in blamed]
    assert len({step.sentence for step in steps if step}) == 6
    assert "atol 0.333 (or rtol 0.25)" in ((steps[3] and steps[3].sentence) or "")
    step = next_step(replace(ERROR, case="a/b[k=1]; rm x", symptom="crash"))
    assert step is not None
    assert step.command == "harness explain 'a/b[k=1]; rm x' --target script/torch-cpu"


# --- safety ---------------------------------------------------------------------------------------------------------


def shown(tokens: list[Token]) -> str:
    """The text that a reader of the rendered page sees."""
    return "".join(shown(token.children) if token.children else token.content for token in tokens)


written = st.text(st.characters(codec="utf-8") | st.sampled_from("\\`*_[]()<>#+-!|~&$\n\r\t 1.:;="), max_size=30)


@given(written)
@example("1234. a").via("a numbered list")
@example("- a").via("a list within a list")
@example("---").via("a rule")
def test_any_text_is_read_back_unchanged(text: str) -> None:
    expected = printable(one_line(text))
    assert shown(READER.parse(plain(text))) == expected
    assert shown(READER.parse(f"- {plain(text)}")) == expected
    assert shown(READER.parse(f"x {code(text)}")).removeprefix("x").strip() == expected


@given(st.lists(st.tuples(written, written), min_size=1, max_size=3))
def test_any_text_stays_in_one_cell(cells: list[tuple[str, str]]) -> None:
    made = READER.parse(table(["a", "b"], [[code(one), plain(other)] for one, other in cells]))
    texts = [shown([token]) for before, token in pairwise(made) if before.type == "td_open"]
    assert texts == [printable(one_line(text)) for row in cells for text in row]


@given(st.text(st.sampled_from("`~\n a<"), max_size=30))
def test_no_text_ends_its_fence(text: str) -> None:
    (block,) = READER.parse(fenced(text))
    assert block.type == "fence"


HOSTILE = "a | b ` c\n## Heading\n<script>alert(1)</script> [x](javascript:y) **bold** \x1b[31m"


@pytest.mark.parametrize("status", ["passed", "failed", "error", "known", "fixed", "skipped"])
def test_hostile_text_anywhere_in_a_check_adds_no_heading_no_html_and_no_cell(status: Status) -> None:
    made = replace(
        FAILED, status=status, case=HOSTILE, target=HOSTILE, message=HOSTILE, evidence=(HOSTILE,), notes=(HOSTILE,),
        log=(HOSTILE, "```", "# no"), checker=HOSTILE, reason=HOSTILE, issue=HOSTILE, where=HOSTILE,
    )  # fmt: skip
    tokens = READER.parse(MarkdownReport().render(Report({HOSTILE: HOSTILE}, (made,))))
    inline = [child for token in tokens for child in token.children or []]
    assert not {"html_block", "html_inline", "link_open"} & {token.type for token in [*tokens, *inline]}
    headings = [tokens[place + 1].content for place, token in enumerate(tokens) if token.type == "heading_open"]
    assert "Heading" not in headings
    widths = re.findall(r"^\|.*\|$", MarkdownReport().render(Report({}, (made,))), re.MULTILINE)
    assert widths
    assert "\x1b" not in "".join(widths)
