"""``harness known-failures update``: a report changes its entries of the list and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import shortened
from harness.report.json_report import JsonReport
from harness.result import Report, Result
from harness.spec.known_failures import load_known_failures
from tests.conftest import Call

Write = Callable[[str, str], Path]
TARGET = "trace/torch-cpu"
LIST = """\
# What is known, and why.

# Pooling
- cases: pool/gone[*
  targets: "*"   # everywhere
  stage: compare
  symptom: mismatch
  reason: &divided >-
    It divides by
    something else.
  issue: https://example.org/1

# Still so
- cases: pool/stays
  targets: "*"
  stage: compare
  symptom: mismatch
  reason: *divided
- {cases: pool/half*, targets: "*", stage: run, symptom: crash, reason: 'Half of it.'}
- {cases: pool/other, targets: "*", stage: run, symptom: crash, reason: 'Fails differently.'}
- {cases: pool/elsewhere, targets: "*", stage: run, symptom: crash, when: "torch<1", reason: 'Not here.'}
- {cases: pool/unspoken, targets: "*", stage: run, symptom: crash, reason: 'Not in the report.'}
# The end
"""
AFTER = LIST.replace(LIST[LIST.index("- cases: pool/gone") : LIST.index("\n# Still so")], "").replace(
    "  reason: *divided\n", "  reason: &divided >-\n    It divides by\n    something else.\n"
)


def result(case: str, status: str, stage: str | None = None, symptom: str | None = None) -> Result:
    return Result(f"pool/{case}", TARGET, status, stage, symptom, "3 of 4 values differ by more than the tolerance")  # type: ignore[arg-type]


RESULTS = (
    result("gone[seed=1]", "fixed"),
    result("gone[seed=2]", "passed"),
    result("stays", "known", "compare", "mismatch"),
    result("half[seed=1]", "fixed"),
    result("half[seed=2]", "known", "run", "crash"),
    result("other", "failed", "compare", "mismatch"),
    result("elsewhere", "passed"),
    result("new[seed=1]", "error", "export", "unsupported"),
    result("new[seed=2]", "error", "export", "unsupported"),
    result("some[seed=1]", "error", "export", "unsupported"),
    result("some[seed=2]", "passed"),
)
CALL = ("known-failures", "update", "report.json")
POOL = """\
harness: 1
layer: ReLU
defaults: {inputs: {x: {shape: [2]}}}
cases:
  - {name: gone, matrix: {seed: [1, 2]}}
  - {name: half, matrix: {seed: [1, 2]}}
  - {name: new, matrix: {seed: [1, 2]}}
  - {name: some, matrix: {seed: [1, 2]}}
  - {name: stays}
  - {name: other}
  - {name: elsewhere}
  - {name: unspoken}
"""


@pytest.fixture
def listed(spec: Write) -> Path:
    """Write the list next to its specs, and a report that covers most of it."""
    write_report(RESULTS)
    spec("pool.yaml", POOL)
    spec("targets.yaml", f"default: [{TARGET}]\n")
    return spec("known-failures.yaml", LIST)


def write_report(results: tuple[Result, ...]) -> None:
    report = Report({"packages": {"torch": "2.13.0"}}, results, {"paths": ["specs/pool.yaml"]})
    Path("report.json").write_text(JsonReport().render(report), encoding="utf-8")


def test_passing_entries_are_removed_and_the_rest_is_unchanged(harness: Call, listed: Path) -> None:
    before = load_known_failures(listed)
    ran = harness(*CALL)
    assert ran.code == 1
    assert listed.read_text(encoding="utf-8") == AFTER
    assert [entry.reason for entry in load_known_failures(listed)] == [entry.reason for entry in before[1:]]
    assert "fixed     specs/known-failures.yaml:4:3: pool/gone[* on * passes now: removed" in ran.out
    assert "2 of its" not in ran.out
    assert (
        "1 of its 2 checks in this report pass now, such as pool/half[seed=1] on trace/torch-cpu; narrow its globs"
        in ran.out
    )
    assert "pool/other on *: 1 of its checks fail differently, such as pool/other" in ran.out
    assert "elsewhere" not in ran.out
    assert "unlisted  pool/new[seed=1] on trace/torch-cpu: export: unsupported" in ran.out
    assert "--add" in ran.out


def test_of_several_checks_that_fail_differently_the_first_is_named_and_a_failure_of_harness_is_not_listed(
    harness: Call, listed: Path
) -> None:
    half = tuple(result(f"half[seed={seed}]", "failed", "compare", "mismatch") for seed in (1, 2))
    own = Result("pool/new[seed=1]", TARGET, "error", message="harness itself failed")
    write_report((*(each for each in RESULTS if "half" not in each.case and "new" not in each.case), *half, own))
    ran = harness(*CALL)
    assert "2 of its checks fail differently, such as pool/half[seed=1]" in ran.out
    assert "pool/new[seed=1]" not in ran.out


def test_entries_are_added_only_on_request_and_need_a_reason(harness: Call, listed: Path) -> None:
    ran = harness(*CALL, "--add")
    assert ran.code == 1
    assert listed.read_text(encoding="utf-8").startswith(AFTER)
    new = load_known_failures(listed)[-2:]
    assert [(entry.cases, entry.targets, entry.stage, entry.symptom) for entry in new] == [
        ("pool/new[*", TARGET, "export", "unsupported"),
        ("pool/some[seed=1]", TARGET, "export", "unsupported"),
    ]
    assert all(entry.reason == "TODO say why: 3 of 4 values differ by more than the tolerance" for entry in new)
    assert "added     specs/known-failures.yaml: pool/new[* on trace/torch-cpu: export: unsupported" in ran.out


def test_a_last_line_without_an_end_gets_one_before_more_is_added(harness: Call, listed: Path) -> None:
    listed.write_text(LIST.removesuffix("\n"), encoding="utf-8")
    harness(*CALL, "--add")
    assert listed.read_text(encoding="utf-8").startswith(f"{AFTER}- cases: ")


def test_a_single_point_is_added_by_its_own_name_and_a_message_as_people_read_it(harness: Call, listed: Path) -> None:
    alone = replace(result("stays[seed=1]", "error", "export", "unsupported"), message="größer als erlaubt; " * 50)
    write_report((alone,))
    harness(*CALL, "--add")
    added = load_known_failures(listed)[-1]
    assert added.cases == "pool/stays[seed=1]"
    assert "größer als erlaubt" in listed.read_text(encoding="utf-8")
    assert added.reason == f"TODO say why: {shortened(alone.message or '', 200)}", "nobody reads more"


def test_a_dry_run_writes_nothing(harness: Call, listed: Path) -> None:
    ran = harness(*CALL, "--add", "--dry-run")
    assert ran.code == 1
    assert listed.read_text(encoding="utf-8") == LIST
    assert "nothing written" in ran.out


def test_a_correct_list_is_unchanged(harness: Call, listed: Path) -> None:
    write_report((result("stays", "known", "compare", "mismatch"), result("new", "passed")))
    ran = harness(*CALL)
    assert (ran.code, ran.out) == (0, "specs/known-failures.yaml: nothing changed.\n")
    assert listed.read_text(encoding="utf-8") == LIST


@pytest.mark.parametrize("second", [(), (result("gone[seed=2]", "skipped", "load", "unavailable"),)])
def test_a_check_that_was_not_run_does_not_count_as_passed(
    harness: Call, listed: Path, second: tuple[Result, ...]
) -> None:
    write_report((result("gone[seed=1]", "fixed"), *second))
    ran = harness(*CALL)
    assert ran.code == 1
    assert "1 of its 2 checks pass now, and 1 were not run, such as pool/gone[seed=2] on" in ran.out
    assert listed.read_text(encoding="utf-8") == LIST


def test_a_target_that_was_not_run_does_not_count_as_passed(harness: Call, spec: Write, listed: Path) -> None:
    spec("targets.yaml", f"default: [{TARGET}]\nother: [script/torch-cpu]\n")
    write_report((result("gone[seed=1]", "fixed"), result("gone[seed=2]", "fixed")))
    assert harness(*CALL).code == 1
    assert listed.read_text(encoding="utf-8") == LIST


def test_a_skipped_check_changes_nothing(harness: Call, listed: Path) -> None:
    write_report((result("gone[seed=1]", "skipped", "load", "unavailable"),))
    assert harness(*CALL).code == 0
    assert listed.read_text(encoding="utf-8") == LIST


def test_a_list_in_flow_style_is_not_edited(harness: Call, listed: Path) -> None:
    rest = "targets: '*', stage: compare, symptom: mismatch, reason: So."
    text = f"[{{cases: pool/gone*, {rest}}},\n {{cases: pool/stays, {rest}}}]\n"
    listed.write_text(text, encoding="utf-8")
    ran = harness(*CALL)
    assert ran.code == 2
    assert "cannot be edited line by line; begin each entry" in ran.err
    assert listed.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", [None, "", "# Nothing known yet\n"])
def test_the_first_entry_of_a_list(harness: Call, listed: Path, text: str | None) -> None:
    write_report((result("new", "error", "export", "unsupported"),))
    listed.unlink()
    if text is not None:
        listed.write_text(text, encoding="utf-8")
    assert harness(*CALL, "--add").code == 1
    assert listed.read_text(encoding="utf-8").startswith(text or "- cases: pool/new\n")
    assert len(load_known_failures(listed)) == 1
    assert harness(*CALL, "--add").code == 0  # the report still contains the failure, and now the list does too


def test_the_next_run_uses_the_updated_list(harness: Call, spec: Write, here: Path) -> None:
    spec(
        "relu.yaml",
        "harness: 1\nlayer: ReLU\ncases:\n"
        "  - {name: fine, inputs: {x: {values: [1.0]}}}\n"
        "  - {name: wrong, inputs: {x: {values: [-1.0]}}, expect: {outputs: [{values: [-1.0]}]}}\n",
    )
    spec(
        "known-failures.yaml",
        "- {cases: relu/fine, targets: '*', stage: compare, symptom: mismatch, reason: No more.}\n",
    )
    spec("targets.yaml", f"default: [{TARGET}]\n")
    run = ("run", "specs", "--no-latency")
    assert harness(*run).code == 1
    assert harness("known-failures", "update", "reports/latest/report.json", "--add").code == 1
    unfinished = harness(*run)
    assert (unfinished.code, unfinished.report["summary"]["failed"]) == (1, 1), "nobody has said why yet"
    assert "No verdict: specs/known-failures.yaml:1:3: this entry has no reason yet; write one" in unfinished.out
    listed = here / "specs" / "known-failures.yaml"
    listed.write_text(listed.read_text(encoding="utf-8").replace("TODO say why: ", "Rounds: "), encoding="utf-8")
    after = harness(*run)
    assert after.code == 0
    assert after.report["summary"] == {**after.report["summary"], "passed": 1, "known": 1, "fixed": 0}
    assert harness("known-failures", "update", "reports/latest/report.json").code == 0
    report = json.loads((here / "reports" / "latest" / "report.json").read_text(encoding="utf-8"))
    assert report["results"][1]["reason"].startswith("Rounds: ")


def test_a_list_given_by_option_is_updated_instead(harness: Call, listed: Path, here: Path) -> None:
    other = here / "list.yaml"
    other.write_text(LIST, encoding="utf-8")
    assert harness(*CALL, "--known-failures", "list.yaml").code == 1
    assert other.read_text(encoding="utf-8") == AFTER
    assert listed.read_text(encoding="utf-8") == LIST


def test_a_report_on_the_specs_of_another_folder_is_refused(harness: Call, listed: Path) -> None:
    (listed.parent / "pool.yaml").unlink()
    ran = harness(*CALL)
    assert ran.code == 2
    assert "specs/pool.yaml not found; call this in the folder of the run" in ran.err
