"""The gate's two truth tables, line by line, and what it says about a list that is wrong itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest

from harness.errors import Location
from harness.gate import Judged, expected, judge
from harness.result import Finding, OutputComparison, Result, Stage, Status, Symptom
from harness.spec.known_failures import KnownFailure

VERSIONS = {"torch": "2.13.0", "onnxruntime": "1.32.0"}
CASE, TARGET = "pool/avg/divisor", "onnx-dynamo@18/ort-cpu"
HELD = OutputComparison(0, "y", (1,), "float32", "exact", of=1)
PASSED = Result(CASE, TARGET, "passed", outputs=(HELD,))
FAILED = Result(CASE, TARGET, "failed", "compare", "mismatch", "3 of 4 differ", outputs=(HELD,))
ERROR = Result(CASE, TARGET, "error", "export", "unsupported", "no such operator")
SKIPPED = Result(CASE, "onnx-dynamo@18/ort-cuda", "skipped", "load", "unavailable", "no CUDA device; install one")


def listed(
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


def judged(results: Sequence[Result], known: Sequence[KnownFailure] = (), *, required: Sequence[str] = ()) -> Judged:
    return judge(
        results,
        known,
        versions=VERSIONS,
        required=required,
    )


# --- one check ------------------------------------------------------------------------------------------------------

SAYS = {
    "nothing": [],
    "a mismatch at compare": [listed("compare", "mismatch")],
    "unsupported at export": [listed("export", "unsupported")],
    "a mismatch at run": [listed("run", "mismatch")],
    "a crash at compare": [listed("compare", "crash")],
}
TABLE: list[tuple[Result, str, Status]] = [
    (PASSED, "nothing", "passed"),
    (PASSED, "a mismatch at compare", "fixed"),
    (PASSED, "unsupported at export", "fixed"),
    (PASSED, "a mismatch at run", "fixed"),
    (PASSED, "a crash at compare", "fixed"),
    (FAILED, "nothing", "failed"),
    (FAILED, "a mismatch at compare", "known"),
    (FAILED, "unsupported at export", "failed"),
    (FAILED, "a mismatch at run", "failed"),
    (FAILED, "a crash at compare", "failed"),
    (ERROR, "nothing", "error"),
    (ERROR, "a mismatch at compare", "error"),
    (ERROR, "unsupported at export", "known"),
    (ERROR, "a mismatch at run", "error"),
    (ERROR, "a crash at compare", "error"),
    (SKIPPED, "nothing", "skipped"),
    (SKIPPED, "a mismatch at compare", "skipped"),
    (SKIPPED, "unsupported at export", "skipped"),
    (SKIPPED, "a mismatch at run", "skipped"),
    (SKIPPED, "a crash at compare", "skipped"),
]


def test_the_table_of_one_check_is_whole() -> None:
    assert {(result.status, says) for result, says, _ in TABLE} == set(
        product(("passed", "failed", "error", "skipped"), SAYS)
    )


@pytest.mark.parametrize(("result", "says", "status"), TABLE)
def test_a_check_comes_to(result: Result, says: str, status: Status) -> None:
    (final,) = judged([result], SAYS[says]).results
    assert final.status == status
    assert replace(final, status=result.status, message=result.message, reason=None, issue=None) == result


def test_a_known_failure_carries_why_and_where_it_is_discussed() -> None:
    (final,) = judged([FAILED], [listed(issue="https://example.org/1")]).results
    assert (final.reason, final.issue, final.message) == (
        "the divisor is dropped",
        "https://example.org/1",
        FAILED.message,
    )


def test_a_failure_of_another_kind_says_what_was_known_and_what_is_new() -> None:
    (final,) = judged([FAILED], [listed("export", "unsupported")]).results
    assert final.message is not None
    for said in ("export: unsupported", "known-failures.yaml:3:3", "the divisor is dropped", "3 of 4 differ"):
        assert said in final.message


def test_a_mended_check_names_the_entry_to_remove() -> None:
    (final,) = judged([PASSED], [listed()]).results
    assert final.message == "passes, although known-failures.yaml:3:3 lists it to fail at compare: mismatch"
    assert final.reason == "the divisor is dropped"


def test_entries_that_agree_may_both_match() -> None:
    known = [listed(reason="one", issue="i/1"), listed(reason="two", cases=CASE, line=9), listed(reason="one", line=12)]
    (final,) = judged([FAILED], known).results
    assert (final.status, final.reason, final.issue) == ("known", "one; two", "i/1")


@pytest.mark.parametrize("other", [{"cases": "pool/max/*"}, {"targets": "trace/*"}, {"when": "torch<2.0"}])
def test_an_entry_for_something_else_excuses_nothing(other: dict[str, str]) -> None:
    done = judged([FAILED], [listed(**other)])  # type: ignore[arg-type]
    assert done.results == (FAILED,)
    assert done.exit_code == 1
    assert done.problems == ()


@pytest.mark.parametrize("known", [[], [listed()]])
def test_a_pass_in_which_nothing_was_compared_is_an_error(known: list[KnownFailure]) -> None:
    (final,) = judged([replace(PASSED, outputs=())], known).results
    assert (final.status, final.stage, final.message) == ("error", "compare", "passed, but nothing was compared")
    held = replace(PASSED, outputs=(), findings=(Finding("raises", True, "torch refuses it"),))
    assert judged([held]).results == (held,)


@pytest.mark.parametrize("status", ["known", "fixed"])
def test_what_was_judged_before_is_not_judged_again(status: Status) -> None:
    with pytest.raises(ValueError, match="judged before"):
        expected(replace(FAILED, status=status), [])


# --- the run --------------------------------------------------------------------------------------------------------

KNOWN_NOW = replace(FAILED, case="pool/avg/other")
LIST = [listed(cases="pool/avg/other")]


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([PASSED], 0),
        ([PASSED, SKIPPED], 0),
        ([PASSED, KNOWN_NOW], 0),
        ([KNOWN_NOW], 0),
        ([KNOWN_NOW, SKIPPED], 0),
        ([FAILED], 1),
        ([ERROR], 1),
        ([replace(PASSED, case="pool/avg/other")], 1),  # fixed
        ([PASSED, FAILED, KNOWN_NOW, SKIPPED], 1),
        ([PASSED, ERROR], 1),
        ([SKIPPED], 3),
        ([SKIPPED, SKIPPED], 3),
        ([], 2),
    ],
)
def test_the_exit_code_of_a_run(results: list[Result], code: int) -> None:
    assert judged(results, LIST).exit_code == code


@pytest.mark.parametrize("results", [[PASSED], [FAILED], [SKIPPED]])
def test_a_wrong_list_comes_before_every_other_exit_code(results: list[Result]) -> None:
    contradicting = [listed(), listed("run", "crash", line=9)]
    assert judged(results, contradicting, required=["ort-cuda"]).exit_code == 2


def test_a_required_runtime_that_is_not_here() -> None:
    assert judged([PASSED, SKIPPED]).exit_code == 0
    done = judged([PASSED, SKIPPED], required=["ort-cpu", "ort-cuda"])
    assert done.exit_code == 3
    assert done.complaints == ("required runtime ort-cuda is not here: no CUDA device; install one",)


def test_a_required_runtime_that_nothing_asked_for() -> None:
    done = judged([PASSED], required=["ort-cuda"])
    assert done.exit_code == 3
    assert done.complaints == ("required runtime ort-cuda was asked of no check; name a target that runs on it",)


def test_a_missing_runtime_never_hides_a_wrong_model() -> None:
    assert judged([FAILED, SKIPPED], required=["ort-cuda"]).exit_code == 1


def test_options_of_a_target_are_not_part_of_its_runtime() -> None:
    tuned = replace(PASSED, target="onnx-dynamo@18/ort-cpu?threads=1")
    assert judged([tuned], required=["ort-cpu"]).exit_code == 0


# --- a list that is wrong -------------------------------------------------------------------------------------------


def test_an_entry_for_cases_that_this_run_left_out_is_no_problem() -> None:
    assert judged([PASSED], [listed(cases="pool/max/*")]).problems == ()


def test_entries_that_contradict_each_other_are_a_problem() -> None:
    done = judged([FAILED, replace(FAILED, target="trace/torch-cpu")], [listed(), listed("run", "crash", line=9)])
    assert done.exit_code == 2
    (problem,) = done.problems
    assert problem.where.line == 9
    assert "run: crash contradicts compare: mismatch, which known-failures.yaml:3:3 says" in problem.wrong


def test_entries_of_other_versions_do_not_contradict() -> None:
    known = [listed(when="torch>=2.0"), listed("run", "crash", when="torch<2.0", line=9)]
    assert judged([FAILED], known).exit_code == 0


def test_a_contradiction_is_found_wherever_the_entries_stand() -> None:
    known = [listed(), listed("run", "crash", line=9), listed(line=12)]
    assert {problem.where.line for problem in judged([FAILED], known).problems} == {9}
