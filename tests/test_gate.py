"""Test each row of the gate's two tables, and lists of known failures that contradict themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from harness.errors import Location
from harness.gate import GateOutcome, apply_known_failures, final_result
from harness.result import (
    NO_LAYER_COMPARED,
    NO_LAYERS,
    Finding,
    Layer,
    OutputComparison,
    Result,
    Stage,
    Status,
    Symptom,
)
from harness.spec.known_failures import KnownFailure

VERSIONS = {"torch": "2.13.0", "onnxruntime": "1.32.0"}
CASE, TARGET = "pool/avg/divisor", "onnx-dynamo@18/ort-cpu"
COMPARISON = OutputComparison(0, "y", (1,), "float32", "exact", of=1)
PASSED = Result(CASE, TARGET, "passed", outputs=(COMPARISON,))
FAILED = Result(CASE, TARGET, "failed", "compare", "mismatch", "3 of 4 differ", outputs=(COMPARISON,))
ERROR = Result(CASE, TARGET, "error", "export", "unsupported", "no such operator")
SKIPPED = Result(CASE, "onnx-dynamo@18/ort-cuda", "skipped", "load", "unavailable", "no CUDA device; install one")


def known_failure(
    stage: Stage = "compare",
    symptom: Symptom = "mismatch",
    *,
    cases: str = "pool/avg/*",
    targets: str = "*",
    when: str = "",
    reason: str = "the divisor is dropped",
    issue: str | None = None,
    line: int = 3,
) -> KnownFailure:
    return KnownFailure(
        cases=cases,
        targets=targets,
        stage=stage,
        symptom=symptom,
        when=when,
        reason=reason,
        issue=issue,
        where=Location("known-failures.yaml", line, 3),
    )


def gate(results: Sequence[Result], known: Sequence[KnownFailure] = (), *, required: Sequence[str] = ()) -> GateOutcome:
    return apply_known_failures(
        results,
        known,
        versions=VERSIONS,
        required=required,
    )


# --- one check ------------------------------------------------------------------------------------------------------

ENTRIES = {
    "none": [],
    "a mismatch at compare": [known_failure("compare", "mismatch")],
    "unsupported at export": [known_failure("export", "unsupported")],
    "a mismatch at run": [known_failure("run", "mismatch")],
    "a crash at compare": [known_failure("compare", "crash")],
}
TABLE: list[tuple[Result, str, Status]] = [
    (PASSED, "none", "passed"),
    (PASSED, "a mismatch at compare", "fixed"),
    (PASSED, "unsupported at export", "fixed"),
    (PASSED, "a mismatch at run", "fixed"),
    (PASSED, "a crash at compare", "fixed"),
    (FAILED, "none", "failed"),
    (FAILED, "a mismatch at compare", "known"),
    (FAILED, "unsupported at export", "failed"),
    (FAILED, "a mismatch at run", "failed"),
    (FAILED, "a crash at compare", "failed"),
    (ERROR, "none", "error"),
    (ERROR, "a mismatch at compare", "error"),
    (ERROR, "unsupported at export", "known"),
    (ERROR, "a mismatch at run", "error"),
    (ERROR, "a crash at compare", "error"),
    (SKIPPED, "none", "skipped"),
    (SKIPPED, "a mismatch at compare", "skipped"),
    (SKIPPED, "unsupported at export", "skipped"),
    (SKIPPED, "a mismatch at run", "skipped"),
    (SKIPPED, "a crash at compare", "skipped"),
]


def test_the_table_of_one_check_is_complete() -> None:
    assert {(result.status, entries) for result, entries, _ in TABLE} == set(
        product(("passed", "failed", "error", "skipped"), ENTRIES)
    )


@pytest.mark.parametrize(("result", "entries", "status"), TABLE)
def test_the_final_status_of_a_check(result: Result, entries: str, status: Status) -> None:
    (final,) = gate([result], ENTRIES[entries]).results
    assert final.status == status
    assert replace(final, status=result.status, message=result.message, reason=None, issue=None) == result


def test_a_known_failure_has_the_reason_and_the_issue() -> None:
    (final,) = gate([FAILED], [known_failure(issue="https://example.org/1")]).results
    assert (final.reason, final.issue, final.message) == (
        "the divisor is dropped",
        "https://example.org/1",
        FAILED.message,
    )


def test_the_message_of_a_different_failure_has_the_known_one_and_the_new_one() -> None:
    (final,) = gate([FAILED], [known_failure("export", "unsupported")]).results
    assert final.message is not None
    for part in ("export: unsupported", "known-failures.yaml:3:3", "the divisor is dropped", "3 of 4 differ"):
        assert part in final.message


def test_a_fixed_check_names_the_entry_to_remove() -> None:
    (final,) = gate([PASSED], [known_failure()]).results
    assert final.message == "passes, although known-failures.yaml:3:3 lists it to fail at compare: mismatch"
    assert final.reason == "the divisor is dropped"


def test_entries_that_agree_may_both_match() -> None:
    known = [
        known_failure(reason="one", issue="i/1"),
        known_failure(reason="two", cases=CASE, line=9),
        known_failure(reason="one", line=12),
    ]
    (final,) = gate([FAILED], known).results
    assert (final.status, final.reason, final.issue) == ("known", "one; two", "i/1")


@pytest.mark.parametrize("other", [{"cases": "pool/max/*"}, {"targets": "trace/*"}, {"when": "torch<2.0"}])
def test_an_entry_for_another_check_or_version_changes_nothing(other: dict[str, str]) -> None:
    outcome = gate([FAILED], [known_failure(**other)])  # type: ignore[arg-type]
    assert outcome.results == (FAILED,)
    assert outcome.exit_code == 1
    assert outcome.problems == ()


@pytest.mark.parametrize("known", [[], [known_failure()]])
def test_a_pass_in_which_nothing_was_compared_is_an_error(known: list[KnownFailure]) -> None:
    (final,) = gate([replace(PASSED, outputs=())], known).results
    assert (final.status, final.stage, final.message) == ("error", "compare", "passed, but nothing was compared")
    with_finding = replace(PASSED, outputs=(), findings=(Finding("raises", True, "torch refuses it"),))
    assert gate([with_finding]).results == (with_finding,)


@pytest.mark.parametrize("status", ["known", "fixed"])
def test_a_final_status_is_not_changed_again(status: Status) -> None:
    with pytest.raises(ValueError, match="already has a final status"):
        final_result(replace(FAILED, status=status), [])


# --- the run --------------------------------------------------------------------------------------------------------

FAILS_AS_LISTED = replace(FAILED, case="pool/avg/other")
LIST = [known_failure(cases="pool/avg/other")]


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([PASSED], 0),
        ([PASSED, SKIPPED], 0),
        ([PASSED, FAILS_AS_LISTED], 0),
        ([FAILS_AS_LISTED], 0),
        ([FAILS_AS_LISTED, SKIPPED], 0),
        ([FAILED], 1),
        ([ERROR], 1),
        ([replace(PASSED, case="pool/avg/other")], 1),  # fixed
        ([PASSED, FAILED, FAILS_AS_LISTED, SKIPPED], 1),
        ([PASSED, ERROR], 1),
        ([SKIPPED], 3),
        ([SKIPPED, SKIPPED], 3),
        ([], 2),
    ],
)
def test_the_exit_code_of_a_run(results: list[Result], code: int) -> None:
    assert gate(results, LIST).exit_code == code


@pytest.mark.parametrize("results", [[PASSED], [FAILED], [SKIPPED]])
def test_a_wrong_list_comes_before_every_other_exit_code(results: list[Result]) -> None:
    contradicting = [known_failure(), known_failure("run", "crash", line=9)]
    assert gate(results, contradicting, required=["ort-cuda"]).exit_code == 2


def test_a_run_that_was_to_compare_layers_and_compared_none_fails_and_says_why() -> None:
    other = replace(PASSED, case="a/c", notes=("a remark", f"{NO_LAYERS}the model is stochastic"))
    outcome = apply_known_failures([PASSED, other], (), versions={}, layers=True)
    assert outcome.exit_code == 1
    reason = f"{NO_LAYER_COMPARED}a/c on {other.target}: the model is stochastic"
    assert outcome.complaints == (reason,)
    assert apply_known_failures([PASSED, other], (), versions={}).exit_code == 0
    for layer, code in ((Layer("x", "ReLU", 0), 1), (Layer("x", "ReLU", 0, local=0.0), 0)):
        results = [other, replace(PASSED, layers=(layer,))]
        assert apply_known_failures(results, (), versions={}, layers=True).exit_code == code
    failing = apply_known_failures([other, FAILED], (), versions={}, layers=True)
    assert (failing.exit_code, failing.complaints) == (1, ()), "what fails is the news"


def test_a_required_runtime_that_is_not_available() -> None:
    assert gate([PASSED, SKIPPED]).exit_code == 0
    outcome = gate([PASSED, SKIPPED], required=["ort-cpu", "ort-cuda"])
    assert outcome.exit_code == 3
    assert outcome.complaints == ("required runtime ort-cuda is not available: no CUDA device; install one",)


def test_of_several_reasons_why_a_runtime_is_not_available_the_first_is_given() -> None:
    others = [replace(SKIPPED, message=message) for message in ("no driver", "no device", None)]
    (complaint,) = gate([PASSED, *others], required=["ort-cuda"]).complaints
    assert complaint == "required runtime ort-cuda is not available: no driver"


@pytest.mark.parametrize(
    "row", [replace(SKIPPED, stage="export", symptom="unsupported"), replace(SKIPPED, status="error")]
)
def test_a_required_runtime_is_missing_only_where_a_check_was_skipped_for_its_absence(row: Result) -> None:
    assert gate([PASSED, row], required=["ort-cuda"]).complaints == ()


def test_a_required_runtime_that_no_check_uses() -> None:
    outcome = gate([PASSED], required=["ort-cuda"])
    assert outcome.exit_code == 3
    assert outcome.complaints == ("no check uses the required runtime ort-cuda; add a target that runs on it",)


def test_a_missing_runtime_never_hides_a_wrong_model() -> None:
    assert gate([FAILED, SKIPPED], required=["ort-cuda"]).exit_code == 1


def test_options_of_a_target_are_not_part_of_its_runtime() -> None:
    tuned = replace(PASSED, target="onnx-dynamo@18/ort-cpu?threads=1")
    assert gate([tuned], required=["ort-cpu"]).exit_code == 0


# --- a list that is wrong -------------------------------------------------------------------------------------------


def test_an_entry_for_cases_that_this_run_excluded_is_no_problem() -> None:
    assert gate([PASSED], [known_failure(cases="pool/max/*")]).problems == ()


def test_entries_that_contradict_each_other_are_a_problem() -> None:
    outcome = gate(
        [FAILED, replace(FAILED, target="trace/torch-cpu")], [known_failure(), known_failure("run", "crash", line=9)]
    )
    assert outcome.exit_code == 2
    (problem,) = outcome.problems
    assert problem.where.line == 9
    assert "run: crash contradicts compare: mismatch, which known-failures.yaml:3:3 lists" in problem.message


def test_entries_of_other_versions_do_not_contradict() -> None:
    known = [known_failure(when="torch>=2.0"), known_failure("run", "crash", when="torch<2.0", line=9)]
    assert gate([FAILED], known).exit_code == 0


def test_a_contradiction_is_reported_in_any_order_of_entries() -> None:
    known = [known_failure(), known_failure("run", "crash", line=9), known_failure(line=12)]
    assert {problem.where.line for problem in gate([FAILED], known).problems} == {9}
