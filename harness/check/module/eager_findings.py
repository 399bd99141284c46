"""Eager torch compared with the float64 reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.check.judging.judge import MET_IN_FLOAT64, Expected, check_expectations, have_same_form
from harness.compare.calibrated import plain_rule
from harness.compare.verdict import compare, distances
from harness.model.answer import Reference
from harness.result import Finding
from harness.spec.language.tolerances import Exact, Rule, Tolerance, Ulp

Array = NDArray[Any]


def eager_rounding(reference: Reference) -> Finding:
    """How far eager torch is from its own run in float64. That shows no fault: it is what calibration measures."""
    errors = distances(reference.eager, {}, reference.float64 or {}, undefined=reference.undefined)
    largest = max((distance.eager_max_abs for distance in errors), default=0.0)
    at = "" if reference.at is None else f"at {reference.at}: "
    return Finding("float64_reference", True, f"{at}eager torch is at most {largest:.4g} from its run in float64")


def compare_eager(reference: Reference, expected: Mapping[str, Array], tolerance: Tolerance) -> Finding:
    """Whether eager torch agrees with ``expected``, the float64 reference in the outputs' dtypes."""
    by_output = {index: _with_rounding(rule) for index, rule in tolerance.by_output.items()}
    comparison = compare(
        reference.eager,
        expected,
        Tolerance(_with_rounding(tolerance.rule), by_output),
        magnitudes=reference.magnitudes,
        undefined=reference.undefined,
        at=reference.at,
    )
    return Finding("float64_reference", comparison.passed, comparison.message, next(iter(comparison.outputs), None))


def _with_rounding(rule: Rule) -> Rule:
    """``rule`` for eager torch: it rounds at each step, the float64 reference only once. So exact means two ULP."""
    return Ulp(2) if isinstance(rule, Exact) else Ulp(rule.n + 2) if isinstance(rule, Ulp) else rule


def met_in_float64(
    expected: Expected, reference: Reference, tolerance: Tolerance, unmet: Sequence[str]
) -> list[Finding]:
    """A finding for each ``unmet`` key of ``expect`` that the float64 reference meets: the expectation is right.

    None of them if eager torch is as close to the float64 reference as two correct implementations are: then the
    expectation only allows too little.
    """
    if reference.float64 is None or not unmet:
        return []
    eager = reference.eager
    with np.errstate(over="ignore"):
        float64 = {name: values.astype(eager[name].dtype) for name, values in reference.float64.items()}
    plain = {index: plain_rule(values.dtype.name) for index, values in enumerate(eager.values())}
    if not have_same_form(float64, eager) or compare(eager, float64, Tolerance(Exact(), plain)).passed:
        return []
    findings = check_expectations(expected, reference, float64, tolerance)
    return [
        Finding(MET_IN_FLOAT64 + finding.what, True, f"the float64 reference meets expect.{finding.what}")
        for finding in findings
        if finding.passed and finding.what in unmet
    ]
