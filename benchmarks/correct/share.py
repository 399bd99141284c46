"""How much of its tolerance a passing output used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.faulty_check import FaultyCase, FaultyCheck
from harness.model.answer import Reference
from harness.spec.language.tolerances import Close, Rule, Scaled, Tolerance

Array = NDArray[Any]


def share(faulty_check: FaultyCheck, prepared: FaultyCase) -> float:
    """Return the largest error of any element, divided by what its rule allows; 0 for exact rules."""
    if faulty_check.result.status != "passed":
        return 0.0
    tolerance = prepared.tolerance(faulty_check.opset)
    pairs = zip(faulty_check.outputs, prepared.references, strict=True)
    return max((_used(answer, reference, tolerance) for answer, reference in pairs), default=0.0)


def _used(answer: Mapping[str, Array], reference: Reference, tolerance: Tolerance) -> float:
    used = 0.0
    for index, (name, expected) in enumerate(reference.eager.items()):
        terms = reference.magnitudes[index] if index < len(reference.magnitudes) else None
        reference_values = expected.astype(np.float64)
        with np.errstate(all="ignore"):
            apart = np.abs(answer[name].astype(np.float64) - reference_values)
            share = apart / _allowed(tolerance.for_output(index), reference_values, terms, expected.dtype)
        used = max(used, float(np.nan_to_num(share[apart > 0], posinf=0.0).max(initial=0.0)))
    return used


def _allowed(rule: Rule, reference_values: Array, terms: Array | None, dtype: np.dtype[Any]) -> Array | float:
    if isinstance(rule, Close):
        return rule.atol + rule.rtol * np.abs(reference_values)
    if isinstance(rule, Scaled) and terms is not None:
        info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        return rule.n * np.maximum(float(info.eps) * terms, float(info.smallest_subnormal))
    return np.inf
