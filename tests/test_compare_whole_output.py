"""Rules about a whole output: SQNR, cosine, decisions, and lists of rules that must all hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.compare.decisions import wilson_interval
from harness.compare.verdict import compare
from harness.result import OutputComparison
from harness.spec.language.tolerances import (
    AllOf,
    Close,
    Cosine,
    Decisions,
    Exact,
    Rule,
    Sqnr,
    Tolerance,
    Ulp,
    parse_tolerance,
)
from tests.conftest import Call

Array = NDArray[Any]


def judged(actual: Array, expected: Array, rule: Rule, float64: Array | None = None) -> OutputComparison:
    reference = None if float64 is None else {"y": float64}
    return compare({"y": actual}, {"y": expected}, Tolerance(rule, {0: rule}), float64=reference).outputs[0]


def noisy(decibels: float, shape: tuple[int, ...] = (20, 50), seed: int = 0) -> tuple[Array, Array]:
    """Return an output whose SQNR against the other is ``decibels``, in float64."""
    generator = np.random.default_rng(seed)
    expected, noise = generator.normal(1, 2, shape), generator.normal(0, 1, shape)
    noise *= np.sqrt(np.sum(expected**2) / np.sum(noise**2)) * 10 ** (-decibels / 20)
    return expected + noise, expected


@given(st.floats(-20, 100), st.integers(0, 50))
def test_the_ratio_is_measured_in_decibels(decibels: float, seed: int) -> None:
    output = judged(*noisy(decibels, seed=seed), Sqnr(decibels - 0.01))
    assert output.sqnr == pytest.approx(decibels, abs=1e-6)
    assert output.passed
    assert not judged(*noisy(decibels, seed=seed), Sqnr(decibels + 0.01)).passed


def test_a_ratio_that_is_too_low_is_reported_with_both_numbers() -> None:
    assert judged(*noisy(30), Sqnr(35)).problem == "SQNR 30 dB; allowed: at least 35 dB"


def test_equal_outputs_have_an_infinite_ratio_and_the_cosine_1() -> None:
    output = judged(np.ones(4, np.float32), np.ones(4, np.float32), AllOf((Sqnr(300), Cosine(1))))
    assert (output.passed, output.sqnr, output.cosine, output.rms) == (True, math.inf, 1.0, 0.0)


def test_values_near_the_largest_float64_do_not_overflow() -> None:
    large = np.array([1.7e308, -1.7e308])
    output = judged(-large, large, Sqnr(0))
    assert output.sqnr == pytest.approx(20 * math.log10(0.5))


@given(st.floats(0.1, 10), st.integers(0, 50))
def test_the_cosine_does_not_see_a_positive_factor(factor: float, seed: int) -> None:
    expected = np.random.default_rng(seed).normal(size=100)
    assert judged(expected * factor, expected, Cosine(1 - 1e-12)).passed
    assert not judged(expected * -factor, expected, Cosine(0)).passed


def test_the_cosine_with_zeros_is_undefined_and_fails() -> None:
    output = judged(np.zeros(3), np.ones(3), Cosine(-1))
    assert output.problem == "cosine undefined: one side is all zeros; allowed: at least -1"


@pytest.mark.parametrize("rule", [Sqnr(-1), Cosine(0.5)])
def test_a_bound_that_a_constant_reaches_is_inconclusive(rule: Rule) -> None:
    expected = np.random.default_rng(0).normal(5, 1, 100)
    output = judged(expected + 1e-3, expected, rule)
    assert output.passed
    assert output.inconclusive is not None
    assert output.inconclusive.endswith("would pass too")
    assert judged(expected + 1e-3, expected, Sqnr(60)).inconclusive is None


@pytest.mark.parametrize("rule", [Sqnr(0), Cosine(-1), Decisions(at_least=0), AllOf((Sqnr(0), Cosine(-1)))])
def test_a_lost_nan_fails_under_every_rule(rule: Rule) -> None:
    expected = np.array([1.0, np.nan, 3.0])
    assert "NaN" in str(judged(np.array([1.0, 2.0, 3.0]), expected, rule).problem)


SCORES = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.2, 0.7, 0.1]])


def test_decisions_are_counted_along_the_axis() -> None:
    flipped = SCORES.copy()
    flipped[1] = [0.1, 0.8, 0.1]
    output = judged(flipped, SCORES, Decisions(at_least=0.9))
    assert output.decisions is not None
    assert {key: output.decisions[key] for key in ("agree", "ties", "of", "share")} == {
        "agree": 3, "ties": 0, "of": 4, "share": 0.75,
    }  # fmt: skip
    assert output.decisions["smallest_margin"] == pytest.approx(0.1)
    assert str(output.problem).startswith("1 of 4 decisions by argmax differs; first at [1]; agreement 75 % (95 %")
    assert judged(flipped, SCORES, Decisions(at_least=0.75)).passed


def test_large_errors_that_change_no_decision_pass() -> None:
    assert judged(SCORES * 50 + 3, SCORES, Decisions(at_least=1)).passed


def test_a_flip_within_the_references_own_error_is_a_tie_and_a_larger_one_is_not() -> None:
    float64 = np.array([[0.5, 0.5 + 1e-9, 0.0]] * 9 + [[0.9, 0.1, 0.0]])
    reference = float64.astype(np.float32)
    target = reference.copy()
    target[0] = [0.5, 0.6, 0.0]
    tied = judged(target, reference, Decisions(at_least=1), float64)
    assert tied.decisions is not None
    assert (tied.passed, tied.decisions["ties"], tied.decisions["agree"]) == (True, 1, 9)
    target[9] = [0.1, 0.9, 0.0]
    assert not judged(target, reference, Decisions(at_least=1), float64).passed


def test_only_ties_and_constant_decisions_are_inconclusive() -> None:
    float64 = np.array([[0.5, 0.5 + 1e-9]])
    flipped = judged(
        np.array([[0.6, 0.5]], np.float32), np.array([[0.5, 0.5 + 6e-8]], np.float32), Decisions(), float64
    )
    assert flipped.inconclusive == "all decisions are ties, so none was compared"
    same = np.array([[0.0, 1.0]] * 20)
    assert "decisions are the same" in str(judged(same, same, Decisions(at_least=0.99)).inconclusive)


@pytest.mark.parametrize(
    ("by", "actual", "agree"),
    [("sign", [-1.0, 2.0, -3.0, 0.0], 3), ("value", [1.0, 2.0, -3.0, 0.0], 4), ("argmin", [1.0, 2.0, -3.0, 0.0], 1)],
)
def test_each_kind_of_decision(by: Any, actual: list[float], agree: int) -> None:
    expected = np.array([1.0, 2.0, -3.0, 0.0])
    output = judged(np.array(actual), expected, Decisions(by, at_least=0))
    assert output.decisions is not None
    assert output.decisions["agree"] == agree


def test_labels_may_differ_in_a_share_that_is_named_for_their_output() -> None:
    expected, actual = np.arange(100), np.arange(100)
    actual[3] = 0
    rule = Decisions("value", at_least=0.99)
    assert judged(actual, expected, rule).passed
    assert not compare({"y": actual}, {"y": expected}, Tolerance(rule)).passed


def test_an_axis_that_the_output_does_not_have_fails() -> None:
    assert judged(np.ones(3), np.ones(3), Decisions(axis=1)).problem == "there is no axis 1: the output has shape (3,)"


def test_scores_also_have_a_divergence_and_a_top_5() -> None:
    generator = np.random.default_rng(0)
    expected = generator.normal(size=(30, 10))
    same, other = judged(expected, expected, Decisions()), judged(expected[:, ::-1], expected, Decisions(at_least=0))
    assert (same.extra["kl"], same.extra["top5"]) == (0.0, 1.0)
    assert other.extra["kl"] > 0.5
    assert other.extra["top5"] < 0.5
    assert "kl" not in judged(expected, expected, Exact()).extra


def test_all_rules_of_a_list_must_hold() -> None:
    actual, expected = noisy(60)
    assert judged(actual, expected, AllOf((Sqnr(50), Close(0, 1)))).passed
    both = judged(actual, expected, AllOf((Sqnr(70), Close(0, 1e-9))))
    assert "more than the tolerance" in str(both.problem)
    assert "SQNR 60 dB" in str(both.problem)
    assert both.mismatched > 0
    assert not judged(actual, expected, AllOf((Sqnr(50), Close(0, 1e-9)))).passed
    assert not judged(actual, expected, AllOf((Close(0, 1), Sqnr(70)))).passed


def test_a_list_is_inconclusive_only_if_each_rule_is() -> None:
    actual, expected = noisy(60)
    assert judged(actual, expected, Cosine(0)).inconclusive is not None
    assert judged(actual, expected, AllOf((Cosine(0), Sqnr(50)))).inconclusive is None


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_holds_the_share_and_narrows(agree: int, differ: int) -> None:
    of = agree + differ
    low, high = wilson_interval(agree, of)
    assert 0 <= low <= (agree / of if of else 0.5) <= high <= 1
    if of:
        narrower = wilson_interval(agree * 10, of * 10)
        assert narrower[1] - narrower[0] < high - low


def test_a_known_interval() -> None:
    assert wilson_interval(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)


@pytest.mark.parametrize(
    ("written", "rule"),
    [
        ({"sqnr": 35}, Sqnr(35)),
        ({"cosine": 0.999}, Cosine(0.999)),
        ({"decisions": {"by": "sign"}}, Decisions("sign")),
        ([{"ulp": 2}, {"sqnr": 40}], AllOf((Ulp(2), Sqnr(40)))),
        (["exact"], Exact()),
    ],
)
def test_rules_are_written_so(written: Any, rule: Rule) -> None:
    assert parse_tolerance(written).rule == rule


SPEC = """
harness: 1
layer: Linear
cases:
  - name: scores
    args: {in_features: 8, out_features: 10}
    inputs: {x: {shape: [32, 8]}}
    tolerance: TOLERANCE
