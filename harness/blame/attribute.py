"""Attribute a disagreement to one hop between the float64 reference and the target's answer.

    float64 reference -> eager torch -> exported file -> optimized graph -> kernels -> answer

The file is evaluated by itself (:mod:`harness.blame.file_evaluation`) and run once more with graph optimization off.
The hops are blamed in this order:

1. the exporter, if the file declares the wrong dtype or shape, or if the file itself is wrong and no independent
   runtime gets the right answer from it;
2. rounding, if the answer is as close to the float64 reference as eager torch is;
3. the exporter again, if the answer is as close as the file allows, which rounds to a narrower type on its way;
4. the optimizer, if the answer is right with graph optimization off;
5. the exporter once more, if no runtime gives the right answer from a file that computes value by value: its formula
   loses accuracy; nobody, if such a file sums;
6. else a kernel of the runtime.

Rounding goes before the optimizer because any other order of summation makes some answers right and others wrong.
If nothing can evaluate the file, or two evaluations contradict each other, the exporter and a kernel cannot be told
apart, and neither is blamed. Nobody is blamed for a stochastic module, whose values are not compared, nor for the order
of equal values. Rounding comes first of all where a last bit of the inputs changes eager torch's own answer as much
(:func:`harness.blame.disagreement.unstable_answer`): no evaluation in another order of operations can agree then.
"""

from __future__ import annotations

from harness.blame.declared import declared_difference, has_other_form
from harness.blame.disagreement import MAX_ERROR_RATIO, Disagreement, max_error, unstable_answer
from harness.blame.file_evaluation import (
    file_is_right,
    file_rounds,
    is_elementwise,
    no_runtime_is_right,
    order_of_equal_values,
    right_on_another_runtime,
)
from harness.blame.file_runs import run_without_optimizer
from harness.model.answer import is_second_call
from harness.result import Blame

KEEPS_NOTHING = "no ONNX file keeps anything from one call to the next, so it cannot give the answer of a later call"
RANDOM_EVIDENCE = "two calls with the same inputs gave the same answer to the last bit; two of the reference did not"
SAMPLE_EVIDENCE = "the bundle holds only a sample of these outputs: enough to find an error, too little to attribute it"
STOCHASTIC = "the module is stochastic, so its values were compared with nothing that could show who is wrong"


def attribute(disagreement: Disagreement) -> tuple[Blame | None, tuple[str, ...]]:
    """The hop to blame, None if the evidence does not decide, and the evidence line by line."""
    if disagreement.reference.stochastic:
        return None, (STOCHASTIC,)
    is_onnx = disagreement.artifact.format == "onnx"
    indices = any(values.dtype.kind in "iu" for values in disagreement.answer.values())
    if is_onnx and indices and (tied := order_of_equal_values(disagreement)):
        return None, (tied,)
    if disagreement.eager is not None and (unstable := unstable_answer(disagreement)):
        return "rounding", (unstable,)
    evidence: list[str] = []
    if not is_onnx:
        return _of_other_formats(disagreement, evidence), tuple(evidence)
    return _of_onnx(disagreement, evidence), tuple(evidence)


def _of_onnx(disagreement: Disagreement, evidence: list[str]) -> Blame | None:
    eager, whose = disagreement.reference.eager, f"{disagreement.whose}'s answer"
    if declared := declared_difference(disagreement.artifact.path, disagreement.answer, eager, whose):
        evidence.append(declared)
        return None if right_on_another_runtime(disagreement, evidence) else "exporter"
    file_right = file_is_right(disagreement, evidence)
    right_without_optimizer = _right_only_without_optimizer(disagreement, evidence)
    if file_right is False:
        if is_second_call(disagreement.reference.at):
            evidence.append(KEEPS_NOTHING)
            return "exporter"
        if not right_without_optimizer and not right_on_another_runtime(disagreement, evidence):
            return "exporter"
        file_right = None
    if _as_accurate_as_eager(disagreement, evidence):
        return "rounding"
    if file_right and file_rounds(disagreement, evidence):
        return "exporter"
    if right_without_optimizer:
        return "optimizer"
    if file_right and no_runtime_is_right(disagreement, evidence):
        return "exporter" if is_elementwise(disagreement.artifact.path) else None
    return "kernel" if file_right else None


def _of_other_formats(disagreement: Disagreement, evidence: list[str]) -> Blame | None:
    if _as_accurate_as_eager(disagreement, evidence):
        return "rounding"
    if disagreement.artifact.format == "ort":
        evidence.append("a file in ONNX Runtime's own format cannot be evaluated by anything else")
        return None
    evidence.append(f"torch runs the program that {disagreement.target.export} made, and gets a different answer")
    return "exporter"


def _right_only_without_optimizer(disagreement: Disagreement, evidence: list[str]) -> bool:
    unoptimized = run_without_optimizer(
        disagreement.target, disagreement.artifact, disagreement.reference.inputs, evidence
    )
    if unoptimized is None:
        return False
    right = disagreement.is_right(unoptimized)
    differs = disagreement.differ(disagreement.answer, unoptimized)
    changed = differs or not disagreement.meets_expectations(disagreement.answer)
    wrong = "another wrong" if differs else "the same wrong"
    which = ("the right" if changed else "the same") if right else wrong
    evidence.append(f"with graph optimization off the same file gives {which} answer")
    return right and changed


def _as_accurate_as_eager(disagreement: Disagreement, evidence: list[str]) -> bool:
    """True if the target's error against the float64 reference is at most twice that of eager torch.

    Without a float64 reference: if the target differs from eager by at most the tolerance and one more rounding.
    """
    if has_other_form(disagreement.answer, disagreement.reference.eager):
        return False  # no rounding changes a dtype or a shape
    reference = disagreement.reference.float64
    if reference is None:
        within = disagreement.is_right(disagreement.answer)
        by = "at most" if within else "more than"
        evidence.append(
            f"there is no float64 reference; the target differs from {disagreement.whose} by {by} the tolerance and "
            "one rounding"
        )
        return within
    as_accurate: bool = True
    for name, expected in reference.items():
        eager = max_error(disagreement.reference.eager[name], expected)
        target = max_error(disagreement.answer[name], expected)
        as_accurate = as_accurate and target <= MAX_ERROR_RATIO * eager
        evidence.append(
            f"{name}: largest error against the float64 reference: "
            f"{disagreement.whose} {eager:.3g}, target {target:.3g}"
        )
    return as_accurate
