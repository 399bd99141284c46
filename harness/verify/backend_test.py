"""What is recorded of an export in the form of ONNX's own backend tests, which any runner of those can verify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from harness.model.answer import Reference
from harness.spec.tolerance import Close, Exact, Rule, Scaled, Tolerance, Ulp
from harness.verify.shelf import Shelf


def write_data_sets(shelf: Shelf, folder: str, references: Sequence[Reference]) -> None:
    """``test_data_set_N`` in ``folder`` for each set of shapes: the inputs, and eager torch's answers."""
    for number, known in enumerate(references):
        for side, arrays in (("input", known.inputs), ("output", known.eager)):
            for at, values in enumerate(arrays.values()):
                shelf.array_at(values, f"{folder}/test_data_set_{number}/{side}_{at}.pb")


def backend_rule(tolerance: Tolerance, references: Sequence[Reference]) -> Close:
    """The tightest such rule that passes what ``tolerance`` passes: ONNX's runner has one for all outputs."""
    rules = [_close(tolerance.for_output(at), known, at) for known in references for at in range(len(known.eager))]
    return Close(max((rule.rtol for rule in rules), default=0.0), max((rule.atol for rule in rules), default=0.0))


def _close(rule: Rule, known: Reference, at: int) -> Close:
    values = list(known.eager.values())[at]
    kind = np.dtype(values.dtype)
    finfo: Any = ml_dtypes.finfo
    eps = float(finfo(kind).eps) if kind.kind not in "iubO" else 0.0
    match rule:
        case Exact():
            return Close(0.0, 0.0)
        case Ulp(n):
            # Below the smallest normal number a unit in the last place is no longer relative to the value.
            return Close(n * eps, n * float(finfo(kind).smallest_subnormal) if eps else 0.0)
        case Close():
            return rule
        case Scaled(n):
            return Close(0.0, n * eps * max(_largest(known, at), default=0.0))


def _largest(known: Reference, at: int) -> Iterator[float]:
    """The largest sum of magnitudes of an element of output ``at``."""
    magnitudes = known.magnitudes[at] if at < len(known.magnitudes) else None
    if magnitudes is not None and magnitudes.size:
        finite = np.asarray(magnitudes, np.float64)
        yield float(np.max(finite, where=np.isfinite(finite), initial=0.0))