"""


def test_a_spec_is_judged_by_all_of_its_rules(harness: Call, spec: Any) -> None:
    rules = "[{sqnr: 100}, {cosine: 0.9999}, {decisions: {by: argmax}}]"
    spec("linear.yaml", SPEC.replace("TOLERANCE", rules))
    ran = harness("run", "specs", "--no-latency", "--targets", "onnx-dynamo@23/ort-cpu", "--format", "json,md,html,csv")
    assert ran.code == 0, ran.out
    (row,) = ran.report["results"]
    assert row["outputs"][0]["decisions"]["agree"] == 32
    assert row["outputs"][0]["sqnr"] > 100
    spec("linear.yaml", SPEC.replace("TOLERANCE", "{sqnr: 200}"))
    ran = harness("run", "specs", "--no-latency", "--targets", "onnx-dynamo@23/ort-cpu")
    assert ran.code == 1
    assert "SQNR" in ran.report["results"][0]["message"]


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        ("{sqnr: loud}", "sqnr: loud is out of range; write a ratio in decibels, such as 35"),
        ("{cosine: 2}", "cosine: 2 is out of range; write a number of at most 1, such as 0.999"),
        ("{decisions: {by: vote}}", "decisions: by: vote is unknown; write argmax, argmin, sign, value"),
        ("{decisions: {at_least: 99}}", "decisions: at_least: 99 is out of range; write a share, such as 0.999"),
        ("{decisions: {axes: 1}}", "decisions: no key axes; write by, axis and at_least"),
        ("[]", "[] names no rule"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(harness: Call, spec: Any, tolerance: str, message: str) -> None:
    spec("linear.yaml", SPEC.replace("TOLERANCE", tolerance))
    ran = harness("check", "specs")
    assert ran.code == 2
    assert message in ran.err
