"""How near an answer that passed came to its tolerance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.witness import FaultyTrial, Witnessed
from harness.model.answer import Reference
from harness.spec.language.tolerances import Close, Rule, Scaled, Tolerance

Array = NDArray[Any]


def share(seen: Witnessed, prepared: FaultyTrial) -> float:
    """The largest part of what a rule allows that any element used up; 0 where nothing may differ."""
    if seen.result.status != "passed":
        return 0.0
    tolerance = prepared.tolerance(seen.opset)
    pairs = zip(seen.answers, prepared.references, strict=True)
    return max((_used(answer, reference, tolerance) for answer, reference in pairs), default=0.0)


def _used(answer: Mapping[str, Array], reference: Reference, tolerance: Tolerance) -> float:
    used = 0.0
    for index, (name, expected) in enumerate(reference.eager.items()):
        terms = reference.magnitudes[index] if index < len(reference.magnitudes) else None
        wanted = expected.astype(np.float64)
        with np.errstate(all="ignore"):
            apart = np.abs(answer[name].astype(np.float64) - wanted)
            share = apart / _allowed(tolerance.for_output(index), wanted, terms, expected.dtype)
        used = max(used, float(np.nan_to_num(share[apart > 0], posinf=0.0).max(initial=0.0)))
    return used


def _allowed(rule: Rule, wanted: Array, terms: Array | None, dtype: np.dtype[Any]) -> Array | float:
    if isinstance(rule, Close):
        return rule.atol + rule.rtol * np.abs(wanted)
    if isinstance(rule, Scaled) and terms is not None:
        info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        return rule.n * np.maximum(float(info.eps) * terms, float(info.smallest_subnormal))
    return np.inf
