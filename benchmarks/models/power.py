"""Plants faults in small nets and has harness judge the faulty outputs.

A fault is visible if the faulty outputs are more than three times as far from the float64 reference as eager torch's
own (4.5 times in float16), in RMS or at the worst value. That is computed here, independently of harness's comparison.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.models.faults import Fault, faults
from harness.check.cache.artifacts import ArtifactCache
from harness.check.module.prepared_case import PreparedCase
from harness.compare.verdict import compare_with_reference
from harness.model.answer import Reference
from harness.model.running import run_module
from harness.model.tensors import copy_module, to_numpy, to_torch
from harness.spec.language.case import Case

Array = NDArray[Any]
VISIBLE = {"float32": 3.0, "float16": 4.5}


@dataclass(frozen=True)
class Outcome:
    """One planted fault.

    ``rms`` and ``worst`` are the errors of the faulty outputs against float64, in units of eager torch's own; each is
    the largest of all draws and outputs. ``caught`` is True if harness fails one of the draws.
    """

    net: str
    dtype: str
    seed: int
    kind: str
    path: str
    rms: float
    worst: float
    caught: bool

    @property
    def visible(self) -> bool:
        """True if the RMS error shows the fault."""
        return self.rms > VISIBLE[self.dtype]

    @property
    def visible_at_the_worst_value(self) -> bool:
        """True if only the largest error shows the fault."""
        return not self.visible and self.worst > VISIBLE[self.dtype]


def plant_faults(case: Case, of_each_kind: int, scratch: Path) -> Iterator[Outcome]:
    """The outcomes of the faults of ``case``, at all of its draws."""
    prepared = PreparedCase(case, ArtifactCache(None, scratch))
    module = prepared.subject.module
    for fault in faults(module, of_each_kind):
        yield _outcome(prepared, fault)


def _outcome(prepared: PreparedCase, fault: Fault) -> Outcome:
    case = prepared.case
    module = copy_module(prepared.subject.module)
    fault.plant(module)
    references = [reference for reference in prepared.references if reference.float64 is not None]
    assert references, f"{case.id}: no float64 reference"
    caught, rms, worst = False, 0.0, 0.0
    for reference in references:
        answer = _outputs(module, reference, case.seed)
        caught |= not compare_with_reference(answer, reference, prepared.tolerance(None)).passed
        for name in reference.eager:
            each = error_ratios(answer[name], reference.eager[name], (reference.float64 or {})[name])
            rms, worst = max(rms, each[0]), max(worst, each[1])
    net = case.id.partition("/")[2].partition("[")[0]
    return Outcome(net, case.dtype, case.seed, fault.kind, fault.path, rms, worst, caught)


def _outputs(module: torch.nn.Module, reference: Reference, seed: int) -> Mapping[str, Array]:
    inputs = [to_torch(values) for values in reference.inputs.values()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs: Sequence[torch.Tensor] = run_module(copy_module(module), inputs, seed)
    return {f"output_{index}": to_numpy(tensor) for index, tensor in enumerate(outputs)}


def error_ratios(answer: Array, eager: Array, float64: Array) -> tuple[float, float]:
    """The RMS error and the largest error of ``answer`` against ``float64``, divided by those of ``eager``.

    NaN or an infinity where float64 is finite counts as infinitely far.
    """
    faulty, own = (np.abs(values.astype(np.float64) - float64) for values in (answer, eager))
    if not np.isfinite(faulty).all():
        return np.inf, np.inf
    return _ratio(np.sqrt(np.mean(faulty**2)), np.sqrt(np.mean(own**2))), _ratio(faulty.max(), own.max())


def _ratio(error: Any, own: Any) -> float:
    return float(error / own) if own else (np.inf if error else 0.0)
