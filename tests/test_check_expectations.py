"""Each key under ``expect`` passes a right answer of the target and fails a wrong one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Call

SPEC = """
harness: 1
layer: Sigmoid
defaults:
  inputs: {x: {values: [[0.5, -1.5, 2.0], [-0.25, 1.0, -3.0]]}}
cases:
  - {name: right-formula, expect: {formula: 1 / (1 + exp(-x))}}
  - {name: wrong-formula, expect: {formula: 1 / (1 + exp(x))}}
  - {name: right-condition, expect: {formula: (y > 0) & (y < 1)}}
  - {name: wrong-condition, expect: {formula: y > 0.5}}
  - {name: right-gradient, expect: {gradient: y * (1 - y)}}
  - {name: wrong-gradient, expect: {gradient: y * (1 + y)}}
  - {name: right-gradient-range, expect: {gradient_range: [0, 0.25]}}
  - {name: wrong-gradient-range, expect: {gradient_range: [0, 0.1]}}
  - {name: right-range, expect: {range: [0, 1]}}
  - {name: wrong-range, expect: {range: [0.1, 1]}}
  - {name: right-shape, expect: {shape: [2, 3]}}
  - {name: wrong-shape, expect: {shape: [3, 2]}}
  - {name: wrong-outputs, expect: {outputs: [{shape: [2, 3], fill: {full: 0.5}}]}}
  - {name: wrong-count, expect: {outputs: [{values: [0.5]}, {values: [0.5]}]}}
  - {name: right-equals, expect: {equals: {sequential: [{layer: Sigmoid}, {layer: Identity}]}}}
  - {name: wrong-equals, expect: {equals: {layer: Tanh}}}
  - {name: right-differs, expect: {differs_from: {layer: Tanh}}}
  - {name: wrong-differs, expect: {differs_from: {layer: Sigmoid}}}
  - {name: wrong-raises, expect: {raises: no such thing}}
"""
PRELU = """
harness: 1
layer: PReLU
defaults:
  inputs: {x: {values: [[1.0, -2.0], [-0.5, 3.0]]}}
  weights: {weight: {values: [0.25]}}
cases:
  - {name: right-weight, expect: {gradient: {x: "where(x > 0, 1, weight)", weight: "sum(where(x > 0, 0, x))"}}}
  - {name: wrong-weight, expect: {gradient: {weight: "sum(x)"}}}
"""
RRELU = """
harness: 1
layer: RReLU
defaults:
  mode: train
  inputs: {x: {shape: [400], fill: {uniform: [-2, -1]}}}
cases:
  - {name: right-random, expect: {formula: "uniform(y / x, lower, upper)"}}
  - {name: wrong-random, expect: {formula: "uniform(y / x, 0, upper)"}}
  - {name: wrong-nothing-compared, expect: {shape: [400]}}
"""


@pytest.fixture
def rows(harness: Call, spec: Callable[[str, str], Path]) -> dict[str, Any]:
    spec("sigmoid.yaml", SPEC)
    spec("prelu.yaml", PRELU)
    spec("rrelu.yaml", RRELU)
    ran = harness("run", "specs", "--targets", "trace/torch-cpu", "--no-latency")
    assert ran.code == 1
    return {case.split("/")[1]: row for (case, _), row in ran.rows.items()}


def test_right_expectations_pass_and_wrong_ones_fail(rows: dict[str, Any]) -> None:
    assert len(rows) == 24
    for name, row in rows.items():
        assert row["status"] == ("passed" if name.startswith("right") else "failed"), (name, row["message"])


def test_a_wrong_expectation_is_blamed_on_the_spec_and_the_message_has_the_actual_values(rows: dict[str, Any]) -> None:
    assert rows["wrong-gradient"]["blame"] == "spec"
    assert "gradient" in rows["wrong-gradient"]["message"]
    assert "smallest 0.04743, largest 0.8808" in rows["wrong-range"]["message"]
    assert "does not raise" in rows["wrong-raises"]["message"]
    assert "nothing was compared" in rows["wrong-nothing-compared"]["message"]


def test_eager_is_compared_with_the_float64_reference(rows: dict[str, Any]) -> None:
    (finding,) = [finding for finding in rows["right-formula"]["findings"] if finding["what"] == "float64_reference"]
    assert finding["passed"]
    (distance,) = rows["right-formula"]["distances"]
    assert distance["eager_max_abs"] < 1e-6
