"""Attributes a disagreement to one hop between the definition and the answer.

    definition -> eager torch -> exported file -> optimized graph -> kernels -> answer

The file is evaluated by itself in float64 and the same file is run with graph optimization off.
Where the file itself is wrong the exporter is to blame; where turning the optimizer off mends the
answer, the optimizer; where the answer is as near to the definition as eager torch is, rounding;
else a kernel of the runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.blame.float64 import evaluate
from harness.blame.room import AS_NEAR, distance, with_room
from harness.compare.verdict import Comparison, compare
from harness.exporters import Artifact
from harness.model.reference import Reference
from harness.registry import plugins
from harness.result import Blame
from harness.spec.target import Target
from harness.spec.tolerance import Close, Scaled, Tolerance

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """A disagreement: what was asked, what eager and the definition say, what the target answered, by what rule.

    ``meets_expectations`` says of any answer whether it is what the spec says under ``expect``.
    """

    target: Target
    artifact: Artifact
    reference: Reference
    answer: Mapping[str, Array]
    tolerance: Tolerance
    meets_expectations: Callable[[Mapping[str, Array]], bool] = lambda _answer: True

    def is_right(self, answer: Mapping[str, Array]) -> bool:
        """True where ``answer`` agrees with the truth and is what the spec expects."""
        return self.compare(answer, self.truth).passed and self.meets_expectations(answer)

    @property
    def truth(self) -> Mapping[str, Array]:
        """The definition's answer in the outputs' own dtypes; eager torch's where there is no definition."""
        if self.reference.oracle is None:
            return self.reference.eager
        dtypes = {name: values.dtype for name, values in self.reference.eager.items()}
        with np.errstate(over="ignore"):
            return {name: values.astype(dtypes[name]) for name, values in self.reference.oracle.items()}

    def compare(self, actual: Mapping[str, Array], expected: Mapping[str, Array]) -> Comparison:
        """Hold one answer against another, leaving room for one rounding more than the rule does."""
        tolerance = with_room(self.tolerance)
        same_shapes = all(values.shape == expected[name].shape for name, values in actual.items() if name in expected)
        if not same_shapes or not self.reference.magnitudes:
            return compare(actual, expected, _without_magnitudes(tolerance))
        known = self.reference
        return compare(actual, expected, tolerance, magnitudes=known.magnitudes, undefined=known.undefined)


def attribute(scene: Scene) -> tuple[Blame, tuple[str, ...]]:
    """The hop to blame, and the evidence line by line."""
    evidence: list[str] = []
    if scene.artifact.format != "onnx":
        if _as_near_as_eager(scene, evidence):
            return "rounding", tuple(evidence)
        return "exporter", (*evidence, f"{scene.target.export} made a program that torch itself runs differently")
    if _file_is_wrong(scene, evidence):
        return "exporter", tuple(evidence)
    if _optimizer_did_it(scene, evidence):
        return "optimizer", tuple(evidence)
    if _as_near_as_eager(scene, evidence):
        return "rounding", tuple(evidence)
    return "kernel", tuple(evidence)


def _file_is_wrong(scene: Scene, evidence: list[str]) -> bool:
    try:
        outputs = evaluate(scene.artifact.path, scene.reference.inputs)
    except Exception as error:  # noqa: BLE001 - whatever the evaluator cannot do is told as evidence that is missing
        said = str(error).splitlines()[0] if str(error) else "no message"
        evidence.append(f"the file could not be evaluated in float64: {type(error).__name__}: {said}")
        return False
    dtypes = {name: values.dtype for name, values in scene.truth.items()}
    with np.errstate(all="ignore"):
        outputs = {name: np.asarray(values).astype(dtypes.get(name)) for name, values in outputs.items()}
    if scene.is_right(outputs):
        evidence.append("evaluated in float64, the exported file itself gives the right answer")
        return False
    held = scene.compare(outputs, scene.truth)
    said = "it does not meet the spec's expectations" if held.passed else held.message
    evidence.append(f"evaluated in float64, the exported file itself is wrong: {said}")
    return True


def _optimizer_did_it(scene: Scene, evidence: list[str]) -> bool:
    runtime = plugins("runtimes")[scene.target.runtime]
    if "optimization" not in runtime.options or scene.target.options.get("optimization") == "disabled":
        return False
    session = runtime.load(scene.artifact, {**scene.target.options, "optimization": "disabled"})
    try:
        plain = session.run(scene.reference.inputs)
    finally:
        session.close()
    mended = scene.is_right(plain)
    evidence.append(f"with graph optimization off the same file gives {'the right' if mended else 'a wrong'} answer")
    return mended


def _as_near_as_eager(scene: Scene, evidence: list[str]) -> bool:
    """True where eager torch is as far from the definition as the target is, within a factor of two."""
    oracle = scene.reference.oracle
    if oracle is None or scene.answer.keys() != oracle.keys():
        return False
    near: bool = True
    for name, truth in oracle.items():
        eager, target = (distance(side[name], truth) for side in (scene.reference.eager, scene.answer))
        near = near and target <= AS_NEAR * eager
        evidence.append(f"{name}: eager torch is {eager:.3g} from the definition, the target {target:.3g}")
    return near


def _without_magnitudes(tolerance: Tolerance) -> Tolerance:
    """Where the terms' magnitudes are not known, or not of this shape: a plain relative rule instead."""
    plain = Close(1e-5, 1e-6)
    rules = {at: plain if isinstance(rule, Scaled) else rule for at, rule in tolerance.by_output.items()}
    return Tolerance(plain if isinstance(tolerance.rule, Scaled) else tolerance.rule, rules)


def first_wrong(comparisons: Sequence[Comparison]) -> int:
    """The place of the first comparison that does not pass; 0 where all do."""
    return next((at for at, comparison in enumerate(comparisons) if not comparison.passed), 0)
