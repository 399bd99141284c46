"""Runs random configurations on their targets, and counts the outcomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np

from benchmarks.correct.configurations import Configuration, configuration
from benchmarks.correct.share import share
from benchmarks.planted.faulty_check import FaultyCase, FaultyCheck, run_faulty_check
from harness.check.cache.artifacts import ArtifactCache
from harness.spec.language.case import LayerModel
from harness.spec.targets import Target

AGREE, OVERFLOW, UNSUPPORTED, ALARM = COUNTED = ("agree", "overflow", "not supported", "false alarm")
TRACED = 0.25
"""The share of configurations that are also traced."""
BY_DYNAMO = 0.1
"""The share of configurations that are also exported with the new exporter, which is slow."""


@dataclass
class Tally:
    """The outcomes of one layer with one exporter. ``nearest`` is the largest share of a tolerance that was used."""

    counts: Counter[str] = field(default_factory=Counter)
    elements: int = 0
    nearest: float = 0.0

    def add(self, what: str, elements: int, share: float) -> None:
        """Count one check. ``share`` is how much of the tolerance it used."""
        self.counts[what] += 1
        if what == AGREE:
            self.elements += elements
            self.nearest = max(self.nearest, share)


class Bench:
    """Runs configurations on their targets, and counts the outcomes."""

    def __init__(self, scratch: Path, seed: int = 0) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.alarms: list[str] = []
        self._scratch = scratch
        self._rng = np.random.default_rng(seed)
        self._drawn = 0

    def draw(self) -> Configuration:
        """Return the next random configuration."""
        self._drawn += 1
        return configuration(self._rng, self._drawn)

    def check(self, drawn: Configuration) -> None:
        """Check one configuration on each of its targets."""
        prepared = FaultyCase(drawn.case, ArtifactCache(None, self._scratch))
        model = drawn.case.model.model
        assert isinstance(model, LayerModel)
        stock, traced, by_dynamo = self._rng.random(3) < (0.5, TRACED, BY_DYNAMO)
        for target in targets(drawn, stock=stock, traced=traced, by_dynamo=by_dynamo):
            faulty_check = run_faulty_check(prepared, target)
            what = verdict(faulty_check, prepared)
            exporter = f"{target.exporter}+fixes" if target.fixes else target.exporter
            tally = self.tallies.setdefault((model.layer, exporter), Tally())
            tally.add(what, sum(output.of for output in faulty_check.result.outputs), share(faulty_check, prepared))
            if what == ALARM:
                self.alarms.append(f"{target} {model} {_about(drawn)}: {faulty_check.result.message}")


def targets(drawn: Configuration, *, stock: bool, traced: bool, by_dynamo: bool) -> tuple[Target, ...]:
    """Return the TorchScript exporter's target, tracing if ``traced``, and the new exporter's if ``by_dynamo``.

    The fixes are used if they are needed, and otherwise unless ``stock``. Without them, the new exporter refuses every
    RReLU.
    """
    fixes = drawn.needs_fixes or not stock
    chosen = [Target("onnx-torchscript", "ort-cpu", 17, fixes=fixes)]
    if traced:
        chosen.append(Target("trace", "torch-cpu", fixes=fixes))
    if by_dynamo:
        model = drawn.case.model.model
        refused = isinstance(model, LayerModel) and model.layer == "RReLU"
        chosen.append(Target("onnx-dynamo", "ort-cpu", 23, fixes=fixes or refused))
    return tuple(chosen)


def verdict(faulty_check: FaultyCheck, prepared: FaultyCase) -> str:
    """Return the outcome of one check, one of :data:`COUNTED`."""
    result = faulty_check.result
    if result.status == "passed":
        return AGREE
    if result.symptom == "unsupported":
        return UNSUPPORTED
    return OVERFLOW if result.status == "failed" and _overflows(faulty_check, prepared) else ALARM


def _overflows(faulty_check: FaultyCheck, prepared: FaultyCase) -> bool:
    """Return whether every wrong element is a sum whose magnitudes of terms exceed the dtype's largest number."""
    (answer,), (reference,) = faulty_check.outputs, prepared.references
    for (name, expected), terms in zip(reference.eager.items(), reference.magnitudes, strict=True):
        if terms is None or answer[name].shape != expected.shape or answer[name].dtype != expected.dtype:
            return False
        one, other = (side.astype(np.float64) for side in (answer[name], expected))
        unlike = np.isfinite(one) != np.isfinite(other)
        most = float(ml_dtypes.finfo(expected.dtype).max)  # type: ignore[no-untyped-call]
        if not unlike.any() or (terms[unlike] < most / 2).any():
            return False
    return True


def _about(drawn: Configuration) -> str:
    inputs = ", ".join(f"{spec.dtype}{list(spec.shape)} {spec.layout} {spec.fill}" for spec in drawn.case.inputs)
    weights = ", ".join(f"{name} {spec.fill}" for name, spec in drawn.case.model.weights.items())
    return f"{inputs}; {weights}"
