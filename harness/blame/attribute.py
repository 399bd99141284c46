"""Attributes a disagreement to one hop between the definition and the answer.

    definition -> eager torch -> exported file -> optimized graph -> kernels -> answer

The file is evaluated by itself (:mod:`harness.blame.file_evaluation`) and run once more with graph optimization off. Where
the file itself is wrong the exporter is to blame; where the answer is as near to the definition as eager torch is,
rounding; where it is as near as the file allows, that rounds on its way, the exporter again; where turning the
optimizer off mends it, the optimizer; else a kernel of the runtime. Rounding goes before the optimizer, since any
other order of summation mends some answers and spoils others. Where nobody can say what the file computes, the exporter
and a kernel cannot be told apart, and neither is blamed.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.blame.disagreement import AS_NEAR, Disagreement, distance
from harness.blame.file_evaluation import answer_of, file_is_right, file_rounds, first_line
from harness.compare.verdict import Comparison
from harness.registry import plugins
from harness.result import Blame


def attribute(disagreement: Disagreement) -> tuple[Blame | None, tuple[str, ...]]:
    """The hop to blame, None where nobody can be blamed with reason, and the evidence line by line."""
    evidence: list[str] = []
    if disagreement.artifact.format != "onnx":
        if _as_near_as_eager(disagreement, evidence):
            return "rounding", tuple(evidence)
        return "exporter", (
            *evidence,
            f"{disagreement.target.export} made a program that torch itself runs differently",
        )
    right = file_is_right(disagreement, evidence)
    mended = _right_without_optimizer(disagreement, evidence)
    if right is False:
        return "exporter", tuple(evidence)
    if _as_near_as_eager(disagreement, evidence):
        return "rounding", tuple(evidence)
    if right and file_rounds(disagreement, evidence):
        return "exporter", tuple(evidence)
    if mended:
        return "optimizer", tuple(evidence)
    return "kernel" if right else None, tuple(evidence)


def _right_without_optimizer(disagreement: Disagreement, evidence: list[str]) -> bool:
    runtime = plugins("runtimes")[disagreement.target.runtime]
    if "optimization" not in runtime.options or disagreement.target.options.get("optimization") == "disabled":
        return False
    try:
        plain = answer_of(
            runtime,
            disagreement.artifact,
            {**disagreement.target.options, "optimization": "disabled"},
            disagreement.inputs,
        )
    except Exception as error:  # noqa: BLE001 - a graph that runs only when it is optimized is told as evidence
        evidence.append(f"with graph optimization off the same file does not run: {first_line(error)}")
        return False
    right = disagreement.is_right(plain)
    other = disagreement.differ(disagreement.answer, plain) or not disagreement.meets_expectations(disagreement.answer)
    which = ("the right" if other else "the same") if right else "a wrong"
    evidence.append(f"with graph optimization off the same file gives {which} answer")
    return right and other


def _as_near_as_eager(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True where eager torch is as far from the definition as the target is, within a factor of two.

    Without a definition, where the target is no further from eager than one rounding more than the rule allows.
    """
    oracle = disagreement.reference.float64
    if oracle is None:
        near_eager = disagreement.is_right(disagreement.answer)
        how = "within" if near_eager else "further off than"
        evidence.append(
            f"there is no definition in float64; the target is {how} one rounding more than the rule allows"
        )
        return near_eager
    if disagreement.answer.keys() != oracle.keys():
        return False
    near: bool = True
    for name, truth in oracle.items():
        eager, target = (distance(side[name], truth) for side in (disagreement.reference.eager, disagreement.answer))
        near = near and target <= AS_NEAR * eager
        evidence.append(f"{name}: eager torch is {eager:.3g} from the definition, the target {target:.3g}")
    return near


def first_wrong(comparisons: Sequence[Comparison]) -> int:
    """The place of the first comparison that does not pass; 0 where all do."""
    return next((at for at, comparison in enumerate(comparisons) if not comparison.passed), 0)
