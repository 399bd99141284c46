"""Attribute a disagreement to one hop between the float64 reference and the target's answer.

    float64 reference -> eager torch -> exported file -> optimized graph -> kernels -> answer

The file is evaluated by itself (:mod:`harness.blame.file_evaluation`) and run once more with graph optimization off.
The hops are blamed in this order:

1. the exporter, if the file itself is wrong;
2. rounding, if the answer is as close to the float64 reference as eager torch is;
3. the exporter again, if the answer is as close as the file allows, which rounds to a narrower type on its way;
4. the optimizer, if the answer is right with graph optimization off;
5. else a kernel of the runtime.

Rounding goes before the optimizer because any other order of summation makes some answers right and others wrong.
If nothing can evaluate the file, the exporter and a kernel cannot be told apart, and neither is blamed.
"""

from __future__ import annotations

from harness.blame.disagreement import MAX_ERROR_RATIO, Disagreement, max_error
from harness.blame.file_evaluation import file_is_right, file_rounds
from harness.blame.file_runs import run_without_optimizer
from harness.result import Blame


def attribute(disagreement: Disagreement) -> tuple[Blame | None, tuple[str, ...]]:
    """The hop to blame, None if the evidence does not decide, and the evidence line by line."""
    evidence: list[str] = []
    if disagreement.artifact.format != "onnx":
        if _as_accurate_as_eager(disagreement, evidence):
            return "rounding", tuple(evidence)
        evidence.append(f"torch runs the program that {disagreement.target.export} made, and gets a different answer")
        return "exporter", tuple(evidence)
    file_right = file_is_right(disagreement, evidence)
    right_without_optimizer = _right_only_without_optimizer(disagreement, evidence)
    if file_right is False:
        return "exporter", tuple(evidence)
    if _as_accurate_as_eager(disagreement, evidence):
        return "rounding", tuple(evidence)
    if file_right and file_rounds(disagreement, evidence):
        return "exporter", tuple(evidence)
    if right_without_optimizer:
        return "optimizer", tuple(evidence)
    return "kernel" if file_right else None, tuple(evidence)


def _right_only_without_optimizer(disagreement: Disagreement, evidence: list[str]) -> bool:
    unoptimized = run_without_optimizer(disagreement.target, disagreement.artifact, disagreement.inputs, evidence)
    if unoptimized is None:
        return False
    right = disagreement.is_right(unoptimized)
    changed = disagreement.differ(disagreement.answer, unoptimized) or not disagreement.meets_expectations(
        disagreement.answer
    )
    which = ("the right" if changed else "the same") if right else "a wrong"
    evidence.append(f"with graph optimization off the same file gives {which} answer")
    return right and changed


def _as_accurate_as_eager(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True if the target's error against the float64 reference is at most twice that of eager torch.

    Without a float64 reference: if the target differs from eager by at most the tolerance and one more rounding.
    """
    reference = disagreement.reference.float64
    if reference is None:
        within = disagreement.is_right(disagreement.answer)
        by = "at most" if within else "more than"
        evidence.append(
            f"there is no float64 reference; the target differs from eager torch by {by} the tolerance and one rounding"
        )
        return within
    if disagreement.answer.keys() != reference.keys():
        return False
    as_accurate: bool = True
    for name, expected in reference.items():
        eager = max_error(disagreement.reference.eager[name], expected)
        target = max_error(disagreement.answer[name], expected)
        as_accurate = as_accurate and target <= MAX_ERROR_RATIO * eager
        evidence.append(
            f"{name}: largest error against the float64 reference: eager torch {eager:.3g}, target {target:.3g}"
        )
    return as_accurate
